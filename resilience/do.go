package resilience

import (
	"cmp"
	"context"
)

// Call is one call, where more is to be said about it than a function. Only Func must be set.
type Call[T any] struct {
	// Func makes one attempt. Its context ends with the attempt; each attempt has one of its own.
	Func func(context.Context) (T, error)
	// Classify judges results where an error does not tell all: an HTTP response of 503 comes without
	// one. Nil asks Operation.Classify about the error.
	Classify func(T, error) Verdict
	// Criticality is that of this call; Unspecified that of the context, or of the operation.
	Criticality Criticality
	// Idempotent marks that this call of a Command is safe to repeat.
	Idempotent bool

	// Late is given the result of a function that ends after its caller had left. A late success may be
	// money. It is called on the function's goroutine.
	Late func(T, error)
	// Discard is given values that nobody else gets: of attempts that are tried again, of the slower
	// attempt of a hedge, and late ones where Late is nil. It may have a body to close.
	Discard func(T)
	// Hold wraps a value that is still in use when the call returns, such as a response whose body is
	// yet to be read. The attempt's context and slot stay until release is called, which may be done
	// more than once; or until a deadline ends the context. It is not called beside an error.
	Hold func(v T, release func()) T
}

// verdict classifies a result.
func (c *Call[T]) verdict(v T, err error, classify func(error) Verdict) Verdict {
	if c.Classify != nil {
		return c.Classify(v, err)
	}
	return classify(err)
}

// Result is what came of a call.
type Result[T any] struct {
	Value T
	// Source tells a fallback's answer from the dependency's. Fallback is then its name, and Cause the
	// error that made it necessary.
	Source   Source
	Fallback string
	Cause    error
	// Attempts is how many reached the dependency; hedges are not counted.
	Attempts int
	// Verdict is that on the last attempt; zero, and so neutral, where a policy refused the call.
	Verdict Verdict
}

// Do calls f through p and returns its result, or:
//
//   - a *Rejection where a policy refused the call: ErrOpen, ErrFull, ErrShed; see also RetryAfter
//   - a *TimeoutError (ErrTimeout) where f did not return in time and was left to itself
//   - the context's error where that had ended before, or during the wait for a slot
//
// A panic or runtime.Goexit of f is one of the caller, and all that the call holds is given back.
func Do[T any](ctx context.Context, p *Policy, f func(context.Context) (T, error)) (T, error) {
	set := p.set.Load()
	if !set.lean {
		r, err := do(ctx, p, &Call[T]{Func: f}, false)
		return r.Value, err
	}
	if r := p.breaker.refusal(); r != nil { // so that an open breaker costs little more than the clock
		var none T
		return none, r
	}
	v, verdict, err := lean(ctx, p, f)
	if verdict.Outcome != Failure || !verdict.Retryable {
		return v, err
	}
	r := run{policy: p, set: set, caller: ctx, ctx: ctx, repeatable: p.op.Kind != Command, tries: tries{made: 1}}
	defer r.close()
	res := Result[T]{Value: v, Verdict: verdict}
	err = retry(&r, &Call[T]{Func: f}, &res, err)
	return res.Value, err
}

// lean is the first attempt where there is nothing but breaker, bulkhead and retry. It does what do does,
// in half the time.
func lean[T any](ctx context.Context, p *Policy, f func(context.Context) (T, error)) (v T, verdict Verdict, err error) {
	if err = ctx.Err(); err != nil {
		return v, verdict, err
	}
	var h held
	if _, err = p.enter(ctx, &h, 0, false); err != nil {
		return v, verdict, err
	}
	defer h.done(Failure) // of a panic or runtime.Goexit: only the first counts
	p.retry.budget.Call()
	v, err = f(ctx)
	if !left(ctx, err) {
		verdict = p.op.Classify(err)
	}
	h.done(verdict.Outcome)
	return v, verdict, err
}

