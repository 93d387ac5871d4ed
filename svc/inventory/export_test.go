package inventory

import (
	"context"
	"slices"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// Consume handles events as the consumer does: those that ask for something, in one transaction.
func (s *Service) Consume(ctx context.Context, events ...shop.Event) error {
	events = slices.DeleteFunc(slices.Clone(events), func(e shop.Event) bool { return !asks(e) })
	return s.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return s.consume(ctx, tx, events) })
}

// Sweep looks for expired reservations once.
func (s *Service) Sweep(ctx context.Context) error { return s.sweepOnce(ctx) }
