package resilience_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/resilience"
)

// reads is a policy that hedges after 10 ms.
func reads(d resilience.Deps) *resilience.Policy {
	c := bare()
	c.Hedge = resilience.HedgeConfig{Quantile: 0.9, MaxDelay: 10 * time.Millisecond}
	return newPolicy(resilience.ExactRead, c, d)
}

func TestHedgeTakesTheFirstSuccess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var r recorder
		d := resilience.Deps{Bulkhead: newBulkhead(10, 0, 0, nil), Observer: &r}
		p := reads(d)
		var cancelled, discarded atomic.Int32
		read := func(first, second time.Duration, err error) (int, time.Duration, error) {
			var n atomic.Int32
			began := time.Now()
			res, e := resilience.DoCall(t.Context(), p, resilience.Call[int]{
				Func: func(ctx context.Context) (int, error) {
					me := int(n.Add(1))
					wait := []time.Duration{first, second}[me-1]
					select {
					case <-time.After(wait):
					case <-ctx.Done():
						cancelled.Add(1)
						return 0, ctx.Err()
					}
					if me == 1 {
						return me, err
					}
					return me, nil
				},
				Discard: func(int) { discarded.Add(1) },
			})
			return res.Value, time.Since(began), e
		}
		for _, c := range []struct {
			name          string
			first, second time.Duration
			err           error
			value         int
			took          time.Duration
		}{
			{"quick", 5, 0, nil, 1, 5},
			{"second wins", 1000, 5, nil, 2, 15},
			{"first wins after all", 12, 100, nil, 1, 12},
			{"first fails, second decides", 12, 30, errDown, 2, 40},
		} {
			v, took, err := read(c.first*time.Millisecond, c.second*time.Millisecond, c.err)
			isErr(t, err, nil)
			is(t, c.name+": value", v, c.value)
			is(t, c.name+": took", took, c.took*time.Millisecond)
		}
		synctest.Wait()
		is(t, "cancelled", cancelled.Load(), int32(2))
		is(t, "discarded", discarded.Load(), int32(0))
		is(t, "slots", d.Bulkhead.Stats().InUse, 0)
		is(t, "counts", p.Stats().Breaker.Counts, resilience.Counts{Calls: 5, Failures: 1}) // who was beaten is neutral
		is(t, "tokens", p.Budget().Stats().Taken, uint64(3))
		stages := map[resilience.HedgeStage]int{}
		for _, e := range r.hedged {
			stages[e.Stage]++
		}
		is(t, "started", stages[resilience.HedgeStarted], 3)
		is(t, "won", stages[resilience.HedgeWon], 2)
	})
}

// TestHedgeStaysWithinItsBounds has no token, and then no slot, for the second attempt.
func TestHedgeStaysWithinItsBounds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var r recorder
		budget := must(resilience.NewBudget(resilience.BudgetConfig{Burst: 1}, resilience.Options{}))
		p := reads(resilience.Deps{Budget: budget, Bulkhead: newBulkhead(1, 5, time.Second, nil), Observer: &r})
		calls := 0
		read := func(context.Context) error { calls++; time.Sleep(50 * time.Millisecond); return nil }
		isErr(t, p.Run(t.Context(), read), nil)
		is(t, "calls without a slot", calls, 1)
		is(t, "tokens", budget.Stats().Tokens, 1.0)
		is(t, "token", budget.TryRetry(), true)
		isErr(t, p.Run(t.Context(), read), nil)
		is(t, "calls without a token", calls, 2)
		is(t, "refused", len(r.hedged), 2)
	})
}

