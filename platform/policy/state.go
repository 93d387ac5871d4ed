package policy

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"holdfast/resilience"
	"holdfast/shop"
)

// State is a policy as operators see it. Which members are there depends on the kind of the policy.
type State struct {
	Name   string `json:"name" doc:"The dependency and the operation: psp.authorise"`
	Policy string `json:"policy" enum:"breaker,bulkhead,budget,admission,rate_limit"`
	// Of a breaker.
	State       string  `json:"state,omitempty,omitzero" doc:"Of a breaker: closed, open, half_open, forced_open, forced_closed, disabled"`
	Why         string  `json:"why,omitempty,omitzero" doc:"Of a breaker: what brought it into its state"`
	Since       float64 `json:"since_seconds,omitempty,omitzero" doc:"Of a breaker: how long it has been in its state"`
	RetryAfter  float64 `json:"retry_after_seconds,omitempty,omitzero" doc:"Of a breaker: until a call may be let through"`
	Calls       int     `json:"calls,omitempty,omitzero" doc:"Of a breaker: results in its window"`
	Failures    int     `json:"failures,omitempty,omitzero"`
	Slow        int     `json:"slow,omitempty,omitzero"`
	FailureRate float64 `json:"failure_rate,omitempty,omitzero"`
	Stale       uint64  `json:"stale,omitempty,omitzero" doc:"Of a breaker: results that were not counted, since the start"`
	// Of a bulkhead or an admission.
	InUse  int `json:"in_use,omitempty,omitzero" doc:"Calls under way"`
	Queued int `json:"queued,omitempty,omitzero" doc:"Calls that wait for a slot"`
	Limit  int `json:"limit,omitempty,omitzero" doc:"The most that may be under way; it moves where it adapts"`
	Undo   int `json:"undo,omitempty,omitzero" doc:"Of an admission: calls in the lane of those that undo something"`
	// Of a budget.
	Tokens  float64 `json:"tokens,omitempty,omitzero" doc:"Of a budget: retries that could be made now"`
	Retries uint64  `json:"retries,omitempty,omitzero" doc:"Of a budget: retries since the start"`

	Rejected uint64 `json:"rejected" doc:"Calls that were refused since the start"`
}

// List returns every policy, by name.
func (s *Set) List() []State {
	s.mu.Lock()
	breakers, bulkheads, budgets, admissions, limits := s.breakers, s.bulkheads, s.budgets, s.admissions, s.limits
	s.mu.Unlock()
	var list []State
	for _, b := range breakers {
		list = append(list, s.breakerState(b.Stats()))
	}
	for _, b := range bulkheads {
		x := b.Stats()
		list = append(list, State{Name: name(x.Label), Policy: "bulkhead", InUse: x.InUse, Queued: x.Queued, Limit: x.Limit, Rejected: x.Rejected})
	}
	for _, b := range budgets {
		x := b.Stats()
		list = append(list, State{Name: name(x.Label), Policy: "budget", Tokens: x.Tokens, Retries: x.Taken, Rejected: x.Refused})
	}
	for _, a := range admissions {
		x := a.Stats()
		list = append(list, State{Name: name(x.Label), Policy: "admission", InUse: x.InUse, Undo: x.Undoing, Limit: x.Limit, Rejected: sum(x.Shed)})
	}
	for _, l := range limits {
		x := l.Stats()
		list = append(list, State{Name: name(x.Label), Policy: "rate_limit", InUse: x.Keys, Limit: x.Config.Burst, Rejected: x.Rejected})
	}
	slices.SortStableFunc(list, func(a, b State) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Policy, b.Policy))
	})
	return list
}

func (s *Set) breakerState(x resilience.BreakerStats) State {
	return State{Name: name(x.Label), Policy: "breaker", State: x.State.String(), Why: x.Why, Since: x.Since.Round(time.Millisecond).Seconds(),
		RetryAfter: x.RetryAfter.Round(time.Millisecond).Seconds(), Calls: int(x.Counts.Calls), Failures: int(x.Counts.Failures), Slow: int(x.Counts.Slow),
		FailureRate: x.Counts.FailureRate(), Stale: x.Stale, Rejected: s.watcher(x.Label).refusals.Load()}
}

