package check_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/check"
	"holdfast/client"
	"holdfast/shop"
)

// sound is a world in which everything is as it should be: a fulfilled, a cancelled, a confirmed and a
// rejected order.
func sound() (*check.World, []check.Sent) {
	order := func(id shop.OrderID, status shop.OrderStatus, reserved, shipped, cancelled int64) shop.Order {
		return shop.Order{ID: id, ExternalID: "key-" + string(id), Status: status, Total: 1000,
			Lines: []shop.OrderLine{{Line: 1, SKU: "TEA", Quantity: 2, Reserved: reserved, Shipped: shipped, Cancelled: cancelled}}}
	}
	w := &check.World{
		Whole:    true,
		Orders:   []shop.Order{order("gone", shop.Fulfilled, 0, 2, 0), order("undone", shop.Cancelled, 0, 0, 2), order("held", shop.Confirmed, 2, 0, 0), order("refused", shop.Rejected, 0, 0, 2)},
		Items:    []shop.Item{{SKU: "TEA", OnHand: 8, Reserved: 2}},
		Receipts: map[shop.SKU]int64{"TEA": 10},
		Books:    map[shop.OrderID]check.Book{"gone": {Taken: 1000}, "undone": {}, "held": {}},
		Money: []check.MoneyEntry{{Entry: "authorised", Reference: "gone", Key: "a", Amount: 1000}, {Entry: "captured", Reference: "gone", Key: "b", Amount: 1000},
			{Entry: "authorised", Reference: "undone", Key: "c", Amount: 1000}, {Entry: "voided", Reference: "undone", Key: "d", Amount: 1000},
			{Entry: "authorised", Reference: "held", Key: "e", Amount: 1000}, {Entry: "declined", Reference: "refused", Key: "f", Amount: 1000}},
		Parcels: []check.ParcelEntry{{Entry: "scheduled", Reference: "gone", ID: "1"}, {Entry: "dispatched", Reference: "gone", ID: "1"},
			{Entry: "scheduled", Reference: "undone", ID: "2"}, {Entry: "cancelled", Reference: "undone", ID: "2"}, {Entry: "scheduled", Reference: "held", ID: "3"}},
	}
	var sent []check.Sent
	for _, o := range w.Orders {
		sent = append(sent, check.Sent{Key: o.ExternalID, ID: o.ID, Total: o.Total, Status: 201})
	}
	return w, append(sent, check.Sent{Key: "key-lost"}, check.Sent{Key: "key-wrong", Status: 422})
}

func TestVerifySound(t *testing.T) {
	t.Parallel()
	w, sent := sound()
	if found := w.Verify(sent); len(found) > 0 {
		t.Errorf("found %v in a sound world", found)
	}
}

