package e2e_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"holdfast/client"
	"holdfast/shop"
)

// TestHotSKU has 1,000 buyers want one each of 100 at once: exactly 100 get it.
func TestHotSKU(t *testing.T) {
	t.Parallel()
	const buyers, units = 1000, 100
	everywhere(t, func(t *testing.T, s *system) {
		s.item(t, "HOT", 100, units)
		ids := make([]shop.OrderID, buyers)
		var wg sync.WaitGroup
		for i := range ids {
			wg.Go(func() { ids[i] = s.place(t, command("tok_ok", "00005", line("HOT", 1))).ID })
		}
		wg.Wait()
		counts := map[shop.OrderStatus]int{}
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
		s.verify(t)
	})
}

// TestSameKeyAtOnce sends one command with one key many times at once: one order. It does so with one key
// after the other, since the first requests of all are kept apart by the connections that they open.
func TestSameKeyAtOnce(t *testing.T) {
	t.Parallel()
	const keys, times = 10, 30
	everywhere(t, func(t *testing.T, s *system) {
		s.item(t, "TEA", 450, 1000)
		cmd := command("tok_ok", "10115", line("TEA", 1))
		ids := make([]shop.OrderID, keys)
		for i := range ids {
			ids[i] = sameKey(t, s, fmt.Sprint("the-same-key-", i), cmd, times)
		}
		page, err := s.ListOrders(t.Context(), shop.OrderQuery{Limit: 200})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Items) != keys {
			t.Errorf("I3: %d orders, want %d", len(page.Items), keys)
		}
		cmd.Lines[0].Quantity = 2
		_, err = s.PlaceOrder(t.Context(), "the-same-key-0", cmd, 0)
		problem(t, err, "idempotency_key_reused")
		for _, id := range ids {
			s.until(t, id, shop.Fulfilled)
		}
		s.verify(t)
	})
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
