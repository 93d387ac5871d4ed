package run

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"holdfast/shop"
)

// Component is a part of a program.
type Component struct {
	Name string
	// Run works until ctx ends, and then finishes or hands back what it holds. Returning earlier is a
	// failure, also with nil.
	Run func(ctx context.Context) error
	// Ready, where there is one, is asked until it returns nil; only then the next component starts.
	Ready func(ctx context.Context) error
	// Intake marks what takes in work by itself: it is to be started when all else runs, and stopped before
	// all else. InOrder puts it there.
	Intake bool
	// StopAfter is how long Run may take to return once ctx has ended; DefaultStop if zero.
	StopAfter time.Duration
}

const (
	// DefaultStop is the time that a component has to stop.
	DefaultStop = 10 * time.Second
	// readyPatience is how long a component may take to say whether it is ready.
	readyPatience = time.Second
	// readyEvery is how often a component that is not ready is asked again.
	readyEvery = 20 * time.Millisecond
)

// InOrder moves the components that take work in behind the others, and leaves the order otherwise.
func InOrder(components []Component) []Component {
	var last, first []Component
	for _, c := range components {
		if c.Intake {
			last = append(last, c)
		} else {
			first = append(first, c)
		}
	}
	return append(first, last...)
}

// running is a component that was started.
type running struct {
	Component
	stop context.CancelFunc
	done chan error // gets one value
}

// failure is the end of a component that should have gone on.
type failure struct {
	name string
	err  error
}

// Group runs components until ctx ends or one of them fails. They start in order, each ready before the
// next, and then onReady is called; they stop in reverse, each before the one that it was started after.
// It returns nil after an orderly stop, and otherwise errors that name their components, the first
// failure first.
func Group(ctx context.Context, deps shop.Deps, components []Component, onReady func()) error {
	failed := make(chan failure, len(components))
	var started []*running
	var first error
	for _, c := range components {
		r := start(ctx, c, failed)
		started = append(started, r)
		if first = r.ready(ctx, deps, failed); first != nil || ctx.Err() != nil {
			break
		}
	}
	if first == nil && ctx.Err() == nil {
		onReady()
		select {
		case <-ctx.Done():
		case f := <-failed:
			first = f.report()
		}
	}
	errs := []error{first}
	for i := len(started) - 1; i >= 0; i-- {
		if err := started[i].end(deps); err != nil && (first == nil || err.Error() != first.Error()) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (f failure) report() error {
	if f.err == nil {
		return fmt.Errorf("%s: ended by itself", f.name)
	}
	return fmt.Errorf("%s: %w", f.name, f.err)
}

func start(ctx context.Context, c Component, failed chan<- failure) *running {
	// Not a child of ctx: an end of ctx stops the components in order, not all at once.
	own, stop := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{Component: c, stop: stop, done: make(chan error, 1)}
	go func() {
		err := guarded(own, c.Run)
		if own.Err() == nil {
			failed <- failure{c.Name, err}
		}
		r.done <- err
	}()
	return r
}

// guarded turns a panic into an error, so that the other components stop in order.
func guarded(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return run(ctx)
}

// ready waits until r is ready. A failure of any component meanwhile ends the wait.
func (r *running) ready(ctx context.Context, deps shop.Deps, failed <-chan failure) error {
	for r.Ready != nil {
		asked, cancel := context.WithTimeout(ctx, readyPatience) // it may never be, because something has failed
		err := r.Ready(asked)
		cancel()
		if err == nil || ctx.Err() != nil {
			break
		}
		again, stop := deps.Clock.Timer(readyEvery)
		select {
		case <-again:
		case <-ctx.Done():
		case f := <-failed:
			stop()
			return f.report()
		}
		stop()
	}
	return nil
}

// end stops r and waits for it, for as long as it may take.
func (r *running) end(deps shop.Deps) error {
	r.stop()
	limit := r.StopAfter
	if limit == 0 {
		limit = DefaultStop
	}
	late, stop := deps.Clock.Timer(limit)
	defer stop()
	select {
	case err := <-r.done:
		if err == nil || errors.Is(err, context.Canceled) {
			return nil
		}
		return fmt.Errorf("%s: %w", r.Name, err)
	case <-late:
		return fmt.Errorf("%s: did not stop within %s", r.Name, limit)
	}
}
