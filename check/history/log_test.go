package history_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast/check/history"
)

// TestInvokeIsOnDisk: an operation is in the file when Invoke returns, whatever others do meanwhile.
func TestInvokeIsOnDisk(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "h.ndjson")
	l, err := history.Create(file, history.Head{Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				op, err := l.Invoke(history.Request{Do: history.Read, Order: "ord_a"})
				if err != nil {
					t.Error(err)
					return
				}
				h := parseFile(t, file)
				if len(h.Ops) == 0 || !has(h, op) {
					t.Errorf("op %d may go out, and is not on disk", op)
				}
				if err := l.Answer(op, history.OK, history.Answer{Status: 200}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(true); err != nil {
		t.Fatal(err)
	}
	h := parseFile(t, file)
	if !h.Ended || len(h.Ops) != 160 || h.Seed != 5 {
		t.Errorf("closed: ended %v with %d operations of seed %d", h.Ended, len(h.Ops), h.Seed)
	}
	for _, o := range h.Ops {
		if o.Outcome != history.OK || o.Return < o.Call {
			t.Errorf("op %d: %s from %s to %s", o.ID, o.Outcome, o.Call, o.Return)
		}
	}
	if _, err := l.Invoke(history.Request{}); err == nil {
		t.Error("an operation was recorded after the end")
	}
	if _, err := history.Create(file, history.Head{}); err == nil {
		t.Error("a history was written over")
	}
}

func parseFile(t *testing.T, file string) *history.History {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
		return &history.History{}
	}
	h, err := history.Parse(strings.NewReader(string(b)))
	if err != nil {
		t.Error(err)
		return &history.History{}
	}
	return h
}

func has(h *history.History, op int) bool {
	for _, o := range h.Ops {
		if o.ID == op {
			return true
		}
	}
	return false
}
