package check

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"holdfast/client"
	"holdfast/shop"
)

// Violation is a breach of an invariant.
type Violation struct {
	Invariant string `json:"invariant"` // "I4", as ARCHITECTURE.md numbers them
	Order     string `json:"order,omitempty"`
	Detail    string `json:"detail"`
}

func (v Violation) String() string { return v.Invariant + " " + v.Order + ": " + v.Detail }

// World is everything that can be seen from outside once a Holdfast is at rest.
type World struct {
	Orders   []shop.Order
	Items    []shop.Item
	Money    []MoneyEntry
	Parcels  []ParcelEntry
	Receipts map[shop.SKU]int64    // what was ever taken into stock
	Books    map[shop.OrderID]Book // see LookAtBooks; nil where nobody did
	Whole    bool                  // Orders are all that there are, so the ledgers may name no other
}

// MoneyEntry is a line of the payment provider's ledger.
type MoneyEntry struct {
	Entry     string       `json:"entry"` // authorised, declined, captured, voided, refunded
	Reference shop.OrderID `json:"reference"`
	Key       string       `json:"key"`
	Amount    shop.Amount  `json:"amount"`
}

// ParcelEntry is a line of the carrier's ledger.
type ParcelEntry struct {
	Entry     string       `json:"entry"` // scheduled, refused, cancelled, held, dispatched
	Reference shop.OrderID `json:"reference"`
	ID        string       `json:"id"`
}

// Look reads the world. run names the orders' customer; "" is all.
func Look(ctx context.Context, c *client.Client, at Addresses, run string) (*World, error) {
	return LookVia(ctx, http.DefaultClient, c, at, run)
}

// LookVia does what Look does, and reads the ledgers by hc.
func LookVia(ctx context.Context, hc *http.Client, c *client.Client, at Addresses, run string) (*World, error) {
	w := &World{Whole: run == ""}
	for q := (shop.OrderQuery{CustomerID: run, Limit: 200}); ; {
		page, err := c.ListOrders(ctx, q)
		if err != nil {
			return nil, err
		}
		w.Orders = append(w.Orders, page.Items...)
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			break
		}
	}
	for q := (shop.ItemQuery{Limit: 200}); ; {
		page, err := c.ListItems(ctx, q)
		if err != nil {
			return nil, err
		}
		w.Items = append(w.Items, page.Items...)
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			break
		}
	}
	var err error
	if w.Money, err = ledger[MoneyEntry](ctx, hc, at.PSP); err != nil {
		return nil, err
	}
	return w, w.hear(ctx, hc, at)
}

// hearLimit is three times the longest that the carrier waits before it asks once more whether a parcel may go.
const hearLimit = 15 * time.Second

// hear reads the carrier's ledger, once it has got the answers that it waits for. Where an answer was lost, an
// order may be fulfilled before the carrier has asked again and lets its parcel go.
func (w *World) hear(ctx context.Context, hc *http.Client, at Addresses) (err error) {
	for deadline := time.Now().Add(hearLimit); ; {
		if w.Parcels, err = ledger[ParcelEntry](ctx, hc, at.Carrier); err != nil || !w.unheard() || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// unheard tells whether the carrier still holds the parcel of an order that is fulfilled.
func (w *World) unheard() bool {
	held := make(map[shop.OrderID]bool)
	for _, e := range w.Parcels {
		held[e.Reference] = e.Entry == "scheduled"
	}
	return slices.ContainsFunc(w.Orders, func(o shop.Order) bool { return o.Status == shop.Fulfilled && held[o.ID] })
}

// ledger reads an outside party's ledger.
func ledger[T any](ctx context.Context, hc *http.Client, url string) ([]T, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/ledger", nil)
	if err != nil {
		return nil, err
	}
	resp, err := hc.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var entries []T
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e T
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("the ledger at %s: %w", url, err)
		}
		entries = append(entries, e)
	}
	return entries, lines.Err()
}

