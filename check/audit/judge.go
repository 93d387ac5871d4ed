package audit

import (
	"fmt"

	"holdfast/shop"
)

// finding is something that should not be.
type finding struct {
	inv, id, detail string
	rest            bool // it has to hold at rest only
	open            bool // work that may mend it is under way
	untold          bool // it cannot be told, at rest or not
}

// judge compares everything that is known of one order. It is the only place that knows what is wrong; when
// something is, that may be for having been met on the way from one store to another.
func (a *auditor) judge(f *facts) []finding {
	j := &judged{a: a, f: f, old: f.age(a.now) > a.cfg.Keep-keepSlack}
	if f.order == nil {
		j.orphan()
		return j.found
	}
	if f.order.unreadable {
		j.bad("I12", "its document cannot be read")
		return j.found
	}
	j.request()
	j.columns()
	j.chains()
	if len(j.found) == 0 {
		j.steps()
	}
	j.reserved()
	if f.payment != nil {
		j.taken()
		j.books()
	}
	j.gone()
	j.outside()
	j.ended()
	return j.found
}

// judged is the judgement of one order.
type judged struct {
	a     *auditor
	f     *facts
	old   bool // so that some of its events and its request may have been deleted
	found []finding
}

func (j *judged) bad(inv, format string, args ...any) {
	j.found = append(j.found, finding{inv: inv, id: j.f.id, detail: fmt.Sprintf(format, args...)})
}

// late adds what has to hold at rest. It is open while something that changes it is under way.
func (j *judged) late(inv, format string, args ...any) {
	f := j.f
	open := f.calls > 0 || f.parked > 0 || f.unsent
	j.found = append(j.found, finding{inv: inv, id: f.id, rest: true, open: open, detail: fmt.Sprintf(format, args...)})
}

// orphan judges what there is of an order that has no row.
func (j *judged) orphan() {
	f := j.f
	switch {
	case f.rec.asked > 0:
		j.bad("I1", "was acknowledged, and is not there")
	case f.money != nil && (f.money.held() != 0 || f.money.captured != f.money.refunded):
		j.bad("I6", "is unknown here, and the provider holds %d and took %d of it", f.money.held(), f.money.captured-f.money.refunded)
	case f.parcels != nil && f.parcels.scheduled > f.parcels.cancelled:
		j.bad("I6", "is unknown here, and the carrier has a parcel of it")
	case f.stock != nil || f.payment != nil || f.parcel != nil || f.rec.chains != [sources]chain{}:
		j.bad("I2", "has rows or events, and no order")
	}
}

// request compares the order with what its customer was told.
func (j *judged) request() {
	o, rec := &j.f.order.Order, &j.f.rec
	switch {
	case rec.asked == 0 && !j.old:
		j.bad("I2", "nobody asked for it: there is no request that it answers")
	case rec.asked > 1:
		j.bad("I3", "answers %d requests", rec.asked)
	case rec.asked == 1 && rec.answer != j.a.fingerprint(o.Total, o.Lines):
		j.bad("I1", "was acknowledged with another total or other lines")
	}
	if rec.marks&markPromised != 0 && (o.Status == shop.Fulfilled || j.f.order.DispatchBegun) {
		j.bad("I16", "is %s after its cancel was accepted", o.Status)
	}
}

// columns compares what lists are read by with the order.
func (j *judged) columns() {
	r := j.f.order
	if string(r.Order.ID) != j.f.id || string(r.Order.Status) != r.status || r.Order.CustomerID != r.customer || r.Order.ExternalID != r.external {
		j.bad("I15", "is listed as %s of %s, and is %s of %s", r.status, r.customer, r.Order.Status, r.Order.CustomerID)
	}
}

