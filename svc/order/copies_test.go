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
	o, _, err := s.Place(t.Context(), shop.Request{Caller: "a", Key: "k"}, command())
	if err != nil {
		t.Fatal(err)
	}
	if got, asOf, ok := s.LastKnown("a", o.ID); !ok || got.ID != o.ID || asOf.IsZero() {
		t.Errorf("its caller gets %+v of %s, %t", got, asOf, ok)
	}
	if got, _, ok := s.LastKnown("b", o.ID); ok || got.ID != "" {
		t.Errorf("another caller gets %+v", got)
	}
}
