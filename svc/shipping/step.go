package shipping

import (
	"context"

	"holdfast/platform/steps"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

var _ shop.Step = (*Service)(nil)

// rows are how a step reads and changes the row of its order.
func (s *Service) rows() steps.Rows[*batch, shipment] {
	return steps.Rows[*batch, shipment]{Store: s.store(), Row: func(b *batch, id shop.OrderID) *shipment { return b.shipments[id] }, Find: shipmentsOf}
}

// Do implements shop.Step: it has a parcel scheduled.
func (s *Service) Do(ctx context.Context, brief shop.Brief) (shop.StepOutcome, error) {
	cause := shop.Event{OrderID: brief.OrderID, TraceParent: telemetry.TraceParent(ctx)}
	return s.steps.Do(ctx, brief.OrderID, func(b *batch) error {
		if b.shipments[brief.OrderID] != nil {
			return nil
		}
		return b.schedule(cause, &brief)
	}, doneOf)
}

// Undo implements shop.Step: it cancels the parcel, or sees to it that there will be none.
func (s *Service) Undo(ctx context.Context, id shop.OrderID) (shop.StepOutcome, error) {
	traceParent := telemetry.TraceParent(ctx)
	return s.steps.Undo(ctx, id, func(b *batch) error {
		if sh := b.shipments[id]; sh != nil && sh.Status == shop.ShipmentDispatched {
			return shop.E(shop.Conflict, "shipping.Undo", "the parcel has left; the way back is a return")
		}
		return b.undo(b.shipments[id], id, shop.Orchestrated, traceParent)
	}, undoneOf)
}

// doneOf tells where the scheduling of a row stands. One that is being undone will never be done.
func doneOf(sh *shipment) shop.StepOutcome {
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
