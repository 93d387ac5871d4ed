package resilience_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"holdfast/resilience"
)

func TestBreakerTellsItsStory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var r recorder
		c := quiet()
		c.SlowCall, c.SlowRate = time.Second, 0.8
		b := newBreaker(c, &r)
		open(t, b)
		_, err := b.Acquire()
		isErr(t, err, resilience.ErrOpen)
		isErr(t, err, resilience.ErrRejected)
		time.Sleep(400 * time.Millisecond)
		after, ok := resilience.RetryAfter(err)
		is(t, "retry after", after, 600*time.Millisecond)
		is(t, "known", ok, true)
		time.Sleep(600 * time.Millisecond)
		result(t, b, resilience.Failure)
		time.Sleep(time.Second)
		_ = b.Run(t.Context(), func(context.Context) error { time.Sleep(time.Second); return nil })
		time.Sleep(time.Second)
		result(t, b, resilience.Success)
		result(t, b, resilience.Success)
		slow := make([]resilience.Permit, 4)
		for i := range slow {
			slow[i] = admitted(t, b)
		}
		time.Sleep(time.Second)
		for i := range slow {
			slow[i].Done(resilience.Success)
		}
		b.ForceClose("drill")
		b.ForceOpen("maintenance")
		_, err = b.Acquire()
		isErr(t, err, resilience.ErrOpen)
		b.ForceOpen("again") // is one already
		b.Auto("over")
		want := []string{"closed>open: failure rate", "open>half_open: open time over", "half_open>open: a probe failed",
			"open>half_open: open time over", "half_open>open: a probe was slow", "open>half_open: open time over",
			"half_open>closed: probes succeeded", "closed>open: slow-call rate", "open>forced_closed: drill",
			"forced_closed>forced_open: maintenance", "forced_open>half_open: over"}
		if got := r.moves(); !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		is(t, "generation", b.Stats().Generation, uint64(len(want)))
		is(t, "counts at the first", r.transitions[0].Counts, resilience.Counts{Calls: 4, Failures: 4})
		is(t, "reasons", [2]resilience.Reason{r.rejected[0].Reason, r.rejected[1].Reason}, [2]resilience.Reason{resilience.ReasonOpen, resilience.ReasonForcedOpen})
	})
}

func TestBreakerReady(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPolicy(resilience.Command, bare(), resilience.Deps{Bulkhead: newBulkhead(1, 0, 0, nil)})
		is(t, "closed", p.Ready(), resilience.Readiness{Ready: true})
		open(t, p.Breaker())
		time.Sleep(300 * time.Millisecond)
		is(t, "open", p.Ready(), resilience.Readiness{Reason: resilience.ReasonOpen, Wait: 700 * time.Millisecond})
		time.Sleep(700 * time.Millisecond)
		is(t, "due", p.Ready(), resilience.Readiness{Ready: true})
		is(t, "state, which asking does not change", p.Breaker().State(), resilience.Open)
		first, second := admitted(t, p.Breaker()), admitted(t, p.Breaker())
		is(t, "probing", p.Ready(), resilience.Readiness{Reason: resilience.ReasonProbing, Wait: 10 * time.Second})
		first.Done(resilience.Success)
		is(t, "a place is free", p.Ready(), resilience.Readiness{Ready: true})
		second.Done(resilience.Success)
		a := must(p.Acquire(t.Context()))
		is(t, "full", p.Ready(), resilience.Readiness{Reason: resilience.ReasonFull})
		a.Record(resilience.Success)
		p.Breaker().ForceOpen("")
		is(t, "forced", p.Ready(), resilience.Readiness{Reason: resilience.ReasonForcedOpen, Wait: time.Second})
	})
}

