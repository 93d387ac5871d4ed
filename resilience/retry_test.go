package resilience_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"holdfast/resilience"
)

// TestField17_NoJitter looks at the distribution of delays, and at 5,000 clients that failed together.
func TestField17_NoJitter(t *testing.T) {
	t.Parallel()
	r := dice(t)
	b := resilience.BackoffDefaults()
	for n := 1; n <= 12; n++ {
		ceiling := min(b.Max, b.Base<<(n-1))
		sum := 0.0
		const draws = 4000
		for range draws {
			d := b.Delay(n, 0, r.Float64)
			if d < 0 || d > ceiling {
				t.Fatalf("retry %d: delay %v, want at most %v", n, d, ceiling)
			}
			sum += float64(d) / float64(ceiling)
		}
		if mean := sum / draws; math.Abs(mean-0.5) > 0.03 { // 6 standard deviations
			t.Errorf("retry %d: mean delay is %.3f of the ceiling, want a half", n, mean)
		}
	}
	b.Jitter = resilience.DecorrelatedJitter
	d := time.Duration(0)
	for range 10_000 {
		next := b.Delay(1, d, r.Float64)
		if least, most := b.Base, min(b.Max, 3*max(d, b.Base)); next < least || next > most {
			t.Fatalf("decorrelated delay after %v: %v, want in [%v,%v]", d, next, least, most)
		}
		d = next
	}
	const clients, slots = 5000, 100
	for _, j := range []resilience.Jitter{"", resilience.FullJitter, resilience.DecorrelatedJitter} {
		b := resilience.Backoff{Base: time.Second, Max: time.Minute, Jitter: j}
		at := make(map[int]int)
		most := 0
		for range clients {
			first := b.Delay(1, 0, nil)
			second := first + b.Delay(2, first, nil)
			slot := int(second * slots / (3 * time.Second))
			at[slot]++
			most = max(most, at[slot])
		}
		if most > clients*4/slots {
			t.Errorf("jitter %q: %d of %d clients come in the same hundredth", j, most, clients)
		}
	}
}

func TestBackoffBounds(t *testing.T) {
	t.Parallel()
	b := resilience.Backoff{Base: time.Second, Max: time.Hour, Factor: 3, Jitter: resilience.NoJitter, Floor: 2 * time.Second}
	for n, want := range map[int]time.Duration{-1: 2 * time.Second, 0: 2 * time.Second, 1: 2 * time.Second, 2: 3 * time.Second, 3: 9 * time.Second, 9: time.Hour,
		1 << 40: time.Hour, math.MaxInt: time.Hour} {
		is(t, fmt.Sprint("delay ", n), b.Delay(n, 0, nil), want)
	}
	b = resilience.Backoff{Base: time.Second, Max: math.MaxInt64, Jitter: resilience.DecorrelatedJitter}
	is(t, "longest delay", b.Delay(1, math.MaxInt64, func() float64 { return 0.999 }), time.Duration(math.MaxInt64))
}

// asks is an error with a wait.
type asks time.Duration

func (a asks) Error() string             { return "busy" }
func (a asks) RetryAfter() time.Duration { return time.Duration(a) }

func TestRetryAfterIsHonoured(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPolicy(resilience.Read, retrying(bare(), 3), resilience.Deps{})
		began := time.Now()
		calls := 0
		err := p.Run(t.Context(), func(context.Context) error {
			if calls++; calls == 1 {
				return fmt.Errorf("get: %w", asks(7*time.Second))
			}
			return nil
		})
		isErr(t, err, nil)
		is(t, "waited", time.Since(began), 7*time.Second)
	})
}

func TestRetryNeverPassesTheDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var r recorder
		p := newPolicy(resilience.Read, retrying(bare(), 3), resilience.Deps{Observer: &r})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		isErr(t, p.Run(ctx, func(context.Context) error { return asks(5 * time.Second) }), asks(5*time.Second))
		is(t, "waited", time.Since(began), time.Duration(0))
		is(t, "gave up", r.gaveUp[0].Reason, resilience.GiveUpDeadline)
		is(t, "tokens", p.Budget().Stats().Tokens, 10.0)

		c := retrying(bare(), 5)
		c.Retry.MaxElapsed = 250 * time.Millisecond
		isErr(t, p.Reconfigure(c), nil)
		began = time.Now()
		isErr(t, p.Run(ctx, func(context.Context) error { return errDown }), errDown)
		is(t, "retried for", time.Since(began), 100*time.Millisecond) // the next would be at 300
		is(t, "gave up", r.gaveUp[1].Reason, resilience.GiveUpElapsed)
	})
}

