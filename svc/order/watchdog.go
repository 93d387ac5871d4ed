package order

import (
	"context"
	"time"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// watch sees to it that no order waits for ever: one that has not moved is driven again, one that does
// not move for long is shown to an operator, and one that was never dispatched is undone before its
// hold on the money ends.
//
// It takes up a bounded number of orders each time that it looks. Orders wait by the hundred thousand where
// more were accepted than the saga can carry; each that is driven again makes several events, and without
// a bound those alone kept the bus busier than it could be, for ever.
//
// While the bus takes no events, and until it has taken them for as long as an order may stand still, none is driven
// again: what was said of it waits in the outbox or in line behind what waited there, and said twice is only more to do.
func (s *Service) watch(ctx context.Context) error {
	for s.deps.Clock.Sleep(ctx, s.cfg.WatchEvery) == nil {
		if _, err := s.watchOnce(ctx); err != nil && ctx.Err() == nil {
			s.deps.Log.WarnContext(ctx, "looking for orders that do not move failed", "err", err)
		}
	}
	return nil
}

// watchOnce acts on a batch of overdue orders and returns how many there were.
func (s *Service) watchOnce(ctx context.Context) (n int, err error) {
	var ids []shop.OrderID
	err = s.db.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		ids, err = due(ctx, tx, now, s.cfg.WatchBatch)
		return err
	})
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	return len(ids), s.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		b, err := s.load(ctx, tx, ids...)
		if err != nil {
			return err
		}
		for _, r := range b.rows {
			if err := b.overdue(r); err != nil {
				return err
			}
		}
		return b.save(ctx, tx)
	})
}

// overdue acts on one order, unless it has moved since it was found.
func (b *batch) overdue(r *row) error {
	at := r.deadline(b.s.cfg)
	r.look, r.dirty = time.Time{}, true
	if at.IsZero() || at.After(b.now) {
		return nil
	}
	if r.Order.Status == shop.Confirmed && !r.DispatchBegun {
		return b.undo(r, shop.ReasonAuthorisationExpiry, "")
	}
	if !r.Stuck && b.now.Sub(r.ProgressAt) >= b.s.cfg.StuckAfter {
		r.Stuck = true
		b.s.deps.Log.Warn("an order does not move", "order_id", r.Order.ID, "status", r.Order.Status, "since", r.ProgressAt)
		before := r.Order.Status
		r.settle()
		if err := b.emit(r, eventFor(before, r.Order.Status), ""); err != nil {
			return err
		}
	}
	if wait := b.s.cfg.RedriveAfter - b.s.outbox.Taking(); wait > 0 {
		r.later = b.now.Add(wait)
		return nil
	}
	r.Drives++
	return b.redrive(r, "")
}
