package resilience

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// grace is how long after its deadline a function is waited for, so that one that respects its context
// can return what it has, in its own words. Callers return within 50 ms of the deadline.
const grace = 10 * time.Millisecond

// TimeoutConfig sets the timeouts of a Policy. Zero sets none.
type TimeoutConfig struct {
	// Total is for all attempts and the waits between them. A caller's own deadline holds where it is
	// sooner.
	Total time.Duration `koanf:"total"`
	// Attempt is for one attempt, without the wait for a slot.
	Attempt time.Duration `koanf:"attempt"`
}

// TimeoutDefaults returns 10 s, and 3 s for each attempt.
func TimeoutDefaults() TimeoutConfig {
	return TimeoutConfig{Total: 10 * time.Second, Attempt: 3 * time.Second}
}

// Validate names the first field that makes no sense.
func (c TimeoutConfig) Validate() error {
	switch {
	case c.Total < 0:
		return fmt.Errorf("total must not be negative")
	case c.Attempt < 0 || c.Total > 0 && c.Attempt > c.Total:
		return fmt.Errorf("attempt must not be negative, and not more than total")
	}
	return nil
}

// Timeout gives a function a limited time, on its own; a Policy has its own timeouts.
type Timeout struct {
	options Options
	after   atomic.Int64
}

// NewTimeout makes a timeout of d, which must be positive.
func NewTimeout(d time.Duration, o Options) (*Timeout, error) {
	t := &Timeout{options: o}
	return t, t.Reconfigure(d)
}

// Reconfigure changes the time for calls that begin later.
func (t *Timeout) Reconfigure(d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("timeout must be positive")
	}
	t.after.Store(int64(d))
	return nil
}

// Run calls f on a goroutine of its own, with a context that ends after the timeout, and returns its
// error. Where f does not return although its context has ended, Run returns a *TimeoutError, or the
// error of ctx where the caller cancelled it, and f goes on; the observer is told when it ends. A panic
// of f is a panic of Run, with a *PanicError.
func (t *Timeout) Run(ctx context.Context, f func(context.Context) error) error {
	inner, cancel := context.WithTimeout(ctx, time.Duration(t.after.Load()))
	defer cancel()
	call := Call[struct{}]{Func: func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) }}
	k := newTask(t.options, Classify, flight{ctx: inner, start: now()}, call)
	go k.run()
	if !k.wait(inner) {
		return givenUp(t.options.Label, ctx, ctx)
	}
	k.rethrow()
	return k.err
}

// givenUp is the error of a function that was left to itself. Total is the context of all attempts.
func givenUp(l Label, caller, total context.Context) error {
	switch {
	case errors.Is(caller.Err(), context.Canceled):
		return caller.Err()
	case caller.Err() != nil:
		return &TimeoutError{Label: l, Scope: ScopeCaller}
	case total.Err() != nil:
		return &TimeoutError{Label: l, Scope: ScopeTotal}
	default:
		return &TimeoutError{Label: l, Scope: ScopeAttempt}
	}
}

// What becomes of a task.
const (
	taskRuns int32 = iota
	taskEnded
	taskAbandoned // at its deadline, or by its caller
	taskBeaten    // by the other attempt of a hedge
)

// errAborted is the error of a function that neither returned nor panicked.
var errAborted = errors.New("the function ended its goroutine")

// task is a function on a goroutine of its own, which its caller can leave. Whoever changes its state
// from taskRuns has the last word: the function, and then the caller takes its result and its slot; or
// the caller, and then the task gives the slot back when the function really ends.
type task[T any] struct {
	options  Options
	classify func(error) Verdict
	flight   flight
	call     Call[T]
	state    atomic.Int32
	done     chan struct{} // closed when the state is taskEnded

	value    T
	err      error
	returned bool
	panicked *PanicError
}

func newTask[T any](o Options, classify func(error) Verdict, f flight, c Call[T]) *task[T] {
	return &task[T]{options: o, classify: classify, flight: f, call: c, done: make(chan struct{})}
}

func (t *task[T]) run() {
	defer t.end()
	t.value, t.err = t.call.Func(t.flight.ctx)
	t.returned = true
}

// end is deferred, for panics and runtime.Goexit.
func (t *task[T]) end() {
	if !t.returned {
		t.err = errAborted
		if p := recover(); p != nil {
			t.panicked = &PanicError{Value: p, Stack: debug.Stack()}
			t.err = t.panicked
		}
	}
	if t.state.CompareAndSwap(taskRuns, taskEnded) {
		close(t.done)
		return
	}
	t.late()
}

// late ends a task whose caller is gone.
func (t *task[T]) late() {
	at := now()
	outcome := Failure
	if t.returned {
		outcome = t.call.verdict(t.value, t.err, t.classify).Outcome
	}
	t.flight.slot.done(outcome, at)
	if t.state.Load() == taskAbandoned {
		if t.options.Observer != nil {
			t.options.Observer.Late(LateEvent{Label: t.options.Label, Outcome: outcome, Duration: at.sub(t.flight.start), Err: t.err})
		}
		if t.call.Late != nil {
			t.call.Late(t.value, t.err)
			return
		}
	}
	if t.call.Discard != nil && t.err == nil {
		t.call.Discard(t.value)
	}
}

// wait waits until the task ends, or ctx and then the grace. It is false where the task was abandoned.
func (t *task[T]) wait(ctx context.Context) bool {
	select {
	case <-t.done:
		return true
	case <-ctx.Done():
	}
	last := time.NewTimer(grace)
	defer last.Stop()
	select {
	case <-t.done:
	case <-last.C:
		if t.state.CompareAndSwap(taskRuns, taskAbandoned) {
			return false
		}
		<-t.done
	}
	return true
}

// rethrow lets a panic, or runtime.Goexit, of the function happen to the caller.
func (t *task[T]) rethrow() {
	switch {
	case t.returned:
	case t.panicked != nil:
		panic(t.panicked)
	default:
		runtime.Goexit()
	}
}
