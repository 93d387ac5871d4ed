package saga

import (
	"context"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// Consume handles events as the consumer does: in one transaction.
func (s *Service) Consume(ctx context.Context, events ...shop.Event) error {
	return s.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return s.consume(ctx, tx, events) })
}

// Calls makes the calls that are due until ctx ends.
func (s *Service) Calls(ctx context.Context) error { return s.runner.Run(ctx) }

// Brief is what is kept of an order.
func (s *Service) Brief(ctx context.Context, id shop.OrderID) (shop.Brief, error) {
	return s.brief(ctx, id)
}