// chains looks at the versions of each source: 1..n, the last one the row's.
func (j *judged) chains() {
	f := j.f
	versions := [sources]int64{srcOrder: f.order.Order.Version}
	if f.stock != nil {
		versions[srcInventory] = f.stock.version
	}
	if f.payment != nil {
		versions[srcPayment] = f.payment.version
	}
	if f.parcel != nil {
		versions[srcShipping] = f.parcel.version
	}
	for source, c := range f.rec.chains {
		name, version := sourceNames[source], versions[source]
		switch {
		case c.n == 0 && version > 0 && !j.old:
			j.bad("I12", "%s: the row has version %d, and there are no events", name, version)
		case c.n == 0:
		case !c.whole():
			j.bad("I12", "%s: %d events with versions %d to %d", name, c.n, c.first, c.last)
		case int64(c.last) != version:
			j.bad("I12", "%s: the row has version %d, and the last event %d", name, version, c.last)
		case c.first > 1 && !j.old:
			j.bad("I12", "%s: the events before version %d are gone", name, c.first)
		}
	}
	j.path()
}

var sourceNames = [sources]string{orderStore, inventoryStore, paymentStore, shippingStore}

// path looks at the order's own events: each a step that may follow those before it.
func (j *judged) path() {
	rec, o := &j.f.rec, &j.f.order.Order
	if c := rec.chains[srcOrder]; c.n == 0 || c.first > 1 {
		return // not all of them are there
	}
	end := says[kindNames[rec.endKind]]
	has := func(mark uint16) bool { return rec.marks&mark != 0 }
	switch {
	case has(markFirstOther) || has(markPlacedLate):
		j.bad("I12", "it was not placed first, or more than once")
	case rec.ends > 1 || rec.ends == 1 && rec.lastAt > rec.endAt:
		j.bad("I12", "it went on after it had ended")
	case has(markUndo) && has(markDispatch):
		j.bad("I12", "it was undone and let go")
	case end == string(shop.Cancelled) && !has(markUndo), end == string(shop.Fulfilled) && !has(markDispatch):
		j.bad("I12", "it is %s, and nobody had it so", end)
	case o.Status.Final() != (rec.ends == 1) || rec.ends == 1 && end != string(o.Status):
		j.bad("I12", "its status is %s, and its events say %q", o.Status, end)
	}
}

// steps folds the steps' events and compares the result with the order.
func (j *judged) steps() {
	f, d := j.f, &j.f.order.orderDoc
	step := func(source int, seen, version int64, said, row string) {
		event := says[kindNames[f.rec.chains[source].kind]]
		switch {
		case seen > version:
			j.bad("I12", "has folded version %d of %s, which has come to %d", seen, sourceNames[source], version)
		case row != "" && event != "" && row != event:
			j.bad("I12", "%s is %s, and its last event says %s", sourceNames[source], row, event)
		case seen < version:
			j.found = append(j.found, finding{inv: "I12", id: f.id, rest: true, open: true, detail: fmt.Sprintf("has folded version %d of %s, which is at %d", seen, sourceNames[source], version)})
		case version > 0 && event != "" && event != said:
			j.bad("I12", "has %s as %q, and its last event says %q", sourceNames[source], said, event)
		}
	}
	if f.stock == nil {
		f.stock = &reservationRow{}
	}
	step(srcInventory, d.Seen.Inventory, f.stock.version, string(d.Stock), string(f.stock.status))
	if p := f.payment; p != nil {
		step(srcPayment, d.Seen.Payment, p.version, string(d.Order.Payment.Status), shown(p.state))
		if own := d.Order.Payment; d.Seen.Payment == p.version && shown(p.state) != "" && p.version > 0 &&
			(own.Authorised != p.authorised || own.Captured != p.captured || own.Refunded != p.refunded) {
			j.bad("I12", "says %d authorised, %d captured, %d refunded, and the payment %d, %d, %d", own.Authorised, own.Captured, own.Refunded, p.authorised, p.captured, p.refunded)
		}
	} else if d.Seen.Payment > 0 {
		j.bad("I12", "has folded a payment that is not there")
	}
	if s := f.parcel; s != nil {
		step(srcShipping, d.Seen.Shipping, s.version, string(d.Parcel), shownParcel(s.state))
	} else if d.Seen.Shipping > 0 {
		j.bad("I12", "has folded a shipment that is not there")
	}
	own := d.Order.Status
	switch {
	case own.Final() && !ended(d):
		j.bad("I12", "is %s with stock %q, payment %q, parcel %q", own, d.Stock, d.Order.Payment.Status, d.Parcel)
	case !own.Final() && own != status(d):
		j.bad("I12", "is %s, and its steps make it %s", own, status(d))
	}
}
