package inventory

import (
	"context"
	"time"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

const (
	sweepBatch = 100         // reservations looked at in one go
	askAgain   = time.Minute // for an order that is being undone, or could not be asked for
)

// sweep looks for reservations that have run out. Whether a
// reservation may go is the order's decision: the order row is where expiry and confirmation meet,
// so exactly one of them wins.
func (s *Service) sweep(ctx context.Context) error {
	for s.deps.Clock.Sleep(ctx, s.cfg.SweepEvery) == nil {
		if err := s.sweepOnce(ctx); err != nil && ctx.Err() == nil {
			s.deps.Log.WarnContext(ctx, "looking for expired reservations failed", "err", err)
		}
	}
	return nil
}

func (s *Service) sweepOnce(ctx context.Context) error {
	var ids []shop.OrderID
	err := s.db.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		ids, err = expired(ctx, tx, now, sweepBatch)
		return err
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		kept, err := s.orders.Expire(ctx, id)
		if err != nil && shop.KindOf(err) != shop.NotFound {
			s.deps.Log.WarnContext(ctx, "asking for an expired reservation failed", "order_id", id, "err", err)
		}
		gone := shop.KindOf(err) == shop.NotFound && err != nil
		if err := s.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return s.expire(ctx, tx, id, kept, gone) }); err != nil {
			return err
		}
	}
	return nil
}

// expire books the order's decision. An order that is being undone releases its stock as the last
// undo, so here it is only asked for again later.
func (s *Service) expire(ctx context.Context, tx *sqldb.Tx, id shop.OrderID, kept, gone bool) error {
	b, err := s.load(ctx, tx, []shop.Event{{OrderID: id}}, nil)
	if err != nil {
		return err
	}
	r := b.reservations[id]
	if r == nil || r.Status != shop.StockReserved {
		return nil
	}
	r.dirty = true
	switch {
	case gone:
		if err := b.release(r, shop.Event{OrderID: id}); err != nil {
			return err
		}
	case kept:
		r.kept = true
	default:
		r.ExpiresAt = b.now.Add(askAgain)
	}
	return b.save(ctx, tx)
}