// DoCall is Do with all that there is to say about a call, and about its result. Where Call.Classify
// makes a failure of a value without an error, that value is returned in the end, with no error.
func DoCall[T any](ctx context.Context, p *Policy, c Call[T]) (Result[T], error) {
	return do(ctx, p, &c, false)
}

// Try makes one attempt: through breaker, bulkhead and timeouts, without admission, retry or budget. It
// is for those who keep attempts elsewhere, for instance in a database, and ask Backoff and the budget
// themselves.
func Try[T any](ctx context.Context, p *Policy, c Call[T]) (Result[T], error) {
	return do(ctx, p, &c, true)
}

func do[T any](ctx context.Context, p *Policy, c *Call[T], once bool) (res Result[T], err error) {
	r := run{policy: p, set: p.set.Load(), once: once, repeatable: c.Idempotent || p.op.Kind != Command}
	defer r.close()
	if err = r.begin(ctx, c.Criticality); err == nil {
		err = r.takeOff()
	}
	if err != nil {
		r.err = err
		return res, err
	}
	res.Value, res.Verdict, err = attempt(&r, c)
	if res.Verdict.Outcome == Failure {
		err = retry(&r, c, &res, err)
	}
	res.Attempts = r.tries.made
	if c.Hold != nil && err == nil && r.flight.ctx != nil {
		res.Value = c.Hold(res.Value, r.handOver())
	}
	return res, err
}

// retry makes further attempts after one that ended with res and err.
func retry[T any](r *run, c *Call[T], res *Result[T], err error) error {
	for {
		delay, more := r.again(res.Verdict, err)
		if !more {
			return err
		}
		if err == nil {
			// Before the attempt's context ends: a body must be read up if its connection is to be used again.
			if c.Discard != nil {
				c.Discard(res.Value)
			}
			var none T
			res.Value = none
		}
		if ended := r.pause(delay, err); ended != nil {
			return cmp.Or(err, ended)
		}
		if refusal := r.takeOff(); refusal != nil {
			return r.refused(err, refusal)
		}
		res.Value, res.Verdict, err = attempt(r, c)
	}
}

// attempt makes the attempt that r has taken off for.
func attempt[T any](r *run, c *Call[T]) (v T, verdict Verdict, err error) {
	switch {
	case r.set.hedges:
		return hedged(r, *c)
	case r.set.detaches:
		return detached(r, *c)
	}
	v, err = c.Func(r.flight.ctx)
	verdict = judge(r, c, v, err)
	r.land(verdict.Outcome, err)
	return v, verdict, err
}

// judge classifies a result; that of a call whose caller has left is neutral.
func judge[T any](r *run, c *Call[T], v T, err error) Verdict {
	if left(r.caller, err) {
		return Verdict{}
	}
	return c.verdict(v, err, r.policy.op.Classify)
}

// detached makes an attempt on a goroutine of its own.
func detached[T any](r *run, c Call[T]) (v T, verdict Verdict, err error) {
	t := newTask(r.policy.options, r.policy.op.Classify, r.flight, c)
	go t.run()
	return awaited(r, t)
}

// awaited waits for a task, and leaves it to itself where it does not end in time. The breaker is told
// then; the slot is the task's from there on.
func awaited[T any](r *run, t *task[T]) (v T, verdict Verdict, err error) {
	if t.wait(t.flight.ctx) {
		return landed(r, t)
	}
	err = givenUp(r.policy.options.Label, r.caller, r.ctx)
	if !left(r.caller, err) {
		verdict = Verdict{Outcome: Failure, Retryable: true}
	}
	r.flight.slot = Slot{}
	r.land(verdict.Outcome, err)
	return v, verdict, err
}

// landed takes over the result of a task that has ended.
func landed[T any](r *run, t *task[T]) (v T, verdict Verdict, err error) {
	t.rethrow()
	verdict = judge(r, &t.call, t.value, t.err)
	r.land(verdict.Outcome, t.err)
	return t.value, verdict, t.err
}
