package policy_test

import (
	"strings"
	"testing"

	"holdfast/platform/policy"
	"holdfast/resilience"
)

// TestValidate names the setting that cannot work, with the section that it stands in.
func TestValidate(t *testing.T) {
	t.Parallel()
	dependency := func(change func(*policy.Config)) error {
		c := config()
		change(&c)
		return c.Validate()
	}
	call := func(change func(*resilience.PolicyConfig)) error { return operation(config(), change).Validate() }
	store := func(change func(*policy.StoreConfig)) error {
		c := storeConfig()
		change(&c)
		return c.Validate()
	}
	internal := func(change func(*policy.InternalConfig)) error {
		c := policy.InternalDefaults()
		change(&c)
		return c.Validate()
	}
	cases := []struct {
		want string
		err  error
	}{
		{"", config().Validate()},
		{"", policy.StoreDefaults().Validate()},
		{"", policy.InternalDefaults().Validate()},
		{"", policy.BusDefaults().Validate()},
		{"", policy.OutsideDefaults().Config(map[string]resilience.BreakerConfig{"call": policy.OutsideBreaker()}).Validate()},
		{"bulkhead.limit", dependency(func(c *policy.Config) { c.Bulkhead.Limit = 0 })},
		{"undo_bulkhead.queue", dependency(func(c *policy.Config) { c.UndoBulkhead.Queue = -1 })},
		{"budget.burst", dependency(func(c *policy.Config) { c.Budget.Burst = 0 })},
		{"call.breaker.open_for", call(func(op *resilience.PolicyConfig) { op.Breaker.OpenFor = 0 })},
		{"call.retry.attempts", call(func(op *resilience.PolicyConfig) { op.Retry = resilience.RetryConfig{} })},
		{"call.timeout.total", call(func(op *resilience.PolicyConfig) { op.Timeout.Total = -1 })},
		{"admission.limit", store(func(c *policy.StoreConfig) { c.Admission.Limit = 0 })},
		{"read.min_calls", store(func(c *policy.StoreConfig) { c.Read.MinCalls = 11 })},
		{"write.probes", store(func(c *policy.StoreConfig) { c.Write.Probes = 0 })},
		{"any.timeout.attempt", internal(func(c *policy.InternalConfig) { c.Timeout = -1 })},
		{"bulkhead.limit", internal(func(c *policy.InternalConfig) { c.Bulkhead.Limit = 0 })},
	}
	for _, c := range cases {
		names(t, c.err, c.want)
	}
}

// names asserts that an error begins with the name of a setting, and that there is none where that is empty.
func names(t *testing.T, err error, setting string) {
	t.Helper()
	if setting == "" && err != nil || setting != "" && (err == nil || !strings.HasPrefix(err.Error(), setting+" ")) {
		t.Errorf("got %v, want one about %q", err, setting)
	}
}

// TestSetRefuses sees that what cannot work is not made, and leaves nothing in the list.
func TestSetRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	bad := storeConfig()
	bad.Write.OpenFor = 0
	_, err := w.Store("order", bad)
	names(t, err, "write.open_for")
	_, err = w.Bus(bad.Write, &sender{})
	names(t, err, "send.open_for")
	_, err = w.Admission("edge", resilience.AdmissionConfig{})
	names(t, err, "admission.limit")
	_, err = w.RateLimit("callers", resilience.RateLimitConfig{})
	names(t, err, "rate_limit.rate")
	is(t, "policies", len(w.List()), 0)
	c := config()
	c.Budget.Ratio = 2
	_, err = w.Dependency("api", c, resilience.Operation{Name: "call"})
	names(t, err, "api.budget.ratio")
	_, err = w.Dependency("api", config(), resilience.Operation{Name: "other"})
	is(t, "an operation without a configuration", err.Error(), "api has no configuration of its operation other")
	c = operation(config(), func(op *resilience.PolicyConfig) { op.Breaker.Probes = 0 })
	_, err = w.Dependency("api", c, resilience.Operation{Name: "call"})
	names(t, err, "api/call: breaker.probes")
}
