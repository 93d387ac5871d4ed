package e2e_test

import (
	"os"
	"testing"

	"holdfast/app"
	"holdfast/app/local"
	"holdfast/client"
	"holdfast/shop"
	"holdfast/test/harness"
	"holdfast/test/split"
)

// limit bounds every wait of these tests.
var limit = harness.Limit

// system is a Holdfast that runs; package harness has what other tests share.
type system struct {
	*harness.System
	addresses app.Addresses
	key       string
	stop      func() error
	waiting   []shop.OrderID // those that are meant to wait for an operator

	prefix       string // before the names of topics and groups on the bus
	orchestrated bool   // every order is
}

// each runs test on a Holdfast in one process with each kind of store. On one in many processes TestScenarios does.
func each(t *testing.T, test func(t *testing.T, s *system)) {
	t.Helper()
	for _, driver := range []string{"sqlite", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			test(t, start(t, quick(t, driver)))
		})
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	split.Clean()
	os.Exit(code)
}

func quick(t *testing.T, driver string) local.Config {
	t.Helper()
	return harness.Quick(t, driver)
}

// start runs a Holdfast until the test ends.
func start(t *testing.T, cfg local.Config) *system {
	t.Helper()
	return wrap(harness.Start(t, cfg))
}

func startWith(t *testing.T, cfg local.Config, deps shop.Deps) *system {
	t.Helper()
	return wrap(harness.StartWith(t, cfg, deps))
}

func wrap(s *harness.System) *system {
	return &system{System: s, addresses: s.Addresses, key: s.Key, stop: s.Stop}
}

func (s *system) item(t *testing.T, sku shop.SKU, price shop.Amount, stock int64) {
	t.Helper()
	s.Item(t, sku, price, stock)
}

// receive takes stock in.
func (s *system) receive(t *testing.T, sku shop.SKU, n int64) {
	t.Helper()
	s.TakeIn(t, sku, n)
}

func command(payment, postal string, lines ...shop.PlaceLine) shop.PlaceOrder {
	return harness.Command(payment, postal, lines...)
}

func line(sku shop.SKU, n int64) shop.PlaceLine { return harness.Line(sku, n) }

func (s *system) place(t *testing.T, cmd shop.PlaceOrder) shop.Order {
	t.Helper()
	return s.Place(t, cmd)
}

func (s *system) until(t *testing.T, id shop.OrderID, statuses ...shop.OrderStatus) shop.Order {
	t.Helper()
	return s.Until(t, id, statuses...)
}

func problem(t *testing.T, err error, code string) *client.Problem {
	t.Helper()
	return harness.Problem(t, err, code)
}

func (s *system) verify(t *testing.T, waiting ...shop.OrderID) {
	t.Helper()
	s.Verify(t, waiting...)
}