func TestBreakerReconfigure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := quiet()
		c.WindowCalls, c.MinCalls, c.FailureRate = 100, 100, 1
		b := newBreaker(c, nil)
		for i := range 60 {
			result(t, b, []resilience.Outcome{resilience.Success, resilience.Failure}[i%2])
		}
		old := admitted(t, b)
		change := func(f func(c *resilience.BreakerConfig), want resilience.Counts) {
			t.Helper()
			f(&c)
			isErr(t, b.Reconfigure(c), nil)
			is(t, "counts", b.Stats().Counts, want)
		}
		change(func(c *resilience.BreakerConfig) { c.WindowCalls = 200 }, resilience.Counts{Calls: 60, Failures: 30})
		change(func(c *resilience.BreakerConfig) { c.WindowCalls, c.MinCalls = 20, 20 }, resilience.Counts{Calls: 20, Failures: 10})
		change(func(c *resilience.BreakerConfig) { c.WindowCalls, c.WindowTime = 0, 10*time.Second }, resilience.Counts{Calls: 20, Failures: 10})
		time.Sleep(5 * time.Second)
		result(t, b, resilience.Failure)
		change(func(c *resilience.BreakerConfig) { c.WindowTime = 20 * time.Second }, resilience.Counts{Calls: 21, Failures: 11})
		change(func(c *resilience.BreakerConfig) { c.WindowTime, c.WindowBuckets = 2*time.Second, 4 }, resilience.Counts{Calls: 1, Failures: 1})
		time.Sleep(time.Hour)
		is(t, "counts after an hour", b.Stats().Counts, resilience.Counts{})
		for range 10 {
			result(t, b, resilience.Failure)
		}
		change(func(c *resilience.BreakerConfig) { c.WindowTime, c.WindowCalls, c.MinCalls = 0, 5, 5 }, resilience.Counts{Calls: 5, Failures: 5})
		is(t, "generation", b.Stats().Generation, uint64(0))
		old.Done(resilience.Failure) // is still of this generation, and is judged by the new configuration
		is(t, "state", b.State(), resilience.Open)
		change(func(c *resilience.BreakerConfig) { c.OpenFor = 3 * time.Second }, b.Stats().Counts)
		_, wait := b.Ready()
		is(t, "open for", wait, 3*time.Second)
		isErr(t, b.Reconfigure(resilience.BreakerConfig{Off: true}), nil)
		is(t, "state when off", b.State(), resilience.Disabled)
		for range 100 {
			result(t, b, resilience.Failure)
		}
		b.ForceOpen("while it is off")
		is(t, "state when off", b.State(), resilience.Disabled)
		isErr(t, b.Reconfigure(c), nil)
		is(t, "state when on again", b.State(), resilience.ForcedOpen)
	})
}

func TestBreakerOpensLongerEachTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := quiet()
		c.OpenMax, c.OpenJitter = 5*time.Second, 0.5
		b := must(resilience.NewBreaker(c, resilience.Options{Random: func() float64 { return 0.5 }}))
		open(t, b)
		for _, want := range []time.Duration{1250, 2500, 5000, 6250, 6250} {
			_, wait := b.Ready()
			is(t, "wait", wait, want*time.Millisecond)
			time.Sleep(wait)
			result(t, b, resilience.Failure)
		}
		_, wait := b.Ready()
		time.Sleep(wait)
		result(t, b, resilience.Success)
		result(t, b, resilience.Success)
		open(t, b)
		_, wait = b.Ready()
		is(t, "wait after a recovery", wait, 1250*time.Millisecond)
	})
}

// TestBreakerReconfigureRollsNoDice has dice that show more each time.
func TestBreakerReconfigureRollsNoDice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := quiet()
		c.OpenJitter = 1
		rolled := 0.0
		b := must(resilience.NewBreaker(c, resilience.Options{Random: func() float64 { rolled += 0.1; return rolled }}))
		open(t, b)
		for range 3 {
			_, wait := b.Ready()
			is(t, "wait", wait, 1100*time.Millisecond)
			isErr(t, b.Reconfigure(c), nil)
		}
	})
}

// TestBreakerRatesAreExact has thresholds that a product of floats would miss.
func TestBreakerRatesAreExact(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for percent := 1; percent <= 100; percent++ {
			c := quiet()
			c.WindowCalls, c.MinCalls, c.FailureRate = 100, 100, float64(percent)/100
			b := newBreaker(c, nil)
			for i := range 100 {
				is(t, "state before the minimum", b.State(), resilience.Closed)
				o := resilience.Success
				if i < percent {
					o = resilience.Failure
				}
				result(t, b, o)
			}
			is(t, "state at the rate", b.State(), resilience.Open)
		}
	})
}
