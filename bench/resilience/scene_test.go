package bench_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// scene is one row of the table played by one library.
type scene struct {
	lib library
	// unit is a second of virtual time; or little of the real, for a library that cannot have the other.
	unit  time.Duration
	lacks string   // the part that the library has not
	bad   []string // what was seen that must not be
	notes []string // how it passed, where that is not by its defaults
}

// hung is how long a scene may take in real time.
const hung = 30 * time.Second

// play runs a row and returns what was seen.
func play(t *testing.T, r row, lib library) (s *scene) {
	t.Helper()
	s = &scene{lib: lib, unit: time.Second}
	switch {
	case r.outside:
		r.play(s)
	case lib.resident:
		s.unit = 50 * time.Millisecond
		done := make(chan struct{})
		go func() { defer close(done); r.play(s) }()
		select {
		case <-done:
		case <-time.After(hung):
			return &scene{lib: lib, bad: []string{"hung"}}
		}
	default:
		defer func() {
			if p := recover(); p != nil { // of synctest: what is left can never end
				s.seen("%v", p)
			}
		}()
		synctest.Test(t, func(*testing.T) {
			r.play(s)
			time.Sleep(time.Hour) // timers and sleeping goroutines that are left come to their end
		})
	}
	return s
}

// seen notes what must not be.
func (s *scene) seen(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(s.bad, text) {
		s.bad = append(s.bad, text)
	}
}

func (s *scene) want(ok bool, format string, args ...any) bool {
	if !ok {
		s.seen(format, args...)
	}
	return ok
}

func (s *scene) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(s.notes, text) {
		s.notes = append(s.notes, text)
	}
}

// guard makes a guard, or notes that the library lacks a part of it.
func (s *scene) guard(sp spec) (g guard, ok bool) {
	if missing := sp.parts() &^ s.lib.parts; missing != 0 {
		s.lacks = missing.String()
		return g, false
	}
	return s.lib.guard(sp), true
}

// The ways to use a library, each better for it than the one before.
const (
	byDefault = ""
	byOptions = "with its options"
	byOrder   = "in another order"
	byBoth    = "with its options, in another order"
)

// best plays f in several ways until the library passes in one. What was seen in the first is noted as
// well.
func (s *scene) best(f func(*scene, spec), sp spec, ways ...string) {
	first := ""
	for i, way := range ways {
		sp.tuned, sp.swapped = way == byOptions || way == byBoth, way == byOrder || way == byBoth
		if i > 0 && (sp.tuned && s.lib.fixed || sp.swapped && s.lib.order == "") {
			continue
		}
		attempt := &scene{lib: s.lib, unit: s.unit}
		f(attempt, sp)
		s.lacks, s.bad, s.notes = attempt.lacks, attempt.bad, attempt.notes
		seen := strings.Join(s.bad, ", ")
		if i == 0 {
			first = seen
			if seen == "" {
				return
			}
			continue
		}
		way = strings.Replace(way, byOrder, s.lib.order, 1)
		switch {
		case seen == "":
			s.note("%s; otherwise %s", way, first)
			return
		case seen != first:
			s.bad = append(s.bad, fmt.Sprintf("that was %s; otherwise %s", way, first))
		}
	}
}

// settle waits until every goroutine is blocked or has ended.
func (s *scene) settle() {
	if !s.lib.resident {
		synctest.Wait()
		return
	}
	time.Sleep(s.unit)
}

// until waits for a condition, which must come about without time going by.
func (s *scene) until(ok func() bool) bool {
	if !s.lib.resident {
		synctest.Wait()
		return ok()
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return true
		}
	}
	return false
}

// stays watches a condition that must not change without time going by.
func (s *scene) stays(ok func() bool) bool {
	if !s.lib.resident {
		synctest.Wait()
		return ok()
	}
	for end := time.Now().Add(4 * s.unit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if !ok() {
			return false
		}
	}
	return true
}

// call is a call under way, on a goroutine of its own, so that it may panic or end it.
type call struct {
	done     chan struct{}
	answer   int
	err      error
	returned bool
	took     time.Duration
}

func spawn(ctx context.Context, g guard, f func(context.Context) error) *call {
	return spawnAnswer(ctx, g, func(ctx context.Context) (int, error) { return 0, f(ctx) })
}

func spawnAnswer(ctx context.Context, g guard, f func(context.Context) (int, error)) *call {
	c := &call{done: make(chan struct{})}
	go func() {
		began := time.Now()
		defer close(c.done)
		defer func() { _ = recover() }()
		c.answer, c.err = g.answer(ctx, f)
		c.returned, c.took = true, time.Since(began)
	}()
	return c
}

// wait waits for a call, for a limited time.
func (s *scene) wait(c *call, limit time.Duration) bool {
	select {
	case <-c.done:
		return true
	case <-time.After(limit):
		return false
	}
}

// do makes a call and waits for it. It tells whether the function was called.
func (s *scene) do(g guard, f func(context.Context) error) (ran bool, err error) {
	called := make(chan struct{}, 64)
	c := spawn(context.Background(), g, func(ctx context.Context) error { called <- struct{}{}; return f(ctx) })
	if !s.wait(c, 60*s.unit) {
		s.seen("a call hung")
		return len(called) > 0, nil
	}
	return len(called) > 0, c.err
}

func succeed(context.Context) error { return nil }
func fail(context.Context) error    { return errDown }

// open opens a breaker by failures. Calls under way may count as no failures, so it takes more than a few.
func (s *scene) open(g guard) {
	for range 40 {
		_, _ = s.do(g, fail)
	}
	s.want(s.until(func() bool { return g.state() == "open" }), "failures did not open it")
}

// admitted tries for a number of units of time whether a call is admitted, one call a unit.
func (s *scene) admitted(g guard, units int) bool {
	for range units {
		time.Sleep(s.unit + s.unit/10)
		if ran, _ := s.do(g, succeed); ran {
			return true
		}
	}
	return false
}

// gate is a dependency that hangs, whatever a context says, until it is let go.
type gate struct {
	mu      sync.Mutex
	entered int
	running int
	most    int
	release chan struct{}
}

func newGate() *gate { return &gate{release: make(chan struct{})} }

func (g *gate) hang(err error) func(context.Context) error {
	return func(context.Context) error {
		g.mu.Lock()
		g.entered++
		g.running++
		g.most = max(g.most, g.running)
		g.mu.Unlock()
		<-g.release
		g.mu.Lock()
		g.running--
		g.mu.Unlock()
		return err
	}
}

func (g *gate) calls() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.entered
}

func (g *gate) mostAtOnce() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.most
}

// goexit ends the goroutine, as FailNow of a test does.
func goexit(context.Context) error { runtime.Goexit(); return nil }
