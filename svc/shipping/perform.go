package shipping

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
			if v.outcome == calls.Succeeded {
				outcome = v.status
			}
			res.Attempts = append(res.Attempts, shop.Attempt{At: s.deps.Clock.Now().UTC(), Operation: op, Number: c.Attempts + 1,
				Outcome: outcome, Code: v.code, Reference: v.doc.ID, TraceID: telemetry.TraceID(c.TraceParent)})
		}
	}
	undone := c.Kind == opSchedule && !c.Unknown && s.undone(ctx, c)
	if c.Unknown || undone && c.Failures > 0 {
		v := s.ask(ctx, c)
		note("query:"+c.Kind, v)
		switch {
		case v.outcome != calls.Refused:
			return s.conclude(c, v, res, true)
		case c.Unknown && c.Failures > s.limit(c.Kind):
			return s.giveUp(c, res)
		case c.Unknown && c.Failures == s.limit(c.Kind):
			return s.inDoubt(res)
		}
	}
	if undone {
		res.Settle = settleWith(c, func(b *batch, sh *shipment) error { return b.neverAsked(sh, c) })
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
		// Before giving up, the carrier's own word: the failure may have been the answer's alone.
		asked := s.ask(ctx, c)
		note("query:"+c.Kind, asked)
		if asked.outcome == calls.Refused {
			return s.giveUp(c, res)
		}
		v = asked
	}
	return s.conclude(c, v, res, false)
}

// inDoubt has the carrier asked again after a while instead of giving up. It does not know the operation, but what was
// sent and not answered may still be on its way: a carrier that hung answers questions before it has done all that came
// meanwhile. After two such answers it is given up.
func (s *Service) inDoubt(res calls.Result[*batch]) calls.Result[*batch] {
	res.Failed, res.Unknown, res.RetryIn = true, true, s.cfg.RetryMax
	return res
}

func (s *Service) limit(kind string) int {
	if kind == opSchedule {
		return s.cfg.ScheduleFailures
	}
	return s.cfg.CancelFailures
}

// conclude turns a verdict into an outcome or another try. queried tells that v is the answer to a
// question, whose own failure leaves the operation as unknown as it was. What was unknown stays so until an attempt has
// its outcome: that the other side does not know it says nothing of a request that is still on its way.
func (s *Service) conclude(c calls.Call, v verdict, res calls.Result[*batch], queried bool) calls.Result[*batch] {
	if v.outcome == calls.Succeeded {
		res.Settle = settleWith(c, func(b *batch, sh *shipment) error {
			switch {
			case c.Kind == opCancel && v.status == "succeeded":
				return b.cancelled(sh, c)
			case c.Kind == opCancel:
				return b.park(sh, c)
			case v.status == "succeeded":
				return b.scheduled(sh, c.TraceParent, v.doc)
			default:
				return b.rejected(sh, c, shop.ReasonNotShippable)
			}
		})
		res.Park = c.Kind == opCancel && v.status != "succeeded"
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

// giveUp ends an operation that the carrier says it never did.
func (s *Service) giveUp(c calls.Call, res calls.Result[*batch]) calls.Result[*batch] {
	if c.Kind == opSchedule {
		res.Settle = settleWith(c, func(b *batch, sh *shipment) error {
			return b.rejected(sh, c, shop.ReasonShippingUnavailable)
		})
		return res
	}
	res.Park = true
	res.Settle = settleWith(c, func(b *batch, sh *shipment) error { return b.park(sh, c) })
	return res
}

// undone tells whether the order was undone before the carrier was asked.
func (s *Service) undone(ctx context.Context, c calls.Call) bool {
	if c.Attempts == 0 && s.deps.Clock.Now().Sub(c.FirstAt) < undoneAfter {
		return false // the transaction that asked for it has just seen that it is not
	}
	undo := false
	err := s.db.Read(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		found, err := shipmentsOf(ctx, tx, []shop.OrderID{c.OrderID}, noLock)
		if sh := found[c.OrderID]; sh != nil {
			undo = sh.undo
		}
		return err
	})
	return err == nil && undo
}

// settleWith applies an outcome to the order's row in the transaction that removes the call.
func settleWith(c calls.Call, apply func(*batch, *shipment) error) func(*batch) error {
	return func(b *batch) error {
		if sh := b.shipments[c.OrderID]; sh != nil {
			return apply(b, sh)
		}
		return nil
	}
}
