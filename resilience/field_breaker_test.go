package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/resilience"
)

// The tests TestField* are the rows of the table of field bugs in the design of this package.

func TestField02_OneBreakerForSeveralDependencies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		bulkhead := newBulkhead(10, 0, 0, nil)
		a := newPolicy(resilience.Command, bare(), resilience.Deps{Bulkhead: bulkhead})
		b := newPolicy(resilience.Command, bare(), resilience.Deps{Bulkhead: bulkhead})
		for range 20 {
			_ = a.Run(t.Context(), func(context.Context) error { return errDown })
		}
		isErr(t, a.Run(t.Context(), func(context.Context) error { return nil }), resilience.ErrOpen)
		isErr(t, b.Run(t.Context(), func(context.Context) error { return nil }), nil)
		is(t, "b", b.Stats().Breaker.Counts, resilience.Counts{Calls: 1})
	})
}

// TestField03_StaleResult lets calls that were admitted while closed end in each later state.
func TestField03_StaleResult(t *testing.T) {
	for _, o := range []resilience.Outcome{resilience.Success, resilience.Failure, resilience.Neutral} {
		t.Run(o.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var r recorder
				b := newBreaker(quiet(), &r)
				old := make([]resilience.Permit, 10)
				for i := range old {
					old[i] = admitted(t, b)
				}
				open(t, b)
				old[0].Done(o)
				is(t, "state after a result while open", b.State(), resilience.Open)
				time.Sleep(time.Second)
				probe := admitted(t, b)
				for i := 1; i < 6; i++ {
					old[i].Done(o)
				}
				s := b.Stats()
				is(t, "state after results while half-open", s.State, resilience.HalfOpen)
				is(t, "probes", s.Probes, 1)
				is(t, "probes succeeded", s.ProbesOK, 0)
				second := admitted(t, b)
				if _, err := b.Acquire(); err == nil {
					t.Error("a third probe was admitted")
				}
				probe.Done(resilience.Success)
				second.Done(resilience.Success)
				is(t, "state", b.State(), resilience.Closed)
				for i := 6; i < len(old); i++ {
					old[i].Done(o)
				}
				is(t, "counts after results of an older generation", b.Stats().Counts, resilience.Counts{})
				is(t, "stale", b.Stats().Stale, uint64(len(old)))
			})
		})
	}
}

func TestField04_FencedResultsVanish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var r recorder
		b := newBreaker(quiet(), &r)
		old := admitted(t, b)
		open(t, b)
		old.Done(resilience.Success)
		old.Done(resilience.Success) // a second time does nothing
		is(t, "stale", b.Stats().Stale, uint64(1))
		want := resilience.StaleEvent{Label: b.Stats().Label, Outcome: resilience.Success, Generation: 0, Current: 1}
		if !slices.Equal(r.stale, []resilience.StaleEvent{want}) {
			t.Errorf("events %+v, want %+v", r.stale, want)
		}
	})
}

// halfOpen returns a policy whose breaker lets probes through.
func halfOpen(t *testing.T, o resilience.Observer) *resilience.Policy {
	t.Helper()
	c := bare()
	c.Breaker.Probes, c.Breaker.ProbeSuccesses = 1, 1
	p := newPolicy(resilience.Command, c, resilience.Deps{Observer: o, Bulkhead: newBulkhead(1, 0, 0, nil)})
	open(t, p.Breaker())
	time.Sleep(time.Second)
	return p
}

// TestField05_HalfOpenPermitLeaks ends a probe in every way that there is. Afterwards another is admitted
// within the lease.
func TestField05_HalfOpenPermitLeaks(t *testing.T) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	ways := map[string]struct {
		probe func(ctx context.Context) error
		wait  time.Duration // until the next probe is admitted
	}{
		"panic":   {func(context.Context) error { panic("probe") }, time.Second}, // a failure: open again
		"goexit":  {func(context.Context) error { runtime.Goexit(); return nil }, time.Second},
		"failure": {func(context.Context) error { return errDown }, time.Second},
		"cancel":  {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 0},
	}
	for name, way := range ways {
		for _, observer := range []resilience.Observer{nil, resilience.NopObserver{}} { // the lean path, and the other
			t.Run(fmt.Sprintf("%s %v", name, observer != nil), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					p := halfOpen(t, observer)
					ctx, cancel := context.WithCancel(t.Context())
					done := make(chan struct{})
					go func() {
						defer close(done)
						defer func() { _ = recover() }()
						_ = p.Run(ctx, way.probe)
					}()
					synctest.Wait()
					cancel()
					<-done
					time.Sleep(way.wait)
					isErr(t, p.Run(t.Context(), func(context.Context) error { return nil }), nil)
					is(t, "state", p.Breaker().State(), resilience.Closed)
					is(t, "slots", p.Stats().Bulkhead.InUse, 0)
				})
			})
		}
	}
}

// TestField05_HungProbe loses a permit: nobody ever says what came of it.
func TestField05_HungProbe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := quiet()
		c.Probes, c.ProbeSuccesses = 1, 1
		b := newBreaker(c, nil)
		open(t, b)
		time.Sleep(c.OpenFor)
		hung := admitted(t, b)
		_, err := b.Acquire()
		isErr(t, err, resilience.ErrOpen)
		after, _ := resilience.RetryAfter(err)
		is(t, "retry after", after, c.ProbeLease)
		time.Sleep(c.ProbeLease - 1)
		if _, err := b.Acquire(); err == nil {
			t.Error("admitted before the lease was over")
		}
		time.Sleep(time.Nanosecond)
		next := admitted(t, b)
		hung.Done(resilience.Failure)
		is(t, "state after the hung probe's result", b.State(), resilience.HalfOpen)
		is(t, "stale", b.Stats().Stale, uint64(1))
		next.Done(resilience.Success)
		is(t, "state", b.State(), resilience.Closed)
	})
}

