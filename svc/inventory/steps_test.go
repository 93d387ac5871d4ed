package inventory_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/platform/bus"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/svc/inventory"
	"holdfast/test/fakes"
	"holdfast/test/flow"
	"holdfast/test/stores"
)

// inv is an inventory service with a store of its own.
type inv struct {
	*inventory.Service
	t  testing.TB
	db *sqldb.DB
}

func newInv(t *testing.T, open stores.Open, orders shop.Orders, deps shop.Deps) *inv {
	t.Helper()
	migrations, err := inventory.Migrations()
	if err != nil {
		t.Fatal(err)
	}
	db := open(t, migrations)
	s, err := inventory.New(inventory.Defaults(), inventory.Parts{DB: db, Outbox: flow.Outbox(t, db, inventory.Name, deps),
		Bus: bus.Config{Seeds: []string{"127.0.0.1:1"}, ClientID: "test"}, Orders: orders, Deps: deps, Tel: telemetry.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return &inv{Service: s, t: t, db: db}
}

// each runs test on both stores.
func each(t *testing.T, test func(t *testing.T, s *inv)) {
	t.Helper()
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) { test(t, newInv(t, open, nil, fakes.Deps(t))) })
}

// stock makes an item with stock.
func (s *inv) stock(sku shop.SKU, n int64) {
	s.t.Helper()
	if _, _, err := s.Put(s.t.Context(), sku, 0, shop.PutItem{Name: "x", UnitPrice: 100, Currency: "EUR"}); err != nil {
		s.t.Fatal(err)
	}
	if n == 0 {
		return
	}
	if _, _, err := s.Receive(s.t.Context(), shop.Request{Caller: "c", Key: "r-" + string(sku)}, sku, shop.Receipt{Quantity: n}); err != nil {
		s.t.Fatal(err)
	}
}

// has asserts an item's stock, and that its movements add up to it.
func (s *inv) has(sku shop.SKU, onHand, reserved int64) {
	s.t.Helper()
	item, err := s.Item(s.t.Context(), sku)
	if err != nil {
		s.t.Fatal(err)
	}
	if item.OnHand != onHand || item.Reserved != reserved || item.Available != onHand-reserved {
		s.t.Errorf("%s: %d on hand, %d reserved, %d available; want %d and %d", sku, item.OnHand, item.Reserved, item.Available, onHand, reserved)
	}
	var moved, held int64
	err = s.db.View(s.t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, `SELECT COALESCE(sum(on_hand_delta), 0), COALESCE(sum(reserved_delta), 0) FROM movements WHERE sku = ?`, string(sku)).Scan(&moved, &held)
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if moved != item.OnHand || held != item.Reserved {
		s.t.Errorf("%s: the movements add up to %d and %d, the item has %d and %d", sku, moved, held, item.OnHand, item.Reserved)
	}
}

// take has the service handle events.
func (s *inv) take(events ...shop.Event) {
	s.t.Helper()
	if err := s.Consume(s.t.Context(), events...); err != nil {
		s.t.Fatal(err)
	}
}

// said asserts the types of the events so far.
func (s *inv) said(want ...shop.EventType) {
	s.t.Helper()
	if got := flow.Types(flow.Events(s.t, s.db, shop.TopicInventory)); !slices.Equal(got, want) {
		s.t.Errorf("said %v, want %v", got, want)
	}
}

func placed(t testing.TB, id shop.OrderID, lines ...shop.ReservedLine) shop.Event {
	return flow.Event(t, shop.EventOrderPlaced, shop.TopicOrders, id, 1, shop.OrderData{Brief: &shop.Brief{OrderID: id, Currency: "EUR", Lines: lines}})
}

func of(t testing.TB, kind shop.EventType, id shop.OrderID) shop.Event {
	switch kind {
	case shop.EventShipmentDispatched:
		return flow.Event(t, kind, shop.TopicShipping, id, 2, shop.ShipmentData{OrderID: id})
	default:
		return flow.Event(t, kind, shop.TopicPayments, id, 2, shop.PaymentData{OrderID: id})
	}
}

