package order

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast/shop"
)

// TestOutcome goes through what can be known of an order.
func TestOutcome(t *testing.T) {
	t.Parallel()
	money := func(s shop.PaymentStatus) shop.OrderPayment { return shop.OrderPayment{Status: s} }
	cases := []struct {
		name   string
		state  state
		status shop.OrderStatus
		reason shop.Reason
	}{
		{"nothing yet", state{}, shop.Pending, ""},
		{"stock alone", state{Stock: shop.StockReserved}, shop.Pending, ""},
		{"all steps", state{Stock: shop.StockReserved, Order: shop.Order{Payment: money(shop.PaymentAuthorised)}, Parcel: shop.ShipmentScheduled}, shop.Confirmed, ""},
		{"parcel before money is known", state{Stock: shop.StockReserved, Parcel: shop.ShipmentScheduled}, shop.Pending, ""},
		{"gone, not captured", state{Stock: shop.StockShipped, Order: shop.Order{Payment: money(shop.PaymentAuthorised)}, Parcel: shop.ShipmentDispatched}, shop.Confirmed, ""},
		{"captured, stock still on the shelf", state{Stock: shop.StockReserved, Order: shop.Order{Payment: money(shop.PaymentCaptured)}, Parcel: shop.ShipmentDispatched}, shop.Confirmed, ""},
		{"all done", state{Stock: shop.StockShipped, Order: shop.Order{Payment: money(shop.PaymentCaptured)}, Parcel: shop.ShipmentDispatched}, shop.Fulfilled, ""},
		{"no stock", state{Stock: shop.StockRejected}, shop.Rejected, shop.ReasonOutOfStock},
		{"declined, stock still held", state{Stock: shop.StockReserved, Order: shop.Order{Payment: money(shop.PaymentDeclined)}}, shop.Pending, ""},
		{"declined", state{Stock: shop.StockReleased, Order: shop.Order{Payment: money(shop.PaymentDeclined)}, PaymentReason: shop.ReasonPaymentDeclined}, shop.Rejected, shop.ReasonPaymentDeclined},
		{"given up, and a late success voided", state{Stock: shop.StockReleased, Order: shop.Order{Payment: money(shop.PaymentVoided)}, PaymentReason: shop.ReasonPaymentUnavailable, Declined: shop.ReasonPaymentUnavailable}, shop.Rejected, shop.ReasonPaymentUnavailable},
		{"given up, and a late success voided by an operator", state{Stock: shop.StockReleased, Order: shop.Order{Payment: money(shop.PaymentVoided)}, PaymentReason: shop.ReasonVoidFailed, Declined: shop.ReasonPaymentUnavailable}, shop.Rejected, shop.ReasonPaymentUnavailable},
		{"not shippable, money still held", state{Stock: shop.StockReserved, Order: shop.Order{Payment: money(shop.PaymentAuthorised)}, Parcel: shop.ShipmentRejected}, shop.Pending, ""},
		{"not shippable", state{Stock: shop.StockReleased, Order: shop.Order{Payment: money(shop.PaymentVoided)}, Parcel: shop.ShipmentRejected, ParcelReason: shop.ReasonNotShippable}, shop.Rejected, shop.ReasonNotShippable},
		{"void fails", state{Stock: shop.StockReleased, Order: shop.Order{Payment: money(shop.PaymentNeedsAttention)}, Parcel: shop.ShipmentRejected, PaymentReason: shop.ReasonVoidFailed}, shop.NeedsAttention, shop.ReasonVoidFailed},
		{"cancelling", state{Undo: shop.ReasonRequested, Stock: shop.StockReserved}, shop.Cancelling, shop.ReasonRequested},
		{"cancelled, stock still held", state{Undo: shop.ReasonRequested, Stock: shop.StockReserved, Order: shop.Order{Payment: money(shop.PaymentVoided)}, Parcel: shop.ShipmentCancelled}, shop.Cancelling, shop.ReasonRequested},
		{"cancelled", state{Undo: shop.ReasonRequested, Stock: shop.StockReleased, Order: shop.Order{Payment: money(shop.PaymentVoided)}, Parcel: shop.ShipmentCancelled}, shop.Cancelled, shop.ReasonRequested},
		{"cancelled without stock", state{Undo: shop.ReasonRequested, Stock: shop.StockRejected, Order: shop.Order{Payment: money(shop.PaymentCancelled)}, Parcel: shop.ShipmentCancelled}, shop.Cancelled, shop.ReasonRequested},
		{"expired", state{Undo: shop.ReasonReservationExpired, Stock: shop.StockReleased, Order: shop.Order{Payment: money(shop.PaymentVoided)}, Parcel: shop.ShipmentCancelled}, shop.Rejected, shop.ReasonReservationExpired},
		{"expiring", state{Undo: shop.ReasonReservationExpired, Stock: shop.StockReserved}, shop.Pending, ""},
		{"stuck", state{Stuck: true, Stock: shop.StockReserved}, shop.NeedsAttention, shop.ReasonStuck},
		{"stuck while undoing", state{Stuck: true, Undo: shop.ReasonRequested}, shop.NeedsAttention, shop.ReasonStuck},
		{"an end stays", state{Order: shop.Order{Status: shop.Rejected, Reason: shop.ReasonOutOfStock, Payment: money(shop.PaymentNeedsAttention)}}, shop.Rejected, shop.ReasonOutOfStock},
	}
	for _, c := range cases {
		if status, reason := c.state.outcome(); status != c.status || reason != c.reason {
			t.Errorf("%s: %s (%s), want %s (%s)", c.name, status, reason, c.status, c.reason)
		}
	}
}

