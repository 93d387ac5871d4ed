package field_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"holdfast/app/local"
	"holdfast/client"
	"holdfast/shop"
	"holdfast/test/harness"
)

// crowd has n buyers place an order at once, and returns how many came to each status.
func crowd(t *testing.T, s *harness.System, n int, cmd func(i int) shop.PlaceOrder) map[shop.OrderStatus]int {
	t.Helper()
	ids := make([]shop.OrderID, n)
	var group sync.WaitGroup
	for i := range ids {
		group.Go(func() {
			p, err := s.PlaceOrder(t.Context(), client.NewKey(), cmd(i), 0)
			if err != nil {
				t.Error(err)
			}
			ids[i] = p.Order.ID
		})
	}
	group.Wait()
	counts := map[shop.OrderStatus]int{}
	for _, id := range ids {
		o := s.Until(t, id, shop.Confirmed, shop.Rejected)
		counts[o.Status]++
		if o.Status == shop.Rejected && o.Reason != shop.ReasonOutOfStock {
			t.Errorf("%s was rejected for %s", id, o.Reason)
		}
	}
	return counts
}

// stock asserts what there is of an item.
func stock(t *testing.T, s *harness.System, sku shop.SKU, onHand, reserved int64) {
	t.Helper()
	it, err := s.GetItem(t.Context(), sku)
	if err != nil {
		t.Fatal(err)
	}
	if it.OnHand != onHand || it.Reserved != reserved || it.Available != onHand-reserved {
		t.Errorf("%s: %d on hand, %d reserved, %d available; want %d and %d", sku, it.OnHand, it.Reserved, it.Available, onHand, reserved)
	}
}

func TestField_eshop888_LastUnit(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		s := started(t, cfg)
		for round := range 10 {
			last := shop.SKU(fmt.Sprint("LAST", round))
			s.Item(t, last, 100, 1)
			got := crowd(t, s, 15, func(int) shop.PlaceOrder { return harness.Command("tok_ok", "00005", harness.Line(last, 1)) })
			if got[shop.Confirmed] != 1 || got[shop.Rejected] != 14 {
				t.Errorf("round %d: %v", round, got)
			}
			stock(t, s, last, 1, 1)
		}
		s.Verify(t)
	})
}

func TestField_medusa16502_SameSkuTwice(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		s := started(t, cfg)
		s.Item(t, "FEW", 450, 3)
		over := s.Place(t, harness.Command("tok_ok", "10115", harness.Line("FEW", 2), harness.Line("TEA", 1), harness.Line("FEW", 2)))
		if o := s.Until(t, over.ID, shop.Rejected, shop.Fulfilled); o.Reason != shop.ReasonOutOfStock {
			t.Errorf("2 and 2 of 3: %s (%s)", o.Status, o.Reason)
		}
		stock(t, s, "FEW", 3, 0)
		exact := s.Place(t, harness.Command("tok_ok", "10115", harness.Line("FEW", 2), harness.Line("FEW", 1)))
		s.Until(t, exact.ID, shop.Fulfilled)
		stock(t, s, "FEW", 0, 0)
		s.Verify(t)
	})
}

// Half of the orders name the items in the other order: what locks them as they come deadlocks.
func TestField_medusa16569_ReservationRace(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		s := started(t, cfg)
		const units, buyers = 40, 200
		s.Item(t, "A", 100, units)
		s.Item(t, "B", 100, units)
		got := crowd(t, s, buyers, func(i int) shop.PlaceOrder {
			if i%2 == 0 {
				return harness.Command("tok_ok", "00005", harness.Line("A", 1), harness.Line("B", 1))
			}
			return harness.Command("tok_ok", "00005", harness.Line("B", 1), harness.Line("A", 1))
		})
		if got[shop.Confirmed] != units || got[shop.Rejected] != buyers-units {
			t.Errorf("%v, want %d confirmed of %d", got, units, buyers)
		}
		stock(t, s, "A", units, units)
		stock(t, s, "B", units, units)
		s.Verify(t)
	})
}

func TestField_vendure1210_StockAfterCancel(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		s := started(t, cfg)
		s.Item(t, "CUP", 700, 100)
		var shipped int64
		for version := range int64(8) { // cancelled after so many steps
			o := s.Place(t, harness.Command("tok_ok", "10115", harness.Line("CUP", 3)))
			for seen, err := range s.Watch(t.Context(), o.ID, 0) {
				if err != nil {
					t.Fatal(err)
				}
				if seen.Version > version {
					break
				}
			}
			var group sync.WaitGroup
			for range 3 {
				group.Go(func() { // three customers' clicks, with keys of their own
					_, err := s.CancelOrder(t.Context(), client.NewKey(), o.ID)
					var p *client.Problem
					if err != nil && (!errors.As(err, &p) || p.Code != "order_dispatched" && p.Code != "version_conflict") {
						t.Error(err)
					}
				})
			}
			group.Wait()
			if s.Until(t, o.ID, shop.Cancelled, shop.Fulfilled).Status == shop.Fulfilled {
				shipped += 3
			}
		}
		refused := s.Place(t, harness.Command("tok_ok", "00001", harness.Line("CUP", 5)))
		s.Until(t, refused.ID, shop.Rejected)
		if _, err := s.CancelOrder(t.Context(), client.NewKey(), refused.ID); err != nil {
			t.Errorf("cancelling what was rejected: %v", err)
		}
		stock(t, s, "CUP", 100-shipped, 0)
		s.Verify(t)
	})
}

func TestField_dapr_StockAfterCharge(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		cfg.Payment.Capture = "immediate"
		s := started(t, cfg)
		s.Item(t, "GONE", 450, 0)
		for range 10 {
			o := s.Place(t, harness.Command("tok_ok", "10115", harness.Line("TEA", 1), harness.Line("GONE", 1)))
			s.Until(t, o.ID, shop.Rejected)
			if n := harness.Arrivals(t, s.Addresses.PSP, "authorise", string(o.ID)); n != 0 {
				t.Errorf("the provider was asked %d times for what is not in stock", n)
			}
		}
		charged := s.Until(t, s.Place(t, harness.Command("tok_ok", "00001", harness.Line("TEA", 1))).ID, shop.Rejected)
		if charged.Payment.Status != shop.PaymentRefunded || charged.Payment.Refunded != charged.Total {
			t.Errorf("charged and not delivered: %+v", charged.Payment)
		}
		stock(t, s, "TEA", 100_000, 0)
		s.Verify(t)
	})
}