// TestRetryThatIsNotMade has the caller leave, or the breaker open, during the wait.
func TestRetryThatIsNotMade(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := retrying(bare(), 3)
		c.Breaker.WindowCalls, c.Breaker.MinCalls = 100, 50
		p := newPolicy(resilience.Read, c, resilience.Deps{})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		isErr(t, p.Run(ctx, func(context.Context) error { return errDown }), errDown)
		is(t, "tokens", p.Budget().Stats().Tokens, 10.0)

		time.AfterFunc(50*time.Millisecond, func() { p.Breaker().ForceOpen("test") })
		calls := 0
		isErr(t, p.Run(t.Context(), func(context.Context) error { calls++; return errDown }), errDown)
		is(t, "calls", calls, 1)
		is(t, "tokens", p.Budget().Stats().Tokens, 10.0)
		is(t, "taken", p.Budget().Stats().Taken, uint64(0))
	})
}

func TestRetryOnItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var r recorder
		budget := must(resilience.NewBudget(resilience.BudgetConfig{Ratio: 0, Burst: 3}, resilience.Options{Observer: &r}))
		retry := must(resilience.NewRetry(retrying(bare(), 3).Retry, resilience.Read, budget, resilience.Options{Observer: &r}))
		calls := 0
		began := time.Now()
		for range 3 {
			isErr(t, retry.Run(t.Context(), func(context.Context) error { calls++; return errDown }), errDown)
		}
		is(t, "calls", calls, 3+3)
		is(t, "time", time.Since(began), 400*time.Millisecond)
		is(t, "exhausted", r.exhausted, 2)
		var reasons []resilience.GiveUp
		for _, e := range r.gaveUp {
			reasons = append(reasons, e.Reason)
		}
		if want := []resilience.GiveUp{resilience.GiveUpAttempts, resilience.GiveUpBudget, resilience.GiveUpBudget}; !slices.Equal(reasons, want) {
			t.Errorf("gave up for %v, want %v", reasons, want)
		}
		isErr(t, retry.Run(t.Context(), func(context.Context) error { return nil }), nil)
		is(t, "attempts of the configuration", retry.Config().Attempts, 3)
	})
}

// TestBudgetBound makes calls and retries at random and checks the bound of the documentation after each.
func TestBudgetBound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := dice(t)
		for range 100 {
			c := resilience.BudgetConfig{Ratio: r.Float64(), Burst: 1 + r.IntN(20), PerSecond: float64(r.IntN(3))}
			b := must(resilience.NewBudget(c, resilience.Options{}))
			began := time.Now()
			calls, retries, refusedAt := 0, 0, -1
			for step := range 1000 {
				switch r.IntN(3) {
				case 0:
					b.Call()
					calls++
				case 1:
					if b.TryRetry() {
						retries++
					} else {
						refusedAt = step
					}
				default:
					time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
				}
				if most := float64(c.Burst) + c.Ratio*float64(calls) + c.PerSecond*time.Since(began).Seconds(); float64(retries) > most+1e-6 {
					t.Fatalf("%+v: %d retries of %d calls, want at most %.2f", c, retries, calls, most)
				}
			}
			s := b.Stats()
			is(t, "taken", s.Taken, uint64(retries))
			if refusedAt < 0 && s.Refused > 0 || s.Tokens < 0 || s.Tokens > float64(c.Burst) {
				t.Errorf("%+v: %+v", c, s)
			}
		}
	})
}

func TestBudgetReconfigure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := must(resilience.NewBudget(resilience.BudgetConfig{Ratio: 0.1, Burst: 10}, resilience.Options{}))
		for range 5 {
			is(t, "retry", b.TryRetry(), true)
		}
		isErr(t, b.Reconfigure(resilience.BudgetConfig{Ratio: 0.1, Burst: 100}), nil)
		is(t, "tokens in proportion", b.Stats().Tokens, 50.0)
		isErr(t, b.Reconfigure(resilience.BudgetConfig{Off: true}), nil)
		for range 1000 {
			is(t, "retry while off", b.TryRetry(), true)
		}
		isErr(t, b.Reconfigure(resilience.BudgetConfig{Burst: 2}), nil)
		is(t, "tokens", b.Stats().Tokens, 2.0)
		b.Return()
		is(t, "tokens", b.Stats().Tokens, 2.0)
	})
}
