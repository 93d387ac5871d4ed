package history

import (
	"slices"
	"time"

	"holdfast/shop"
)

// order is what a history has on one order, or, without an id, on a key whose fate nobody was told.
type order struct {
	id     shop.OrderID
	key    string
	lines  []Want
	places []*Op // all under its key
	call   time.Duration
	acked  time.Duration // the first acknowledgement; never
	first  *Seen         // what was acknowledged
	sights []sight       // in the order of their calls
	undos  []*Op         // cancels
}

// sight is a look at an order as it was at an instant during an operation. What a repetition is answered is none:
// it may be old.
type sight struct {
	op *Op
	Seen
}

// orders gathers the orders by key.
func (h *History) orders() map[string]*order {
	byKey := map[string]*order{}
	byID := map[shop.OrderID]*order{}
	for _, o := range h.Ops {
		if o.Do != Place {
			continue
		}
		at := byKey[o.Key]
		if at == nil {
			at = &order{key: o.Key, acked: never, call: o.Call}
			byKey[o.Key] = at
		}
		at.places = append(at.places, o)
		if o.Outcome == OK && (at.first == nil || o.Return < at.acked) {
			at.first, at.acked, at.id, at.lines = &o.Saw[0], o.Return, o.Saw[0].ID, o.Lines
			byID[at.id] = at
		}
	}
	for _, at := range byKey {
		at.began()
	}
	for _, o := range h.Ops {
		if o.Do == Cancel && byID[o.Order] != nil {
			byID[o.Order].undos = append(byID[o.Order].undos, o)
		}
		if o.Outcome != OK || o.Stale || o.Do == Place || o.Do == Cancel && o.Again {
			continue
		}
		for _, s := range o.Saw {
			if at := byID[s.ID]; at != nil {
				at.sights = append(at.sights, sight{o, s})
			}
		}
	}
	return byKey
}

// began finds when an order can have been stored at the earliest, and what a key of unknown fate has ordered.
func (o *order) began() {
	o.call = never
	for _, p := range o.places {
		if p.Outcome == Fail || o.first != nil && p.Body != o.body() {
			continue
		}
		if o.call = min(o.call, p.Call); o.first == nil && o.lines == nil {
			o.lines = p.Lines
		}
	}
}

// body is that of the request which was acknowledged.
func (o *order) body() string {
	i := slices.IndexFunc(o.places, func(p *Op) bool { return p.Outcome == OK && p.Return == o.acked })
	return o.places[i].Body
}

// last is how an order was seen at its highest version.
func (o *order) last() *Seen {
	best := o.first
	for i := range o.sights {
		if s := &o.sights[i].Seen; best == nil || s.Version > best.Version {
			best = s
		}
	}
	return best
}

// told returns when it was first told that something holds of the order.
func (o *order) told(holds func(*Seen) bool) time.Duration {
	at := never
	for i := range o.sights {
		if s := &o.sights[i]; holds(&s.Seen) {
			at = min(at, s.op.Return)
		}
	}
	return at
}
