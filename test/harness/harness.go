// Package harness runs a whole Holdfast in the test's process, or attaches to another, and does with it what a customer, an
// operator and an outside party can do.
package harness

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/app"
	"holdfast/app/local"
	"holdfast/check"
	"holdfast/check/audit"
	"holdfast/client"
	"holdfast/shop"
	"holdfast/test/fakes"
	"holdfast/test/postgres"
)

// Limit bounds every wait of these tests. They wait for signals of the product, never for time to pass.
var Limit = fakes.Limit(60 * time.Second)

// System is a Holdfast that runs.
type System struct {
	*client.Client
	Addresses app.Addresses
	Key       string
	Stop      func() error // in order; the second call returns what the first did
	Stores    audit.Config // what Verify looks into

	mu       sync.Mutex
	received map[shop.SKU]int64 // by item, for Verify
}

// Quick is a configuration whose waits are short.
func Quick(t *testing.T, driver string) local.Config {
	t.Helper()
	cfg := local.Defaults()
	cfg.Data, cfg.Addr, cfg.AdminAddr, cfg.Seed = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0", false
	cfg.Carrier.DispatchAfter = 200 * time.Millisecond
	cfg.PSP.Slow = 500 * time.Millisecond
	cfg.Payment.Provider.CallTimeout, cfg.Shipping.Carrier.CallTimeout = time.Second, time.Second
	cfg.Payment.RetryMax, cfg.Shipping.RetryMax = 200*time.Millisecond, 200*time.Millisecond
	cfg.Payment.UndoFailures = 5
	// Many of them share this machine's processors, and what each says of its load is not about it.
	cfg.Order.StrainMax, cfg.Order.BacklogFrom, cfg.Order.BacklogMax = 0, 5*time.Second, 10*time.Second
	if driver == "postgres" {
		cfg.Store.Driver, cfg.Store.DSN, cfg.Store.MaxConns = driver, postgres.Databases(t, "order", "inventory", "payment", "shipping", "saga"), 8
	}
	return cfg
}

// Start runs a Holdfast until the test ends.
func Start(t *testing.T, cfg local.Config) *System {
	t.Helper()
	return StartWith(t, cfg, fakes.Deps(t))
}

// StartWith runs a Holdfast with dependencies of the test's choice.
func StartWith(t *testing.T, cfg local.Config, deps shop.Deps) *System {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan local.Ready, 1)
	ended := make(chan error, 1)
	go func() { ended <- local.Run(ctx, cfg, deps, func(r local.Ready) { ready <- r }) }()
	s := &System{received: map[shop.SKU]int64{}, Stores: local.AuditConfig(cfg), Stop: sync.OnceValue(func() error { cancel(); return <-ended })}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	select {
	case r := <-ready:
		s.Addresses, s.Key = r.Addresses, r.Key
	case err := <-ended:
		ended <- err
		t.Fatalf("start: %v", err)
	}
	var err error
	if s.Client, err = client.New(s.Addresses.API, s.Key, nil); err != nil {
		t.Fatal(err)
	}
	return s
}

// Attach is a Holdfast that runs elsewhere, and is stopped there.
func Attach(t *testing.T, at app.Addresses, key string, stores audit.Config) *System {
	t.Helper()
	s := &System{Addresses: at, Key: key, Stores: stores, Stop: func() error { return nil }, received: map[shop.SKU]int64{}}
	var err error
	if s.Client, err = client.New(at.API, key, nil); err != nil {
		t.Fatal(err)
	}
	return s
}

// Item makes an item with stock.
func (s *System) Item(t *testing.T, sku shop.SKU, price shop.Amount, stock int64) {
	t.Helper()
	if _, err := s.PutItem(t.Context(), sku, 0, shop.PutItem{Name: string(sku), UnitPrice: price, Currency: "EUR"}); err != nil {
		t.Fatal(err)
	}
	if stock > 0 {
		s.TakeIn(t, sku, stock)
	}
}

// TakeIn takes stock in.
func (s *System) TakeIn(t *testing.T, sku shop.SKU, n int64) {
	t.Helper()
	if _, err := s.Receive(t.Context(), client.NewKey(), sku, shop.Receipt{Quantity: n}); err != nil {
		t.Error(err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received[sku] += n
}

// Command is an order of lines.
func Command(payment, postal string, lines ...shop.PlaceLine) shop.PlaceOrder {
	return shop.PlaceOrder{CustomerID: "cus_1", Currency: "EUR", PaymentMethod: payment, Lines: lines,
		ShippingAddress: shop.Address{Name: "A. Reader", Line1: "1 Long Street", City: "Berlin", PostalCode: postal, Country: "DE"}}
}

// Line is a line of an order.
func Line(sku shop.SKU, n int64) shop.PlaceLine { return shop.PlaceLine{SKU: sku, Quantity: n} }

// Place places an order that must be accepted.
func (s *System) Place(t *testing.T, cmd shop.PlaceOrder) shop.Order {
	t.Helper()
	p, err := s.PlaceOrder(t.Context(), client.NewKey(), cmd, 0)
	if err != nil {
		t.Fatal(err)
	}
	return p.Order
}

// Until follows an order until it has one of the statuses.
func (s *System) Until(t *testing.T, id shop.OrderID, statuses ...shop.OrderStatus) shop.Order {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Limit)
	defer cancel()
	var last shop.Order
	for o, err := range s.Watch(ctx, id, 0) {
		if err != nil {
			t.Fatalf("%s is %s (%s), wanted %v: %v", id, last.Status, last.Reason, statuses, err)
		}
		last = o
		for _, status := range statuses {
			if o.Status == status {
				return o
			}
		}
	}
	t.Fatalf("%s ended as %s (%s), wanted %v", id, last.Status, last.Reason, statuses)
	return last
}

// Problem asserts that err is a problem with a code.
func Problem(t *testing.T, err error, code string) *client.Problem {
	t.Helper()
	var p *client.Problem
	if !errors.As(err, &p) || p.Code != code {
		t.Fatalf("got %v, want the problem %s", err, code)
	}
	return p
}

// Verify compares everything with the outside parties' ledgers, and has the stores checked. Orders that are
// meant to wait for an operator are named, and events that the test has lost.
func (s *System) Verify(t *testing.T, waiting ...shop.OrderID) {
	t.Helper()
	w, err := check.Look(t.Context(), s.Client, check.Addresses(s.Addresses), "")
	if err == nil {
		err = w.LookAtBooks(t.Context(), s.Client)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	w.Receipts = maps.Clone(s.received)
	s.mu.Unlock()
	for _, v := range w.Verify(nil) {
		expected := false
		for _, id := range waiting {
			expected = expected || v.Order == string(id)
		}
		if !expected {
			t.Errorf("violated: %s", v)
		}
	}
	s.audit(t, waiting...)
}

// audit has the stores checked.
func (s *System) audit(t *testing.T, waiting ...shop.OrderID) {
	t.Helper()
	cfg := s.Stores
	cfg.AtRest = true
	if len(waiting) > 0 {
		cfg.Grace = time.Second // what waits does so for ever
	}
	r, err := audit.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range r.Failed() {
		for _, o := range x.Items {
			if !slices.Contains(waiting, shop.OrderID(o.ID)) {
				t.Errorf("stores: %s %s: %s", x.ID, o.ID, o.Detail)
			}
		}
	}
}