func TestHedgeDelayIsAQuantile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := bare()
		c.Hedge = resilience.HedgeConfig{Quantile: 0.9, MaxDelay: time.Second}
		p := newPolicy(resilience.Read, c, resilience.Deps{})
		for i := range 1000 {
			if i == 50 {
				is(t, "delay while too few were seen", p.Stats().HedgeDelay, time.Second)
			}
			_ = p.Run(t.Context(), func(context.Context) error { time.Sleep(time.Duration(1+i%100) * time.Millisecond); return nil })
		}
		if d := p.Stats().HedgeDelay; d < 90*time.Millisecond || d > 102*time.Millisecond {
			t.Errorf("delay %v, want the 90th percentile of 1 to 100 ms, and an eighth more at most", d)
		}
		time.Sleep(time.Minute) // for those that were beaten, and do not know it
	})
}

// TestHedgeOfWhatHangs has two functions that ignore their contexts.
func TestHedgeOfWhatHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := bare()
		c.Timeout.Attempt = time.Second
		c.Hedge = resilience.HedgeConfig{Quantile: 0.9, MaxDelay: 10 * time.Millisecond}
		b := newBulkhead(5, 0, 0, nil)
		p := newPolicy(resilience.Read, c, resilience.Deps{Bulkhead: b})
		g := newGate()
		began := time.Now()
		isErr(t, p.Run(t.Context(), g.call), resilience.ErrTimeout)
		if took := time.Since(began); took > time.Second+50*time.Millisecond {
			t.Errorf("returned after %v", took)
		}
		is(t, "slots", b.Stats().InUse, 2)
		is(t, "counts", p.Stats().Breaker.Counts, resilience.Counts{Calls: 1, Failures: 1})
		close(g.open)
		synctest.Wait()
		capacity(t, b, 5)
	})
}

func TestPanicReachesTheCaller(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, timeout := range []time.Duration{0, time.Second} {
			c := bare()
			c.Timeout.Attempt = timeout
			b := newBulkhead(1, 0, 0, nil)
			p := newPolicy(resilience.Command, c, resilience.Deps{Bulkhead: b})
			func() {
				defer func() {
					switch v := recover().(type) {
					case error:
						isErr(t, v, errDown)
						is(t, "stack", timeout == 0 || strings.Contains(v.Error(), "TestPanicReachesTheCaller"), true)
					default:
						t.Errorf("recovered %v", v)
					}
				}()
				_ = p.Run(t.Context(), func(context.Context) error { panic(errDown) })
			}()
			is(t, "failures", p.Stats().Breaker.Counts.Failures, 1)
			capacity(t, b, 1)
		}
	})
}

// TestTryIsOneAttempt is what a runner does that keeps its retries in a database.
func TestTryIsOneAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := retrying(bare(), 3)
		c.Timeout.Attempt = time.Second
		b := newBulkhead(1, 0, 0, nil)
		p := newPolicy(resilience.IdempotentCommand, c, resilience.Deps{Bulkhead: b})
		res, err := resilience.Try(t.Context(), p, resilience.Call[int]{Func: func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}})
		isErr(t, err, context.DeadlineExceeded)
		is(t, "verdict", res.Verdict, resilience.Verdict{Outcome: resilience.Failure, Retryable: true})
		is(t, "attempts", res.Attempts, 1)
		is(t, "counts", p.Stats().Breaker.Counts, resilience.Counts{Calls: 1, Failures: 1})

		a := must(p.Acquire(t.Context()))
		deadline, _ := a.Context().Deadline()
		is(t, "time for the attempt", time.Until(deadline), time.Second)
		is(t, "verdict", a.Done(asks(time.Minute)), resilience.Verdict{Outcome: resilience.Failure, Retryable: true, RetryAfter: time.Minute})
		a.Record(resilience.Success) // only the first counts
		is(t, "counts", p.Stats().Breaker.Counts, resilience.Counts{Calls: 2, Failures: 2})
		open(t, p.Breaker())
		_, err = p.Acquire(t.Context())
		isErr(t, err, resilience.ErrOpen)
		capacity(t, b, 1)
		is(t, "tokens", p.Budget().Stats().Tokens, 10.0)
	})
}

