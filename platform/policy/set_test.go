package policy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/platform/policy"
	"holdfast/resilience"
	"holdfast/shop"
)

// everything is a set with one policy of each kind, added in no order.
func everything(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, nil)
	w.guard(t, storeConfig())
	w.dependency(t, config())
	w.bus(t, &sender{})
	w.internal(t)
	if _, err := w.Admission("edge", resilience.AdmissionDefaults()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.RateLimit("callers", resilience.RateLimitDefaults()); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestList(t *testing.T) {
	t.Parallel()
	var got []string
	for _, s := range everything(t).List() {
		got = append(got, s.Name+" "+s.Policy)
		if s.Policy == "breaker" && (s.State != "closed" || s.Why != "") || s.Policy != "breaker" && s.State != "" || s.Rejected != 0 {
			t.Errorf("at the start: %+v", s)
		}
	}
	want := []string{"api budget", "api bulkhead", "api.call breaker", "api.undo bulkhead", "bus.send breaker", "callers rate_limit", "edge admission",
		"inventory budget", "inventory bulkhead", "inventory.do breaker", "inventory.prices breaker", "inventory.undo breaker", "inventory.undo bulkhead", "order budget", "order bulkhead",
		"order-store admission", "order-store.read breaker", "order-store.write breaker", "order.allow-dispatch breaker", "order.expire breaker", "order.undo bulkhead"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// TestListCounts sees that each policy shows what it is doing.
func TestListCounts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		d := w.dependency(t, config())
		p := d.Policy("call")
		under, err := p.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		is(t, "bulkhead", w.state(t, "api", "bulkhead"), policy.State{Name: "api", Policy: "bulkhead", InUse: 1, Limit: 16})
		under.Record(resilience.Success)
		for range 3 {
			_ = p.Run(t.Context(), func(context.Context) error { return errDown })
		}
		time.Sleep(400 * time.Millisecond)
		for range 7 {
			_ = p.Run(t.Context(), func(context.Context) error { return errDown })
		}
		is(t, "breaker", w.state(t, "api.call", "breaker"), policy.State{Name: "api.call", Policy: "breaker", State: "open", Why: resilience.WhyFailureRate,
			Since: 0.4, RetryAfter: 0.6, Calls: 4, Failures: 3, FailureRate: 0.75, Rejected: 7})
		d.Budget().TryRetry()
		is(t, "budget", w.state(t, "api", "budget"), policy.State{Name: "api", Policy: "budget", Tokens: 9, Retries: 1})
	})
}

func TestForce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.dependency(t, config()).Policy("call")
		run := func(err error) error { return p.Run(t.Context(), func(context.Context) error { return err }) }
		force := func(how, state string) {
			t.Helper()
			s, err := w.Force("api.call", how, "an operator says "+how)
			if err != nil || s.State != state || s != w.state(t, "api.call", "breaker") {
				t.Errorf("%s: %+v, %v", how, s, err)
			}
		}
		force(policy.ForceOpen, "forced_open")
		time.Sleep(time.Hour)
		is(t, "rejected", resilience.Classify(run(nil)).Outcome, resilience.Neutral)
		force(policy.ForceClose, "forced_closed")
		for range 20 {
			is(t, "held closed", run(errDown), error(errDown))
		}
		force(policy.Auto, "closed")
		force(policy.ForceOpen, "forced_open")
		force(policy.Auto, "half_open")
		is(t, "the probe", run(nil), nil)
		is(t, "state", w.state(t, "api.call", "breaker").State, "closed")
		want := []string{
			"WARN api.call closed forced_open an operator says force-open", "INFO api.call forced_open forced_closed an operator says force-close",
			"INFO api.call forced_closed closed an operator says auto", "WARN api.call closed forced_open an operator says force-open",
			"DEBUG api.call forced_open half_open an operator says auto", "INFO api.call half_open closed probes succeeded"}
		if got := w.log.transitions(); !slices.Equal(got, want) {
			t.Errorf("logged\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestForceUnknown(t *testing.T) {
	t.Parallel()
	w := everything(t)
	for _, name := range []string{"", "nobody", "api", "api.undo", "edge", "api/call", "API.CALL"} {
		if s, err := w.Force(name, policy.ForceOpen, "test"); shop.KindOf(err) != shop.NotFound || s != (policy.State{}) {
			t.Errorf("%q: %+v, %v", name, s, err)
		}
	}
	if s, err := w.Force("api.call", "open", "test"); shop.KindOf(err) != shop.Invalid || s != (policy.State{}) {
		t.Errorf("an action that there is not: %+v, %v", s, err)
	}
	is(t, "logged", len(w.log.transitions()), 0)
}

// TestSetWhileItFills reads a set while policies are added to it.
func TestSetWhileItFills(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if _, err := w.Dependency(fmt.Sprint("d", i), config(), resilience.Operation{Name: "call"}); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() { w.List() })
	}
	all.Wait()
	is(t, "policies", len(w.List()), 20*4)
}