// TestVerifyFinds breaks the world in one place at a time.
func TestVerifyFinds(t *testing.T) {
	t.Parallel()
	money := func(entry string, id shop.OrderID, key string, amount shop.Amount) func(*check.World, *[]check.Sent) {
		return func(w *check.World, _ *[]check.Sent) {
			w.Money = append(w.Money, check.MoneyEntry{Entry: entry, Reference: id, Key: key, Amount: amount})
		}
	}
	parcel := func(entry string, id shop.OrderID) func(*check.World, *[]check.Sent) {
		return func(w *check.World, _ *[]check.Sent) {
			w.Parcels = append(w.Parcels, check.ParcelEntry{Entry: entry, Reference: id, ID: "9"})
		}
	}
	without := func(entry string, id shop.OrderID) func(*check.World, *[]check.Sent) {
		return func(w *check.World, _ *[]check.Sent) {
			w.Money = slices.DeleteFunc(w.Money, func(e check.MoneyEntry) bool { return e.Entry == entry && e.Reference == id })
		}
	}
	tests := []struct {
		name, invariant string
		spoil           func(*check.World, *[]check.Sent)
	}{
		{"an acknowledged order is lost", "I1", func(w *check.World, _ *[]check.Sent) { w.Orders = w.Orders[1:] }},
		{"a total differs", "I1", func(_ *check.World, s *[]check.Sent) { (*s)[0].Total = 1 }},
		{"nobody asked for it", "I2", func(_ *check.World, s *[]check.Sent) { *s = (*s)[1:] }},
		{"a refused order was stored", "I2", func(_ *check.World, s *[]check.Sent) { (*s)[0].ID, (*s)[0].Status = "", 422 }},
		{"an order that was too many was stored", "I2", func(_ *check.World, s *[]check.Sent) {
			(*s)[0].ID, (*s)[0].Status, (*s)[0].Code = "", 503, "overloaded"
		}},
		{"two orders of one key", "I3", func(w *check.World, _ *[]check.Sent) { w.Orders[1].ExternalID = w.Orders[0].ExternalID }},
		{"captured twice", "I4", money("captured", "gone", "g", 1000)},
		{"an operation done twice", "I4", money("voided", "undone", "d", 1000)},
		{"authorised twice", "I4", money("authorised", "held", "h", 1000)},
		{"refunded too much", "I5", money("refunded", "gone", "i", 1001)},
		{"fulfilled and unpaid", "I6", without("captured", "gone")},
		{"cancelled and still held", "I6", without("voided", "undone")},
		{"rejected and charged", "I6", money("captured", "refused", "j", 1000)},
		{"confirmed with no money held", "I6", without("authorised", "held")},
		{"money of an unknown order", "I6", money("authorised", "nobody", "k", 1000)},
		{"a parcel of an unknown order", "I6", parcel("scheduled", "nobody")},
		{"more reserved than there is", "I7", func(w *check.World, _ *[]check.Sent) { w.Items[0].Reserved = 9 }},
		{"stock has vanished", "I7", func(w *check.World, _ *[]check.Sent) { w.Items[0].OnHand = 7 }},
		{"stock is held for nobody", "I8", func(w *check.World, _ *[]check.Sent) { w.Items[0].Reserved = 3 }},
		{"two parcels", "I9", parcel("dispatched", "gone")},
		{"a cancelled parcel left", "I9", parcel("dispatched", "undone")},
		{"more shipped than ordered", "I9", func(w *check.World, _ *[]check.Sent) { w.Orders[0].Lines[0].Shipped = 3 }},
		{"a capture is not booked", "I11", func(w *check.World, _ *[]check.Sent) { w.Books["gone"] = check.Book{} }},
		{"a booking is uneven", "I11", func(w *check.World, _ *[]check.Sent) {
			w.Books["gone"] = check.Book{Taken: 1000, Uneven: []string{"gone:capture EUR"}}
		}},
		{"an order is still on its way", "I10", func(w *check.World, _ *[]check.Sent) { w.Orders[2].Status = shop.Pending }},
		{"an order needs an operator", "I10", func(w *check.World, _ *[]check.Sent) { w.Orders[2].Status = shop.NeedsAttention }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w, sent := sound()
			test.spoil(w, &sent)
			found := w.Verify(sent)
			if !slices.ContainsFunc(found, func(v check.Violation) bool { return v.Invariant == test.invariant }) {
				var all []string
				for _, v := range found {
					all = append(all, v.String())
				}
				t.Errorf("found %q, want one of %s", strings.Join(all, "; "), test.invariant)
			}
		})
	}
}

// trip answers requests.
type trip func(path string) string

// RoundTrip answers one.
func (f trip) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(f(r.URL.Host + r.URL.Path)))}, nil
}

// TestLookHearsTheCarrier: where the carrier has to ask again whether a parcel may go, the world is seen when it has;
// one that never asks again is seen as it is.
func TestLookHearsTheCarrier(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]time.Duration{"at once": 0, "asked again": 5 * time.Second, "never": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				orders, err := json.Marshal(map[string]any{"items": []shop.Order{{ID: "ord_1", Status: shop.Fulfilled}}})
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				hc := &http.Client{Transport: trip(func(path string) string {
					switch {
					case strings.HasSuffix(path, "/v1/orders"):
						return string(orders)
					case strings.HasSuffix(path, "/v1/items"):
						return `{"items":[]}`
					case path == "psp/ledger":
						return ""
					case time.Since(began) < after:
						return `{"entry":"scheduled","reference":"ord_1","id":"1"}`
					default:
						return `{"entry":"scheduled","reference":"ord_1","id":"1"}` + "\n" + `{"entry":"dispatched","reference":"ord_1","id":"1"}`
					}
				})}
				api, err := client.New("http://api", "key", hc)
				if err != nil {
					t.Fatal(err)
				}
				w, err := check.LookVia(t.Context(), hc, api, check.Addresses{PSP: "http://psp", Carrier: "http://carrier"}, "")
				if err != nil {
					t.Fatal(err)
				}
				if gone := len(w.Parcels) == 2; gone != (after < time.Minute) {
					t.Errorf("after %s: %+v", time.Since(began), w.Parcels)
				}
			})
		})
	}
}
