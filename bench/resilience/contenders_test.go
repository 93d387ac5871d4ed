package bench_test

import (
	"context"
	"sync"
	"time"

	"holdfast/resilience"
)

// Each function returns one library's contender in one case. Those of Holdfast are here, and those of
// the others in contenders_peers_test.go.

// standard is the configuration of breakers that all contenders have.
func standard(minimum int) resilience.BreakerConfig {
	return resilience.BreakerConfig{WindowTime: window, WindowBuckets: buckets, MinCalls: minimum, FailureRate: rate, OpenFor: openFor,
		Probes: 1, ProbeSuccesses: 1, ProbeLease: 2 * openFor}
}

func holdfastBreaker(minimum int, f func(context.Context) error, want error) func() contender {
	return func() contender {
		b := must(resilience.NewBreaker(standard(minimum), resilience.Options{}))
		ctx := context.Background()
		return contender{lib: "holdfast", want: want, call: func() error { return b.Run(ctx, f) }}
	}
}

// refused is a contender whose calls are refused: it wants the error that they get.
func refused(c contender) contender {
	c.want = c.call()
	return c
}

func holdfastOpen() contender {
	c := holdfastBreaker(minCalls, noContext, nil)()
	trip(c.call)
	return refused(c)
}

func holdfastPermit() contender {
	b := must(resilience.NewBreaker(standard(minCalls), resilience.Options{}))
	return contender{lib: "holdfast", call: func() error {
		p, err := b.Acquire()
		if err != nil {
			return err
		}
		p.Done(resilience.Success)
		return nil
	}}
}

func holdfastFull() contender {
	b := must(resilience.NewBulkhead(resilience.BulkheadConfig{Limit: 1}, resilience.Options{}))
	ctx := context.Background()
	slot := must(b.Acquire(ctx))
	c := refused(contender{lib: "holdfast", call: func() error { return b.Run(ctx, yesContext) }})
	c.stop = slot.Release
	return c
}

func holdfastPolicyComposed(f func(context.Context) (int, error)) contender {
	p := must(resilience.NewPolicy(
		resilience.Operation{Dependency: "dependency", Name: "operation", Kind: resilience.IdempotentCommand, RespectsContext: true},
		resilience.PolicyConfig{Breaker: standard(minCalls), Retry: resilience.RetryConfig{Attempts: retries3, Backoff: resilience.Backoff{Base: 1, Max: 1}}},
		resilience.Deps{
			Bulkhead: must(resilience.NewBulkhead(resilience.BulkheadConfig{Limit: slots}, resilience.Options{})),
			Budget:   must(resilience.NewBudget(resilience.BudgetDefaults(), resilience.Options{})),
		}))
	ctx, cancel := hour()
	return contender{lib: "holdfast", stop: cancel, call: func() error {
		_, err := resilience.Do(ctx, p, f)
		return err
	}}
}

func holdfastComposed() contender { return holdfastPolicyComposed(yesBoth) }

func holdfastComposedOpen() contender {
	c := holdfastPolicyComposed(noBoth)
	trip(c.call)
	return refused(c)
}

// hour is a caller's own deadline.
func hour() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Hour)
}

// held takes a slot by a call that hangs until stop.
func held(run func(f func() error) error) (stop func()) {
	entered, release := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		_ = run(func() error { close(entered); <-release; return nil })
	})
	<-entered
	return func() { close(release); all.Wait() }
}
