package shipping

import (
	"context"

	"holdfast/platform/calls"
	"holdfast/platform/sqldb"
	"holdfast/platform/steps"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

var _ shop.Step = (*Service)(nil)

// rows are how a step reads and changes the row of its order.
func (s *Service) rows() steps.Rows[*batch, shipment] {
	return steps.Rows[*batch, shipment]{DB: s.db, Store: calls.Store[*batch]{Load: s.load, Save: save}, Find: shipmentsOf}
}

// Do implements shop.Step: it has a parcel scheduled.
func (s *Service) Do(ctx context.Context, brief shop.Brief) (shop.StepOutcome, error) {
	id := brief.OrderID
	begin := s.rows().Begin(id, func(ctx context.Context, tx *sqldb.Tx, b *batch) (shop.StepOutcome, error) {
		if b.shipments[id] == nil {
			if err := b.schedule(shop.Event{OrderID: id, TraceParent: telemetry.TraceParent(ctx)}, &brief); err != nil {
				return shop.StepOutcome{}, err
			}
		}
		return doneOf(b.shipments[id], false), nil
	})
	return s.waiters.Ask(ctx, id, begin, s.rows().Look(id, doneOf))
}

// Undo implements shop.Step: it cancels the parcel, or sees to it that there will be none.
func (s *Service) Undo(ctx context.Context, id shop.OrderID) (shop.StepOutcome, error) {
	begin := s.rows().Begin(id, func(ctx context.Context, tx *sqldb.Tx, b *batch) (shop.StepOutcome, error) {
		if sh := b.shipments[id]; sh != nil && sh.Status == shop.ShipmentDispatched {
			return shop.StepOutcome{}, shop.E(shop.Conflict, "shipping.Undo", "the parcel has left; the way back is a return")
		}
		if err := b.undo(b.shipments[id], id, shop.Orchestrated, telemetry.TraceParent(ctx)); err != nil {
			return shop.StepOutcome{}, err
		}
		waits, err := calls.Parked(ctx, tx, id)
		return undoneOf(b.shipments[id], waits), err
	})
	return s.waiters.Ask(ctx, id, begin, s.rows().Look(id, undoneOf))
}

// doneOf tells where the scheduling of a row stands. One that is being undone will never be done.
func doneOf(sh *shipment, _ bool) shop.StepOutcome {
	switch {
	case sh.Status == shop.ShipmentRejected:
		return shop.StepOutcome{State: shop.StepRefused, Reason: sh.Reason}
	case sh.Status == shop.ShipmentNeedsAttention:
		return shop.StepOutcome{State: shop.StepParked, Reason: sh.Reason}
	case sh.undo:
		return shop.StepOutcome{State: shop.StepUndone}
	case sh.Status == scheduling:
		return shop.StepOutcome{State: shop.StepPending}
	default:
		return shop.StepOutcome{State: shop.StepDone}
	}
}

// undoneOf tells where the undo stands; parked is whether a call of it waits for an operator.
func undoneOf(sh *shipment, parked bool) shop.StepOutcome {
	switch {
	case sh.Status == shop.ShipmentRejected:
		return shop.StepOutcome{State: shop.StepRefused, Reason: sh.Reason}
	case sh.Status.Closed():
		return shop.StepOutcome{State: shop.StepUndone}
	case sh.Status == shop.ShipmentNeedsAttention && parked:
		return shop.StepOutcome{State: shop.StepParked, Reason: sh.Reason}
	default:
		return shop.StepOutcome{State: shop.StepPending}
	}
}
