package policy_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/platform/policy"
	"holdfast/platform/telemetry"
	"holdfast/resilience"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// bubble runs a test in virtual time, beside others.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, test)
}

func is[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func must[T any](t *testing.T, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// lines keeps what is logged.
type lines struct {
	mu      sync.Mutex
	records []slog.Record
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lines) WithGroup(string) slog.Handler            { return l }
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r.Clone())
	return nil
}

// transitions are those that were logged: "WARN psp.authorise closed open failure rate".
func (l *lines) transitions() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, r := range l.records {
		if r.Message != "circuit breaker changed its state" {
			continue
		}
		line := r.Level.String()
		r.Attrs(func(a slog.Attr) bool {
			if slices.Contains([]string{"policy", "from", "to", "why"}, a.Key) {
				line += " " + a.Value.String()
			}
			return true
		})
		all = append(all, line)
	}
	return all
}

// world is a set with what it logs.
type world struct {
	*policy.Set
	log lines
}

// newWorld makes an empty set, on telemetry of the test's choice or none.
func newWorld(t *testing.T, tel *telemetry.Telemetry) *world {
	t.Helper()
	if tel == nil {
		tel = telemetry.Nop()
	}
	w, deps := &world{}, fakes.Deps(t)
	deps.Log = slog.New(&w.log)
	set, err := policy.New(deps, tel)
	w.Set = must(t, set, err)
	return w
}

// state returns a policy as operators see it.
func (w *world) state(t *testing.T, name, kind string) policy.State {
	t.Helper()
	for _, s := range w.List() {
		if s.Name == name && s.Policy == kind {
			return s
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return policy.State{}
}

// quiet is a breaker without chance: it opens at half failures of four calls, for a second.
func quiet() resilience.BreakerConfig {
	return resilience.BreakerConfig{WindowCalls: 10, MinCalls: 4, FailureRate: 0.5, OpenFor: time.Second, Probes: 1, ProbeSuccesses: 1,
		ProbeLease: 10 * time.Second}
}

// config is a dependency of one operation, call, that is tried once.
func config() policy.Config {
	return policy.Config{Bulkhead: resilience.BulkheadConfig{Limit: 16}, UndoBulkhead: resilience.BulkheadConfig{Limit: 16},
		Budget: resilience.BudgetConfig{Ratio: 0, Burst: 10},
		Operations: map[string]resilience.PolicyConfig{
			"call": {Breaker: quiet(), Retry: resilience.RetryConfig{Off: true}},
		}}
}

// operation changes the configuration of call.
func operation(c policy.Config, change func(*resilience.PolicyConfig)) policy.Config {
	op := c.Operations["call"]
	change(&op)
	c.Operations = map[string]resilience.PolicyConfig{"call": op}
	return c
}

// retrying has call tried up to three times, a tenth of a second apart at first.
func retrying(c policy.Config) policy.Config {
	return operation(c, func(op *resilience.PolicyConfig) {
		op.Retry = resilience.RetryConfig{Attempts: 3, Backoff: resilience.Backoff{Base: 100 * time.Millisecond, Max: time.Second, Jitter: resilience.NoJitter}}
	})
}

// dependency adds one that is called api.
func (w *world) dependency(t *testing.T, c policy.Config) *policy.Dependency {
	t.Helper()
	d, err := w.Dependency("api", c, resilience.Operation{Name: "call", RespectsContext: true})
	return must(t, d, err)
}

// cancelled is a context whose caller has left.
func cancelled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

var errDown = shop.E(shop.Unavailable, "test", "down")
