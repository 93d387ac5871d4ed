package run_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/platform/run"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// deps are those that a Group needs; the clock is that of the test's bubble.
var deps = shop.Deps{Clock: fakes.RealClock{}}

// events is what happened, in order.
type events struct {
	mu  sync.Mutex
	all []string
}

func (e *events) add(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, what)
}

// part is a component that notes its start and its stop.
func (e *events) part(name string) run.Component {
	ready := make(chan struct{})
	return run.Component{Name: name, Run: func(ctx context.Context) error {
		if deps.Clock.Sleep(ctx, time.Minute) != nil { // it takes a while to be ready
			e.add(name + " gave up")
			return nil
		}
		e.add(name + " runs")
		close(ready)
		<-ctx.Done()
		time.Sleep(time.Second)
		e.add(name + " stopped")
		return nil
	}, Ready: func(context.Context) error {
		select {
		case <-ready:
			return nil
		default:
			return errors.New("not yet")
		}
	}}
}

func TestGroupStartsAndStopsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e events
		ctx, cancel := context.WithCancel(t.Context())
		err := run.Group(ctx, deps, []run.Component{e.part("a"), e.part("b"), e.part("c")}, func() {
			e.add("ready")
			cancel()
		})
		want := []string{"a runs", "b runs", "c runs", "ready", "c stopped", "b stopped", "a stopped"}
		if err != nil || !slices.Equal(e.all, want) {
			t.Errorf("%v: %v, want %v", err, e.all, want)
		}
	})
}

// TestGroupFails: the component that fails is named, and the others stop in order.
func TestGroupFails(t *testing.T) {
	broken := errors.New("broken")
	tests := map[string]struct {
		run  func(context.Context) error
		says string
		is   error
	}{
		"an error":      {func(context.Context) error { return broken }, "bad: broken", broken},
		"an early end":  {func(context.Context) error { return nil }, "bad: ended by itself", nil},
		"a panic":       {func(context.Context) error { panic("oh") }, "bad: panic: oh", nil},
		"a late error":  {func(context.Context) error { time.Sleep(time.Hour); return broken }, "bad: broken", broken},
		"never to stop": {func(ctx context.Context) error { <-ctx.Done(); time.Sleep(time.Hour); return nil }, "bad: did not stop within 10s", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var e events
				ctx, cancel := context.WithTimeout(t.Context(), 90*time.Minute)
				defer cancel()
				err := run.Group(ctx, deps, []run.Component{e.part("first"), {Name: "bad", Run: test.run}, e.part("last")}, func() {})
				if err == nil || !strings.Contains(err.Error(), test.says) || test.is != nil && !errors.Is(err, test.is) {
					t.Errorf("%v, want it to say %q", err, test.says)
				}
				if last := e.all[len(e.all)-1]; last != "first stopped" {
					t.Errorf("what happened: %v", e.all)
				}
				time.Sleep(2 * time.Hour) // of the bubble, until the one that does not stop has ended
			})
		})
	}
}

// TestGroupIsStoppedWhileStarting: what has started stops, and onReady is not called.
// TestGroupFailsBeforeReady: a component that fails is noticed although it, or the one that is being started,
// would be asked for ever whether it is ready.
func TestGroupFailsBeforeReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failing := run.Component{Name: "server", Run: func(context.Context) error { return errors.New("the port is taken") },
			Ready: func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			}}
		err := run.Group(t.Context(), deps, []run.Component{failing}, func() { t.Error("it runs") })
		if err == nil || !strings.Contains(err.Error(), "server: the port is taken") {
			t.Error(err)
		}
	})
}

// TestInOrder: what takes work in starts last, and so stops first.
func TestInOrder(t *testing.T) {
	t.Parallel()
	var got []string
	for _, c := range run.InOrder([]run.Component{{Name: "a"}, {Name: "consumer a", Intake: true}, {Name: "b"}, {Name: "consumer b", Intake: true}, {Name: "server"}}) {
		got = append(got, c.Name)
	}
	if want := []string{"a", "b", "server", "consumer a", "consumer b"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestGroupIsStoppedWhileStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e events
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		err := run.Group(ctx, deps, []run.Component{e.part("a"), e.part("b"), e.part("c")}, func() { t.Error("it is not ready") })
		if err != nil || !slices.Equal(e.all, []string{"a runs", "b gave up", "a stopped"}) {
			t.Errorf("%v: %v", err, e.all)
		}
	})
}

func TestLockDir(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "data")
	first, err := run.LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = run.LockDir(dir)
	if !errors.Is(err, run.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("%v, want it to name this process", err)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	again, err := run.LockDir(dir)
	if err != nil {
		t.Fatalf("after its release: %v", err)
	}
	if err := again.Release(); err != nil {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run.LockDir(filepath.Join(file, "data")); err == nil || !strings.Contains(err.Error(), "--data") {
		t.Errorf("below a file: %v, want it to say what to do", err)
	}
}

// TestIDs: ids sort by the time they were made, and no two are the same.
func TestIDs(t *testing.T) {
	t.Parallel()
	real := run.Real(nil)
	const n = 10_000
	made := make([]string, n)
	for i := range made {
		made[i] = real.IDs.New(shop.OrderPrefix)
	}
	if !slices.IsSorted(made) || len(slices.Compact(slices.Clone(made))) != n {
		t.Error("the ids are not in order, or some are the same")
	}
	if !shop.OrderID(made[0]).Valid() {
		t.Errorf("%s is no order id", made[0])
	}
	a, b := make([]byte, 32), make([]byte, 32)
	real.IDs.Secret(a)
	real.IDs.Secret(b)
	if slices.Equal(a, b) {
		t.Error("two secrets are the same")
	}
}

// TestWriteFile: a file is replaced as a whole, with the mode that was asked for, and nothing is left over.
func TestWriteFile(t *testing.T) {
	t.Parallel()
	files := run.Real(nil).Files
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	for _, content := range []string{"first", "second"} {
		if err := files.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := files.ReadFile(name)
		info, statErr := os.Stat(name)
		if err != nil || statErr != nil || string(b) != content || info.Mode().Perm() != 0o600 {
			t.Errorf("%q %v %v", b, err, info.Mode())
		}
	}
	if entries, err := files.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v %v", entries, err)
	}
}
