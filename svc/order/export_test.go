package order

import (
	"context"
	"time"

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

// RecentKeys is how many keys a Shedder knows.
const RecentKeys = recentKeys

// Shedder is what refuses orders that would only wait.
type Shedder struct{ s *shedder }

// NewShedder makes one that knows the keys of stored orders.
func NewShedder(cfg Config, backlog, wait func() time.Duration, random func() float64, stored ...shop.Request) Shedder {
	s := Shedder{newShedder(cfg, backlog, wait, random)}
	for _, r := range stored {
		s.Add(r.Caller, r.Key)
	}
	return s
}

// Add tells it of a stored order.
func (s Shedder) Add(caller shop.Caller, key string) { s.s.recent.add(caller, key) }

// Admit asks it.
func (s Shedder) Admit(caller shop.Caller, key string) error { return s.s.admit(caller, key) }

// Look has it look at how busy the process is.
func (s Shedder) Look() { s.s.look() }
