package e2e_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"holdfast/client"
	"holdfast/shop"
)

// cancelAtAnyTime cancels orders at every stage: whatever the answer was, it is not contradicted.
func cancelAtAnyTime(t *testing.T, s *system) string {
	s.item(t, "TEA", 450, 1000)
	var all sync.WaitGroup
	for version := range int64(8) {
		for _, way := range [][2]string{{"tok_ok", "10115"}, {"tok_ok", "00002"}, {"tok_ok", "00004"}, {"tok_slow", "10115"}} {
			all.Go(func() { s.cancelAfter(t, version, command(way[0], way[1], line("TEA", 1))) })
		}
	}
	all.Wait()
	return "cancelled where the cancel was accepted, fulfilled where it was refused"
}

func (s *system) cancelAfter(t *testing.T, version int64, cmd shop.PlaceOrder) {
	o := s.place(t, cmd)
	for seen, err := range s.Watch(t.Context(), o.ID, 0) {
		if err != nil {
			t.Errorf("%s: %v", o.ID, err)
			return
		}
		if seen.Version > version {
			break
		}
	}
	_, err := s.CancelOrder(t.Context(), client.NewKey(), o.ID)
	want := shop.Cancelled
	if err != nil {
		problem(t, err, "order_dispatched")
		want = shop.Fulfilled
	}
	s.until(t, o.ID, want)
}

// voidFailsForEver: an undo that cannot be completed waits for an operator, in sight, and goes on when the operator
// says so.
func voidFailsForEver(t *testing.T, s *system) string {
	s.item(t, "STUCK", 450, 10)
	held := s.place(t, command("tok_ok", "00005", line("STUCK", 1)))
	s.until(t, held.ID, shop.Confirmed) // so that stock which is released twice is somebody's
	never := s.place(t, command("tok_void_fails", "00001", line("STUCK", 1)))
	later := s.place(t, command("tok_void_fails_7", "00001", line("STUCK", 1))) // the limit is 5 here
	s.waiting = append(s.waiting, never.ID)
	for _, id := range []shop.OrderID{never.ID, later.ID} {
		if o := s.until(t, id, shop.NeedsAttention); o.Reason != shop.ReasonVoidFailed {
			t.Errorf("needs attention for %s", o.Reason)
		}
	}
	var shown []shop.OrderID
	for _, o := range s.stuck(t) {
		shown = append(shown, o.ID)
	}
	if len(shown) != 2 || !slices.Contains(shown, never.ID) || !slices.Contains(shown, later.ID) {
		t.Errorf("the operator is shown %v, want %s and %s", shown, never.ID, later.ID)
	}
	s.retry(t, later.ID)
	o := s.until(t, later.ID, shop.Rejected)
	if o.Reason != shop.ReasonNotShippable {
		t.Errorf("rejected for %s", o.Reason)
	}
	stays, err := s.GetOrder(t.Context(), never.ID)
	if err != nil {
		t.Fatal(err)
	}
	return state(stays) + "; with an operator's retry " + state(o)
}

// hotSKU has 200 buyers want one each of 20 at once: exactly 20 get it. More would keep the one Temporal of all
// columns busy for longer than the orders of the other rows wait.
func hotSKU(t *testing.T, s *system) string { return sell(t, s, 200, 20) }

// TestHotSKU is the same with 1,000 buyers of 100.
func TestHotSKU(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *system) {
		sell(t, s, 1000, 100)
		s.verify(t)
	})
}

// sell has more buyers than there are units want one each at once.
func sell(t *testing.T, s *system, buyers, units int64) string {
	t.Helper()
	s.item(t, "HOT", 100, units)
	ids := make([]shop.OrderID, buyers)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() { ids[i] = s.place(t, command("tok_ok", "00005", line("HOT", 1))).ID })
	}
	wg.Wait()
	counts := map[shop.OrderStatus]int64{}
	for _, id := range ids {
		o := s.until(t, id, shop.Confirmed, shop.Rejected)
		counts[o.Status]++
		if o.Status == shop.Rejected && o.Reason != shop.ReasonOutOfStock {
			t.Errorf("%s was rejected for %s", id, o.Reason)
		}
	}
	if counts[shop.Confirmed] != units || counts[shop.Rejected] != buyers-units {
		t.Errorf("got %v, want %d confirmed and %d rejected", counts, units, buyers-units)
	}
	it, err := s.GetItem(t.Context(), "HOT")
	if err != nil {
		t.Fatal(err)
	}
	if it.OnHand != units || it.Reserved != units || it.Available != 0 {
		t.Errorf("stock: %+v", it)
	}
	return fmt.Sprintf("%d confirmed, %d rejected (out_of_stock); %d reserved", counts[shop.Confirmed], counts[shop.Rejected], it.Reserved)
}

// sameKeyAtOnce sends one command with one key many times at once: one order. It does so with one key
// after the other, since the first requests of all are kept apart by the connections that they open.
func sameKeyAtOnce(t *testing.T, s *system) string {
	const keys, times = 10, 30
	s.item(t, "TEA", 450, 1000)
	cmd := command("tok_ok", "10115", line("TEA", 1))
	cmd.CustomerID = "cus_key"
	ids := make([]shop.OrderID, keys)
	for i := range ids {
		ids[i] = sameKey(t, s, fmt.Sprint("the-same-key-", i), cmd, times)
	}
	page, err := s.ListOrders(t.Context(), shop.OrderQuery{CustomerID: cmd.CustomerID, Limit: 200})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Items) != keys {
		t.Errorf("I3: %d orders, want %d", len(page.Items), keys)
	}
	cmd.Lines[0].Quantity = 2
	_, err = s.PlaceOrder(t.Context(), "the-same-key-0", cmd, 0)
	problem(t, err, "idempotency_key_reused")
	var states []string
	for _, id := range ids {
		states = append(states, state(s.until(t, id, shop.Fulfilled)))
	}
	return fmt.Sprintf("one order for each key; %s; another body refused", slices.Compact(states))
}

// sameKey sends a command so many times at once, and returns the one order that may come of it.
func sameKey(t *testing.T, s *system, key string, cmd shop.PlaceOrder, times int) shop.OrderID {
	t.Helper()
	ids := make([]shop.OrderID, times)
	var replayed atomic.Int64
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			for {
				p, err := s.PlaceOrder(t.Context(), key, cmd, 0)
				var running *client.Problem
				if errors.As(err, &running) && running.Code == "idempotency_in_progress" {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if p.Replayed {
					replayed.Add(1)
				}
				ids[i] = p.Order.ID
				return
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("I3: two orders: %s and %s", ids[0], id)
		}
	}
	if n := replayed.Load(); n != int64(times)-1 {
		t.Errorf("%d answers say that they are repetitions, want %d", n, times-1)
	}
	return ids[0]
}
