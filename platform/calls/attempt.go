package calls

import (
	"context"
	"time"

	"holdfast/platform/telemetry"
	"holdfast/resilience"
	"holdfast/shop"
)

// maxRecorded bounds the attempts that are kept of one operation; an outage must not fill the store.
const maxRecorded = 25

// StatusDone is the Verdict's Status of an operation that has its effect.
const StatusDone = "succeeded"

// Verdict is what the outside party says of an operation. D is its document.
type Verdict[D any] struct {
	// Outcome is that of the request; of a question, Refused says that the party does not know the operation.
	Outcome   Outcome
	Status    string // StatusDone or another, in the party's words, where Outcome is Succeeded
	Doc       D
	Reference string // the document's
	Code      string // why not, in the party's words
	// RetryAfter is the least wait before the next attempt, as the party or a policy asks for it.
	RetryAfter time.Duration
}

// Operation is what a service wants done by an outside party, once.
type Operation[D, B any] interface {
	// Do makes the request, and Ask asks what became of it.
	Do(ctx context.Context) Verdict[D]
	Ask(ctx context.Context) Verdict[D]
	// Undone tells whether nobody wants it any more, so that it need not be sent where it never was.
	Undone(ctx context.Context) bool
	// Limit is how many attempts may fail before it is given up.
	Limit() int
	// Ended, GivenUp and NeverSent are how each end is applied. v is what GivenUp may quote, or empty.
	Ended(v Verdict[D]) Ending[B]
	GivenUp(v Verdict[D]) Ending[B]
	NeverSent() Ending[B]
}

// Ending is how the end of an operation is applied; see Result, which has both.
type Ending[B any] struct {
	Settle func(B) error
	Park   bool
}

// Attempt makes one attempt at an operation, so that it is done once although answers are lost. What may have happened
// before is asked for first: where an earlier attempt is unknown nothing is sent before the party has said that it does
// not know it. That stays so until an attempt has its outcome: that the party does not know it says nothing of a request
// that is still on its way. Pace is the wait between attempts.
func Attempt[D, B any](ctx context.Context, c Call, op Operation[D, B], pace resilience.Backoff, deps shop.Deps) Result[B] {
	a := attempt[D, B]{Call: c, op: op, pace: pace, deps: deps}
	undone := !c.Unknown && op.Undone(ctx)
	if c.Unknown || undone && c.Failures > 0 {
		v := a.ask(ctx)
		switch {
		case v.Outcome != Refused:
			return a.conclude(v, true)
		case c.Unknown && c.Failures > op.Limit():
			return a.withoutEffect(op.GivenUp(Verdict[D]{}))
		case c.Unknown && c.Failures == op.Limit():
			return a.inDoubt()
		}
	}
	if undone {
		return a.withoutEffect(op.NeverSent())
	}
	v := op.Do(ctx)
	a.note(c.Kind, v)
	a.result.Failed = v.Outcome == Failed || c.Unknown && (v.Outcome == Lost || v.Outcome == Refused)
	lastTry := a.result.Failed && c.Failures+1 >= op.Limit()
	switch {
	case lastTry && c.Unknown:
		return a.inDoubt()
	case lastTry || v.Outcome == Refused && !c.Unknown:
		// Before giving up, the party's own word: the failure may have been the answer's alone.
		asked := a.ask(ctx)
		switch asked.Outcome {
		case Refused:
			return a.withoutEffect(op.GivenUp(v))
		case Succeeded:
			return a.end(op.Ended(asked))
		}
		// Without that word it is in doubt, and the failure does not count: Limit is for what the party has told.
		a.result.Failed, a.result.Unknown, a.result.RetryIn = false, true, a.retryIn(asked)
		return a.result
	}
	return a.conclude(v, false)
}

// attempt is one that is being made.
type attempt[D, B any] struct {
	Call
	op     Operation[D, B]
	pace   resilience.Backoff
	deps   shop.Deps
	result Result[B]
}

func (a *attempt[D, B]) ask(ctx context.Context) Verdict[D] {
	v := a.op.Ask(ctx)
	a.note("query:"+a.Kind, v)
	return v
}

// note records what was asked for and what came of it.
func (a *attempt[D, B]) note(operation string, v Verdict[D]) {
	if a.Attempts >= maxRecorded || v.Outcome == Rejected {
		return
	}
	outcome := string(v.Outcome)
	if v.Outcome == Succeeded {
		outcome = v.Status
	}
	a.result.Attempts = append(a.result.Attempts, shop.Attempt{At: a.deps.Clock.Now().UTC(), Operation: operation, Number: a.Call.Attempts + 1,
		Outcome: outcome, Code: v.Code, Reference: v.Reference, TraceID: telemetry.TraceID(a.TraceParent)})
}

func (a *attempt[D, B]) end(e Ending[B]) Result[B] {
	a.result.Settle, a.result.Park = e.Settle, e.Park
	return a.result
}

// withoutEffect is an end for want of an effect. It holds only while nobody else could have sent the operation since.
func (a *attempt[D, B]) withoutEffect(e Ending[B]) Result[B] {
	a.result.WhileHeld = true
	return a.end(e)
}

// inDoubt has the party asked again after a while instead of giving up. It does not know the operation, but what was
// sent and not answered may still be on its way: a party that hung answers questions before it has done all that came
// meanwhile. After two such answers it is given up.
func (a *attempt[D, B]) inDoubt() Result[B] {
	a.result.Failed, a.result.Unknown, a.result.RetryIn = true, true, a.pace.Max
	return a.result
}

// conclude turns a verdict into an outcome or another try. queried tells that v is the answer to a question, whose own
// failure leaves the operation as unknown as it was.
func (a *attempt[D, B]) conclude(v Verdict[D], queried bool) Result[B] {
	if v.Outcome == Succeeded {
		return a.end(a.op.Ended(v))
	}
	a.result.RetryIn = a.retryIn(v)
	a.result.Rejected = v.Outcome == Rejected
	a.result.Unknown = a.Unknown || !queried && (v.Outcome == Lost || v.Outcome == Busy)
	return a.result
}

// retryIn is the wait before the next attempt, after one that ended with v.
func (a *attempt[D, B]) retryIn(v Verdict[D]) time.Duration {
	return max(a.pace.Delay(a.Call.Attempts+1, 0, a.deps.Rand.Float64), v.RetryAfter)
}
