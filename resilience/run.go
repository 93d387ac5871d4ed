package resilience

import (
	"context"
	"sync"
	"time"
)

// run is one call through a Policy. It lives on the caller's stack: nothing here may make it escape.
type run struct {
	policy      *Policy
	set         *policySet
	caller      context.Context
	ctx         context.Context // with the total deadline
	cancel      context.CancelFunc
	ticket      Ticket
	criticality Criticality
	repeatable  bool
	once        bool    // one attempt, and neither admission nor budget
	start       instant // 0 where nothing is measured
	end         instant // of the last attempt
	tries       tries
	flight      flight
	outcome     Outcome
	err         error
}

// held is what an attempt holds, and must give back.
type held struct {
	permit Permit
	slot   Slot
}

// done gives it back, where times do not matter.
func (h *held) done(o Outcome) {
	h.permit.done(o, 0)
	h.slot.done(o, 0)
}

// flight is one attempt.
type flight struct {
	held
	ctx    context.Context // nil while there is no attempt
	cancel context.CancelFunc
	start  instant
	flies  bool // and has not been judged
}

// end ends the attempt's context.
func (f *flight) end() {
	if f.cancel != nil {
		f.cancel()
		f.cancel = nil
	}
}

// cancellable makes sure that end ends the context.
func (f *flight) cancellable() {
	if f.cancel == nil {
		f.ctx, f.cancel = context.WithCancel(f.ctx)
	}
}

// begin passes admission and sets the total deadline.
func (r *run) begin(ctx context.Context, c Criticality) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p := r.policy
	r.caller, r.ctx = ctx, ctx
	if r.set.measures {
		r.start = now()
	}
	if p.admission != nil && !r.once {
		if c == Unspecified {
			c, _ = CriticalityFrom(ctx)
		}
		r.criticality = c.or(p.op.Criticality).or(Normal)
		ticket, err := p.admission.admit(r.criticality, r.start)
		if err != nil {
			return err
		}
		r.ticket = ticket
	}
	if total := r.set.total; total > 0 {
		r.ctx, r.cancel = within(ctx, total, r.start)
	}
	return nil
}

// within returns ctx with a timeout from t on, unless it ends sooner by itself. Then cancel is nil.
func within(ctx context.Context, d time.Duration, t instant) (context.Context, context.CancelFunc) {
	if t == 0 {
		t = now()
	}
	deadline := t.add(d)
	if deadlineOf(ctx) <= deadline {
		return ctx, nil
	}
	return context.WithTimeout(ctx, d)
}

// takeOff passes breaker and bulkhead and begins an attempt.
func (r *run) takeOff() error {
	t := r.start
	if t != 0 && r.tries.made > 0 {
		t = now()
	}
	if err := r.acquire(&r.flight, t, false); err != nil {
		return err
	}
	if r.tries.made++; r.tries.made == 1 && !r.once {
		r.policy.retry.budget.Call()
	}
	return nil
}

// second begins the second attempt of a hedge, if breaker, bulkhead and budget have room for it at once.
func (r *run) second(f *flight) bool {
	b := r.policy.retry.budget
	if !b.TryRetry() {
		return false
	}
	if r.acquire(f, now(), true) != nil {
		b.Return()
		return false
	}
	f.cancellable()
	return true
}

// acquire fills f. T is 0 where nothing is measured.
func (r *run) acquire(f *flight, t instant, atOnce bool) error {
	t, err := r.policy.enter(r.ctx, &f.held, t, atOnce)
	if err != nil {
		return err
	}
	f.ctx, f.start, f.flies = r.ctx, t, true
	if r.set.attempt > 0 {
		f.ctx, f.cancel = within(r.ctx, r.set.attempt, t)
	}
	return nil
}

