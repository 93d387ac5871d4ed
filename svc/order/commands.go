package order

import (
	"cmp"
	"context"

	"holdfast/platform/idem"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

// change runs fn on the order's row in a transaction, and saves it.
func (s *Service) change(ctx context.Context, id shop.OrderID, op string, fn func(*batch, *row) error) (shop.Order, error) {
	var o shop.Order
	err := s.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var err error
		o, err = s.changeIn(ctx, tx, id, op, fn)
		return err
	})
	return o, err
}

func (s *Service) changeIn(ctx context.Context, tx *sqldb.Tx, id shop.OrderID, op string, fn func(*batch, *row) error) (shop.Order, error) {
	b, err := s.load(ctx, tx, id)
	if err != nil {
		return shop.Order{}, err
	}
	r := b.rows[id]
	if r == nil {
		return shop.Order{}, notFound(op)
	}
	if err := fn(b, r); err != nil {
		return shop.Order{}, err
	}
	err = b.save(ctx, tx)
	return r.Order, err
}

func notFound(op string) error { return shop.E(shop.NotFound, op, "there is no such order of yours") }

// Cancel implements shop.Orders.
func (s *Service) Cancel(ctx context.Context, by shop.Request, id shop.OrderID) (shop.Order, bool, error) {
	const op = "order.Cancel"
	scope := idem.Scope{Caller: by.Caller, Route: "POST /v1/orders/" + string(id) + "/cancel", Key: by.Key}
	return idem.Do(ctx, s.db, scope, nil, func(ctx context.Context, tx *sqldb.Tx) (shop.Order, error) {
		return s.changeIn(ctx, tx, id, op, func(b *batch, r *row) error {
			switch {
			case r.caller != by.Caller:
				return notFound(op)
			case r.DispatchBegun || r.Order.Status == shop.Fulfilled:
				return shop.E(shop.OrderDispatched, op, "the parcel has been handed to the carrier; the way back is a return")
			case r.Order.Status.Final() || r.Undo != "" && r.Undo != shop.ReasonReservationExpired:
				return nil // it has ended, or is being undone already
			}
			return b.undo(r, shop.ReasonRequested, telemetry.TraceParent(ctx))
		})
	})
}

// AllowDispatch implements shop.Orders. The order's row is where a dispatch and a cancel meet, so
// exactly one of them wins.
func (s *Service) AllowDispatch(ctx context.Context, id shop.OrderID) error {
	refused, err := s.dispatching.Do(ctx, dispatch{id: id, traceParent: telemetry.TraceParent(ctx)})
	return cmp.Or(err, refused)
}

// dispatch is an order whose parcel is about to leave.
type dispatch struct {
	id          shop.OrderID
	traceParent string
}

// allowAll is AllowDispatch for many orders; it returns why a parcel must not leave, or nil, for each.
func (s *Service) allowAll(ctx context.Context, tx *sqldb.Tx, dispatches []dispatch) ([]error, error) {
	ids := make([]shop.OrderID, len(dispatches))
	for i, d := range dispatches {
		ids[i] = d.id
	}
	b, err := s.load(ctx, tx, ids...)
	if err != nil {
		return nil, err
	}
	refused := make([]error, len(dispatches))
	for i, d := range dispatches {
		r := b.rows[d.id]
		if refused[i] = mayDispatch(r); refused[i] != nil || r.DispatchBegun {
			continue
		}
		r.DispatchBegun = true
		b.progress(r, "")
		r.settle()
		r.moved = false // this event says it
		if err := b.emit(r, shop.EventOrderDispatchBegun, d.traceParent); err != nil {
			return nil, err
		}
	}
	return refused, b.save(ctx, tx)
}

// mayDispatch tells why the parcel of an order must not leave.
func mayDispatch(r *row) error {
	const op = "order.AllowDispatch"
	switch {
	case r == nil:
		return notFound(op)
	case r.DispatchBegun:
		return nil
	case r.Undo != "" || r.Order.Status.Final():
		return shop.E(shop.Conflict, op, "the order is being undone or has ended; the parcel must not leave")
	case !r.arranged():
		return shop.E(shop.NotYet, op, "not every step of the order is known to be taken yet; ask again")
	default:
		return nil
	}
}

// Expire implements shop.Orders.
func (s *Service) Expire(ctx context.Context, id shop.OrderID) (kept bool, err error) {
	_, err = s.change(ctx, id, "order.Expire", func(b *batch, r *row) error {
		kept = r.DispatchBegun || r.Undo == "" && (r.arranged() || r.Order.Status == shop.Fulfilled)
		if kept || r.Undo != "" || r.Order.Status.Final() {
			return nil
		}
		return b.undo(r, shop.ReasonReservationExpired, telemetry.TraceParent(ctx))
	})
	return kept, err
}

// Retry implements shop.Orders.
func (s *Service) Retry(ctx context.Context, id shop.OrderID) (shop.Order, error) {
	const op = "order.Retry"
	return s.change(ctx, id, op, func(b *batch, r *row) error {
		if r.Order.Status.Final() && !r.parked() {
			return shop.E(shop.Conflict, op, "the order has ended; there is nothing to drive")
		}
		return b.redrive(r, telemetry.TraceParent(ctx))
	})
}

// Stuck implements shop.Orders.
func (s *Service) Stuck(ctx context.Context, limit int) ([]shop.Order, error) {
	orders := []shop.Order{}
	err := s.db.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		rows, err := stuckRows(ctx, tx, limit)
		orders = orders[:0]
		for _, r := range rows {
			orders = append(orders, r.Order)
		}
		return err
	})
	return orders, err
}
