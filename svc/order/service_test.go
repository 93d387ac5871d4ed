package order_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/platform/bus"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/svc/order"
	"holdfast/test/fakes"
	"holdfast/test/flow"
	"holdfast/test/stores"
)

// catalogue is the inventory service as an order needs it.
type catalogue struct {
	shop.Inventory
	items map[shop.SKU]shop.Item
}

// flatRate is what shipping costs everywhere.
type flatRate struct{}

func (flatRate) ShippingFee(string) shop.Amount { return 500 }

func (c catalogue) Prices(context.Context, []shop.SKU) (map[shop.SKU]shop.Item, error) {
	return c.items, nil
}

// orders is an order service with a store of its own.
type orders struct {
	*order.Service
	t  testing.TB
	db *sqldb.DB
}

func newOrders(t *testing.T, open stores.Open, deps shop.Deps) *orders {
	t.Helper()
	return newOrdersWith(t, open, deps, func(*order.Config, *order.Parts) {})
}

func newOrdersWith(t *testing.T, open stores.Open, deps shop.Deps, change func(*order.Config, *order.Parts)) *orders {
	t.Helper()
	migrations, err := order.Migrations()
	if err != nil {
		t.Fatal(err)
	}
	db := open(t, migrations)
	cfg, parts := order.Defaults(), order.Parts{DB: db, Outbox: flow.Outbox(t, db, order.Name, deps), Bus: bus.Config{Seeds: []string{"127.0.0.1:1"}, ClientID: "test"},
		Inventory: catalogue{items: map[shop.SKU]shop.Item{"TEA": {SKU: "TEA", Name: "Tea", UnitPrice: 450, Currency: "EUR"}}}, Rates: flatRate{}, Deps: deps, Tel: telemetry.Nop()}
	change(&cfg, &parts)
	s, err := order.New(cfg, parts)
	if err != nil {
		t.Fatal(err)
	}
	return &orders{Service: s, t: t, db: db}
}

func each(t *testing.T, test func(t *testing.T, s *orders)) {
	t.Helper()
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) { test(t, newOrders(t, open, fakes.Deps(t))) })
}

func by(key string) shop.Request { return shop.Request{Caller: "c", Key: key} }

func command() shop.PlaceOrder {
	return shop.PlaceOrder{CustomerID: "cus", Currency: "EUR", PaymentMethod: "tok_ok", Lines: []shop.PlaceLine{{SKU: "TEA", Quantity: 2}},
		ShippingAddress: shop.Address{Name: "N", Line1: "L", City: "C", PostalCode: "1", Country: "DE"}}
}

func (s *orders) place(key string) shop.Order {
	s.t.Helper()
	o, _, err := s.Place(s.t.Context(), by(key), command())
	if err != nil {
		s.t.Fatal(err)
	}
	return o
}

// arranged is what the other services say of an order whose steps have all been taken.
func (s *orders) arranged(id shop.OrderID, hold time.Time) []shop.Event {
	return []shop.Event{
		flow.Event(s.t, shop.EventStockReserved, shop.TopicInventory, id, 1, shop.StockData{Reservation: shop.Reservation{ID: "rsv_1", OrderID: id, Status: shop.StockReserved}}),
		flow.Event(s.t, shop.EventPaymentAuthorised, shop.TopicPayments, id, 1, shop.PaymentData{OrderID: id, Status: shop.PaymentAuthorised, Authorised: 1400, HoldExpiresAt: hold}),
		flow.Event(s.t, shop.EventShipmentScheduled, shop.TopicShipping, id, 1, shop.ShipmentData{ID: "shp_1", OrderID: id, Status: shop.ShipmentScheduled}),
	}
}

