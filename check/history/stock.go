package history

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"holdfast/shop"
)

// The stock of an item is a pair of counters, on hand and reserved, that a look shows exactly:
//
//	receive q          on hand += q; the answer shows both
//	reserve q of o     where on hand - reserved >= q: reserved += q, o holds
//	refuse q of o      only where on hand - reserved < q
//	release o          where o holds: reserved -= q. Before o was reserved: o never will be (a tombstone)
//	ship o             where o holds: on hand -= q, reserved -= q
//	look               shows both
//
// The API acknowledges an order before its stock is reserved, and the services do the rest by themselves. So
// an operation on the stock lasts from the earliest instant at which it can have been done (the order's invoke,
// its cancel's, the last look at which it was still pending) until the first answer that tells that it was
// done: confirmed says reserved, cancelled says released, and so on. Sold twice, not put back, or put back twice:
// no order of the operations explains the looks that follow.

// The operations on stock.
const (
	receive = "receive"
	reserve = "reserve"
	refuse  = "refuse"
	release = "release"
	ship    = "ship"
	look    = "look"
)

// stockOp is an operation on the stock of one item.
type stockOp struct {
	do    string
	order int // its number in the partition
	id    string
	n     int64
	must  bool   // it is known to have been done: for orders whose fate nobody was told, it may not have been
	saw   *Stock // what was shown right after it; nil: nothing
}

// maxOrders are the orders that a partition can have.
const maxOrders = 128

// stockState is the stock of one item. Its zero value is that of a new item.
type stockState struct {
	onHand, reserved int64
	held, gone       [maxOrders / 64]uint64 // orders that hold, and that will not again
}

var stockModel = porcupine.Model{
	Init: func() any { return stockState{} },
	Step: func(state, input, _ any) (bool, any) {
		s := state.(stockState)
		ok := s.step(input.(stockOp))
		return ok, s
	},
	DescribeOperation: func(input, _ any) string { return input.(stockOp).String() },
}

func (o stockOp) String() string {
	text := o.do
	if o.n != 0 {
		text += fmt.Sprintf(" %d", o.n)
	}
	if o.id != "" {
		text += " of " + o.id
	}
	if !o.must && o.do != look {
		text += ", if at all"
	}
	if o.saw != nil {
		text += fmt.Sprintf(" -> %d on hand, %d reserved", o.saw.OnHand, o.saw.Reserved)
	}
	return text
}

// step takes an operation, and tells whether it can come next.
func (s *stockState) step(o stockOp) bool {
	word, bit := o.order/64, uint64(1)<<(o.order%64)
	held, gone := s.held[word]&bit != 0, s.gone[word]&bit != 0
	ok := true
	switch o.do {
	case receive:
		s.onHand += o.n
	case refuse:
		ok = s.onHand-s.reserved < o.n
	case reserve:
		switch {
		case gone:
			ok = !o.must
		case s.onHand-s.reserved >= o.n:
			s.reserved += o.n
			s.held[word] |= bit
		default:
			ok = !o.must
			s.gone[word] |= bit
		}
	case release, ship:
		switch {
		case held:
			s.held[word] &^= bit
			s.gone[word] |= bit
			s.reserved -= o.n
			if o.do == ship {
				s.onHand -= o.n
			}
		case o.do == release:
			ok = !o.must
			s.gone[word] |= bit
		default:
			ok = !o.must
		}
	}
	return ok && (o.saw == nil || o.saw.OnHand == s.onHand && o.saw.Reserved == s.reserved)
}

// stock looks at every item.
func (h *History) stock(orders map[string]*order, opt Options) Check {
	c := Check{Name: "stock", Invariant: "I7", Says: "stock is reserved, released and shipped once, and never below zero (linearizable)"}
	parts := map[shop.SKU]*itemPart{}
	of := func(sku shop.SKU) *itemPart {
		if parts[sku] == nil {
			parts[sku] = &itemPart{partition: partition{name: string(sku), model: stockModel}}
		}
		return parts[sku]
	}
	for _, o := range h.Ops {
		if o.Do == Look && o.Outcome == OK {
			of(o.SKU).add(stockOp{do: look, saw: o.Item}, nil, o.Call, o.Return)
		}
	}
	h.receipts(of)
	for _, key := range slices.Sorted(maps.Keys(orders)) {
		o := orders[key]
		if o.call == never {
			continue // refused
		}
		for _, l := range o.lines {
			of(l.SKU).order(o, l)
		}
	}
	var list []partition
	for _, sku := range slices.Sorted(maps.Keys(parts)) {
		p := parts[sku]
		if p.orders > maxOrders {
			c.open("%s has %d orders, and %d can be checked", sku, p.orders, maxOrders)
			continue
		}
		list = append(list, p.partition)
	}
	c.linearizable(list, opt.Limit)
	return c
}