func TestReserveReleaseShip(t *testing.T) {
	each(t, func(t *testing.T, s *inv) {
		s.stock("A", 10)
		s.stock("B", 1)
		s.take(placed(t, "o1", shop.ReservedLine{SKU: "A", Quantity: 2}, shop.ReservedLine{SKU: "A", Quantity: 3}, shop.ReservedLine{SKU: "B", Quantity: 1}))
		s.has("A", 10, 5)
		s.has("B", 1, 1)
		s.take(of(t, shop.EventPaymentVoided, "o1"))
		s.take(of(t, shop.EventPaymentRefunded, "o1")) // one release is enough
		s.has("A", 10, 0)
		s.has("B", 1, 0)
		s.take(placed(t, "o2", shop.ReservedLine{SKU: "A", Quantity: 4}))
		s.take(of(t, shop.EventShipmentDispatched, "o2"))
		again := of(t, shop.EventShipmentDispatched, "o2")
		again.ID = "another"
		s.take(again)
		s.has("A", 6, 0)
		s.take(of(t, shop.EventPaymentVoided, "o2")) // the goods have left
		s.has("A", 6, 0)
		s.said(shop.EventStockReserved, shop.EventStockReleased, shop.EventStockReserved, shop.EventStockShipped)
		if undone := flow.Events(t, s.db, shop.TopicCompensations); len(undone) != 1 || undone[0].OrderID != "o1" {
			t.Errorf("compensations: %v", undone)
		}
	})
}

// TestAllOrNothing: an order of which one line is short takes nothing, also where its lines are of one
// SKU and each alone would do.
func TestAllOrNothing(t *testing.T) {
	each(t, func(t *testing.T, s *inv) {
		s.stock("A", 5)
		s.stock("B", 0)
		s.take(placed(t, "o1", shop.ReservedLine{SKU: "A", Quantity: 1}, shop.ReservedLine{SKU: "B", Quantity: 1}),
			placed(t, "o2", shop.ReservedLine{SKU: "A", Quantity: 3}, shop.ReservedLine{SKU: "A", Quantity: 3}),
			placed(t, "o3", shop.ReservedLine{SKU: "NONE", Quantity: 1}),
			placed(t, "o4", shop.ReservedLine{SKU: "A", Quantity: 5}))
		s.has("A", 5, 5)
		s.has("B", 0, 0)
		s.said(shop.EventStockRejected, shop.EventStockRejected, shop.EventStockRejected, shop.EventStockReserved)
		s.take(of(t, shop.EventPaymentCancelled, "o1")) // nothing to release
		s.has("A", 5, 5)
	})
}

// TestLateReserve: an undo that overtakes the order leaves a mark, so that the order holds nothing.
func TestLateReserve(t *testing.T) {
	each(t, func(t *testing.T, s *inv) {
		s.stock("A", 5)
		s.take(of(t, shop.EventPaymentCancelled, "o1"))
		s.take(placed(t, "o1", shop.ReservedLine{SKU: "A", Quantity: 1}))
		s.has("A", 5, 0)
		s.said(shop.EventStockReleased)
	})
}

// TestShipUnknown: goods that left without a reservation are a fault to be seen, not to be passed over.
func TestShipUnknown(t *testing.T) {
	each(t, func(t *testing.T, s *inv) {
		s.stock("A", 5)
		if err := s.Consume(t.Context(), of(t, shop.EventShipmentDispatched, "o1")); err == nil {
			t.Error("a parcel of an unknown order was passed over")
		}
		s.has("A", 5, 0)
	})
}

