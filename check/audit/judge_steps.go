package audit

import (
	"strings"

	"holdfast/shop"
)

// reserved looks at the stock: reserved once, ended once, and not live on an order that has ended.
func (j *judged) reserved() {
	f, rec := j.f, &j.f.rec
	var status shop.ReservationStatus
	var quantity int64
	if f.stock != nil {
		status = f.stock.status
		for _, l := range f.stock.lines {
			quantity += l.Quantity
		}
	}
	in, out, gone := int64(rec.reserved), int64(rec.released), int64(rec.parted)
	right := in == quantity
	switch status {
	case shop.StockReserved:
		right = right && out == 0 && gone == 0
		if f.order.Order.Status.Final() {
			j.bad("I8", "has ended as %s, and its stock is still reserved", f.order.Order.Status)
		}
	case shop.StockReleased:
		right = right && out == in && gone == 0
	case shop.StockShipped:
		right = right && out == 0 && gone == in
	default:
		right = in == 0 && out == 0 && gone == 0
	}
	if !right {
		j.bad("I8", "is %q for %d pieces, of which %d were reserved, %d released, %d shipped", status, quantity, in, out, gone)
	}
}

// taken looks at the payment's own amounts.
func (j *judged) taken() {
	p, o := j.f.payment, &j.f.order.Order
	switch {
	case p.captured > p.amount || p.captured > o.Total || p.authorised > o.Total:
		j.bad("I4", "authorised %d and captured %d of %d", p.authorised, p.captured, o.Total)
	case p.authorised > 0 && p.amount != o.Total:
		j.bad("I4", "its payment is of %d, and its total %d", p.amount, o.Total)
	}
	if p.refunded < 0 || p.refunded > p.captured {
		j.bad("I5", "refunded %d of %d captured", p.refunded, p.captured)
	}
}

// books looks at the bookings: each transaction sums to zero, is booked once, and they come to what the payment
// says.
func (j *judged) books() {
	f, p := j.f, j.f.payment
	sums, sides := map[string]shop.Amount{}, map[string]int{}
	var provider, holds shop.Amount
	for _, b := range f.bookings {
		sums[b.txn+" "+b.currency] += b.amount
		sides[b.txn+" "+b.account]++
		switch b.account {
		case "provider":
			provider += b.amount
		case "holds":
			holds += b.amount
		}
	}
	zero, once := true, true
	for txn, sum := range sums {
		if sum != 0 {
			j.bad("I11", "transaction %s sums to %d", txn, sum)
			zero = false
		}
	}
	for side, n := range sides {
		if n > maxSides(side) {
			j.bad("I17", "%s was booked %d times", side, n)
			once = false
		}
	}
	held := p.authorised - p.captured
	if closedMoney(p.state) {
		held = 0
	}
	if zero && once && (provider != p.captured-p.refunded || holds != held) {
		j.bad("I11", "its books have %d with the provider and %d held, and its payment %d and %d", provider, holds, p.captured-p.refunded, held)
	}
}

// maxSides is how often an account may be in one transaction: a charge at once books its hold and the end of it.
func maxSides(side string) int {
	if strings.HasSuffix(side, " holds") || strings.HasSuffix(side, " holds_owed") {
		return 2
	}
	return 1
}

// gone looks at the parcel.
func (j *judged) gone() {
	f := j.f
	for _, l := range f.order.Order.Lines {
		if min(l.Reserved, l.Shipped, l.Cancelled) < 0 || l.Reserved+l.Shipped+l.Cancelled > l.Quantity {
			j.bad("I9", "line %d: %d reserved, %d shipped, %d cancelled of %d", l.Line, l.Reserved, l.Shipped, l.Cancelled, l.Quantity)
		}
	}
	if f.parcel == nil {
		return
	}
	if closedParcel(f.parcel.state) && f.parcel.dispatchedAt > 0 {
		j.bad("I9", "its parcel is %s, and left", f.parcel.state)
	}
	if f.parcel.state == shop.ShipmentDispatched && (f.payment == nil || closedMoney(f.payment.state)) {
		j.bad("I9", "its parcel left, and it is not paid")
	}
}

// outside compares the order with the outside parties' own ledgers.
func (j *judged) outside() {
	f, total := j.f, j.f.order.Order.Total
	before := len(j.found)
	if m := f.money; m != nil {
		if m.captures > 1 || m.captured > total || m.authorisations > 1 || m.authorised > total {
			j.bad("I4", "the provider authorised %d times %d and captured %d times %d of %d", m.authorisations, m.authorised, m.captures, m.captured, total)
		}
		if m.refunded > m.captured {
			j.bad("I5", "the provider refunded %d of %d captured", m.refunded, m.captured)
		}
	}
	if p := f.payment; p != nil && j.a.psp != nil && len(j.found) == before {
		m := f.money
		if m == nil {
			m = &money{}
		}
		if p.authorised > 0 && m.authorisations == 0 || p.captured > m.captured || p.refunded > m.refunded {
			j.bad("I11", "its payment has %d captured and %d refunded, and the provider %d and %d", p.captured, p.refunded, m.captured, m.refunded)
		} else if m.captured > p.captured || m.refunded > p.refunded {
			j.late("I11", "the provider captured %d and refunded %d, and its payment has %d and %d", m.captured, m.refunded, p.captured, p.refunded)
		}
	}
	if p := f.parcels; p != nil && (p.scheduled > 1 || p.left > 1 || p.left > 0 && p.cancelled > 0) {
		j.bad("I9", "the carrier scheduled %d parcels, cancelled %d, and took %d", p.scheduled, p.cancelled, p.left)
	}
	if f.parcel != nil && f.parcel.state == shop.ShipmentDispatched && j.a.carrier != nil && (f.parcels == nil || f.parcels.scheduled == 0) {
		j.bad("I9", "its parcel left, and the carrier knows none")
	}
}

// ended looks at what has to be so once an order has come to its end.
func (j *judged) ended() {
	f, o := j.f, &j.f.order.Order
	p := f.payment
	if p == nil {
		p = &paymentRow{}
	}
	open := p.authorised - p.captured
	if closedMoney(p.state) {
		open = 0
	}
	switch o.Status {
	case shop.Fulfilled:
		if p.captured-p.refunded != o.Total {
			j.bad("I6", "is fulfilled with %d of %d taken", p.captured-p.refunded, o.Total)
		} else if f.money != nil && f.money.captured-f.money.refunded != o.Total {
			j.late("I6", "is fulfilled, and the provider took %d of %d", f.money.captured-f.money.refunded, o.Total)
		}
	case shop.Rejected, shop.Cancelled:
		if p.captured != p.refunded || open != 0 {
			j.late("I6", "is %s with %d kept and %d held", o.Status, p.captured-p.refunded, open)
		} else if m := f.money; m != nil && (m.captured != m.refunded || m.held() != 0) {
			j.late("I6", "is %s, and the provider keeps %d and holds %d", o.Status, m.captured-m.refunded, m.held())
		}
		if c := f.parcels; c != nil && (c.scheduled > c.cancelled || c.left > 0) {
			j.late("I6", "is %s, and the carrier has or took its parcel", o.Status)
		}
	case shop.Confirmed:
	default:
		if j.a.cfg.AtRest {
			j.late("I10", "is %s (%s)", o.Status, o.Reason)
		}
	}
}
