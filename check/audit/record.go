package audit

import (
	"hash/maphash"
	"math"

	"holdfast/shop"
)

// The sources of events, and their places in a record.
const (
	srcOrder = iota
	srcInventory
	srcPayment
	srcShipping
	sources
)

var sourceOf = map[string]int{orderStore: srcOrder, inventoryStore: srcInventory, paymentStore: srcPayment, shippingStore: srcShipping}

// chain is what is kept of the events of one source about one order. Rows come in any order.
type chain struct {
	n, first, last uint16
	sum            uint32
	kind           uint8 // of the last
}

func (c *chain) add(version int64, kind uint8) {
	v := uint16(min(max(version, 0), math.MaxUint16))
	if c.n == 0 || v < c.first {
		c.first = v
	}
	if v >= c.last {
		c.last, c.kind = v, kind
	}
	c.sum += uint32(v)
	if c.n < math.MaxUint16 {
		c.n++
	}
}

// whole tells whether the versions are first..last without gap or repetition.
func (c *chain) whole() bool {
	if c.n == 0 {
		return true
	}
	n := uint32(c.last) - uint32(c.first) + 1
	return uint32(c.n) == n && c.sum == (uint32(c.first)+uint32(c.last))*n/2
}

// The marks of a record.
const (
	markUndo uint16 = 1 << iota
	markDispatch
	markPlacedLate // OrderPlaced as another version than 1
	markFirstOther // version 1 is not OrderPlaced
	markSeen       // a row of it was found
	markPromised   // a cancel of it was accepted
)

// record is what the long tables say of one order, in as few bytes as it takes: there may be millions.
type record struct {
	chains                     [sources]chain
	endAt, lastAt              uint16 // versions of the event that ended the order, and of the last that was not a repetition
	marks                      uint16
	ends                       uint8 // events that ended the order
	endKind                    uint8
	asked                      uint8 // acknowledged requests that it answers
	answer                     uint32
	reserved, released, parted int32 // by the stock's movements
}

// records are looked up by a hash of the order's id. Two ids of one hash make an unfounded suspicion of each
// other once in 10^7 audits of a million orders; that is told by the ids when they are looked at again.
type records struct {
	seed maphash.Seed
	at   map[uint64]uint32
	list []record
}

func newRecords() *records { return &records{seed: maphash.MakeSeed(), at: map[uint64]uint32{}} }

func (r *records) hash(id string) uint64 { return maphash.String(r.seed, id) }

// of returns the record of an order, and makes it where there is none. It is valid until the next call.
func (r *records) of(id string) *record {
	h := r.hash(id)
	i, ok := r.at[h]
	if !ok {
		i = uint32(len(r.list))
		r.at[h] = i
		r.list = append(r.list, record{})
	}
	return &r.list[i]
}

// get returns a copy, and marks it as one that a row was found for.
func (r *records) get(id string) record {
	i, ok := r.at[r.hash(id)]
	if !ok {
		return record{}
	}
	r.list[i].marks |= markSeen
	return r.list[i]
}

// unseen returns the hashes of records that no row was found for.
func (r *records) unseen() map[uint64]bool {
	found := map[uint64]bool{}
	for h, i := range r.at {
		if r.list[i].marks&markSeen == 0 {
			found[h] = true
		}
	}
	return found
}

// kinds numbers the types of events; 0 is a type that is not known here.
var kinds, kindNames = numbered()

func numbered() (map[string]uint8, []string) {
	names := []string{"", string(shop.EventOrderPlaced), string(shop.EventOrderProgressed), string(shop.EventOrderConfirmed), string(shop.EventOrderUndoRequested),
		string(shop.EventOrderRejected), string(shop.EventOrderCancelled), string(shop.EventOrderDispatchBegun), string(shop.EventOrderFulfilled),
		string(shop.EventOrderNeedsAttention), string(shop.EventOrderRedriven),
		string(shop.EventStockReserved), string(shop.EventStockRejected), string(shop.EventStockReleased), string(shop.EventStockShipped),
		string(shop.EventPaymentAuthorised), string(shop.EventPaymentDeclined), string(shop.EventPaymentVoided), string(shop.EventPaymentRefunded),
		string(shop.EventPaymentCancelled), string(shop.EventPaymentCaptured), string(shop.EventPaymentNeedsAttention),
		string(shop.EventShipmentScheduled), string(shop.EventShipmentRejected), string(shop.EventShipmentCancelled), string(shop.EventShipmentDispatched),
		string(shop.EventShipmentNeedsAttention)}
	m := make(map[string]uint8, len(names))
	for i, n := range names[1:] {
		m[n] = uint8(i + 1)
	}
	return m, names
}

// says are the states that the events of the steps say.
var says = map[string]string{
	"StockReserved": "reserved", "StockRejected": "rejected", "StockReleased": "released", "StockShipped": "shipped",
	"PaymentAuthorised": "authorised", "PaymentDeclined": "declined", "PaymentVoided": "voided", "PaymentRefunded": "refunded",
	"PaymentCancelled": "cancelled", "PaymentCaptured": "captured", "PaymentNeedsAttention": "needs_attention",
	"ShipmentScheduled": "scheduled", "ShipmentRejected": "rejected", "ShipmentCancelled": "cancelled", "ShipmentDispatched": "dispatched",
	"ShipmentNeedsAttention": "needs_attention",
	"OrderRejected":          "rejected", "OrderCancelled": "cancelled", "OrderFulfilled": "fulfilled",
}

// event takes an event of a source into the record.
func (rec *record) event(source int, version int64, kind uint8) {
	rec.chains[source].add(version, kind)
	if source != srcOrder {
		return
	}
	v := uint16(min(max(version, 0), math.MaxUint16))
	name := shop.EventType(kindNames[kind])
	if (name == shop.EventOrderPlaced) != (v == 1) {
		rec.marks |= map[bool]uint16{true: markFirstOther, false: markPlacedLate}[v == 1]
	}
	switch name {
	case shop.EventOrderUndoRequested:
		rec.marks |= markUndo
	case shop.EventOrderDispatchBegun:
		rec.marks |= markDispatch
	case shop.EventOrderRejected, shop.EventOrderCancelled, shop.EventOrderFulfilled:
		rec.ends++
		rec.endKind, rec.endAt = kind, v
	case shop.EventOrderRedriven:
		return // says a state again, whatever it is
	}
	rec.lastAt = max(rec.lastAt, v)
}
