package history

import (
	"cmp"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"time"

	"holdfast/check"
	"holdfast/shop"
)

// found checks that what was acknowledged is there from then on, as it was acknowledged.
func (h *History) found(orders map[string]*order, _ Options) Check {
	c := Check{Name: "found", Invariant: "I1", Says: "an acknowledged order is there from then on, with the same lines and total"}
	byID, byCustomer := map[shop.OrderID]*order{}, map[string][]*order{}
	for _, key := range slices.Sorted(maps.Keys(orders)) {
		o := orders[key]
		if o.first == nil {
			continue
		}
		c.Examined++
		byID[o.id] = o
		byCustomer[o.first.Customer] = append(byCustomer[o.first.Customer], o)
		for _, s := range append([]sight{{o.places[0], *o.first}}, o.sights...) {
			if !s.is(o) {
				c.bad(string(o.id), "was acknowledged as %s with total %d, and op %d shows %+v", o.key, o.first.Total, s.op.ID, s.Seen)
			}
		}
		if h.Ended && !slices.ContainsFunc(o.sights, func(s sight) bool { return s.op.Do == Read }) {
			c.bad(string(o.id), "was acknowledged, and could not be read in the end")
		}
	}
	for _, op := range h.Ops {
		switch {
		case op.Do == Read && op.Status == http.StatusNotFound && byID[op.Order] != nil && byID[op.Order].acked < op.Call:
			c.bad(string(op.Order), "was acknowledged, and op %d does not find it", op.ID)
		case op.Do == List && op.Outcome == OK && op.Whole:
			for _, o := range byCustomer[op.Customer] {
				if o.acked < op.Call && !slices.ContainsFunc(op.Saw, func(s Seen) bool { return s.ID == o.id }) {
					c.bad(string(o.id), "was acknowledged, and is not in the list of its customer (op %d)", op.ID)
				}
			}
		}
	}
	return c
}

// is tells whether what was seen is the order that was acknowledged.
func (s *sight) is(o *order) bool {
	return s.ID == o.id && s.External == o.key && s.Customer == o.first.Customer && s.Total == o.first.Total && s.Created.Equal(o.first.Created) &&
		slices.EqualFunc(s.Lines, o.lines, func(a Shown, b Want) bool { return a.Want == b })
}

// asked checks that every order that is shown was asked for, once.
func (h *History) asked(orders map[string]*order, _ Options) Check {
	c := Check{Name: "asked", Invariant: "I2", Says: "no order is there that nobody asked for, or that was refused; one a key"}
	byExternal := map[string]shop.OrderID{}
	for _, op := range h.Ops {
		if op.Outcome != OK || op.Do != List && op.Do != Place {
			continue
		}
		for _, s := range op.Saw {
			c.Examined++
			o := orders[s.External]
			switch other := byExternal[s.External]; {
			case o == nil:
				c.bad(string(s.ID), "nobody has asked for it (op %d)", op.ID)
			case o.call == never:
				c.bad(string(s.ID), "was refused, and op %d shows it", op.ID)
			case other != "" && other != s.ID:
				c.Found = append(c.Found, check.Violation{Invariant: "I3", Order: string(s.ID), Detail: "history: has the key of " + string(other)})
			}
			byExternal[s.External] = s.ID
		}
	}
	return c
}

// reads checks that time does not go back: who reads an order after somebody was told of a version is shown
// that one or a later one. What has ended stays as it is.
func (h *History) reads(orders map[string]*order, _ Options) Check {
	c := Check{Name: "reads", Invariant: "I15", Says: "reads and lists never go back, agree on each version, and what has ended stays"}
	for _, key := range slices.Sorted(maps.Keys(orders)) {
		c.forward(orders[key])
	}
	return c
}