// receipts adds each receipt once, whatever the number of its requests.
func (h *History) receipts(of func(shop.SKU) *itemPart) {
	type receipt struct {
		sku       shop.SKU
		call, ret time.Duration
		op        stockOp
	}
	byKey := map[string]*receipt{}
	for _, o := range h.Ops {
		if o.Do != Receive || o.Outcome == Fail {
			continue
		}
		r := byKey[o.route()+" "+o.Key]
		if r == nil {
			r = &receipt{o.SKU, o.Call, never, stockOp{do: receive, n: o.Quantity}}
			byKey[o.route()+" "+o.Key] = r
		}
		if o.Return < r.ret {
			r.ret, r.op.saw, r.op.must = o.Return, o.Item, true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		r := byKey[key]
		of(r.sku).add(r.op, nil, r.call, r.ret)
	}
}

// itemPart is the history of one item.
type itemPart struct {
	partition
	orders int
}

// order adds what an order's line did to the item's stock.
func (p *itemPart) order(o *order, l Want) {
	number := p.orders
	p.orders++
	if number >= maxOrders {
		return
	}
	id := string(o.id)
	if id == "" {
		id = "key " + o.key
	}
	op := func(do string, must bool, call, ret time.Duration) {
		p.add(stockOp{do: do, order: number, id: id, n: l.Quantity, must: must}, nil, call, ret)
	}
	ended := o.told(func(s *Seen) bool { return s.Status.Final() })
	taken := o.told(func(s *Seen) bool { return s.Status == shop.Confirmed || s.Status == shop.Fulfilled || s.holds(l.SKU) })
	undo := o.call
	last := o.last()
	switch {
	case last != nil && last.Status == shop.Rejected && last.Reason == shop.ReasonOutOfStock:
		if len(o.lines) == 1 { // of several it was any
			op(refuse, true, o.call, ended)
		}
	case last != nil && last.Status == shop.Rejected && last.Reason != shop.ReasonReservationExpired:
		op(reserve, true, o.call, min(taken, ended))
		op(release, true, o.call, ended)
	case last != nil && last.Status == shop.Fulfilled:
		op(reserve, true, o.call, taken)
		op(ship, true, o.pending(), o.told(func(s *Seen) bool { return s.Status == shop.Fulfilled }))
	case last != nil && last.Status.Final():
		if last.Reason == shop.ReasonRequested {
			undo = o.undone()
		}
		op(reserve, taken != never, o.call, min(taken, ended))
		op(release, taken != never, undo, ended)
	default:
		op(reserve, taken != never, o.call, taken)
		op(release, false, o.call, never)
		op(ship, false, o.pending(), never)
	}
}

// holds tells whether an order was shown to hold an item, or to have had it.
func (s *Seen) holds(sku shop.SKU) bool {
	return slices.ContainsFunc(s.Lines, func(l Shown) bool { return l.SKU == sku && (l.Reserved > 0 || l.Shipped > 0) })
}

// pending is the last instant at which an order is known not to have been let go: a parcel leaves orders alone
// that are not pending.
func (o *order) pending() time.Duration {
	at := o.call
	for _, s := range o.sights {
		if s.Status == shop.Pending {
			at = max(at, s.op.Call)
		}
	}
	return at
}

// undone is when an order can have been cancelled at the earliest.
func (o *order) undone() time.Duration {
	at := never
	for _, u := range o.undos {
		if u.Outcome != Fail {
			at = min(at, u.Call)
		}
	}
	if at == never {
		return o.call // by another history's client; the check of cancels tells
	}
	return at
}
