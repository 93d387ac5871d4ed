package policy

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"holdfast/resilience"
)

// The attributes of every series. Their values are names from the configuration and from enumerations,
// so that their number is bounded.
const (
	attrDependency  = "dependency"
	attrOperation   = "operation"
	attrCriticality = "criticality"
	attrOutcome     = "outcome"
	attrPolicy      = "policy"
	attrReason      = "reason"
	attrState       = "state"
	attrSource      = "source"
	attrStage       = "stage"
)

// instruments are the counters of all policies of a process. docs/resilience.md lists them.
type instruments struct {
	calls, attempts, rejections, giveUps, exhausted   metric.Int64Counter
	transitions, stale, late, fallbacks, hedges, shed metric.Int64Counter
	duration                                          metric.Float64Histogram
}

func newInstruments(m metric.Meter) (*instruments, error) {
	i := &instruments{}
	var errs []error
	for _, c := range []struct {
		to         *metric.Int64Counter
		name, text string
	}{
		{&i.calls, "calls", "Calls through a policy, by what came of them."},
		{&i.attempts, "attempts", "Attempts that reached the dependency, by what they tell of it."},
		{&i.rejections, "rejections", "Calls that a policy refused, by policy and reason."},
		{&i.giveUps, "give_ups", "Failures that could have been retried and were not, by reason."},
		{&i.exhausted, "budget_exhausted", "Retries and hedges that the budget refused."},
		{&i.transitions, "breaker_transitions", "Changes of a breaker's state, by the new state."},
		{&i.stale, "stale_results", "Results of calls that a breaker had admitted in an earlier state, and did not count."},
		{&i.late, "late_results", "Ends of calls that their callers had given up."},
		{&i.fallbacks, "fallbacks", "Answers that were taken from elsewhere, or were tried to be."},
		{&i.shed, "shed", "Calls that admission refused, by criticality."},
		{&i.hedges, "hedges", "Second attempts beside the first, by how far they came."},
	} {
		var err error
		*c.to, err = m.Int64Counter("holdfast_resilience_"+c.name, metric.WithDescription(c.text))
		errs = append(errs, err)
	}
	var err error
	i.duration, err = m.Float64Histogram("holdfast_resilience_attempt_duration", metric.WithUnit("s"),
		metric.WithDescription("How long attempts took."),
		metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30))
	return i, errors.Join(append(errs, err)...)
}

// watcher is the observer of one label: it counts, and logs what an operator would want to find.
type watcher struct {
	resilience.NopObserver
	set   *instruments
	log   *slog.Logger
	label resilience.Label

	called, attempted [3]metric.MeasurementOption // by outcome
	refused           metric.MeasurementOption
	own               metric.MeasurementOption

	refusals atomic.Uint64 // by a breaker, which does not count them itself
}

// newWatcher makes the observer and every series it can ever have, so that a rate over them is zero, and
// not missing, until something happens.
func newWatcher(set *instruments, log *slog.Logger, label resilience.Label) *watcher {
	w := &watcher{set: set, log: log, label: label}
	w.own = w.with()
	w.refused = w.with(attribute.String(attrOutcome, "rejected"))
	for _, o := range []resilience.Outcome{resilience.Neutral, resilience.Success, resilience.Failure} {
		w.called[o] = w.with(attribute.String(attrOutcome, o.String()))
		w.attempted[o] = w.called[o]
	}
	w.start()
	return w
}

func (w *watcher) with(attrs ...attribute.KeyValue) metric.MeasurementOption {
	attrs = append(attrs, attribute.String(attrDependency, w.label.Dependency), attribute.String(attrOperation, w.label.Operation))
	return metric.WithAttributeSet(attribute.NewSet(attrs...))
}

// start adds nothing to each series, which makes it be there.
func (w *watcher) start() {
	ctx := context.Background()
	w.set.calls.Add(ctx, 0, w.refused)
	for o := range w.called {
		w.set.calls.Add(ctx, 0, w.called[o])
		w.set.attempts.Add(ctx, 0, w.attempted[o])
		w.set.late.Add(ctx, 0, w.attempted[o])
	}
	for _, r := range resilience.Reasons() {
		w.set.rejections.Add(ctx, 0, w.rejection(r))
	}
	for _, g := range resilience.GiveUps() {
		w.set.giveUps.Add(ctx, 0, w.with(attribute.String(attrReason, g.String())))
	}
	for _, s := range resilience.States() {
		w.set.transitions.Add(ctx, 0, w.with(attribute.String(attrState, s.String())))
	}
	for _, c := range []resilience.Criticality{resilience.Sheddable, resilience.Normal, resilience.Critical, resilience.Undo} {
		w.set.shed.Add(ctx, 0, w.with(attribute.String(attrCriticality, c.String())))
	}
	for _, h := range []resilience.HedgeStage{resilience.HedgeStarted, resilience.HedgeWon, resilience.HedgeRefused} {
		w.set.hedges.Add(ctx, 0, w.hedge(h))
	}
	w.set.exhausted.Add(ctx, 0, w.own)
	w.set.stale.Add(ctx, 0, w.own)
}

