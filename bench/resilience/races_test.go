package bench_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// raceBinary is these tests, built with the race detector, once.
var raceBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "resilience-bench")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "race.test")
	out, err := exec.Command("go", "test", "-race", "-c", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// TestMain removes the binary.
func TestMain(m *testing.M) {
	code := m.Run()
	if built {
		if path, err := raceBinary(); err == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
	}
	os.Exit(code)
}

var built bool

// dataRaces is row 13: TestTogether in another process, under the race detector.
func dataRaces(s *scene) {
	built = true
	path, err := raceBinary()
	if err != nil {
		s.seen("it cannot be built with the race detector: %v", err)
		return
	}
	for _, where := range []struct{ test, text string }{
		{"calls", "between calls"},
		{"listener", "between a listener of state changes, which reads its event, and a call that ends meanwhile"},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), hung)
		out, err := exec.CommandContext(ctx, path, "-test.run=^TestTogether$/^"+s.lib.name+"$/^"+where.test+"$").CombinedOutput()
		cancel()
		switch {
		case bytes.Contains(out, []byte("WARNING: DATA RACE")):
			s.seen("the race detector finds a data race %s", where.text)
		case err != nil:
			s.seen("%v: %s", err, out)
		case !bytes.Contains(out, []byte("PASS")):
			s.seen("not run: %s", out)
		}
	}
}

// TestTogether does everything at once. It is for the race detector, and judges nothing else.
func TestTogether(t *testing.T) {
	for _, lib := range libraries() {
		t.Run(lib.name, func(t *testing.T) {
			t.Run("calls", func(*testing.T) { manyCalls(lib) })
			t.Run("listener", func(*testing.T) { slowListener(lib) })
		})
	}
}

func manyCalls(lib library) {
	sp := spec{failures: 10, openFor: time.Millisecond, probes: 2, tuned: true}
	if lib.parts&bulkheads != 0 {
		sp.slots = 8
	}
	if lib.parts&timeouts != 0 {
		sp.timeout = 2 * time.Millisecond
	}
	if lib.parts&retries != 0 {
		sp.attempts, sp.backoff = 2, 100*time.Microsecond
	}
	g := lib.guard(sp)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for range 200 {
				together(r, g)
			}
		})
	}
	all.Wait()
}

// slowListener has a listener that reads its event a little later, when a call that was under way has
// ended meanwhile. It must not synchronise with that call, or there is no race to find: hence the sleep.
func slowListener(lib library) {
	old := newGate()
	var once sync.Once
	sp := spec{failures: 4, openFor: time.Hour, probes: 1}
	sp.changed = func(read func()) {
		once.Do(func() {
			close(old.release)
			time.Sleep(50 * time.Millisecond)
		})
		read()
	}
	g := lib.guard(sp)
	c := spawn(context.Background(), g, old.hang(errDown))
	for old.calls() == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 40 {
		_ = g.run(context.Background(), fail)
	}
	once.Do(func() { close(old.release) })
	<-c.done
}

func together(r *rand.Rand, g guard) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+r.IntN(4))*time.Millisecond)
	defer cancel()
	phase, d := r.IntN(3), time.Duration(r.IntN(300))*time.Microsecond
	_ = g.run(ctx, func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
		}
		if phase > 0 {
			return errDown
		}
		return nil
	})
	_ = g.state()
	if g.trace != nil {
		_ = g.trace()
	}
	if g.counted != nil {
		_ = g.counted()
	}
}