func (s *orders) take(events ...shop.Event) {
	s.t.Helper()
	if err := s.Consume(s.t.Context(), events...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *orders) is(id shop.OrderID, status shop.OrderStatus, reason shop.Reason) shop.Order {
	s.t.Helper()
	o, err := s.Get(s.t.Context(), "c", id)
	if err != nil {
		s.t.Fatal(err)
	}
	if o.Status != status || o.Reason != reason {
		s.t.Errorf("%s (%s), want %s (%s)", o.Status, o.Reason, status, reason)
	}
	return o
}

func TestPlaceIsIdempotent(t *testing.T) {
	each(t, func(t *testing.T, s *orders) {
		first := s.place("one")
		again, replayed, err := s.Place(t.Context(), by("one"), command())
		if err != nil || !replayed || !reflect.DeepEqual(first, again) {
			t.Errorf("the repetition: %v, replayed %v, %v", again, replayed, err)
		}
		other := command()
		other.Lines[0].Quantity = 3
		if _, _, err := s.Place(t.Context(), by("one"), other); shop.KindOf(err) != shop.KeyReused {
			t.Errorf("another order under the same key: %v", err)
		}
		wrong := command()
		wrong.Lines[0].SKU = "NONE"
		if _, _, err := s.Place(t.Context(), by("two"), wrong); shop.KindOf(err) != shop.UnknownSKU {
			t.Errorf("an unknown SKU: %v", err)
		}
		s.place("two") // the refusal left the key free
		if first.Total != 2*450+500 || first.Lines[0].UnitPrice != 450 {
			t.Errorf("priced %d", first.Total)
		}
		if n := len(flow.Events(t, s.db, shop.TopicOrders)); n != 2 {
			t.Errorf("%d events of 2 orders", n)
		}
	})
}

// TestPlaceWithoutStore: an order that cannot be stored is an error.
func TestPlaceWithoutStore(t *testing.T) {
	each(t, func(t *testing.T, s *orders) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if o, _, err := s.Place(ctx, by("k"), command()); err == nil || o.ID != "" {
			t.Errorf("%+v %v", o, err)
		}
	})
}

// TestCancelMeetsDispatch: of a cancel and a dispatch at the same time exactly one wins, and the other
// is told so.
func TestCancelMeetsDispatch(t *testing.T) {
	each(t, func(t *testing.T, s *orders) {
		const rounds = 40
		won := map[bool]int{}
		for i := range rounds {
			o := s.place(fmt.Sprint("o", i))
			s.take(s.arranged(o.ID, time.Time{})...)
			var cancelled, dispatched error
			var wg sync.WaitGroup
			wg.Go(func() { _, _, cancelled = s.Cancel(t.Context(), by(fmt.Sprint("c", i)), o.ID) })
			wg.Go(func() { dispatched = s.AllowDispatch(t.Context(), o.ID) })
			wg.Wait()
			switch {
			case cancelled == nil && shop.KindOf(dispatched) == shop.Conflict:
				s.is(o.ID, shop.Cancelling, shop.ReasonRequested)
			case dispatched == nil && shop.KindOf(cancelled) == shop.OrderDispatched:
				s.is(o.ID, shop.Confirmed, "")
			default:
				t.Fatalf("cancel: %v, dispatch: %v", cancelled, dispatched)
			}
			won[cancelled == nil]++
		}
		t.Logf("the cancel won %d of %d times", won[true], rounds)
	})
}

