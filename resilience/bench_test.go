package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"holdfast/resilience"
)

// parallel runs f on 1, and on 8 and 64 goroutines for each processor.
func parallel(b *testing.B, f func()) {
	b.Run("goroutines=1", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f()
		}
	})
	for _, n := range []int{8, 64} {
		b.Run(fmt.Sprintf("goroutines=%dxP", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(n)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					f()
				}
			})
		})
	}
}

// guarded is what the target is for: breaker with a sliding window, bulkhead, retry with budget.
func guarded(b *testing.B, change func(*resilience.PolicyConfig), o resilience.Observer) *resilience.Policy {
	b.Helper()
	cfg := resilience.PolicyDefaults()
	cfg.Timeout = resilience.TimeoutConfig{}
	if change != nil {
		change(&cfg)
	}
	op := resilience.Operation{Dependency: "d", Name: "o", Kind: resilience.IdempotentCommand, RespectsContext: true}
	bulkhead := must(resilience.NewBulkhead(resilience.BulkheadConfig{Limit: 1 << 20}, resilience.Options{}))
	budget := must(resilience.NewBudget(resilience.BudgetDefaults(), resilience.Options{}))
	return must(resilience.NewPolicy(op, cfg, resilience.Deps{Bulkhead: bulkhead, Budget: budget, Observer: o}))
}

func countWindow(c *resilience.PolicyConfig) { c.Breaker.WindowCalls, c.Breaker.WindowTime = 100, 0 }

func succeed(context.Context) (int, error) { return 1, nil }

func BenchmarkSuccess(b *testing.B) {
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	for _, c := range []struct {
		name   string
		policy *resilience.Policy
	}{
		{"time", guarded(b, nil, nil)},
		{"count", guarded(b, countWindow, nil)},
		{"slow", guarded(b, func(c *resilience.PolicyConfig) { c.Breaker.SlowCall, c.Breaker.SlowRate = time.Second, 0.5 }, nil)},
		{"observed", guarded(b, nil, resilience.NopObserver{})},
		{"deadlines", guarded(b, func(c *resilience.PolicyConfig) {
			c.Timeout.Attempt, c.Timeout.Total = 2*time.Hour, 2*time.Hour
			c.Breaker.ProbeLease = 3 * time.Hour
		}, nil)},
	} {
		b.Run(c.name, func(b *testing.B) {
			parallel(b, func() {
				if _, err := resilience.Do(ctx, c.policy, succeed); err != nil {
					b.Error(err)
				}
			})
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	p := guarded(b, func(c *resilience.PolicyConfig) { c.Breaker.OpenFor, c.Breaker.MinCalls = time.Hour, 1 }, nil)
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	_ = p.Run(ctx, func(context.Context) error { return errors.New("down") })
	b.Run("policy", func(b *testing.B) {
		parallel(b, func() {
			if _, err := resilience.Do(ctx, p, succeed); err == nil {
				b.Error("not open")
			}
		})
	})
	b.Run("breaker", func(b *testing.B) {
		breaker := p.Breaker()
		parallel(b, func() {
			if _, err := breaker.Acquire(); err == nil {
				b.Error("not open")
			}
		})
	})
}

func BenchmarkFull(b *testing.B) {
	bulkhead := must(resilience.NewBulkhead(resilience.BulkheadConfig{Limit: 1}, resilience.Options{}))
	p := must(resilience.NewPolicy(resilience.Operation{Dependency: "d", Name: "o", RespectsContext: true},
		resilience.PolicyConfig{Breaker: resilience.BreakerDefaults(), Retry: resilience.RetryDefaults()}, resilience.Deps{Bulkhead: bulkhead}))
	if _, ok := bulkhead.TryAcquire(); !ok {
		b.Fatal("no slot")
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	parallel(b, func() {
		if _, err := resilience.Do(ctx, p, succeed); err == nil {
			b.Error("not full")
		}
	})
}

func BenchmarkClock(b *testing.B) {
	start := time.Now()
	for b.Loop() {
		_ = time.Since(start)
	}
}