// account is what the outside parties hold about one order.
type account struct {
	authorised, captured, refunded shop.Amount
	captures, voids                int
	scheduled, cancelled, left     int
}

// open is the money that is held and neither taken nor given back.
func (a account) open() shop.Amount {
	if a.voids > 0 {
		return 0
	}
	return a.authorised - a.captured
}

// Verify compares the world at rest with what the senders were told. sent may be nil where nobody kept a
// history; then I1 to I3 are not looked at.
func (w *World) Verify(sent []Sent) []Violation {
	var found []Violation
	bad := func(invariant string, id shop.OrderID, format string, args ...any) {
		found = append(found, Violation{invariant, string(id), fmt.Sprintf(format, args...)})
	}
	accounts := w.accounts(bad)
	byID := make(map[shop.OrderID]shop.Order, len(w.Orders))
	for _, o := range w.Orders {
		if _, twice := byID[o.ID]; twice {
			bad("I3", o.ID, "is listed twice")
		}
		byID[o.ID] = o
		w.verifyOrder(o, accounts[o.ID], bad)
	}
	for id, a := range accounts {
		if _, ok := byID[id]; w.Whole && !ok {
			bad("I6", id, "is unknown here, with %d held, %d taken and %d parcels ordered", a.open(), a.captured-a.refunded, a.scheduled-a.cancelled)
		}
	}
	for id, b := range w.Books {
		b.verify(id, accounts[id], bad)
	}
	if sent != nil {
		verifyHistory(sent, byID, bad)
	}
	w.verifyStock(bad)
	return found
}

type report func(invariant string, id shop.OrderID, format string, args ...any)

func (w *World) accounts(bad report) map[shop.OrderID]account {
	accounts := map[shop.OrderID]account{}
	keys := map[string]bool{}
	for _, e := range w.Money {
		a := accounts[e.Reference]
		if e.Entry != "declined" && keys[e.Entry+e.Key] {
			bad("I4", e.Reference, "the provider did %s twice", e.Key)
		}
		keys[e.Entry+e.Key] = true
		switch e.Entry {
		case "authorised":
			a.authorised += e.Amount
		case "captured":
			a.captured += e.Amount
			a.captures++
		case "refunded":
			a.refunded += e.Amount
		case "voided":
			a.voids++
		}
		accounts[e.Reference] = a
	}
	for _, e := range w.Parcels {
		a := accounts[e.Reference]
		switch e.Entry {
		case "scheduled":
			a.scheduled++
		case "cancelled":
			a.cancelled++
		case "dispatched":
			a.left++
		}
		accounts[e.Reference] = a
	}
	return accounts
}

// verifyOrder compares one order with the outside parties' accounts of it.
func (w *World) verifyOrder(o shop.Order, a account, bad report) {
	if a.captures > 1 || a.captured > o.Total {
		bad("I4", o.ID, "captured %d times, %d of %d", a.captures, a.captured, o.Total)
	}
	if a.refunded > a.captured {
		bad("I5", o.ID, "refunded %d of %d captured", a.refunded, a.captured)
	}
	if a.authorised > o.Total {
		bad("I4", o.ID, "authorised %d of %d", a.authorised, o.Total)
	}
	if a.left > 1 || a.scheduled > 1 || a.left > 0 && a.cancelled > 0 {
		bad("I9", o.ID, "parcels: scheduled %d, cancelled %d, left %d", a.scheduled, a.cancelled, a.left)
	}
	switch o.Status {
	case shop.Fulfilled:
		if a.captured-a.refunded != o.Total || a.left != 1 {
			bad("I6", o.ID, "fulfilled with %d of %d taken and %d parcels gone", a.captured-a.refunded, o.Total, a.left)
		}
	case shop.Rejected, shop.Cancelled:
		if a.captured != a.refunded || a.open() != 0 || a.left > 0 || a.scheduled > a.cancelled {
			bad("I6", o.ID, "%s (%s) with %d kept, %d held, %d parcels gone, %d to come", o.Status, o.Reason, a.captured-a.refunded, a.open(), a.left, a.scheduled-a.cancelled)
		}
	case shop.Confirmed:
		if a.open() != o.Total && a.captured != o.Total || a.scheduled != 1 {
			bad("I6", o.ID, "confirmed with %d of %d held", a.open(), o.Total)
		}
	case shop.NeedsAttention:
		bad("I10", o.ID, "needs attention: %s", o.Reason)
	default:
		bad("I10", o.ID, "is still %s", o.Status)
	}
	for _, l := range o.Lines {
		if l.Reserved < 0 || l.Shipped < 0 || l.Cancelled < 0 || l.Reserved+l.Shipped+l.Cancelled > l.Quantity {
			bad("I9", o.ID, "line %d: %d reserved, %d shipped, %d cancelled of %d", l.Line, l.Reserved, l.Shipped, l.Cancelled, l.Quantity)
		}
	}
}

