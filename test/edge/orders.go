package edge

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"time"

	"holdfast/shop"
	"holdfast/test/fakes"
)

// Orders is an order service in memory.
type Orders struct {
	mu      sync.Mutex
	orders  map[shop.OrderID]*stored
	keys    map[shop.Request]placed
	calls   int
	err     error
	changed chan struct{}
}

type stored struct {
	shop.Order
	caller shop.Caller
}

type placed struct {
	cmd shop.PlaceOrder
	o   shop.Order
}

var _ shop.Orders = (*Orders)(nil)

// NewOrders makes an empty service.
func NewOrders() *Orders {
	return &Orders{orders: map[shop.OrderID]*stored{}, keys: map[shop.Request]placed{}, changed: make(chan struct{})}
}

// Fail makes every call fail with err until it is called with nil.
func (s *Orders) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// Calls counts the calls that reached the service.
func (s *Orders) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// Move gives an order its next version with a status.
func (s *Orders) Move(id shop.OrderID, status shop.OrderStatus) shop.Order {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.orders[id]
	o.Status = status
	o.Version++
	if status == shop.Confirmed {
		o.Payment = shop.OrderPayment{Status: shop.PaymentAuthorised, Authorised: o.Total}
		o.Shipment = &shop.OrderShipment{ID: shop.ShipmentID("shp_" + string(id)[4:]), Status: shop.ShipmentScheduled, Tracking: "HF1"}
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return o.Order
}

func (s *Orders) enter() error {
	s.calls++
	return s.err
}

// Place stores an order at the prices it expects, or 450.
func (s *Orders) Place(_ context.Context, by shop.Request, cmd shop.PlaceOrder) (shop.Order, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(); err != nil {
		return shop.Order{}, false, err
	}
	if before, ok := s.keys[by]; ok {
		if !reflect.DeepEqual(before.cmd, cmd) {
			return shop.Order{}, false, shop.E(shop.KeyReused, "order.Place", "The key was used with another order.")
		}
		return before.o, true, nil
	}
	o := shop.Order{
		ID: shop.OrderID(fakes.IDs{}.New(shop.OrderPrefix)), Status: shop.Pending, Version: 1, Saga: shop.Choreographed,
		CustomerID: cmd.CustomerID, ExternalID: cmd.ExternalID, Currency: cmd.Currency, Metadata: cmd.Metadata,
		Shipping: 500, Payment: shop.OrderPayment{Status: shop.PaymentNone}, CreatedAt: Now, UpdatedAt: Now,
	}
	for i, l := range cmd.Lines {
		price := shop.Amount(450)
		if l.ExpectedUnitPrice != nil {
			price = *l.ExpectedUnitPrice
		}
		total := price * shop.Amount(l.Quantity)
		o.Lines = append(o.Lines, shop.OrderLine{Line: i + 1, SKU: l.SKU, Name: "Earl Grey 100 g", Quantity: l.Quantity, UnitPrice: price, Total: total})
		o.Subtotal += total
	}
	o.Total = o.Subtotal + o.Shipping
	s.orders[o.ID] = &stored{o, by.Caller}
	s.keys[by] = placed{cmd, o}
	return o, false, nil
}

// Get returns an order of the caller.
func (s *Orders) Get(_ context.Context, caller shop.Caller, id shop.OrderID) (shop.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(); err != nil {
		return shop.Order{}, err
	}
	return s.find(caller, id)
}

func (s *Orders) find(caller shop.Caller, id shop.OrderID) (shop.Order, error) {
	o, ok := s.orders[id]
	if !ok || o.caller != caller {
		return shop.Order{}, shop.E(shop.NotFound, "order.Get", "There is no such order.")
	}
	return o.Order, nil
}

// Wait returns an order once done holds, or as it is when ctx ends.
func (s *Orders) Wait(ctx context.Context, caller shop.Caller, id shop.OrderID, done func(shop.Order) bool) (shop.Order, error) {
	for {
		s.mu.Lock()
		o, err := s.find(caller, id)
		changed := s.changed
		s.mu.Unlock()
		if err != nil || done(o) {
			return o, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return o, nil
		}
	}
}

// List returns one order a page.
func (s *Orders) List(_ context.Context, caller shop.Caller, q shop.OrderQuery) (shop.OrderPage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(); err != nil {
		return shop.OrderPage{}, err
	}
	page := shop.OrderPage{AsOf: Now}
	ids := make([]shop.OrderID, 0, len(s.orders))
	for id, o := range s.orders {
		if o.caller == caller && (q.Status == "" || o.Status == q.Status) && string(id) > q.Cursor &&
			(q.CustomerID == "" || q.CustomerID == o.CustomerID) && (q.Text == "" || q.Text == o.ExternalID) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		if len(page.Items) == q.Limit {
			page.NextCursor = string(page.Items[len(page.Items)-1].ID)
			break
		}
		page.Items = append(page.Items, s.orders[id].Order)
	}
	return page, nil
}

// Timeline returns one item.
func (s *Orders) Timeline(_ context.Context, caller shop.Caller, id shop.OrderID) ([]shop.TimelineItem, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(); err != nil {
		return nil, err
	}
	if _, err := s.find(caller, id); err != nil {
		return nil, err
	}
	return []shop.TimelineItem{{At: Now, Kind: "event", Service: "order", What: "OrderPlaced"}}, nil
}

// Cancel begins to cancel a pending order and has cancelled a confirmed one at once.
func (s *Orders) Cancel(_ context.Context, by shop.Request, id shop.OrderID) (shop.Order, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(); err != nil {
		return shop.Order{}, false, err
	}
	if _, err := s.find(by.Caller, id); err != nil {
		return shop.Order{}, false, err
	}
	o := s.orders[id]
	switch o.Status {
	case shop.Fulfilled:
		return shop.Order{}, false, shop.E(shop.OrderDispatched, "order.Cancel", "The order has been dispatched.")
	case shop.Pending:
		o.Status, o.Reason = shop.Cancelling, shop.ReasonRequested
		o.Version++
	case shop.Confirmed:
		o.Status, o.Reason = shop.Cancelled, shop.ReasonRequested
		o.Version++
	}
	return o.Order, false, nil
}

// AllowDispatch and Expire are not reached over HTTP.
func (s *Orders) AllowDispatch(context.Context, shop.OrderID) error { return errors.New("not here") }

// Expire is not reached over HTTP.
func (s *Orders) Expire(context.Context, shop.OrderID) (bool, error) {
	return false, errors.New("not here")
}

// Stuck returns every order that needs attention.
func (s *Orders) Stuck(_ context.Context, limit int) ([]shop.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var stuck []shop.Order
	for _, o := range s.orders {
		if o.Status == shop.NeedsAttention && len(stuck) < limit {
			stuck = append(stuck, o.Order)
		}
	}
	return stuck, s.enter()
}

// Retry makes an order pending again.
func (s *Orders) Retry(_ context.Context, id shop.OrderID) (shop.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.orders[id]
	if !ok {
		return shop.Order{}, shop.E(shop.NotFound, "order.Retry", "There is no such order.")
	}
	if o.Status.Final() {
		return shop.Order{}, shop.E(shop.Conflict, "order.Retry", "The order has ended.")
	}
	o.Status = shop.Pending
	o.Version++
	return o.Order, s.enter()
}

// Put stores an order as it is, for a caller.
func (s *Orders) Put(caller shop.Caller, status shop.OrderStatus) shop.Order {
	cmd := shop.PlaceOrder{CustomerID: "cus_1", Currency: "EUR", Lines: []shop.PlaceLine{{SKU: "TEA-EARL-100", Quantity: 1}}}
	o, _, _ := s.Place(context.Background(), shop.Request{Caller: caller, Key: fakes.IDs{}.New("key")}, cmd)
	if status != shop.Pending {
		o = s.Move(o.ID, status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls--
	return o
}

// waitLimit bounds what a test waits for.
const waitLimit = 10 * time.Second

// Until waits until cond holds and tells whether it came to that.
func (s *Orders) Until(id shop.OrderID, cond func(shop.Order) bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	s.mu.Lock()
	caller := s.orders[id].caller
	s.mu.Unlock()
	o, err := s.Wait(ctx, caller, id, cond)
	return err == nil && cond(o)
}

// LastKnown implements shop.Orders: the copy is as the order is.
func (s *Orders) LastKnown(caller shop.Caller, id shop.OrderID) (shop.Order, time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.orders[id]
	if o == nil || o.caller != caller {
		return shop.Order{}, time.Time{}, false
	}
	return o.Order, time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), true
}
