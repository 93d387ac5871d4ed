package inventory

import (
	"context"

	"holdfast/platform/sqldb"
	"holdfast/platform/steps"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

var _ shop.Step = (*Service)(nil)

// Do implements shop.Step: it reserves the stock. Its outcome is known at once.
func (s *Service) Do(ctx context.Context, brief shop.Brief) (out shop.StepOutcome, err error) {
	cause := shop.Event{OrderID: brief.OrderID, TraceParent: telemetry.TraceParent(ctx)}
	err = s.step(ctx, cause, &brief, func(b *batch) error {
		if b.reservations[brief.OrderID] == nil {
			if err := b.reserve(cause, &brief); err != nil {
				return err
			}
		}
		out = doneOf(b.reservations[brief.OrderID])
		return nil
	})
	return steps.Answer(ctx, out, err)
}

// Undo implements shop.Step: it releases the stock.
func (s *Service) Undo(ctx context.Context, id shop.OrderID) (out shop.StepOutcome, err error) {
	cause := shop.Event{OrderID: id, TraceParent: telemetry.TraceParent(ctx)}
	err = s.step(ctx, cause, nil, func(b *batch) error {
		r := b.reservations[id]
		if r != nil && r.Status == shop.StockShipped {
			return shop.E(shop.Conflict, "inventory.Undo", "the goods have left; there is nothing to release")
		}
		if err := b.release(r, cause); err != nil {
			return err
		}
		out = shop.StepOutcome{State: shop.StepUndone}
		if r := b.reservations[id]; r.Status == shop.StockRejected {
			out = doneOf(r)
		}
		return nil
	})
	return steps.Answer(ctx, out, err)
}

// step runs fn on the order's rows in a transaction, and saves them.
func (s *Service) step(ctx context.Context, cause shop.Event, brief *shop.Brief, fn func(*batch) error) error {
	var briefs map[shop.EventID]*shop.Brief
	if brief != nil {
		briefs = map[shop.EventID]*shop.Brief{"": brief}
	}
	err := s.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		b, err := s.load(ctx, tx, []shop.Event{cause}, briefs)
		if err != nil {
			return err
		}
		if err := fn(b); err != nil {
			return err
		}
		return b.save(ctx, tx)
	})
	return err
}

// doneOf tells where the reservation of a row stands.
func doneOf(r *reservation) shop.StepOutcome {
	switch r.Status {
	case shop.StockRejected:
		return shop.StepOutcome{State: shop.StepRefused, Reason: r.Reason}
	case shop.StockReleased:
		return shop.StepOutcome{State: shop.StepUndone}
	default:
		return shop.StepOutcome{State: shop.StepDone}
	}
}