// TestHoldEndsWithTheDeadline forgets to release what it holds.
func TestHoldEndsWithTheDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := bare()
		c.Timeout.Total = time.Second
		b := newBulkhead(1, 0, 0, nil)
		p := newPolicy(resilience.Read, c, resilience.Deps{Bulkhead: b})
		var inner context.Context
		_, err := resilience.DoCall(t.Context(), p, resilience.Call[int]{
			Func: func(ctx context.Context) (int, error) { inner = ctx; return 1, nil },
			Hold: func(v int, _ func()) int { return v },
		})
		isErr(t, err, nil)
		isErr(t, inner.Err(), nil)
		is(t, "in use", b.Stats().InUse, 1)
		time.Sleep(time.Second)
		synctest.Wait()
		is(t, "in use", b.Stats().InUse, 0)
	})
}

func TestTimeoutOnItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var r recorder
		timeout := must(resilience.NewTimeout(time.Second, resilience.Options{Observer: &r}))
		isErr(t, timeout.Run(t.Context(), func(context.Context) error { return errDown }), errDown)
		isErr(t, timeout.Run(t.Context(), func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }), context.DeadlineExceeded)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		isErr(t, timeout.Run(ctx, func(context.Context) error { time.Sleep(time.Minute); return nil }), context.Canceled)
		isErr(t, timeout.Run(t.Context(), func(context.Context) error { time.Sleep(time.Minute); return errDown }), resilience.ErrTimeout)
		time.Sleep(time.Hour)
		synctest.Wait()
		is(t, "late", len(r.late), 2)
		isErr(t, r.late[1].Err, errDown)
		is(t, "a timeout of nothing is refused", timeout.Reconfigure(0) != nil, true)
	})
}

func TestFallbackWhenNobodyWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var r recorder
		asked := 0
		f := must(resilience.NewFallback(resilience.Read, "default", func(context.Context, error) (int, error) { asked++; return 0, errors.ErrUnsupported },
			resilience.Options{Observer: &r}))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := f.Run(ctx, func(context.Context) (int, error) { return 0, errDown })
		isErr(t, err, errDown)
		is(t, "asked", asked, 0)
		_, err = f.Run(t.Context(), func(context.Context) (int, error) { return 0, errDown })
		isErr(t, err, errDown)
		isErr(t, err, errors.ErrUnsupported)
		isErr(t, r.fellBack[0].Err, errors.ErrUnsupported)
		res, err := f.Run(t.Context(), func(context.Context) (int, error) { return 7, nil })
		isErr(t, err, nil)
		is(t, "source", res.Source, resilience.FromDependency)
	})
}

func TestDeadContextBegins(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, o := range []resilience.Observer{nil, resilience.NopObserver{}} {
			p := newPolicy(resilience.Read, bare(), resilience.Deps{Observer: o})
			isErr(t, p.Run(ctx, func(context.Context) error { t.Error("called"); return nil }), context.Canceled)
			is(t, "counts", p.Stats().Breaker.Counts, resilience.Counts{})
		}
	})
}

// TestDiscardInTime: an answer that is tried again is discarded while its attempt's context lives, since its
// body can be read up only then.
func TestDiscardInTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := retrying(bare(), 2)
		c.Timeout.Attempt = time.Second
		p := newPolicy(resilience.Read, c, resilience.Deps{})
		var attempt context.Context
		var discarded []error
		n := 0
		res, err := resilience.DoCall(t.Context(), p, resilience.Call[int]{
			Func: func(ctx context.Context) (int, error) { attempt = ctx; n++; return n, nil },
			Classify: func(v int, _ error) resilience.Verdict {
				if v == 1 {
					return resilience.Verdict{Outcome: resilience.Failure, Retryable: true}
				}
				return resilience.Verdict{Outcome: resilience.Success}
			},
			Discard: func(int) { discarded = append(discarded, attempt.Err()) },
		})
		isErr(t, err, nil)
		is(t, "value", res.Value, 2)
		is(t, "discarded", len(discarded), 1)
		is(t, "the attempt's context then", discarded[0], error(nil))
	})
}