// forward looks at the sights of one order.
func (c *Check) forward(o *order) {
	type known struct {
		at time.Duration
		op int
		Seen
	}
	var told []known
	if o.first != nil {
		told = append(told, known{o.acked, o.places[0].ID, *o.first})
	}
	version := map[int64]*sight{}
	for i := range o.sights {
		s := &o.sights[i]
		told = append(told, known{s.op.Return, s.op.ID, s.Seen})
		if same := version[s.Version]; same != nil && !reflect.DeepEqual(same.Seen, s.Seen) {
			c.bad(string(o.id), "ops %d and %d show version %d differently: %+v and %+v", same.op.ID, s.op.ID, s.Version, same.Seen, s.Seen)
		}
		version[s.Version] = s
	}
	slices.SortStableFunc(told, func(a, b known) int { return cmp.Compare(a.at, b.at) })
	next, newest := 0, known{}
	for i := range o.sights { // by their calls
		s := &o.sights[i]
		for ; next < len(told) && told[next].at < s.op.Call; next++ {
			if told[next].Version > newest.Version {
				newest = told[next]
			}
		}
		c.Examined++
		switch {
		case s.op.Do == Cancel: // its answer is judged by what follows it
		case s.Version < newest.Version:
			c.bad(string(o.id), "op %d (%s) shows version %d, %s, after op %d had shown version %d, %s", s.op.ID, s.op.Do, s.Version, s.Status, newest.op, newest.Version, newest.Status)
		case newest.Status.Final() && s.Status != newest.Status:
			c.bad(string(o.id), "op %d shows it as %s after it had ended as %s", s.op.ID, s.Status, newest.Status)
		}
	}
}

// cancels checks that no answer to a cancel is contradicted.
func (h *History) cancels(orders map[string]*order, _ Options) Check {
	c := Check{Name: "cancels", Invariant: "I16", Says: "what a cancel was answered stays true"}
	for _, key := range slices.Sorted(maps.Keys(orders)) {
		o := orders[key]
		accepted, tooLate := never, never
		for _, u := range o.undos {
			switch {
			case u.Outcome == OK:
				c.Examined++
				if s := u.Saw[0].Status; s != shop.Cancelling && s != shop.Cancelled && s != shop.Rejected && s != shop.NeedsAttention {
					c.bad(string(o.id), "op %d accepts a cancel and shows it as %s", u.ID, s)
				}
				accepted = min(accepted, u.Return)
			case u.Code == "order_dispatched":
				c.Examined++
				tooLate = min(tooLate, u.Return)
			}
		}
		c.contradicted(o, accepted, tooLate)
	}
	return c
}

// contradicted looks whether an order was seen otherwise than its cancels were answered.
func (c *Check) contradicted(o *order, accepted, tooLate time.Duration) {
	if accepted != never && tooLate != never {
		c.bad(string(o.id), "one cancel was accepted, and another was too late")
	}
	for _, s := range o.sights {
		going := s.Status == shop.Pending || s.Status == shop.Confirmed
		switch {
		case accepted != never && (s.Status == shop.Fulfilled || s.Shipment == string(shop.ShipmentDispatched)):
			c.bad(string(o.id), "a cancel was accepted, and op %d shows that it has left (%s)", s.op.ID, s.Status)
		case going && accepted < s.op.Call:
			c.bad(string(o.id), "op %d shows it as %s after a cancel was accepted", s.op.ID, s.Status)
		case tooLate != never && (s.Status == shop.Cancelling || s.Status == shop.Cancelled || s.Status == shop.Rejected):
			c.bad(string(o.id), "a cancel was too late, and op %d shows it as %s", s.op.ID, s.Status)
		}
	}
}

// ended checks that every order has come to an end.
func (h *History) ended(orders map[string]*order, _ Options) Check {
	c := Check{Name: "ended", Invariant: "I10", Says: "every order has come to its end"}
	if !h.Ended {
		c.open("the workload was broken off before its last reads")
		return c
	}
	for _, key := range slices.Sorted(maps.Keys(orders)) {
		o := orders[key]
		if o.first == nil {
			continue
		}
		if c.Examined++; !o.last().Status.Final() {
			c.bad(string(o.id), "was last seen as %s", o.last().Status)
		}
	}
	return c
}
