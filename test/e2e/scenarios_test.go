package e2e_test

import (
	"testing"

	"holdfast/client"
	"holdfast/shop"
)

// TestScenarios drives every payment method and postal code of the public contract to the outcome that it
// names, with the stock and the provider's money where they belong.
func TestScenarios(t *testing.T) {
	t.Parallel()
	cases := []struct {
		payment, postal string
		status          shop.OrderStatus
		reason          shop.Reason
		left            int64 // of 10, after 2 were ordered
	}{
		{"tok_ok", "10115", shop.Fulfilled, "", 8},
		{"tok_declined", "10115", shop.Rejected, shop.ReasonPaymentDeclined, 10},
		{"tok_insufficient_funds", "10115", shop.Rejected, shop.ReasonPaymentDeclined, 10},
		{"tok_slow", "10115", shop.Fulfilled, "", 8},
		{"tok_error_once", "10115", shop.Fulfilled, "", 8},
		{"tok_error", "10115", shop.Rejected, shop.ReasonPaymentUnavailable, 10},
		{"tok_timeout_ok", "10115", shop.Fulfilled, "", 8},
		{"tok_timeout_fail", "10115", shop.Rejected, shop.ReasonPaymentDeclined, 10},
		{"tok_webhook_twice", "10115", shop.Fulfilled, "", 8},
		{"tok_webhook_first", "10115", shop.Fulfilled, "", 8},
		{"tok_ok", "00001", shop.Rejected, shop.ReasonNotShippable, 10},
		{"tok_ok", "00002", shop.Fulfilled, "", 8},
		{"tok_ok", "00003", shop.Rejected, shop.ReasonShippingUnavailable, 10},
		{"tok_ok", "00004", shop.Fulfilled, "", 8},
		{"tok_void_fails_1", "00001", shop.Rejected, shop.ReasonNotShippable, 10},
		{"tok_void_fails_3", "00001", shop.Rejected, shop.ReasonNotShippable, 10},
		{"tok_void_fails", "10115", shop.Fulfilled, "", 8},
	}
	eachStyle(t, func(t *testing.T, s *system) {
		t.Run("orders", func(t *testing.T) {
			for _, c := range cases {
				t.Run(c.payment+" "+c.postal, func(t *testing.T) {
					t.Parallel()
					sku := shop.SKU(c.payment + "." + c.postal)
					s.item(t, sku, 450, 10)
					placed := s.place(t, command(c.payment, c.postal, line(sku, 2)))
					o := s.until(t, placed.ID, shop.Fulfilled, shop.Rejected, shop.Cancelled, shop.NeedsAttention)
					if o.Status != c.status || o.Reason != c.reason {
						t.Errorf("ended as %s (%s), want %s (%s)", o.Status, o.Reason, c.status, c.reason)
					}
					it, err := s.GetItem(t.Context(), sku)
					if err != nil {
						t.Fatal(err)
					}
					if it.OnHand != c.left || it.Reserved != 0 {
						t.Errorf("stock: %d on hand and %d reserved, want %d and none", it.OnHand, it.Reserved, c.left)
					}
				})
			}
		})
		s.verify(t)
	})
}

// TestNeverDispatchedIsCancelled: a confirmed order that the carrier does not collect can be cancelled,
// and everything goes back.
func TestNeverDispatchedIsCancelled(t *testing.T) {
	t.Parallel()
	eachStyle(t, func(t *testing.T, s *system) {
		s.item(t, "TEA", 450, 10)
		o := s.place(t, command("tok_ok", "00005", line("TEA", 2)))
		s.until(t, o.ID, shop.Confirmed)
		key := client.NewKey()
		first, err := s.CancelOrder(t.Context(), key, o.ID)
		if err != nil {
			t.Fatal(err)
		}
		if first.Status != shop.Cancelling {
			t.Errorf("the answer says %s", first.Status)
		}
		if _, err := s.CancelOrder(t.Context(), key, o.ID); err != nil {
			t.Errorf("the repetition: %v", err)
		}
		done := s.until(t, o.ID, shop.Cancelled)
		if done.Reason != shop.ReasonRequested || done.Payment.Status != shop.PaymentVoided || done.Shipment.Status != shop.ShipmentCancelled {
			t.Errorf("ended as %+v", done)
		}
		if _, err := s.CancelOrder(t.Context(), client.NewKey(), o.ID); err != nil {
			t.Errorf("cancelling again: %v", err)
		}
		s.verify(t)
	})
}

// TestCancelAtAnyTime cancels orders at every stage: whatever the answer was, it is not contradicted.
func TestCancelAtAnyTime(t *testing.T) {
	t.Parallel()
	eachStyle(t, func(t *testing.T, s *system) {
		s.item(t, "TEA", 450, 1000)
		t.Run("orders", func(t *testing.T) {
			for version := range int64(8) {
				for _, way := range [][2]string{{"tok_ok", "10115"}, {"tok_ok", "00002"}, {"tok_ok", "00004"}, {"tok_slow", "10115"}} {
					payment, postal := way[0], way[1]
					t.Run(payment+" "+postal, func(t *testing.T) {
						t.Parallel()
						o := s.place(t, command(payment, postal, line("TEA", 1)))
						for seen, err := range s.Watch(t.Context(), o.ID, 0) {
							if err != nil {
								t.Fatal(err)
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
					})
				}
			}
		})
		s.verify(t)
	})
}

// TestVoidFailsForEver: an undo that cannot be completed waits for an operator, in sight, and goes on when
// the operator says so.
func TestVoidFailsForEver(t *testing.T) {
	t.Parallel()
	eachStyle(t, func(t *testing.T, s *system) {
		s.item(t, "TEA", 450, 10)
		held := s.place(t, command("tok_ok", "00005", line("TEA", 1)))
		s.until(t, held.ID, shop.Confirmed) // so that stock which is released twice is somebody's
		never := s.place(t, command("tok_void_fails", "00001", line("TEA", 1)))
		later := s.place(t, command("tok_void_fails_7", "00001", line("TEA", 1))) // the limit is 5 here
		for _, id := range []shop.OrderID{never.ID, later.ID} {
			if o := s.until(t, id, shop.NeedsAttention); o.Reason != shop.ReasonVoidFailed {
				t.Errorf("needs attention for %s", o.Reason)
			}
		}
		stuck := s.stuck(t)
		if len(stuck) != 2 {
			t.Errorf("%d orders are shown to the operator, want 2", len(stuck))
		}
		s.retry(t, later.ID)
		if o := s.until(t, later.ID, shop.Rejected); o.Reason != shop.ReasonNotShippable {
			t.Errorf("rejected for %s", o.Reason)
		}
		s.verify(t, never.ID)
	})
}
