package e2e_test

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/app/local"
	"holdfast/client"
	embedded "holdfast/embedded/bus"
	"holdfast/resilience"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// soon is far more than what is refused at once takes, and far less than any timeout of the defaults.
const soon = 5 * time.Second

// answer sends a request and returns the answer's status and headers, or 0 where none came soon.
func (s *system) answer(t *testing.T, method, path string, header map[string]string, body string) (int, http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.addresses.API+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPost {
		req.Header.Set("Idempotency-Key", client.NewKey())
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header
}

// hang begins a request whose body does not come, so that the request stays under way.
func (s *system) hang(t *testing.T, path string) {
	t.Helper()
	body, feed := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.addresses.API+path, io.MultiReader(bytes.NewReader([]byte("{")), body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", client.NewKey())
	var wg sync.WaitGroup
	wg.Go(func() {
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	})
	t.Cleanup(func() {
		feed.CloseWithError(io.ErrUnexpectedEOF)
		wg.Wait()
	})
}

// TestCriticality fills the edge: lists are refused first, then reads and orders, then the outside
// parties' messages, and a cancel gets through when all else is full.
func TestCriticality(t *testing.T) {
	t.Parallel()
	s := embeddedOnly(t, func(c *local.Config) {
		c.Gateway.Admission = resilience.AdmissionConfig{Limit: 4, SheddableShare: 0.25, NormalShare: 0.75, UndoLane: 1, RetryAfter: time.Second}
	})
	o := s.until(t, s.place(t, command("tok_ok", "00005", line("TEA", 1))).ID, shop.Confirmed)
	full := func(n int) func() bool {
		return func() bool { return s.policy(t, "gateway", "admission").InUse >= n }
	}
	refused := func(what, method, path string) {
		t.Helper()
		if status, h := s.answer(t, method, path, nil, "{}"); status != http.StatusServiceUnavailable || h.Get("Retry-After") == "" {
			t.Errorf("%s: %d, Retry-After %q, want a refusal", what, status, h.Get("Retry-After"))
		}
	}
	admitted := func(what, method, path string) {
		t.Helper()
		eventually(t, what+" is let in", func() bool { // a message of the provider may take the last place for a moment
			status, _ := s.answer(t, method, path, nil, "{}")
			return status != http.StatusServiceUnavailable
		})
	}
	s.hang(t, "/v1/orders")
	eventually(t, "one request is under way", full(1))
	refused("a list", http.MethodGet, "/v1/orders")
	admitted("a read", http.MethodGet, "/v1/orders/"+string(o.ID))
	s.hang(t, "/v1/orders")
	s.hang(t, "/v1/orders")
	eventually(t, "three requests are under way", full(3))
	refused("a read", http.MethodGet, "/v1/orders/"+string(o.ID))
	refused("an order", http.MethodPost, "/v1/orders")
	admitted("a message", http.MethodPost, "/webhooks/psp")
	s.hang(t, "/webhooks/psp")
	eventually(t, "four requests are under way", full(4))
	refused("a message", http.MethodPost, "/webhooks/psp")
	if status, _ := s.answer(t, http.MethodPost, "/v1/orders/"+string(o.ID)+"/cancel", nil, ""); status != http.StatusAccepted {
		t.Errorf("the cancel of %s: %d, want 202", o.ID, status)
	}
}

// lock locks a table of a service's database, as a migration gone wrong would, until unlock.
func lock(t *testing.T, cfg local.Config, service, table string) (unlock func()) {
	t.Helper()
	db, err := sql.Open("pgx", strings.ReplaceAll(cfg.Store.DSN, "{service}", service))
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.Begin()
	if err == nil {
		_, err = tx.Exec("LOCK TABLE " + table + " IN ACCESS EXCLUSIVE MODE")
	}
	if err != nil {
		t.Fatal(err)
	}
	unlock = sync.OnceFunc(func() { _ = tx.Rollback(); db.Close() })
	t.Cleanup(unlock)
	return unlock
}

// TestDeadline: a request is given up when its caller no longer waits for it, whatever it waits for.
func TestDeadline(t *testing.T) {
	t.Parallel()
	cfg := quick(t, "postgres")
	s := start(t, cfg)
	s.item(t, "TEA", 450, 10)
	unlock := lock(t, cfg, "inventory", "items")
	if status, _ := s.answer(t, http.MethodGet, "/v1/items/TEA", map[string]string{"Request-Timeout": "0.3"}, ""); status != http.StatusGatewayTimeout {
		t.Errorf("%d, want 504 after 0.3 s", status)
	}
	unlock()
	if status, _ := s.answer(t, http.MethodGet, "/v1/items/TEA", nil, ""); status != http.StatusOK {
		t.Errorf("%d after the lock", status)
	}
}

// TestInternal: a service that hangs takes its callers no longer than the internal timeout, and after some
// of them no time at all, while what needs it not goes on. Once it is well it is found out.
func TestInternal(t *testing.T) {
	t.Parallel()
	cfg := quick(t, "postgres")
	cfg.Internal.Timeout = 200 * time.Millisecond
	s := start(t, cfg)
	s.item(t, "TEA", 450, 100)
	o := s.place(t, command("tok_ok", "00005", line("TEA", 1)))
	s.until(t, o.ID, shop.Confirmed)
	unlock := lock(t, cfg, "inventory", "items")
	if status, _ := s.answer(t, http.MethodPost, "/v1/orders", nil, good); status != http.StatusServiceUnavailable && status != http.StatusGatewayTimeout {
		t.Errorf("an order while the inventory hangs: %d", status)
	}
	eventually(t, "the breaker opens", func() bool {
		s.answer(t, http.MethodPost, "/v1/orders", nil, good)
		return s.policy(t, "inventory.prices", "breaker").State == "open"
	})
	if status, _ := s.answer(t, http.MethodGet, "/v1/orders/"+string(o.ID), nil, ""); status != http.StatusOK {
		t.Errorf("a read of an order: %d", status)
	}
	unlock()
	eventually(t, "orders are taken again", func() bool {
		status, _ := s.answer(t, http.MethodPost, "/v1/orders", nil, good)
		return status == http.StatusCreated
	})
}

// TestBusDown stops the bus: orders are taken, nothing is lost, the breaker saves the relays their
// waiting, and once the bus is back everything is carried out.
func TestBusDown(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "bus")
	broker, err := embedded.New(embedded.Config{Dir: dir}, fakes.Deps(t))
	if err != nil {
		t.Fatal(err)
	}
	s := embeddedOnly(t, func(c *local.Config) {
		c.Bus.Seeds, c.Bus.SendTimeout = broker.Addrs(), time.Second
	})
	addr := broker.Addrs()[0]
	before := s.until(t, s.place(t, command("tok_ok", "10115", line("TEA", 1))).ID, shop.Fulfilled)
	if err := broker.Close(); err != nil {
		t.Fatal(err)
	}
	placed := s.orders(t, 20, "tok_ok", "10115")
	eventually(t, "the breaker opens", func() bool { return s.policy(t, "bus.send", "breaker").State == "open" })
	placed = append(placed, s.orders(t, 5, "tok_ok", "10115")...)
	again, err := embedded.New(embedded.Config{Dir: dir, Addr: addr}, fakes.Deps(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.stop() // the clients first; start's own cleanup sees the error
		_ = again.Close()
	})
	for _, o := range append(placed, before) {
		s.until(t, o.ID, shop.Fulfilled)
	}
	if st := s.policy(t, "bus.send", "breaker"); st.State != "closed" {
		t.Errorf("after the outage: %+v", st)
	}
	s.verify(t)
}

// TestTotalDeadline has a carrier that takes the question for its rates and never answers: the question
// is withdrawn.
func TestTotalDeadline(t *testing.T) {
	t.Parallel()
	withdrawn := make(chan struct{}, 100)
	carrier := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			withdrawn <- struct{}{}
		case <-time.After(2 * limit):
		}
	}))
	t.Cleanup(carrier.Close)
	s := embeddedOnly(t, func(c *local.Config) {
		c.Shipping.CarrierURL = carrier.URL
		c.Shipping.Carrier.Rates.Timeout = resilience.TimeoutConfig{Total: 300 * time.Millisecond}
	})
	select {
	case <-withdrawn:
	case <-time.After(limit):
		t.Errorf("the carrier is still being asked after %s", limit)
	}
	s.place(t, command("tok_ok", "10115", line("TEA", 1))) // and orders are taken meanwhile
	carrier.CloseClientConnections()
}

// ahead is a clock that is wrong.
type ahead struct {
	shop.Clock
	by time.Duration
}

func (c ahead) Now() time.Time { return c.Clock.Now().Add(c.by) }

// TestWrongClock runs on a machine whose clock is an hour ahead of the database's: no reservation expires.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	cfg := quick(t, "postgres")
	cfg.Inventory.SweepEvery = 20 * time.Millisecond
	deps := fakes.Deps(t)
	deps.Clock = ahead{deps.Clock, time.Hour}
	s := startWith(t, cfg, deps)
	s.item(t, "TEA", 450, 10)
	o := s.place(t, command("tok_slow", "10115", line("TEA", 1))) // it is reserved for a while
	s.until(t, o.ID, shop.Fulfilled)
	s.verify(t)
}

// TestStockAtOnce takes stock in while it is being sold: no piece is lost or made.
func TestStockAtOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *system) {
		s.item(t, "TEA", 450, 100)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { s.receive(t, "TEA", 1) })
		}
		for _, o := range s.orders(t, 50, "tok_ok", "00005") { // parcels that leave would stop at the store's guard, and hide what was lost
			s.until(t, o.ID, shop.Confirmed)
		}
		wg.Wait()
		s.verify(t)
	})
}
