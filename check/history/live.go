package history

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"holdfast/check"
	"holdfast/client"
	"holdfast/shop"
)

// Live compares what the clients were told with the Holdfast as it is now, at rest: its API, the ledgers of its
// outside parties, and its stores.
func (h *History) Live(ctx context.Context, at check.Addresses, apiKey string) ([]check.Violation, error) {
	api, err := client.New(at.API, apiKey, nil)
	if err != nil {
		return nil, err
	}
	w, err := check.Look(ctx, api, at, "")
	if err != nil {
		return nil, err
	}
	ours := len(w.Orders)
	w.Orders = slices.DeleteFunc(w.Orders, func(o shop.Order) bool { return !strings.HasPrefix(o.CustomerID, h.Run+"-") })
	w.Items = slices.DeleteFunc(w.Items, func(i shop.Item) bool { return !strings.HasPrefix(string(i.SKU), h.Run+"-") })
	w.Whole = len(w.Orders) == ours
	w.Receipts = h.received()
	found := w.Verify(h.sent())
	stores, err := check.Stores(ctx, at)
	return append(found, stores...), err
}

// sent is the history as the checks of the world at rest know one.
func (h *History) sent() []check.Sent {
	orders := h.orders()
	var list []check.Sent
	for i, key := range slices.Sorted(maps.Keys(orders)) {
		o := orders[key]
		s := check.Sent{Number: i, Key: key}
		switch {
		case o.first != nil:
			s.ID, s.Total, s.Status = o.id, o.first.Total, http.StatusCreated
		case o.call == never:
			s.Status, s.Code = o.places[0].Status, o.places[0].Code
		}
		list = append(list, s)
	}
	return list
}
