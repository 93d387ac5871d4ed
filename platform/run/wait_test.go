package run_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"holdfast/platform/run"
)

// TestProcessorWait sees that more work than there are processors is noticed.
func TestProcessorWait(t *testing.T) {
	wait := run.ProcessorWait()
	wait()
	var wg sync.WaitGroup
	for range 20 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for range 5 {
				for end := time.Now().Add(time.Millisecond); time.Now().Before(end); {
				}
				runtime.Gosched()
			}
		})
	}
	wg.Wait()
	if got := wait(); got < 2*time.Millisecond {
		t.Errorf("20 goroutines for each processor, of a millisecond each, waited %v for it", got)
	}
}
