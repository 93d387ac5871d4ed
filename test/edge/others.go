package edge

import (
	"context"
	"slices"
	"sync"

	"holdfast/shop"
)

// Stock is an inventory service in memory.
type Stock struct {
	mu    sync.Mutex
	items map[shop.SKU]shop.Item
	keys  map[shop.Request]shop.Item
	calls int
}

var _ shop.Inventory = (*Stock)(nil)

// NewStock makes an empty service.
func NewStock() *Stock {
	return &Stock{items: map[shop.SKU]shop.Item{}, keys: map[shop.Request]shop.Item{}}
}

// Calls counts the calls that reached the service.
func (s *Stock) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// Prices is not reached over HTTP.
func (s *Stock) Prices(context.Context, []shop.SKU) (map[shop.SKU]shop.Item, error) { return nil, nil }

// Put makes or changes an item.
func (s *Stock) Put(_ context.Context, sku shop.SKU, ifVersion int64, put shop.PutItem) (shop.Item, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	it, ok := s.items[sku]
	if ifVersion > 0 && it.Version != ifVersion {
		return shop.Item{}, false, shop.E(shop.VersionConflict, "inventory.Put", "The item has changed.")
	}
	it.SKU, it.Name, it.UnitPrice, it.Currency = sku, put.Name, put.UnitPrice, put.Currency
	it.Version++
	s.items[sku] = it
	return it, !ok, nil
}

func (s *Stock) change(by shop.Request, sku shop.SKU, n int64) (shop.Item, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if it, ok := s.keys[by]; ok {
		return it, true, nil
	}
	it, ok := s.items[sku]
	if !ok {
		return shop.Item{}, false, shop.E(shop.NotFound, "inventory", "There is no such item.")
	}
	if it.OnHand+n < it.Reserved {
		return shop.Item{}, false, shop.E(shop.Conflict, "inventory", "There would be less than is reserved.")
	}
	it.OnHand += n
	it.Available += n
	it.Version++
	s.items[sku], s.keys[by] = it, it
	return it, false, nil
}

// Receive adds stock.
func (s *Stock) Receive(_ context.Context, by shop.Request, sku shop.SKU, r shop.Receipt) (shop.Item, bool, error) {
	return s.change(by, sku, r.Quantity)
}

// Adjust changes stock.
func (s *Stock) Adjust(_ context.Context, by shop.Request, sku shop.SKU, a shop.Adjustment) (shop.Item, bool, error) {
	return s.change(by, sku, a.Quantity)
}

// Item returns one item.
func (s *Stock) Item(_ context.Context, sku shop.SKU) (shop.Item, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	it, ok := s.items[sku]
	if !ok {
		return shop.Item{}, shop.E(shop.NotFound, "inventory", "There is no such item.")
	}
	return it, nil
}

// Items returns a page.
func (s *Stock) Items(_ context.Context, q shop.ItemQuery) (shop.ItemPage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	var skus []shop.SKU
	for sku := range s.items {
		if string(sku) > q.Cursor {
			skus = append(skus, sku)
		}
	}
	slices.Sort(skus)
	var page shop.ItemPage
	for _, sku := range skus {
		if len(page.Items) == q.Limit {
			page.NextCursor = string(page.Items[len(page.Items)-1].SKU)
			break
		}
		page.Items = append(page.Items, s.items[sku])
	}
	return page, nil
}

// Inbox keeps the webhooks that a service was handed.
type Inbox struct {
	mu   sync.Mutex
	got  []shop.Webhook
	fail error
}

// Fail makes the next messages fail with err.
func (b *Inbox) Fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = err
}

// Got returns the messages.
func (b *Inbox) Got() []shop.Webhook {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got)
}

func (b *Inbox) take(w shop.Webhook) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, w)
	return b.fail
}

// Payments knows one payment of every order.
type Payments struct{ Inbox }

var _ shop.Payments = (*Payments)(nil)

// Payment returns a payment with everything in it.
func (*Payments) Payment(_ context.Context, caller shop.Caller, id shop.OrderID) (shop.Payment, error) {
	if caller != "alice" {
		return shop.Payment{}, shop.E(shop.NotFound, "payment", "There is no such payment.")
	}
	return shop.Payment{
		ID: shop.PaymentID("pay_" + string(id)[4:]), OrderID: id, Status: shop.PaymentAuthorised, Currency: "EUR", Amount: 1400, Authorised: 1400,
		Reference: "auth_1", HoldExpiresAt: Now, CreatedAt: Now, UpdatedAt: Now,
		Attempts: []shop.Attempt{{At: Now, Operation: "authorise", Number: 1, Outcome: "succeeded", Reference: "auth_1"}},
		Ledger:   []shop.LedgerEntry{{At: Now, Transaction: "t", Account: "hold", Amount: -1400, Currency: "EUR"}},
	}, nil
}

// ProviderWebhook keeps a message.
func (p *Payments) ProviderWebhook(_ context.Context, w shop.Webhook) error { return p.take(w) }

// Shipments knows one shipment of every order.
type Shipments struct{ Inbox }

var _ shop.Shipments = (*Shipments)(nil)

// Shipment returns a shipment without attempts.
func (*Shipments) Shipment(_ context.Context, caller shop.Caller, id shop.OrderID) (shop.Shipment, error) {
	if caller != "alice" {
		return shop.Shipment{}, shop.E(shop.NotFound, "shipping", "There is no such shipment.")
	}
	return shop.Shipment{
		ID: shop.ShipmentID("shp_" + string(id)[4:]), OrderID: id, Status: shop.ShipmentScheduled, Tracking: "HF1",
		Lines: []shop.ReservedLine{{Line: 1, SKU: "TEA-EARL-100", Quantity: 2}}, CreatedAt: Now, UpdatedAt: Now,
	}, nil
}

// CarrierWebhook keeps a message.
func (s *Shipments) CarrierWebhook(_ context.Context, w shop.Webhook) error { return s.take(w) }