// TestDeadline: nothing but an end, or what only an operator can move, is without one.
func TestDeadline(t *testing.T) {
	t.Parallel()
	cfg, at := Defaults(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	cases := []struct {
		name  string
		state state
		want  time.Time
	}{
		{"pending", state{ProgressAt: at, Order: shop.Order{Status: shop.Pending}}, at.Add(time.Minute)},
		{"driven once", state{ProgressAt: at, Drives: 1, Order: shop.Order{Status: shop.Pending}}, at.Add(3 * time.Minute)},
		{"driven often", state{ProgressAt: at, Drives: 5, Order: shop.Order{Status: shop.Cancelling}}, at.Add(35 * time.Minute)},
		{"confirmed", state{ProgressAt: at, HoldExpiresAt: at.Add(7 * 24 * time.Hour), Order: shop.Order{Status: shop.Confirmed}}, at.Add(7*24*time.Hour - time.Hour)},
		{"confirmed for nothing", state{ProgressAt: at, Order: shop.Order{Status: shop.Confirmed}}, at.Add(6 * 24 * time.Hour)},
		{"handed over", state{ProgressAt: at, DispatchBegun: true, HoldExpiresAt: at.Add(time.Hour), Order: shop.Order{Status: shop.Confirmed}}, at.Add(time.Minute)},
		{"stuck", state{ProgressAt: at, Stuck: true, Order: shop.Order{Status: shop.NeedsAttention}}, at.Add(time.Minute)},
		{"parked", state{ProgressAt: at, Order: shop.Order{Status: shop.NeedsAttention, Payment: shop.OrderPayment{Status: shop.PaymentNeedsAttention}}}, time.Time{}},
		{"fulfilled", state{ProgressAt: at, Order: shop.Order{Status: shop.Fulfilled}}, time.Time{}},
	}
	for _, c := range cases {
		if got := c.state.deadline(cfg); !got.Equal(c.want) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// story is what the other services say of one order, each in its order.
type story struct {
	name   string
	undo   shop.Reason
	events []shop.Event
	status shop.OrderStatus
}

func stock(v int64, s shop.ReservationStatus) shop.Event {
	return said(shop.TopicInventory, v, shop.StockData{Reservation: shop.Reservation{Status: s}})
}

func pay(v int64, s shop.PaymentStatus, why shop.Reason) shop.Event {
	return said(shop.TopicPayments, v, shop.PaymentData{Status: s, Reason: why})
}

func parcel(v int64, s shop.ShipmentStatus, why shop.Reason) shop.Event {
	return said(shop.TopicShipping, v, shop.ShipmentData{ID: "shp_1", Status: s, Reason: why})
}

func said(topic string, version int64, data any) shop.Event {
	b, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	return shop.Event{Topic: topic, Version: version, Data: b}
}

var stories = []story{
	{"fulfilled", "", []shop.Event{stock(1, shop.StockReserved), pay(1, shop.PaymentAuthorised, ""), parcel(1, shop.ShipmentScheduled, ""),
		parcel(2, shop.ShipmentDispatched, ""), pay(2, shop.PaymentCaptured, ""), stock(2, shop.StockShipped)}, shop.Fulfilled},
	{"declined", "", []shop.Event{stock(1, shop.StockReserved), pay(1, shop.PaymentDeclined, shop.ReasonPaymentDeclined), stock(2, shop.StockReleased)}, shop.Rejected},
	{"refused by the carrier", "", []shop.Event{stock(1, shop.StockReserved), pay(1, shop.PaymentAuthorised, ""), parcel(1, shop.ShipmentRejected, shop.ReasonNotShippable),
		pay(2, shop.PaymentVoided, ""), stock(2, shop.StockReleased)}, shop.Rejected},
	{"cancelled", shop.ReasonRequested, []shop.Event{stock(1, shop.StockReserved), pay(1, shop.PaymentAuthorised, ""), parcel(1, shop.ShipmentScheduled, ""),
		parcel(2, shop.ShipmentCancelled, ""), pay(2, shop.PaymentVoided, ""), stock(2, shop.StockReleased)}, shop.Cancelled},
	{"parked and mended", "", []shop.Event{stock(1, shop.StockReserved), pay(1, shop.PaymentAuthorised, ""), parcel(1, shop.ShipmentRejected, shop.ReasonNotShippable),
		pay(2, shop.PaymentNeedsAttention, shop.ReasonVoidFailed), stock(2, shop.StockReleased), pay(3, shop.PaymentVoided, "")}, shop.Rejected},
}

// TestFoldAnyOrder delivers each story in any order, with repetitions: the end is the same, an end stays,
// and no line ever holds more than its quantity.
func TestFoldAnyOrder(t *testing.T) {
	t.Parallel()
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				st := state{Undo: s.undo, Order: shop.Order{Status: shop.Pending, Lines: []shop.OrderLine{{Line: 1, Quantity: 3}}}}
				deliveries := rapid.Permutation(append(append([]shop.Event{}, s.events...), rapid.SliceOf(rapid.SampledFrom(s.events)).Draw(t, "again")...)).Draw(t, "deliveries")
				for _, e := range deliveries {
					before := st.Order.Status
					if _, err := st.fold(e); err != nil {
						t.Fatal(err)
					}
					st.settle()
					if before.Final() && st.Order.Status != before {
						t.Fatalf("%s became %s", before, st.Order.Status)
					}
					if l := st.Order.Lines[0]; l.Reserved+l.Shipped+l.Cancelled > l.Quantity {
						t.Fatalf("the line is %+v", l)
					}
				}
				if st.Order.Status != s.status {
					t.Fatalf("ended as %s, want %s", st.Order.Status, s.status)
				}
			})
		})
	}
}
