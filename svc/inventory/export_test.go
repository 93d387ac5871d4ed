package inventory

import (
	"context"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// Consume handles events as the consumer does: in one transaction.
func (s *Service) Consume(ctx context.Context, events ...shop.Event) error {
	return s.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return s.consume(ctx, tx, events) })
}

// Sweep looks for expired reservations once.
func (s *Service) Sweep(ctx context.Context) error { return s.sweepOnce(ctx) }