func TestCancel(t *testing.T) {
	each(t, func(t *testing.T, s *orders) {
		o := s.place("one")
		if _, _, err := s.Cancel(t.Context(), shop.Request{Caller: "somebody else", Key: "k"}, o.ID); shop.KindOf(err) != shop.NotFound {
			t.Errorf("somebody else's order: %v", err)
		}
		s.take(s.arranged(o.ID, time.Time{})...)
		for _, key := range []string{"first", "first", "second"} {
			if got, _, err := s.Cancel(t.Context(), by(key), o.ID); err != nil || got.Status != shop.Cancelling {
				t.Errorf("%s: %s %v", key, got.Status, err)
			}
		}
		if kept, err := s.Expire(t.Context(), o.ID); kept || err != nil {
			t.Errorf("an order that is being undone keeps its stock: %v %v", kept, err)
		}
		undone := []shop.Event{
			flow.Event(t, shop.EventShipmentCancelled, shop.TopicShipping, o.ID, 2, shop.ShipmentData{ID: "shp_1", OrderID: o.ID, Status: shop.ShipmentCancelled}),
			flow.Event(t, shop.EventPaymentVoided, shop.TopicPayments, o.ID, 2, shop.PaymentData{OrderID: o.ID, Status: shop.PaymentVoided, Authorised: 1400}),
			flow.Event(t, shop.EventStockReleased, shop.TopicInventory, o.ID, 2, shop.StockData{Reservation: shop.Reservation{ID: "rsv_1", OrderID: o.ID, Status: shop.StockReleased}}),
		}
		s.take(undone...)
		got := s.is(o.ID, shop.Cancelled, shop.ReasonRequested)
		if l := got.Lines[0]; l.Reserved != 0 || l.Cancelled != 2 {
			t.Errorf("lines %+v", got.Lines)
		}
		if again, _, err := s.Cancel(t.Context(), by("third"), o.ID); err != nil || again.Status != shop.Cancelled {
			t.Errorf("a cancel of what is cancelled: %s %v", again.Status, err)
		}
		if types := flow.Types(flow.Events(t, s.db, shop.TopicOrders)); !slices.Equal(types, []shop.EventType{shop.EventOrderPlaced, shop.EventOrderConfirmed, shop.EventOrderUndoRequested, shop.EventOrderCancelled}) {
			t.Errorf("said %v", types)
		}
	})
}

// TestExpire: an order that is arranged keeps its stock; one that is not is undone, once.
func TestExpire(t *testing.T) {
	each(t, func(t *testing.T, s *orders) {
		kept, lost := s.place("kept"), s.place("lost")
		s.take(s.arranged(kept.ID, time.Time{})...)
		s.take(s.arranged(lost.ID, time.Time{})[:2]...)
		for range 2 {
			if k, err := s.Expire(t.Context(), kept.ID); !k || err != nil {
				t.Errorf("a confirmed order lost its stock: %v %v", k, err)
			}
			if k, err := s.Expire(t.Context(), lost.ID); k || err != nil {
				t.Errorf("an order without a parcel kept its stock: %v %v", k, err)
			}
		}
		s.is(kept.ID, shop.Confirmed, "")
		if err := s.AllowDispatch(t.Context(), lost.ID); shop.KindOf(err) != shop.Conflict {
			t.Errorf("the dispatch of an expired order: %v", err)
		}
		undo := 0
		for _, e := range flow.Events(t, s.db, shop.TopicOrders) {
			if e.Type == shop.EventOrderUndoRequested {
				undo++
			}
		}
		if undo != 1 {
			t.Errorf("%d requests to undo", undo)
		}
		if _, err := s.Expire(t.Context(), "ord_none"); shop.KindOf(err) != shop.NotFound {
			t.Errorf("an unknown order: %v", err)
		}
	})
}

// ticks is a clock that lets a loop go round so many times.
type ticks struct {
	fakes.SkewedClock
	left int
}

func (c *ticks) Sleep(context.Context, time.Duration) error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// alarms is a clock whose timers ring at once; it remembers for how long they were.
type alarms struct {
	fakes.SkewedClock
	mu   sync.Mutex
	rung []time.Duration
}

func (c *alarms) Timer(d time.Duration) (<-chan time.Time, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rung = append(c.rung, d)
	rings := make(chan time.Time, 1)
	rings <- time.Time{}
	return rings, func() {}
}

