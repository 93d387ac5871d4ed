package split_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"holdfast/check"
	"holdfast/client"
	"holdfast/shop"
	"holdfast/test/split"
)

const (
	rate = 30 // orders per second
	// settleWait is how long an order may take that a killed process had begun: leases and sessions last 2 s.
	// The rest is for a busy machine.
	settleWait = time.Minute
)

func TestMain(m *testing.M) {
	code := m.Run()
	split.Clean()
	os.Exit(code)
}

// stocked makes an item of which there is enough.
func stocked(t *testing.T, s *split.System) *client.Client {
	t.Helper()
	c, err := client.New(s.Addresses.API, s.Key, nil)
	if err != nil {
		t.Fatal(err)
	}
	stock(t, c)
	return c
}

func stock(t *testing.T, c *client.Client) {
	t.Helper()
	if _, err := c.PutItem(t.Context(), "TEA", 0, shop.PutItem{Name: "Tea", UnitPrice: 450, Currency: "EUR"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Receive(t.Context(), "stock", "TEA", shop.Receipt{Quantity: 1_000_000}); err != nil {
		t.Fatal(err)
	}
}

// load sends orders, each once, until during returns, and gives back what its senders were told.
func load(t *testing.T, s *split.System, url, run string, during func()) *check.History {
	t.Helper()
	stop := make(chan struct{})
	var h *check.History
	var all sync.WaitGroup
	all.Go(func() {
		var err error
		h, err = check.Run(t.Context(), check.Plan{URL: url, Key: s.Key, Run: run, Rate: rate, Duration: 10 * time.Minute, SKU: "TEA", Quantity: 1, Stop: stop})
		if err != nil {
			t.Error(err)
		}
	})
	during()
	close(stop)
	all.Wait()
	if h == nil || len(h.Orders) < rate {
		t.Fatalf("there was no load: %+v", h)
	}
	return h
}

// refused are the orders that were not accepted.
func refused(h *check.History) (failed []check.Sent) {
	for _, o := range h.Orders {
		if o.ID == "" {
			failed = append(failed, o)
		}
	}
	return failed
}

// rests waits until nothing moves and compares what was told with what is.
func rests(t *testing.T, s *split.System, c *client.Client, orders []check.Sent) {
	t.Helper()
	settled(t, s.Addresses, c, orders)
}

func settled(t *testing.T, at check.Addresses, c *client.Client, orders []check.Sent) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if left, err := check.Rest(ctx, c, true); err != nil || left > 0 {
		t.Fatalf("%d orders still move: %v", left, err)
	}
	w, err := check.Look(ctx, c, at, "")
	if err != nil {
		t.Fatal(err)
	}
	w.Receipts = map[shop.SKU]int64{"TEA": 1_000_000}
	for _, v := range w.Verify(orders) {
		t.Errorf("violated: %s", v)
	}
}

// TestKillOneReplica stops and kills one of two processes under load, with SIGSTOP of those that requests go to and with
// SIGKILL of every service: what was sent needs to be sent again once at most, the other process takes over, and nothing
// is lost or done twice. What is sent while one stands still is answered before it goes on.
func TestKillOneReplica(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts eleven processes")
	}
	s := split.Start(t, split.Options{Replicas: 2, Settings: map[string]string{"bus.session_timeout": "2s"}})
	c := stocked(t, s)
	var probes []check.Sent
	slowest := time.Duration(0)
	look := func(key string) {
		sent, took := settles(t, c, key)
		probes, slowest = append(probes, sent), max(slowest, took)
	}
	h := load(t, s, s.Addresses.API, "kill", func() {
		look("before")
		for _, service := range []string{"order", "inventory"} {
			s.Of(service)[1].Pause()
			for i := range 8 {
				probes = append(probes, place(t, c, fmt.Sprintf("%s-stopped-%d", service, i)))
			}
			s.Of(service)[1].Resume()
		}
		slowest = 0
		for _, service := range split.Services {
			s.Of(service)[0].Kill()
			for i := range 3 {
				look(fmt.Sprintf("%s-%d", service, i))
			}
		}
	})
	failed := refused(h)
	t.Logf("%d orders were sent; %d were not answered well at first; with one process of each service gone an order was confirmed within %s", len(h.Orders), len(failed), slowest)
	if err := check.Resend(t.Context(), h.Plan, h.Orders); err != nil {
		t.Errorf("the one repetition that a client makes: %v", err)
	}
	rests(t, s, c, append(h.Orders, probes...))
}

func probe(key string) shop.PlaceOrder {
	return shop.PlaceOrder{CustomerID: "probe", Currency: "EUR", PaymentMethod: "tok_ok", ExternalID: key, Lines: []shop.PlaceLine{{SKU: "TEA", Quantity: 1}},
		ShippingAddress: shop.Address{Name: "A. Reader", Line1: "1 Long Street", City: "Berlin", PostalCode: "10115", Country: "DE"}}
}

// place places an order.
func place(t *testing.T, c *client.Client, key string) check.Sent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settleWait)
	defer cancel()
	placed, err := c.PlaceOrder(ctx, key, probe(key), 0)
	if err != nil {
		t.Errorf("%s: %v", key, err)
		return check.Sent{}
	}
	return check.Sent{Key: key, ID: placed.Order.ID, Total: placed.Order.Total, Status: http.StatusCreated}
}

// settles places an order and tells how long it took to be confirmed.
func settles(t *testing.T, c *client.Client, key string) (check.Sent, time.Duration) {
	t.Helper()
	began := time.Now()
	sent := place(t, c, key)
	ctx, cancel := context.WithTimeout(t.Context(), settleWait)
	defer cancel()
	if sent.ID != "" {
		if _, err := c.WaitOrder(ctx, sent.ID); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	return sent, time.Since(began)
}

// TestRollingRestart stops and starts every process under load, one after the other, with two of each:
// not one request fails, and nobody sends anything twice.
func TestRollingRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts twelve processes")
	}
	s := split.Start(t, split.Options{Replicas: 2, Gateways: 2})
	c := stocked(t, s)
	var probes []check.Sent
	look := func(key string) {
		sent, _ := settles(t, c, key)
		probes = append(probes, sent)
	}
	h := load(t, s, s.Addresses.API, "roll", func() {
		look("before")
		for _, kind := range split.Everything() {
			for _, p := range s.Of(kind) {
				p.Restart()
			}
		}
		look("after")
	})
	failed := refused(h)
	t.Logf("%d orders were sent, %d failed", len(h.Orders), len(failed))
	for _, f := range failed {
		t.Errorf("order %d: %d %s", f.Number, f.Status, f.Code)
	}
	rests(t, s, c, append(h.Orders, probes...))
}