// verifyHistory compares the orders with what their senders were told.
func verifyHistory(sent []Sent, byID map[shop.OrderID]shop.Order, bad report) {
	known := make(map[string]Sent, len(sent))
	for _, s := range sent {
		known[s.Key] = s
		if s.ID == "" {
			continue
		}
		o, ok := byID[s.ID]
		switch {
		case !ok:
			bad("I1", s.ID, "was acknowledged and is not there")
		case o.Total != s.Total || o.ExternalID != s.Key:
			bad("I1", s.ID, "was acknowledged with total %d as %s, and is %d as %s", s.Total, s.Key, o.Total, o.ExternalID)
		}
	}
	first := make(map[string]shop.OrderID, len(byID))
	for id, o := range byID {
		s, ok := known[o.ExternalID]
		switch {
		case !ok:
			bad("I2", id, "nobody asked for it")
		case s.Refused():
			bad("I2", id, "it was refused with %d %s", s.Status, s.Code)
		}
		if other, twice := first[o.ExternalID]; twice {
			bad("I3", id, "has the key of %s", other)
		}
		first[o.ExternalID] = id
	}
}

// verifyStock compares the stock with the orders that hold or took it.
func (w *World) verifyStock(bad report) {
	reserved, shipped := map[shop.SKU]int64{}, map[shop.SKU]int64{}
	for _, o := range w.Orders {
		for _, l := range o.Lines {
			reserved[l.SKU] += l.Reserved
			shipped[l.SKU] += l.Shipped
		}
	}
	for _, i := range w.Items {
		if i.Reserved < 0 || i.Reserved > i.OnHand {
			bad("I7", "", "%s: %d reserved of %d", i.SKU, i.Reserved, i.OnHand)
		}
		if i.Reserved != reserved[i.SKU] {
			bad("I8", "", "%s: %d reserved, and orders hold %d", i.SKU, i.Reserved, reserved[i.SKU])
		}
		if in, ok := w.Receipts[i.SKU]; ok && i.OnHand+shipped[i.SKU] != in {
			bad("I7", "", "%s: %d on hand and %d shipped of %d received", i.SKU, i.OnHand, shipped[i.SKU], in)
		}
	}
}

// Rest waits until no order is on its way to an outcome, and, where the carrier dispatches, until none is
// confirmed, or until ctx ends. It returns how many are left.
func Rest(ctx context.Context, c *client.Client, dispatched bool) (left int, err error) {
	moving := []shop.OrderStatus{shop.Pending, shop.Cancelling}
	if dispatched {
		moving = append(moving, shop.Confirmed)
	}
	for {
		left = 0
		for _, status := range moving {
			page, err := c.ListOrders(ctx, shop.OrderQuery{Status: status, Limit: 1})
			if err != nil {
				return left, err
			}
			left += len(page.Items)
		}
		if left == 0 {
			return 0, nil
		}
		select {
		case <-ctx.Done():
			return left, nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}