// TestField06_TooManyProbes does it often: two goroutines must come between each other's steps.
func TestField06_TooManyProbes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for round := range 60 {
			c := quiet()
			limit := []int{1, 3, 17}[round%3]
			c.Probes, c.ProbeSuccesses = limit, 100
			b := newBreaker(c, nil)
			open(t, b)
			time.Sleep(c.OpenFor)
			permits := make(chan resilience.Permit, 1000)
			var all sync.WaitGroup
			start := make(chan struct{})
			for range cap(permits) {
				all.Go(func() {
					<-start
					if p, err := b.Acquire(); err == nil {
						permits <- p
					}
				})
			}
			close(start)
			all.Wait()
			is(t, "admitted", len(permits), limit)
		}
	})
}

// TestField06_ReconfigureAddsNoProbe changes the configuration while all probes are under way.
func TestField06_ReconfigureAddsNoProbe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := quiet()
		c.ProbeSuccesses = 9
		b := newBreaker(c, nil)
		open(t, b)
		time.Sleep(c.OpenFor)
		first, second := admitted(t, b), admitted(t, b)
		for _, probes := range []int{2, 1} {
			c.Probes = probes
			isErr(t, b.Reconfigure(c), nil)
			_, err := b.Acquire()
			isErr(t, err, resilience.ErrOpen)
		}
		first.Done(resilience.Success)
		_, err := b.Acquire()
		isErr(t, err, resilience.ErrOpen) // one is under way still, and there may be one
		second.Done(resilience.Success)
		is(t, "probes that count", b.Stats().ProbesOK, 2)
		result(t, b, resilience.Success)
		c.Probes = 4
		isErr(t, b.Reconfigure(c), nil)
		for range 4 {
			_ = admitted(t, b)
		}
		is(t, "probes", b.Stats().Probes, 4)
	})
}

func TestField10_CancellationIsNoFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, timeout := range []time.Duration{0, time.Minute} { // inline and on a goroutine
			c := bare()
			c.Timeout.Attempt = timeout
			c.Breaker.ProbeLease = time.Hour
			p := newPolicy(resilience.Command, c, resilience.Deps{})
			for range 100 {
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					time.Sleep(time.Millisecond)
					cancel()
				}()
				err := p.Run(ctx, func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("read: %w", ctx.Err()) })
				isErr(t, err, context.Canceled)
			}
			s := p.Stats().Breaker
			is(t, "state", s.State, resilience.Closed)
			is(t, "counts", s.Counts, resilience.Counts{})
		}
	})
}

// TestField10_CancelledProbe is neutral, and its place is free at once.
func TestField10_CancelledProbe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := quiet()
		c.Probes = 1
		b := newBreaker(c, nil)
		open(t, b)
		time.Sleep(c.OpenFor)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		isErr(t, b.Run(ctx, func(ctx context.Context) error { return ctx.Err() }), context.Canceled)
		is(t, "state", b.State(), resilience.HalfOpen)
		is(t, "probes succeeded", b.Stats().ProbesOK, 0)
		result(t, b, resilience.Success)
	})
}

// byStatus is the classifier of an HTTP client.
func byStatus(resp *http.Response, err error) resilience.Verdict {
	switch {
	case err != nil:
		return resilience.Classify(err)
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return resilience.Verdict{Outcome: resilience.Failure, Retryable: true}
	default:
		return resilience.Verdict{Outcome: resilience.Success}
	}
}

func TestField11_BusinessAnswersAndStatusCodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for status, opens := range map[int]bool{200: false, 201: false, 204: false, 302: false, 400: false, 401: false, 402: false, 404: false,
			409: false, 422: false, 429: true, 500: true, 502: true, 503: true, 504: true} {
			p := newPolicy(resilience.Command, bare(), resilience.Deps{})
			for range 100 {
				_, err := resilience.DoCall(t.Context(), p, resilience.Call[*http.Response]{Classify: byStatus,
					Func: func(context.Context) (*http.Response, error) { return &http.Response{StatusCode: status}, nil }})
				if err != nil {
					isErr(t, err, resilience.ErrOpen)
				}
			}
			is(t, fmt.Sprintf("opens at status %d", status), p.Breaker().State() == resilience.Open, opens)
		}
	})
}

func TestField11_StormOfDeclines(t *testing.T) {
	bubble(t, func(t *testing.T) {
		errDeclined := errors.New("declined")
		p := must(resilience.NewPolicy(resilience.Operation{Dependency: "psp", Name: "authorise", Kind: resilience.IdempotentCommand,
			Classify: func(err error) resilience.Verdict {
				if errors.Is(err, errDeclined) {
					return resilience.Verdict{Outcome: resilience.Success}
				}
				return resilience.Classify(err)
			}}, retrying(bare(), 3), resilience.Deps{}))
		calls := 0
		for range 1000 {
			isErr(t, p.Run(t.Context(), func(context.Context) error { calls++; return errDeclined }), errDeclined)
		}
		is(t, "state", p.Breaker().State(), resilience.Closed)
		is(t, "calls", calls, 1000) // a decline is not tried again
	})
}
