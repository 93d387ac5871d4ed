package order_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/platform/outbox"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/svc/order"
	"holdfast/test/fakes"
	"holdfast/test/flow"
	"holdfast/test/stores"
)

// TestWatchdogIsBounded: however many orders wait, no more than a batch are driven again each time. A
// backlog of 650,000 orders that were all driven again once a minute kept itself alive for ever.
func TestWatchdogIsBounded(t *testing.T) {
	t.Parallel()
	clock := &ticks{left: 2}
	deps := fakes.Deps(t)
	deps.Clock = clock
	s := newOrdersWith(t, stores.SQLiteAt(deps), deps, func(c *order.Config, _ *order.Parts) { c.WatchBatch = 3 })
	for i := range 10 {
		s.place(fmt.Sprint("waits", i))
	}
	clock.Advance(order.Defaults().RedriveAfter + time.Second)
	if err := s.Watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	driven := 0
	for _, e := range flow.Events(t, s.db, shop.TopicOrders) {
		if e.Type == shop.EventOrderRedriven {
			driven++
		}
	}
	if driven != 2*3 {
		t.Errorf("%d orders were driven again in 2 looks of 3", driven)
	}
}

// TestWatchdog: an order that does not move is driven, shown to an operator, and moves on; one that is
// never dispatched is undone before its money's hold ends.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	clock := new(fakes.SkewedClock)
	deps := fakes.Deps(t)
	deps.Clock = clock
	s := newOrders(t, stores.SQLiteAt(deps), deps)
	cfg := order.Defaults()
	look := func() {
		t.Helper()
		if _, err := s.WatchOnce(t.Context()); err != nil {
			t.Error(err)
		}
	}
	said := func(id shop.OrderID, kind shop.EventType, want int) {
		t.Helper()
		n := 0
		for _, e := range flow.Events(t, s.db, shop.TopicOrders) {
			if e.OrderID == id && e.Type == kind {
				n++
			}
		}
		if n != want {
			t.Errorf("%d times %s of %s, want %d", n, kind, id, want)
		}
	}
	silent, held := s.place("silent"), s.place("held")
	s.take(s.arranged(held.ID, clock.Now().Add(24*time.Hour))...)
	look()
	said(silent.ID, shop.EventOrderRedriven, 0)
	clock.Advance(cfg.RedriveAfter + time.Second)
	look()
	look() // not at once again
	said(silent.ID, shop.EventOrderRedriven, 1)
	said(held.ID, shop.EventOrderRedriven, 0)
	clock.Advance(cfg.StuckAfter)
	look()
	s.is(silent.ID, shop.NeedsAttention, shop.ReasonStuck)
	if stuck, err := s.Stuck(t.Context(), 10); err != nil || len(stuck) != 1 || stuck[0].ID != silent.ID {
		t.Errorf("an operator sees %v %v", stuck, err)
	}
	s.take(s.arranged(silent.ID, clock.Now().Add(100*time.Hour))...)
	s.is(silent.ID, shop.Confirmed, "")
	clock.Advance(23 * time.Hour)
	look()
	s.is(held.ID, shop.Cancelling, shop.ReasonAuthorisationExpiry)
	s.is(silent.ID, shop.Confirmed, "")
}

// sender is a bus that can be taken away.
type sender struct{ down atomic.Bool }

func (s *sender) Send(_ context.Context, events []shop.Event) []error {
	errs := make([]error, len(events))
	if s.down.Load() {
		for i := range errs {
			errs[i] = shop.E(shop.Unavailable, "test", "no bus")
		}
	}
	return errs
}

// TestWatchdogWaitsForTheBus: while the bus takes nothing no order is driven again, nor until it has taken events for as
// long as an order may stand still. After 60 s without one, 370 orders that stood in line were, and made the line longer.
func TestWatchdogWaitsForTheBus(t *testing.T) {
	t.Parallel()
	clock := new(fakes.SkewedClock)
	deps := fakes.Deps(t)
	deps.Clock = clock
	bus := new(sender)
	var box *outbox.Outbox
	s := newOrdersWith(t, stores.SQLiteAt(deps), deps, func(_ *order.Config, p *order.Parts) {
		var err error
		if box, err = outbox.New(outbox.Config{Owner: "test"}, outbox.Parts{DB: p.DB, Producer: bus, Deps: deps, Tel: telemetry.Nop(), Source: order.Name}); err != nil {
			t.Fatal(err)
		}
		p.Outbox = box
	})
	cfg := order.Defaults()
	driven := func(want int) {
		t.Helper()
		if _, err := s.WatchOnce(t.Context()); err != nil {
			t.Error(err)
		}
		n := 0
		for _, e := range flow.Events(t, s.db, shop.TopicOrders) {
			if e.Type == shop.EventOrderRedriven {
				n++
			}
		}
		if n != want {
			t.Errorf("%d orders were driven again, want %d", n, want)
		}
	}
	until := func(holds func() bool) { // the relay has noticed
		for !holds() && clock.Sleep(t.Context(), time.Millisecond) == nil {
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	bus.down.Store(true)
	s.place("waits")
	running.Go(func() { _ = box.Run(ctx) })
	until(func() bool { return box.Taking() == 0 })
	clock.Advance(cfg.RedriveAfter + time.Second)
	driven(0)
	bus.down.Store(false)
	until(func() bool { return box.Taking() > 0 })
	clock.Advance(cfg.RedriveAfter / 2)
	driven(0)
	clock.Advance(cfg.RedriveAfter)
	driven(1)
}