// TestUndoBulkhead has an outage fill the bulkhead of a dependency: what undoes something has its own.
func TestUndoBulkhead(t *testing.T) {
	t.Parallel()
	c := config()
	c.Bulkhead.Limit, c.UndoBulkhead.Limit = 1, 1
	c.Operations["undo"] = c.Operations["call"]
	d, err := newWorld(t, nil).Dependency("api", c, resilience.Operation{Name: "call"}, resilience.Operation{Name: "undo", Criticality: resilience.Undo})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range d.For("call", "undo") {
		for _, want := range []error{nil, resilience.ErrFull} {
			if _, err := p.Acquire(t.Context()); !errors.Is(err, want) {
				t.Errorf("%s: got %v, want %v", p.Operation().Name, err, want)
			}
		}
	}
	is(t, "one budget for both", d.Policy("call").Budget(), d.Policy("undo").Budget())
	defer func() { is(t, "the panic", recover(), any("api has no operation nothing")) }()
	d.Policy("nothing")
}

// TestReconfigure changes a dependency under way.
func TestReconfigure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, c := newWorld(t, nil), config()
		d := w.dependency(t, c)
		p := d.Policy("call")
		fail := func() { _ = p.Run(t.Context(), func(context.Context) error { return errDown }) }
		under, err := p.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			fail()
		}
		for range 5 {
			d.Budget().TryRetry()
		}
		c = operation(c, func(op *resilience.PolicyConfig) { op.Breaker.OpenFor = time.Hour })
		c.Bulkhead.Limit, c.Budget.Burst = 1, 100
		if err := d.Reconfigure(c); err != nil {
			t.Fatal(err)
		}
		is(t, "counts", p.Breaker().Stats().Counts, resilience.Counts{Calls: 3, Failures: 3})
		is(t, "half of the budget", w.state(t, "api", "budget").Tokens, 50)
		is(t, "bulkhead", w.state(t, "api", "bulkhead"), policy.State{Name: "api", Policy: "bulkhead", InUse: 1, Limit: 1})
		fail() // finds no room, and counts for nothing
		is(t, "state", state(d), resilience.Closed)
		under.Record(resilience.Failure)
		is(t, "state after the fourth failure", state(d), resilience.Open)
		time.Sleep(time.Minute)
		is(t, "state of one that opens for an hour now", w.state(t, "api.call", "breaker").RetryAfter, 3540)
		bad := operation(c, func(op *resilience.PolicyConfig) { op.Breaker.Probes = 0 })
		if err := d.Reconfigure(bad); err == nil || !strings.Contains(err.Error(), "breaker.probes") {
			t.Errorf("got %v", err)
		}
		is(t, "state", state(d), resilience.Open)
	})
}

// TestStoreReconfigure is the same for a store, whose breaker stays open.
func TestStoreReconfigure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, c := newWorld(t, nil), storeConfig()
		g := w.guard(t, c)
		for range 4 {
			transact(t.Context(), t, g, true, errDown)
		}
		c.Write.OpenFor, c.Admission.Limit = time.Hour, 7
		if err := g.Reconfigure(c); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		unavailable(t, g, true)
		is(t, "limit", w.state(t, "order-store", "admission").Limit, 7)
	})
}
