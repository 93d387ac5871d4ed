package order_test

import (
	"testing"

	"holdfast/shop"
	"holdfast/test/fakes"
	"holdfast/test/stores"
)

// TestCopies: the copy of an order, which is read while the store is down, is its caller's alone.
func TestCopies(t *testing.T) {
	t.Parallel()
	s := newOrders(t, stores.SQLite, fakes.Deps(t))
	o := s.place("k")
	if got, asOf, ok := s.LastKnown("c", o.ID); !ok || got.ID != o.ID || asOf.IsZero() {
		t.Errorf("its caller gets %+v of %s, %t", got, asOf, ok)
	}
	if got, _, ok := s.LastKnown("other", o.ID); ok || got.ID != "" {
		t.Errorf("another caller gets %+v", got)
	}
	if _, _, ok := s.LastKnown("c", shop.OrderID("ord_none")); ok {
		t.Error("there is a copy of no order")
	}
}
