package saga

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

// Calls makes the calls that are due until ctx ends.
func (s *Service) Calls(ctx context.Context) error { return s.runner.Run(ctx) }

// Brief is what is kept of an order.
func (s *Service) Brief(ctx context.Context, id shop.OrderID) (shop.Brief, error) {
	return s.brief(ctx, id)
}