// TestRedriven: an order that does not move has its stock reserved if it was not, and is told again.
func TestRedriven(t *testing.T) {
	each(t, func(t *testing.T, s *inv) {
		s.stock("A", 5)
		again := placed(t, "o1", shop.ReservedLine{SKU: "A", Quantity: 1})
		again.Type = shop.EventOrderRedriven
		s.take(again)
		s.take(again)
		s.has("A", 5, 1)
		s.said(shop.EventStockReserved, shop.EventStockReserved)
	})
}

// TestHotItem: many at once for a few units, in batches as consumers of several partitions take them.
func TestHotItem(t *testing.T) {
	each(t, func(t *testing.T, s *inv) {
		const units, buyers, each = 20, 100, 5
		s.stock("HOT", units)
		var wg sync.WaitGroup
		for from := 0; from < buyers; from += each {
			wg.Go(func() {
				var events []shop.Event
				for i := from; i < from+each; i++ {
					events = append(events, placed(t, shop.OrderID(fmt.Sprintf("o%d", i)), shop.ReservedLine{SKU: "HOT", Quantity: 1}))
				}
				for err := s.Consume(t.Context(), events...); err != nil; err = s.Consume(t.Context(), events...) {
					if shop.KindOf(err) != shop.Unavailable { // the consumer tries those again
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		s.has("HOT", units, units)
	})
}

// decider answers for the order service.
type decider struct {
	shop.Orders
	kept map[shop.OrderID]bool
	err  error
}

func (d decider) Expire(_ context.Context, id shop.OrderID) (bool, error) { return d.kept[id], d.err }

// TestExpiry: whether a reservation that has run out may go is the order's decision, and the stock is
// released as the last step of the undo.
func TestExpiry(t *testing.T) {
	t.Parallel()
	clock := new(fakes.SkewedClock)
	deps := fakes.Deps(t)
	deps.Clock = clock
	s := newInv(t, stores.SQLiteAt(deps), decider{kept: map[shop.OrderID]bool{"kept": true}}, deps)
	s.stock("A", 10)
	s.take(placed(t, "kept", shop.ReservedLine{SKU: "A", Quantity: 1}), placed(t, "undone", shop.ReservedLine{SKU: "A", Quantity: 2}))
	ttl := inventory.Defaults().ReservationTTL
	open := func() (n int) {
		err := s.db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			return tx.QueryRow(ctx, `SELECT count(*) FROM reservations WHERE status = 'reserved' AND kept = 0 AND expires_at <= ?`, sqldb.Micros(clock.Now())).Scan(&n)
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	sweep := func() {
		if err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sweep()
	if s.has("A", 10, 3); open() != 0 {
		t.Error("reservations expire before their time")
	}
	clock.Advance(ttl + time.Second)
	if n := open(); n != 2 {
		t.Errorf("%d of 2 have expired", n)
	}
	sweep()
	if s.has("A", 10, 3); open() != 0 {
		t.Error("they would be asked for again at once")
	}
	clock.Advance(2 * time.Minute)
	if n := open(); n != 1 {
		t.Errorf("%d are asked for again, want the one that is being undone", n)
	}
	s.take(of(t, shop.EventPaymentVoided, "undone"))
	s.has("A", 10, 1)
}

// TestExpiryOfUnknownOrders: what no order holds is given back; what cannot be asked for is kept.
func TestExpiryOfUnknownOrders(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err      error
		reserved int64
	}{
		"unknown":     {shop.E(shop.NotFound, "test", "no such order"), 0},
		"unavailable": {shop.E(shop.Unavailable, "test", "the database is away"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := new(fakes.SkewedClock)
			deps := fakes.Deps(t)
			deps.Clock = clock
			s := newInv(t, stores.SQLiteAt(deps), decider{err: test.err}, deps)
			s.stock("A", 10)
			s.take(placed(t, "o", shop.ReservedLine{SKU: "A", Quantity: 1}))
			clock.Advance(inventory.Defaults().ReservationTTL + time.Second)
			if err := s.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.has("A", 10, test.reserved)
		})
	}
}