// name is that of a policy for operators: it stands in paths, so it has no slash.
func name(l resilience.Label) string {
	if l.Operation == "" {
		return l.Dependency
	}
	return l.Dependency + "." + l.Operation
}

func sum(counts map[resilience.Criticality]uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// The ways in which an operator steers a breaker.
const (
	ForceOpen  = "force-open"
	ForceClose = "force-close"
	Auto       = "auto"
)

// Force steers the breaker of a name, as List shows it, and returns its new state. why goes to the log.
func (s *Set) Force(breaker, how, why string) (State, error) {
	s.mu.Lock()
	breakers := s.breakers
	s.mu.Unlock()
	for _, b := range breakers {
		if name(b.Stats().Label) != breaker {
			continue
		}
		switch how {
		case ForceOpen:
			b.ForceOpen(why)
		case ForceClose:
			b.ForceClose(why)
		case Auto:
			b.Auto(why)
		default:
			return State{}, shop.E(shop.Invalid, "policy.Force", "A circuit breaker can be told "+ForceOpen+", "+ForceClose+" or "+Auto+".")
		}
		return s.breakerState(b.Stats()), nil
	}
	return State{}, shop.E(shop.NotFound, "policy.Force", "There is no circuit breaker of this name; /admin/v1/policies lists them.")
}

// gauges reports what is under way when somebody asks.
func (s *Set) gauges(m metric.Meter) error {
	var errs []error
	gauge := func(name, text string) metric.Int64ObservableGauge {
		g, err := m.Int64ObservableGauge("holdfast_resilience_"+name, metric.WithDescription(text))
		errs = append(errs, err)
		return g
	}
	state := gauge("breaker_state", "1 for the state that a breaker is in, 0 for the others.")
	inUse := gauge("in_use", "Calls under way, by bulkhead or admission.")
	queued := gauge("queued", "Calls that wait for a slot of a bulkhead.")
	limit := gauge("limit", "The most calls that may be under way.")
	retries, err := m.Int64ObservableCounter("holdfast_resilience_retries", metric.WithDescription("Attempts after the first, whoever repeats them, by dependency."))
	errs = append(errs, err)
	tokens := gauge("budget_tokens", "Retries that the budget would let through now.")
	_, err = m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s.mu.Lock()
		breakers, bulkheads, budgets, admissions := s.breakers, s.bulkheads, s.budgets, s.admissions
		s.mu.Unlock()
		for _, b := range breakers {
			x := b.Stats()
			for _, st := range resilience.States() {
				n := int64(0)
				if st == x.State {
					n = 1
				}
				o.ObserveInt64(state, n, labels(x.Label, attribute.String(attrState, st.String())))
			}
		}
		for _, b := range bulkheads {
			x := b.Stats()
			set := labels(x.Label, attribute.String(attrPolicy, "bulkhead"))
			o.ObserveInt64(inUse, int64(x.InUse), set)
			o.ObserveInt64(queued, int64(x.Queued), set)
			o.ObserveInt64(limit, int64(x.Limit), set)
		}
		for _, a := range admissions {
			x := a.Stats()
			set := labels(x.Label, attribute.String(attrPolicy, "admission"))
			o.ObserveInt64(inUse, int64(x.InUse+x.Undoing), set)
			o.ObserveInt64(limit, int64(x.Limit), set)
		}
		for _, b := range budgets {
			x := b.Stats()
			o.ObserveInt64(tokens, int64(x.Tokens), labels(x.Label))
			o.ObserveInt64(retries, s.retries(b, x.Taken), labels(x.Label))
		}
		return nil
	}, state, inUse, queued, limit, tokens, retries)
	return errors.Join(append(errs, err)...)
}

// retries is what a counter shows of a budget's retries, of which one that was not made after all is taken
// off again: a counter never goes back.
func (s *Set) retries(b *resilience.Budget, taken uint64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retried[b] = max(s.retried[b], taken)
	return int64(s.retried[b])
}

func labels(l resilience.Label, attrs ...attribute.KeyValue) metric.ObserveOption {
	attrs = append(attrs, attribute.String(attrDependency, l.Dependency), attribute.String(attrOperation, l.Operation))
	return metric.WithAttributeSet(attribute.NewSet(attrs...))
}