func (w *watcher) rejection(r resilience.Reason) metric.MeasurementOption {
	return w.with(attribute.String(attrPolicy, r.Policy()), attribute.String(attrReason, r.String()))
}

// Called counts a call.
func (w *watcher) Called(e resilience.CallEvent) {
	opt := w.called[e.Outcome]
	if e.Attempts == 0 && errors.Is(e.Err, resilience.ErrRejected) {
		opt = w.refused
	}
	w.set.calls.Add(context.Background(), 1, opt)
}

// Attempted counts and times an attempt.
func (w *watcher) Attempted(e resilience.AttemptEvent) {
	w.set.attempts.Add(context.Background(), 1, w.attempted[e.Outcome])
	w.set.duration.Record(context.Background(), e.Duration.Seconds(), w.attempted[e.Outcome])
}

// Rejected counts a refused call.
func (w *watcher) Rejected(e resilience.RejectEvent) {
	w.set.rejections.Add(context.Background(), 1, w.rejection(e.Reason))
	if e.Reason.Policy() == resilience.ReasonOpen.Policy() {
		w.refusals.Add(1)
	}
	if e.Reason == resilience.ReasonShed {
		w.set.shed.Add(context.Background(), 1, w.with(attribute.String(attrCriticality, e.Criticality.String())))
	}
}

// GaveUp counts a failure that is not retried.
func (w *watcher) GaveUp(e resilience.GiveUpEvent) {
	w.set.giveUps.Add(context.Background(), 1, w.with(attribute.String(attrReason, e.Reason.String())))
}

// BudgetExhausted counts a retry that the budget refused.
func (w *watcher) BudgetExhausted(resilience.BudgetEvent) {
	w.set.exhausted.Add(context.Background(), 1, w.own)
}

// Transitioned counts and logs a change of a breaker's state.
func (w *watcher) Transitioned(e resilience.TransitionEvent) {
	w.set.transitions.Add(context.Background(), 1, w.with(attribute.String(attrState, e.To.String())))
	level := slog.LevelInfo
	switch {
	case e.To == resilience.HalfOpen, e.From == resilience.HalfOpen && e.To == resilience.Open:
		level = slog.LevelDebug // a probe each second, as long as the outage lasts
	case e.To == resilience.Open, e.To == resilience.ForcedOpen:
		level = slog.LevelWarn
	}
	w.log.Log(context.Background(), level, "circuit breaker changed its state", "policy", name(e.Label), "from", e.From.String(), "to", e.To.String(),
		"why", e.Why, "generation", e.Generation, "calls", e.Counts.Calls, "failures", e.Counts.Failures, "slow", e.Counts.Slow)
}

// Stale counts a result that a breaker did not count.
func (w *watcher) Stale(resilience.StaleEvent) { w.set.stale.Add(context.Background(), 1, w.own) }

// Late counts and logs the end of a call that its caller had given up: it may be about money.
func (w *watcher) Late(e resilience.LateEvent) {
	w.set.late.Add(context.Background(), 1, w.attempted[e.Outcome])
	w.log.Info("a call ended after its caller had given it up", "policy", name(e.Label), "outcome", e.Outcome.String(), "took", e.Duration)
}

// FellBack counts and logs an answer from elsewhere.
func (w *watcher) FellBack(e resilience.FallbackEvent) {
	outcome := resilience.Success
	if e.Err != nil {
		outcome = resilience.Failure
	}
	w.set.fallbacks.Add(context.Background(), 1, w.fallback(e.Source, outcome))
}

func (w *watcher) fallback(source string, o resilience.Outcome) metric.MeasurementOption {
	return w.with(attribute.String(attrSource, source), attribute.String(attrOutcome, o.String()))
}

// Hedged counts a second attempt.
func (w *watcher) Hedged(e resilience.HedgeEvent) {
	w.set.hedges.Add(context.Background(), 1, w.hedge(e.Stage))
}

func (w *watcher) hedge(s resilience.HedgeStage) metric.MeasurementOption {
	return w.with(attribute.String(attrStage, s.String()))
}
