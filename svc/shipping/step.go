package shipping

import (
	"context"

	"holdfast/platform/calls"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

var _ shop.Step = (*Service)(nil)

// Do implements shop.Step: it has a parcel scheduled.
func (s *Service) Do(ctx context.Context, brief shop.Brief) (shop.StepOutcome, error) {
	id := brief.OrderID
	begin := s.begin(id, func(ctx context.Context, tx *sqldb.Tx, b *batch) (shop.StepOutcome, error) {
		if b.shipments[id] == nil {
			if err := b.schedule(shop.Event{OrderID: id, TraceParent: telemetry.TraceParent(ctx)}, &brief); err != nil {
				return shop.StepOutcome{}, err
			}
		}
		return doneOf(b.shipments[id], false), nil
	})
	return s.waiters.Ask(ctx, id, begin, s.look(id, doneOf))
}

// Undo implements shop.Step: it cancels the parcel, or sees to it that there will be none.
func (s *Service) Undo(ctx context.Context, id shop.OrderID) (shop.StepOutcome, error) {
	begin := s.begin(id, func(ctx context.Context, tx *sqldb.Tx, b *batch) (shop.StepOutcome, error) {
		if sh := b.shipments[id]; sh != nil && sh.Status == shop.ShipmentDispatched {
			return shop.StepOutcome{}, shop.E(shop.Conflict, "shipping.Undo", "the parcel has left; the way back is a return")
		}
		if err := b.undo(b.shipments[id], id, shop.Orchestrated, telemetry.TraceParent(ctx)); err != nil {
			return shop.StepOutcome{}, err
		}
		waits, err := calls.Parked(ctx, tx, id)
		return undoneOf(b.shipments[id], waits), err
	})
	return s.waiters.Ask(ctx, id, begin, s.look(id, undoneOf))
}

// begin runs fn on the order's row in a transaction, and saves it.
func (s *Service) begin(id shop.OrderID, fn func(context.Context, *sqldb.Tx, *batch) (shop.StepOutcome, error)) func(context.Context) (shop.StepOutcome, error) {
	return func(ctx context.Context) (out shop.StepOutcome, err error) {
		err = s.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			b, err := s.load(ctx, tx, []shop.OrderID{id})
			if err != nil {
				return err
			}
			if out, err = fn(ctx, tx, b); err != nil {
				return err
			}
			return save(ctx, tx, b)
		})
		return out, err
	}
}

// look reads where the step stands.
func (s *Service) look(id shop.OrderID, of func(sh *shipment, parked bool) shop.StepOutcome) func(context.Context) (shop.StepOutcome, error) {
	return func(ctx context.Context) (out shop.StepOutcome, err error) {
		err = s.db.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			found, err := shipmentsOf(ctx, tx, []shop.OrderID{id}, noLock)
			if err != nil || found[id] == nil {
				out = shop.StepOutcome{State: shop.StepPending}
				return err
			}
			parked, err := calls.Parked(ctx, tx, id)
			out = of(found[id], parked)
			return err
		})
		return out, err
	}
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
