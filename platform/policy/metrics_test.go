package policy_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"holdfast/platform/telemetry"
	"holdfast/resilience"
)

// measured is a world whose metrics can be read.
type measured struct {
	*world
	reader *sdkmetric.ManualReader
}

func newMeasured(t *testing.T) measured {
	t.Helper()
	reader, tel := sdkmetric.NewManualReader(), telemetry.Nop()
	tel.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	return measured{newWorld(t, tel), reader}
}

// series are the numbers of a dependency: "calls{operation=call,outcome=success}" without the names that
// all have in common.
func (m measured) series(t *testing.T, dependency string) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := m.reader.Collect(context.WithoutCancel(t.Context()), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	add := func(name string, set attribute.Set, n int64) {
		if v, _ := set.Value("dependency"); v.AsString() != dependency {
			return
		}
		var parts []string
		for _, a := range set.ToSlice() {
			if a.Key != "dependency" {
				parts = append(parts, string(a.Key)+"="+a.Value.AsString())
			}
		}
		slices.Sort(parts)
		got[strings.TrimPrefix(name, "holdfast_resilience_")+"{"+strings.Join(parts, ",")+"}"] = n
	}
	for _, scope := range all.ScopeMetrics {
		for _, metric := range scope.Metrics {
			switch d := metric.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					add(metric.Name, p.Attributes, p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					add(metric.Name, p.Attributes, p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					add(metric.Name, p.Attributes, int64(p.Count))
				}
			}
		}
	}
	return got
}

// expected are the series of one label, by the attributes that docs/resilience.md lists.
func expected(operation string) map[string]int64 {
	all := map[string]int64{}
	add := func(name string, attrs ...string) {
		attrs = append(attrs, "operation="+operation)
		slices.Sort(attrs)
		all[name+"{"+strings.Join(attrs, ",")+"}"] = 0
	}
	for _, o := range []string{"neutral", "success", "failure"} {
		add("calls", "outcome="+o)
		add("attempts", "outcome="+o)
		add("late_results", "outcome="+o)
	}
	add("calls", "outcome=rejected")
	for _, r := range []string{"breaker open", "breaker forced_open", "breaker probing", "bulkhead full", "bulkhead queue_timeout", "admission shed", "rate_limit rate_limited"} {
		p, reason, _ := strings.Cut(r, " ")
		add("rejections", "policy="+p, "reason="+reason)
	}
	for _, g := range []string{"attempts", "deadline", "elapsed", "budget", "open", "not_idempotent"} {
		add("give_ups", "reason="+g)
	}
	for _, s := range []string{"closed", "half_open", "open", "forced_open", "forced_closed", "disabled"} {
		add("breaker_transitions", "state="+s)
	}
	for _, c := range []string{"sheddable", "normal", "critical", "undo"} {
		add("shed", "criticality="+c)
	}
	for _, s := range []string{"started", "won", "refused"} {
		add("hedges", "stage="+s)
	}
	add("budget_exhausted")
	add("stale_results")
	return all
}

// gauges are what a dependency shows beside, at the start.
func gauges() map[string]int64 {
	all := map[string]int64{"budget_tokens{operation=}": 10, "retries{operation=}": 0}
	for _, s := range []string{"half_open", "open", "forced_open", "forced_closed", "disabled"} {
		all["breaker_state{operation=call,state="+s+"}"] = 0
	}
	all["breaker_state{operation=call,state=closed}"] = 1
	for _, op := range []string{"", "undo"} {
		all[fmt.Sprintf("in_use{operation=%s,policy=bulkhead}", op)] = 0
		all[fmt.Sprintf("queued{operation=%s,policy=bulkhead}", op)] = 0
		all[fmt.Sprintf("limit{operation=%s,policy=bulkhead}", op)] = 16
	}
	return all
}

func TestSeriesFromTheStart(t *testing.T) {
	t.Parallel()
	m := newMeasured(t)
	m.dependency(t, config())
	m.guard(t, storeConfig())
	want := gauges()
	for _, op := range []string{"call", "", "undo"} {
		maps.Copy(want, expected(op))
	}
	compare(t, m.series(t, "api"), want)
	store := expected("")
	maps.Copy(store, expected("read"))
	maps.Copy(store, expected("write"))
	got := m.series(t, "order-store")
	maps.DeleteFunc(got, func(name string, _ int64) bool { _, ok := store[name]; return !ok })
	compare(t, got, store)
}