// enter passes breaker and bulkhead at t, which is 0 where nothing is measured. It returns when the
// attempt begins, which is later than t after a wait.
func (p *Policy) enter(ctx context.Context, h *held, t instant, atOnce bool) (instant, error) {
	var err error
	if h.permit, err = p.breaker.acquire(t); err != nil || p.bulkhead == nil {
		return t, err
	}
	var waited bool
	h.slot, waited, err = p.bulkhead.acquire(ctx, t, atOnce)
	switch {
	case err != nil:
		h.permit.done(Neutral, t)
	case waited:
		// The wait says nothing about the dependency, and the breaker may have opened meanwhile.
		h.permit.done(Neutral, 0)
		if t != 0 {
			t = now()
		}
		if h.permit, err = p.breaker.acquire(t); err != nil {
			h.slot.Release()
		}
	}
	return t, err
}

// land judges the attempt. The slot stays until clear: a result may still be in use.
func (r *run) land(o Outcome, err error) {
	f := &r.flight
	f.flies = false
	r.end = 0
	if r.set.measures {
		r.end = now()
	}
	r.outcome, r.err = o, err
	f.permit.done(o, r.end)
	p := r.policy
	if r.set.hedges && o == Success {
		p.latency.observe(r.end.sub(f.start))
	}
	if p.options.Observer != nil {
		p.options.Observer.Attempted(AttemptEvent{Label: p.options.Label, Number: r.tries.made, Outcome: o, Duration: r.end.sub(f.start), Err: err})
	}
}

// clear gives back what the attempt holds.
func (r *run) clear() {
	if r.flight.ctx == nil {
		return
	}
	r.flight.slot.done(r.outcome, r.end)
	r.flight.end()
	r.flight = flight{}
}

// refused tells what to return where a further attempt was refused: what the dependency said before,
// unless that was a value, which is gone.
func (r *run) refused(last, refusal error) error {
	r.policy.retry.giveBack()
	if last == nil {
		r.err = refusal
		return refusal
	}
	return last
}

// again tells whether there is a further attempt, and how long it waits.
func (r *run) again(v Verdict, err error) (delay time.Duration, more bool) {
	if v.Outcome != Failure || !v.Retryable || r.once || r.ctx.Err() != nil {
		return 0, false
	}
	retry := r.policy.retry
	if !r.repeatable {
		retry.gaveUp(GiveUpNotIdempotent, r.tries.made, err)
		return 0, false
	}
	if r.tries.began == 0 {
		r.tries.began = now()
		if r.start != 0 {
			r.tries.began = r.start
		}
	}
	return retry.next(&r.tries, v, deadlineOf(r.ctx), err, r.policy.breaker)
}

// pause gives back what the last attempt held and waits before the next. It returns the context's error
// where that ends meanwhile.
func (r *run) pause(delay time.Duration, err error) error {
	r.clear()
	if r.policy.retry.pause(r.ctx, &r.tries, delay, err) {
		return nil
	}
	return r.ctx.Err()
}

// close is deferred: it gives back everything, whatever has happened.
func (r *run) close() {
	if r.flight.flies {
		r.land(Failure, errAborted)
	}
	r.clear()
	if r.cancel != nil {
		r.cancel()
	}
	r.ticket.done(r.outcome, r.end)
	p := r.policy
	if p.options.Observer != nil {
		e := CallEvent{Label: p.options.Label, Criticality: r.criticality, Outcome: r.outcome, Attempts: r.tries.made, Err: r.err}
		if r.tries.made > 0 {
			e.Duration = r.end.sub(r.start)
		}
		p.options.Observer.Called(e)
	}
}

// handOver returns a function that gives back what the run still holds, and leaves the run with nothing.
// The first call of it counts, or the end of the attempt's context: then the work is over anyway.
func (r *run) handOver() func() {
	held := &holding{flight: r.flight, ticket: r.ticket, cancel: r.cancel, outcome: r.outcome}
	r.flight, r.ticket, r.cancel = flight{}, Ticket{}, nil
	stop := context.AfterFunc(held.flight.ctx, held.release)
	return func() {
		stop()
		held.release()
	}
}

// holding is what a result in use holds.
type holding struct {
	once    sync.Once
	flight  flight
	ticket  Ticket
	cancel  context.CancelFunc
	outcome Outcome
}

func (h *holding) release() {
	h.once.Do(func() {
		h.flight.slot.done(h.outcome, 0)
		h.ticket.done(h.outcome, 0)
		h.flight.end()
		if h.cancel != nil {
			h.cancel()
		}
	})
}
