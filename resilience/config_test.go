package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/resilience"
)

// TestValidateNamesTheField changes one field of the defaults at a time.
func TestValidateNamesTheField(t *testing.T) {
	t.Parallel()
	breaker := func(f func(*resilience.BreakerConfig)) func() error {
		return func() error { c := resilience.BreakerDefaults(); f(&c); return c.Validate() }
	}
	bulkhead := func(f func(*resilience.BulkheadConfig)) func() error {
		return func() error { c := resilience.BulkheadDefaults(); f(&c); return c.Validate() }
	}
	admission := func(f func(*resilience.AdmissionConfig)) func() error {
		return func() error { c := resilience.AdmissionDefaults(); f(&c); return c.Validate() }
	}
	policy := func(f func(*resilience.PolicyConfig)) func() error {
		return func() error { c := resilience.PolicyDefaults(); f(&c); return c.Validate() }
	}
	budget := func(f func(*resilience.BudgetConfig)) func() error {
		return func() error { c := resilience.BudgetDefaults(); f(&c); return c.Validate() }
	}
	rate := func(f func(*resilience.RateLimitConfig)) func() error {
		return func() error { c := resilience.RateLimitDefaults(); f(&c); return c.Validate() }
	}
	nan := math.NaN()
	for name, validate := range map[string]func() error{
		"window_calls":              breaker(func(c *resilience.BreakerConfig) { c.WindowCalls = -1 }),
		"window_time":               breaker(func(c *resilience.BreakerConfig) { c.WindowCalls = 10 }),
		"window_buckets":            breaker(func(c *resilience.BreakerConfig) { c.WindowBuckets = -1 }),
		"min_calls":                 breaker(func(c *resilience.BreakerConfig) { c.MinCalls = 0 }),
		"failure_rate":              breaker(func(c *resilience.BreakerConfig) { c.FailureRate = nan }),
		"failure_rate or slow_rate": breaker(func(c *resilience.BreakerConfig) { c.FailureRate = 0 }),
		"slow_rate":                 breaker(func(c *resilience.BreakerConfig) { c.SlowRate = 1.1 }),
		"slow_call":                 breaker(func(c *resilience.BreakerConfig) { c.SlowRate = 1 }),
		"open_for":                  breaker(func(c *resilience.BreakerConfig) { c.OpenFor = 0 }),
		"open_max":                  breaker(func(c *resilience.BreakerConfig) { c.OpenMax = 1 }),
		"open_jitter":               breaker(func(c *resilience.BreakerConfig) { c.OpenJitter = nan }),
		"probes":                    breaker(func(c *resilience.BreakerConfig) { c.Probes = 0 }),
		"probe_successes":           breaker(func(c *resilience.BreakerConfig) { c.ProbeSuccesses = 0 }),
		"probe_lease":               breaker(func(c *resilience.BreakerConfig) { c.ProbeLease = 0 }),
		"limit":                     bulkhead(func(c *resilience.BulkheadConfig) { c.Limit = 0 }),
		"queue":                     bulkhead(func(c *resilience.BulkheadConfig) { c.Queue = -1 }),
		"max_wait":                  bulkhead(func(c *resilience.BulkheadConfig) { c.MaxWait = 0 }),
		"adaptive.floor":            bulkhead(func(c *resilience.BulkheadConfig) { c.Adaptive.Ceiling = 1 }),
		"sheddable_share":           admission(func(c *resilience.AdmissionConfig) { c.SheddableShare = 0 }),
		"normal_share":              admission(func(c *resilience.AdmissionConfig) { c.NormalShare = 0.1 }),
		"undo_lane":                 admission(func(c *resilience.AdmissionConfig) { c.UndoLane = -1 }),
		"retry_after":               admission(func(c *resilience.AdmissionConfig) { c.RetryAfter = -1 }),
		"adaptive.ceiling":          admission(func(c *resilience.AdmissionConfig) { c.Adaptive.Ceiling = 1 }),
		"adaptive.initial":          admission(func(c *resilience.AdmissionConfig) { c.Adaptive.Initial = 1 }),
		"adaptive.window":           admission(func(c *resilience.AdmissionConfig) { c.Adaptive.Window = 0 }),
		"adaptive.min_samples":      admission(func(c *resilience.AdmissionConfig) { c.Adaptive.MinSamples = 0 }),
		"adaptive.tolerance":        admission(func(c *resilience.AdmissionConfig) { c.Adaptive.Tolerance = nan }),
		"adaptive.smoothing":        admission(func(c *resilience.AdmissionConfig) { c.Adaptive.Smoothing = 0 }),
		"adaptive.horizon":          admission(func(c *resilience.AdmissionConfig) { c.Adaptive.Horizon = 1 }),
		"ratio":                     budget(func(c *resilience.BudgetConfig) { c.Ratio = 2 }),
		"burst":                     budget(func(c *resilience.BudgetConfig) { c.Burst = 0 }),
		"per_second":                budget(func(c *resilience.BudgetConfig) { c.PerSecond = nan }),
		"rate":                      rate(func(c *resilience.RateLimitConfig) { c.Rate = nan }),
		"burst must be in [1,":      rate(func(c *resilience.RateLimitConfig) { c.Rate, c.Burst = 0.001, 1<<30 }),
		"max_keys":                  rate(func(c *resilience.RateLimitConfig) { c.MaxKeys = 0 }),
		"timeout.total":             policy(func(c *resilience.PolicyConfig) { c.Timeout.Total = -1 }),
		"timeout.attempt":           policy(func(c *resilience.PolicyConfig) { c.Timeout.Attempt = time.Hour }),
		"retry.attempts":            policy(func(c *resilience.PolicyConfig) { c.Retry.Attempts = 11 }),
		"retry.max_elapsed":         policy(func(c *resilience.PolicyConfig) { c.Retry.MaxElapsed = -1 }),
		"retry.backoff.base":        policy(func(c *resilience.PolicyConfig) { c.Retry.Backoff.Base = 0 }),
		"retry.backoff.max":         policy(func(c *resilience.PolicyConfig) { c.Retry.Backoff.Max = 1 }),
		"retry.backoff.factor":      policy(func(c *resilience.PolicyConfig) { c.Retry.Backoff.Factor = 0.5 }),
		"retry.backoff.jitter":      policy(func(c *resilience.PolicyConfig) { c.Retry.Backoff.Jitter = "some" }),
		"retry.backoff.floor":       policy(func(c *resilience.PolicyConfig) { c.Retry.Backoff.Floor = -1 }),
		"breaker.probe_lease":       policy(func(c *resilience.PolicyConfig) { c.Breaker.ProbeLease = c.Timeout.Attempt }),
		"hedge.quantile":            policy(func(c *resilience.PolicyConfig) { c.Hedge.Quantile = 1 }),
		"hedge.min_delay":           policy(func(c *resilience.PolicyConfig) { c.Hedge.Quantile, c.Hedge.MinDelay = 0.5, -1 }),
		"hedge.max_delay":           policy(func(c *resilience.PolicyConfig) { c.Hedge.Quantile = 0.5 }),
	} {
		if err := validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestDefaultsAndOffAreValid(t *testing.T) {
	t.Parallel()
	for _, c := range []interface{ Validate() error }{
		resilience.BreakerDefaults(), resilience.BreakerConfig{Off: true}, resilience.BulkheadDefaults(), resilience.BulkheadConfig{Off: true},
		resilience.AdaptiveDefaults(), resilience.AdaptiveConfig{}, resilience.AdmissionDefaults(), resilience.AdmissionConfig{Off: true},
		resilience.BudgetDefaults(), resilience.BudgetConfig{Off: true}, resilience.RateLimitDefaults(), resilience.RateLimitConfig{Off: true},
		resilience.RetryDefaults(), resilience.RetryConfig{Off: true}, resilience.BackoffDefaults(), resilience.HedgeDefaults(), resilience.HedgeConfig{},
		resilience.TimeoutDefaults(), resilience.TimeoutConfig{}, resilience.PolicyDefaults(),
		resilience.PolicyConfig{Retry: resilience.RetryConfig{Off: true}, Breaker: resilience.BreakerConfig{Off: true}},
	} {
		isErr(t, c.Validate(), nil)
		typ := reflect.TypeOf(c)
		for i := range typ.NumField() {
			if f := typ.Field(i); f.Tag.Get("koanf") == "" {
				t.Errorf("%v.%s has no name in a configuration file", typ, f.Name)
			}
		}
	}
}

// TestAllOff lets everything through, and keeps working.
func TestAllOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		off := resilience.PolicyConfig{Retry: resilience.RetryConfig{Off: true}, Breaker: resilience.BreakerConfig{Off: true}}
		p := newPolicy(resilience.Read, off, resilience.Deps{
			Bulkhead:  must(resilience.NewBulkhead(resilience.BulkheadConfig{Off: true}, resilience.Options{})),
			Budget:    must(resilience.NewBudget(resilience.BudgetConfig{Off: true}, resilience.Options{})),
			Admission: must(resilience.NewAdmission(resilience.AdmissionConfig{Off: true}, resilience.Options{})),
		})
		calls := 0
		for range 1000 {
			isErr(t, p.Run(t.Context(), func(context.Context) error { calls++; return errDown }), errDown)
		}
		is(t, "calls", calls, 1000)
		is(t, "state", p.Breaker().State(), resilience.Disabled)
		is(t, "in use", p.Stats().Bulkhead.InUse+p.Stats().Admission.InUse, 0)
		isErr(t, p.Reconfigure(bare()), nil)
		for range 4 {
			isErr(t, p.Run(t.Context(), func(context.Context) error { return errDown }), errDown)
		}
		isErr(t, p.Run(t.Context(), func(context.Context) error { return nil }), resilience.ErrOpen)
	})
}