func compare(t *testing.T, got, want map[string]int64) {
	t.Helper()
	for name, n := range want {
		if have, ok := got[name]; !ok || have != n {
			t.Errorf("%s: got %d (there: %v), want %d", name, have, ok, n)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s was not expected", name)
		}
	}
}

// TestSeriesMove runs a dependency into the ground and back, and accounts for all of it.
func TestSeriesMove(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMeasured(t)
		c := retrying(config())
		c.Budget.Burst = 1
		p := m.dependency(t, c).Policy("call")
		run := func(err error) {
			_, _ = resilience.DoCall(t.Context(), p, resilience.Call[int]{Idempotent: true, Func: func(context.Context) (int, error) { return 0, err }})
		}
		left, leave := context.WithCancel(t.Context())
		_ = p.Run(left, func(context.Context) error { leave(); return left.Err() })
		run(nil)
		run(errDown) // twice, and then the budget is spent
		run(errDown) // the fourth result: it opens
		run(nil)
		run(nil)
		time.Sleep(time.Second)
		run(nil) // the probe
		want := expected("call")
		for name, n := range map[string]int64{
			"calls{operation=call,outcome=neutral}": 1, "calls{operation=call,outcome=success}": 2, "calls{operation=call,outcome=failure}": 2,
			"calls{operation=call,outcome=rejected}": 2, "attempts{operation=call,outcome=neutral}": 1, "attempts{operation=call,outcome=success}": 2,
			"attempts{operation=call,outcome=failure}": 3, "rejections{operation=call,policy=breaker,reason=open}": 2,
			"give_ups{operation=call,reason=budget}": 1, "give_ups{operation=call,reason=open}": 1, "breaker_transitions{operation=call,state=open}": 1,
			"breaker_transitions{operation=call,state=half_open}": 1, "breaker_transitions{operation=call,state=closed}": 1,
			"attempt_duration{operation=call,outcome=neutral}": 1, "attempt_duration{operation=call,outcome=success}": 2, "attempt_duration{operation=call,outcome=failure}": 3,
		} {
			want[name] = n
		}
		got := m.series(t, "api")
		is(t, "retries", got["retries{operation=}"], 1) // the budget belongs to the dependency
		is(t, "refused by the budget", got["budget_exhausted{operation=}"], 1)
		maps.DeleteFunc(got, func(name string, _ int64) bool {
			return !strings.Contains(name, "operation=call") || strings.HasPrefix(name, "breaker_state")
		})
		compare(t, got, want)
		is(t, "state", m.state(t, "api.call", "breaker").State, "closed")
		logged := []string{"WARN api.call closed open failure rate", "DEBUG api.call open half_open open time over", "INFO api.call half_open closed probes succeeded"}
		if got := m.log.transitions(); !slices.Equal(got, logged) {
			t.Errorf("logged %v, want %v", got, logged)
		}
	})
}

// TestRetriesNeverGoBack returns a retry that was not made: a counter that goes back is taken for a restart.
func TestRetriesNeverGoBack(t *testing.T) {
	t.Parallel()
	m := newMeasured(t)
	budget := m.dependency(t, config()).Budget()
	shows := func(want int64) {
		t.Helper()
		is(t, "retries", m.series(t, "api")["retries{operation=}"], want)
	}
	budget.TryRetry()
	shows(1)
	budget.Return()
	shows(1)
	budget.TryRetry()
	budget.TryRetry()
	shows(2)
}

// TestSeriesOfRefusals sees that a store's refusals are counted under their own names.
func TestSeriesOfRefusals(t *testing.T) {
	t.Parallel()
	m, cfg := newMeasured(t), storeConfig()
	cfg.Admission.Limit = 1
	g := m.guard(t, cfg)
	undo := resilience.WithCriticality(t.Context(), resilience.Undo)
	for range 3 {
		_, _ = g.Enter(undo, true) // one in the lane, one beside it, and one too many
	}
	got := m.series(t, "order-store")
	is(t, "shed", got["shed{criticality=undo,operation=}"], 1)
	is(t, "rejections", got["rejections{operation=,policy=admission,reason=shed}"], 1)
	is(t, "under way", got["in_use{operation=,policy=admission}"], 2)
}
