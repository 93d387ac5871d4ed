package shipping

import (
	"context"
	"time"

	"github.com/go-json-experiment/json"

	"holdfast/platform/calls"
	"holdfast/platform/sqldb"
	"holdfast/resilience"
	"holdfast/shop"
)

// undoneAfter is how old a first attempt is before its order is looked at again.
const undoneAfter = time.Second

// verdict is what the carrier said about an operation, and ending how that is applied.
type (
	verdict = calls.Verdict[parcel]
	ending  = calls.Ending[*batch]
)

// perform makes one attempt at an operation.
func (s *Service) perform(ctx context.Context, c calls.Call) calls.Result[*batch] {
	a := attempt{Service: s, call: c}
	if err := json.Unmarshal(c.Request, &a.request); err != nil {
		s.deps.Log.ErrorContext(ctx, "a stored call cannot be read", "kind", c.Kind, "err", err)
		return calls.Result[*batch]{RetryIn: s.cfg.RetryMax, Failed: true, Unknown: c.Unknown}
	}
	return calls.Attempt(ctx, c, a, resilience.Backoff{Base: s.cfg.RetryMin, Max: s.cfg.RetryMax, Floor: s.cfg.RetryMin / 10}, s.deps)
}

// attempt is one at an operation. It is a calls.Operation.
type attempt struct {
	*Service
	call    calls.Call
	request request
}

// Limit is how many attempts may fail.
func (a attempt) Limit() int {
	if a.call.Kind == opSchedule {
		return a.cfg.ScheduleFailures
	}
	return a.cfg.CancelFailures
}

// Ended applies what the carrier has done, or will not do.
func (a attempt) Ended(v verdict) ending {
	switch {
	case a.call.Kind == opCancel && v.Status == calls.StatusDone:
		return a.ending(func(b *batch, sh *shipment) error { return b.cancelled(sh, a.call) })
	case a.call.Kind == opCancel:
		return a.parked()
	case v.Status == calls.StatusDone:
		return a.ending(func(b *batch, sh *shipment) error { return b.scheduled(sh, a.call.TraceParent, v.Doc) })
	default:
		return a.rejected(shop.ReasonNotShippable)
	}
}

// GivenUp ends an operation that the carrier says it never did.
func (a attempt) GivenUp(verdict) ending {
	if a.call.Kind == opSchedule {
		return a.rejected(shop.ReasonShippingUnavailable)
	}
	return a.parked()
}

// NeverSent ends the scheduling of a parcel whose order was undone before the carrier was asked.
func (a attempt) NeverSent() ending {
	return a.ending(func(b *batch, sh *shipment) error { return b.neverAsked(sh, a.call) })
}

func (a attempt) rejected(reason shop.Reason) ending {
	return a.ending(func(b *batch, sh *shipment) error { return b.rejected(sh, a.call, reason) })
}

// parked leaves the operation to an operator.
func (a attempt) parked() ending {
	e := a.ending(func(b *batch, sh *shipment) error { return b.park(sh, a.call) })
	e.Park = true
	return e
}

// ending applies an outcome to the order's row in the transaction that removes the call.
func (a attempt) ending(apply func(*batch, *shipment) error) ending {
	return ending{Settle: func(b *batch) error {
		if sh := b.shipments[a.call.OrderID]; sh != nil {
			return apply(b, sh)
		}
		return nil
	}}
}

// Undone tells whether the order was undone before the carrier was asked.
func (a attempt) Undone(ctx context.Context) bool {
	c := a.call
	if c.Kind != opSchedule || c.Attempts == 0 && a.deps.Clock.Now().Sub(c.FirstAt) < undoneAfter {
		return false // the transaction that asked for it has just seen that it is not
	}
	undo := false
	err := a.db.Read(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		found, err := shipmentsOf(ctx, tx, []shop.OrderID{c.OrderID}, noLock)
		if sh := found[c.OrderID]; sh != nil {
			undo = sh.undo
		}
		return err
	})
	return err == nil && undo
}
