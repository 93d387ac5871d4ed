package e2e_test

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"testing"

	"holdfast/check/chaos"
	"holdfast/client"
	"holdfast/shop"
)

var ended = []shop.OrderStatus{shop.Fulfilled, shop.Rejected, shop.Cancelled, shop.NeedsAttention}

// state is how an order has ended, as a row of the table says it.
func state(o shop.Order) string {
	text := string(o.Status)
	if o.Reason != "" {
		text += " (" + string(o.Reason) + ")"
	}
	payment, shipment := cmp.Or(string(o.Payment.Status), "none"), "none"
	if o.Shipment != nil {
		shipment = string(o.Shipment.Status)
	}
	return fmt.Sprintf("%s; payment %s; shipment %s", text, payment, shipment)
}

// payments are every payment method and postal code of the public contract, and the outcome that it names.
func payments() (rows []scenario) {
	for _, c := range []struct {
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
	} {
		begin := func(t *testing.T, s *system) func(*testing.T) string {
			sku := shop.SKU(c.payment + "." + c.postal)
			s.item(t, sku, 450, 10)
			placed := s.place(t, command(c.payment, c.postal, line(sku, 2)))
			return func(t *testing.T) string {
				o := s.until(t, placed.ID, ended...)
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
				return fmt.Sprintf("%s; %d of 10 left", state(o), it.OnHand)
			}
		}
		rows = append(rows, scenario{c.payment + " " + c.postal, begin})
	}
	return rows
}

// short is an order for which there is not enough: stock is held for all lines or for none, and lines of one
// SKU count together.
func short(lines ...shop.PlaceLine) func(*testing.T, *system) func(*testing.T) string {
	return now(func(t *testing.T, s *system) string {
		o := s.until(t, s.place(t, command("tok_ok", "10115", lines...)).ID, shop.Rejected)
		if o.Reason != shop.ReasonOutOfStock {
			t.Errorf("rejected for %s", o.Reason)
		}
		return state(o)
	})
}

// exact takes all that there is of an item in two lines.
func exact(t *testing.T, s *system) func(*testing.T) string {
	s.item(t, "EXACT", 450, 3)
	placed := s.place(t, command("tok_ok", "10115", line("EXACT", 2), line("EXACT", 1)))
	return func(t *testing.T) string { return state(s.until(t, placed.ID, shop.Fulfilled)) }
}

// zeroTotal: an order of free items asks the provider for nothing.
func zeroTotal(t *testing.T, s *system) func(*testing.T) string {
	s.item(t, "FREE", 0, 10)
	placed := s.place(t, command("tok_declined", "10115", line("FREE", 1)))
	return func(t *testing.T) string {
		o := s.until(t, placed.ID, shop.Fulfilled)
		if o.Total != 0 || o.Shipping != 0 || o.Payment.Captured != 0 {
			t.Errorf("a free order costs %+v", o)
		}
		return state(o)
	}
}

// largestOrder has as many lines of as many pieces as an order may have.
func largestOrder(t *testing.T, s *system) func(*testing.T) string {
	s.item(t, "BULK", 7, 200_000_000)
	placed := s.place(t, command("tok_ok", "10115", slices.Repeat([]shop.PlaceLine{line("BULK", 1_000_000)}, 100)...))
	return func(t *testing.T) string {
		o := s.until(t, placed.ID, shop.Fulfilled)
		if o.Subtotal != 700_000_000 {
			t.Errorf("subtotal %d", o.Subtotal)
		}
		return fmt.Sprintf("%s; subtotal %d", state(o), o.Subtotal)
	}
}

// providerDown and carrierDown: orders wait while a party fails, and are carried out once it is well.
func providerDown(t *testing.T, s *system) string {
	return down(t, s, s.addresses.PSP, "authorise")
}

func carrierDown(t *testing.T, s *system) string {
	return down(t, s, s.addresses.Carrier, "schedule")
}

func down(t *testing.T, s *system, url, operation string) string {
	sku := shop.SKU("DOWN." + operation)
	s.item(t, sku, 450, 100)
	s.faults(t, url, chaos.Wrong{Status: 500}) // also to questions: an order is given up on the party's word alone, however long this takes
	heal := sync.OnceFunc(func() { s.faults(t, url) })
	defer heal()
	seen := arrivals(t, url, operation)
	var placed []shop.Order
	for range 5 {
		placed = append(placed, s.place(t, command("tok_ok", "10115", line(sku, 1))))
	}
	eventually(t, "the party is asked some times", func() bool { return arrivals(t, url, operation) > seen+3 })
	for _, o := range placed {
		now, err := s.GetOrder(t.Context(), o.ID)
		if err != nil {
			t.Fatal(err)
		}
		if now.Status != shop.Pending {
			t.Errorf("%s is %s while the party is down", o.ID, now.Status)
		}
	}
	heal()
	var states []string
	for _, o := range placed {
		states = append(states, state(s.until(t, o.ID, ended...)))
	}
	return "pending, then " + fmt.Sprint(slices.Compact(states))
}

// cancelBeforeDispatch: a confirmed order that the carrier does not collect can be cancelled, and everything goes back.
func cancelBeforeDispatch(t *testing.T, s *system) string {
	s.item(t, "KEPT", 450, 10)
	o := s.place(t, command("tok_ok", "00005", line("KEPT", 2)))
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
	return state(done)
}