func TestErrorsTellWhoAndWhy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBreaker(quiet(), nil)
		open(t, b)
		_, err := b.Acquire()
		is(t, "text", err.Error(), "psp/authorise: breaker: circuit open (open)")
		var r *resilience.Rejection
		is(t, "is a rejection", errors.As(fmt.Errorf("pay: %w", err), &r), true)
		is(t, "reason", r.Reason, resilience.ReasonOpen)
		for _, other := range []error{resilience.ErrFull, resilience.ErrShed, resilience.ErrRateLimited, resilience.ErrTimeout, context.DeadlineExceeded} {
			is(t, "is "+other.Error(), errors.Is(err, other), false)
		}
		_, known := resilience.RetryAfter(errDown)
		is(t, "a wait of an error that has none", known, false)
		for _, reason := range resilience.Reasons() {
			if reason.Policy() == "invalid" || reason.String() == "invalid" {
				t.Errorf("reason %d has no name", reason)
			}
		}
		for _, s := range resilience.States() {
			is(t, "state has a name", s.String() != "invalid", true)
		}
		for _, g := range resilience.GiveUps() {
			is(t, "reason to give up has a name", g.String() != "invalid", true)
		}
		is(t, "timeout", resilience.TimeoutError{}, resilience.TimeoutError{Scope: resilience.ScopeAttempt})
		is(t, "no name", resilience.State(99).String(), "invalid")
	})
}
