package resilience

import (
	"context"
	"sync/atomic"
)

// Attempt is one attempt that a Policy has admitted, for those who cannot give it a function. Done must
// be called, whatever happens, or its slot is lost.
type Attempt struct {
	run  run
	done atomic.Bool
}

// Acquire passes breaker and bulkhead for one attempt, and sets its timeout, as Try does. Its errors are
// those of Do. The timeouts end the attempt's context, and nothing else: the caller is not woken.
func (p *Policy) Acquire(ctx context.Context) (*Attempt, error) {
	a := &Attempt{run: run{policy: p, set: p.set.Load(), once: true}}
	err := a.run.begin(ctx, Unspecified)
	if err == nil {
		err = a.run.takeOff()
	}
	if err != nil {
		a.run.err = err
		a.run.close()
		return nil, err
	}
	return a, nil
}

// Context returns the attempt's context. It ends with Done.
func (a *Attempt) Context() context.Context { return a.run.flight.ctx }

// Done ends the attempt with its error, which it classifies as Operation.Classify says. Only the first
// Done or Record counts.
func (a *Attempt) Done(err error) (v Verdict) {
	if !left(a.run.caller, err) {
		v = a.run.policy.op.Classify(err)
	}
	a.finish(v.Outcome, err)
	return v
}

// Record ends the attempt with an outcome.
func (a *Attempt) Record(o Outcome) { a.finish(o, nil) }

func (a *Attempt) finish(o Outcome, err error) {
	if a.done.CompareAndSwap(false, true) {
		a.run.land(o, err)
		a.run.close()
	}
}
