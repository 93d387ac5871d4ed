package order

import (
	"context"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// Consume handles events as the consumer does: in one transaction.
func (s *Service) Consume(ctx context.Context, events ...shop.Event) error {
	return s.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return s.consume(ctx, tx, events) })
}

// Watch runs the watchdog.
func (s *Service) Watch(ctx context.Context) error { return s.watch(ctx) }

// WatchOnce lets the watchdog look once.
func (s *Service) WatchOnce(ctx context.Context) (int, error) { return s.watchOnce(ctx) }
