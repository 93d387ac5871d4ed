package payment

import (
	"context"
	"time"

	"github.com/go-json-experiment/json"

	"holdfast/platform/calls"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/resilience"
	"holdfast/shop"
)

// maxRecorded bounds the attempts that are kept of one operation; an outage must not fill the store.
const maxRecorded = 25

// undoneAfter is how old a first attempt is before its order is looked at again.
const undoneAfter = time.Second

// perform makes one attempt at an operation. What may have happened before is asked for first.
func (s *Service) perform(ctx context.Context, c calls.Call) calls.Result[*batch] {
	var r request
	if err := json.Unmarshal(c.Request, &r); err != nil {
		s.deps.Log.ErrorContext(ctx, "a stored call cannot be read", "kind", c.Kind, "err", err)
		return calls.Result[*batch]{RetryIn: s.cfg.RetryMax, Failed: true}
	}
	var res calls.Result[*batch]
	note := func(op string, v verdict) {
		if c.Attempts < maxRecorded && v.outcome != calls.Rejected {
			outcome := string(v.outcome)
			if v.outcome == calls.Succeeded && v.status != "succeeded" {
				outcome = v.status
			}
			res.Attempts = append(res.Attempts, shop.Attempt{At: s.deps.Clock.Now().UTC(), Operation: op, Number: c.Attempts + 1,
				Outcome: outcome, Code: v.code, Reference: v.doc.ID, TraceID: telemetry.TraceID(c.TraceParent)})
		}
	}
	undone := c.Kind == opAuthorise && !c.Unknown && s.undone(ctx, c)
	if c.Unknown || undone && c.Failures > 0 {
		v := s.ask(ctx, c)
		note("query:"+c.Kind, v)
		switch {
		case v.outcome != calls.Refused:
			return s.conclude(c, r, v, res, true)
		case c.Unknown && c.Failures > s.limit(c.Kind):
			return s.giveUp(c, verdict{}, res)
		case c.Unknown && c.Failures == s.limit(c.Kind):
			return s.inDoubt(res)
		}
	}
	if undone {
		res.Settle = settleWith(c, func(b *batch, p *payment) error { return b.neverAsked(p, c) })
		return res
	}
	v := s.do(ctx, c, r)
	note(c.Kind, v)
	res.Failed = v.outcome == calls.Failed || c.Unknown && (v.outcome == calls.Lost || v.outcome == calls.Refused)
	lastTry := res.Failed && c.Failures+1 >= s.limit(c.Kind)
	switch {
	case lastTry && c.Unknown:
		return s.inDoubt(res)
	case lastTry || v.outcome == calls.Refused && !c.Unknown:
		// Before giving up, the provider's own word: the failure may have been the answer's alone.
		asked := s.ask(ctx, c)
		note("query:"+c.Kind, asked)
		if asked.outcome == calls.Refused {
			return s.giveUp(c, v, res)
		}
		v = asked
	}
	return s.conclude(c, r, v, res, false)
}

// inDoubt has the provider asked again after a while instead of giving up. It does not know the operation, but what was
// sent and not answered may still be on its way: a provider that hung answers questions before it has done all that came
// meanwhile. After two such answers it is given up.
func (s *Service) inDoubt(res calls.Result[*batch]) calls.Result[*batch] {
	res.Failed, res.Unknown, res.RetryIn = true, true, s.cfg.RetryMax
	return res
}

func (s *Service) limit(kind string) int {
	if kind == opAuthorise {
		return s.cfg.AuthoriseFailures
	}
	return s.cfg.UndoFailures
}

// conclude turns a verdict into an outcome or another try. queried tells that v is the answer to a
// question, whose own failure leaves the operation as unknown as it was. What was unknown stays so until an attempt has
// its outcome: that the other side does not know it says nothing of a request that is still on its way.
func (s *Service) conclude(c calls.Call, r request, v verdict, res calls.Result[*batch], queried bool) calls.Result[*batch] {
	if v.outcome == calls.Succeeded {
		res.Settle = settleWith(c, func(b *batch, p *payment) error {
			switch {
			case v.status == "succeeded":
				return b.succeeded(p, c, r, v.doc)
			case c.Kind == opAuthorise:
				return b.declined(p, c, shop.ReasonPaymentDeclined, v.code)
			default:
				return b.park(p, c)
			}
		})
		res.Park = v.status != "succeeded" && c.Kind != opAuthorise
		return res
	}
	res.RetryIn = max(s.backoff().Delay(c.Attempts+1, 0, s.deps.Rand.Float64), v.retryAfter)
	res.Rejected = v.outcome == calls.Rejected
	res.Unknown = c.Unknown || !queried && (v.outcome == calls.Lost || v.outcome == calls.Busy)
	return res
}

// backoff is the wait between attempts.
func (s *Service) backoff() resilience.Backoff {
	return resilience.Backoff{Base: s.cfg.RetryMin, Max: s.cfg.RetryMax, Floor: s.cfg.RetryMin / 10}
}

// giveUp ends an operation that the provider says it never did.
func (s *Service) giveUp(c calls.Call, v verdict, res calls.Result[*batch]) calls.Result[*batch] {
	if c.Kind == opAuthorise {
		res.Settle = settleWith(c, func(b *batch, p *payment) error {
			return b.declined(p, c, shop.ReasonPaymentUnavailable, v.code)
		})
		return res
	}
	res.Park = true
	res.Settle = settleWith(c, func(b *batch, p *payment) error { return b.park(p, c) })
	return res
}

// undone tells whether the order was undone before its money was asked for.
func (s *Service) undone(ctx context.Context, c calls.Call) bool {
	if c.Attempts == 0 && s.deps.Clock.Now().Sub(c.FirstAt) < undoneAfter {
		return false // the transaction that asked for it has just seen that it is not
	}
	undo := false
	err := s.db.Read(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		found, err := paymentsOf(ctx, tx, []shop.OrderID{c.OrderID}, noLock)
		if p := found[c.OrderID]; p != nil {
			undo = p.undo
		}
		return err
	})
	return err == nil && undo
}

// settleWith applies an outcome to the order's row in the transaction that removes the call.
func settleWith(c calls.Call, apply func(*batch, *payment) error) func(*batch) error {
	return func(b *batch) error {
		if p := b.payments[c.OrderID]; p != nil {
			return apply(b, p)
		}
		return nil
	}
}