// TestWaitLooksSoon: who waits for an order sees soon what another process has done, and looks less and less often.
func TestWaitLooksSoon(t *testing.T) {
	t.Parallel()
	clock := new(alarms)
	deps := fakes.Deps(t)
	deps.Clock = clock
	s := newOrders(t, stores.SQLiteAt(deps), deps)
	o, looks := s.place("waits"), 0
	if _, err := s.Wait(t.Context(), "c", o.ID, func(shop.Order) bool { looks++; return looks > 7 }); err != nil {
		t.Fatal(err)
	}
	// Those of 100 ms are also of the batchers.
	rung := slices.DeleteFunc(clock.rung, func(d time.Duration) bool { return d == 100*time.Millisecond })
	want := []time.Duration{50 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, time.Second, time.Second}
	if !slices.Equal(rung, want) {
		t.Errorf("it looked again after %v, want %v", rung, want)
	}
}

// TestAnyOrder: an order ends up the same whatever the order in which the services' events come, and
// however often. Those of one service keep theirs, as the bus does.
func TestAnyOrder(t *testing.T) {
	each(t, func(t *testing.T, s *orders) {
		rng := rand.New(rand.NewPCG(1, 2))
		for round := range 20 {
			o := s.place(fmt.Sprint("o", round))
			lanes := make([][]shop.Event, 3)
			for i, e := range s.arranged(o.ID, time.Time{}) {
				lanes[i] = []shop.Event{e, e}
			}
			if err := s.AllowDispatch(t.Context(), o.ID); shop.KindOf(err) != shop.NotYet {
				t.Fatalf("a dispatch before the steps are known: %v", err)
			}
			lanes[0] = append(lanes[0], flow.Event(t, shop.EventStockShipped, shop.TopicInventory, o.ID, 2, shop.StockData{Reservation: shop.Reservation{OrderID: o.ID, Status: shop.StockShipped}}))
			lanes[1] = append(lanes[1], flow.Event(t, shop.EventPaymentCaptured, shop.TopicPayments, o.ID, 2, shop.PaymentData{OrderID: o.ID, Status: shop.PaymentCaptured, Authorised: 1400, Captured: 1400}))
			lanes[2] = append(lanes[2], flow.Event(t, shop.EventShipmentDispatched, shop.TopicShipping, o.ID, 2, shop.ShipmentData{ID: "shp_1", OrderID: o.ID, Status: shop.ShipmentDispatched}))
			for len(lanes) > 0 {
				i := rng.IntN(len(lanes))
				s.take(lanes[i][0])
				if lanes[i] = lanes[i][1:]; len(lanes[i]) == 0 {
					lanes = slices.Delete(lanes, i, i+1)
				}
			}
			s.is(o.ID, shop.Fulfilled, "")
		}
	})
}

// TestListPages: pages neither repeat nor leave out an order while others are placed.
func TestListPages(t *testing.T) {
	each(t, func(t *testing.T, s *orders) {
		const n = 23
		want := make([]shop.OrderID, n)
		for i := range want {
			want[n-1-i] = s.place(fmt.Sprint("o", i)).ID
		}
		var got []shop.OrderID
		q := shop.OrderQuery{Limit: 5}
		for {
			page, err := s.List(t.Context(), "c", q)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range page.Items {
				got = append(got, o.ID)
			}
			s.place(fmt.Sprint("later", len(got)))
			if q.Cursor = page.NextCursor; q.Cursor == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("listed %v, want %v", got, want)
		}
		if page, err := s.List(t.Context(), "somebody else", shop.OrderQuery{Limit: 5}); err != nil || len(page.Items) > 0 {
			t.Errorf("somebody else sees %v %v", page.Items, err)
		}
		for _, q := range []shop.OrderQuery{{Limit: 5, Cursor: "nonsense"}, {Limit: 0}, {Limit: 5, Status: "none"}} {
			var e *shop.Error
			if _, err := s.List(t.Context(), "c", q); !errors.As(err, &e) || len(e.Fields) != 1 {
				t.Errorf("%+v: %v, want a field at fault", q, err)
			}
		}
	})
}
