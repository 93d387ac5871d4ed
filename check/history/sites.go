package history

import (
	"maps"
	"slices"

	"holdfast/check/sometimes"
	"holdfast/shop"
)

// Always are the situations that every workload must have come into, by its clients' own word.
func Always() sometimes.Sites {
	return sometimes.Sites{
		"order of unknown outcome": "an order's request had no answer, and its repetition showed that it was carried out",
		"twins":                    "two requests under one key were under way at once, and both were answered with the order",
		"key reused":               "another request under a key that was taken was refused",
		"key free after a refusal": "a refused request's key was used for another, which was carried out",
		"cancel accepted":          "a cancel was accepted",
		"cancel against ship":      "a cancel came too late",
		"out of stock":             "an order was rejected for want of stock",
		"stock sold again":         "more of an item was reserved than there ever was: what was released was sold again",
	}
}

// Faulty are those that it must have come into besides where the Holdfast was killed or cut off.
func Faulty() sometimes.Sites {
	return sometimes.Sites{
		"request lost": "an order's request had no answer, and its repetition was the first to be carried out",
		"server away":  "a request could not be sent",
	}
}

// sites counts the situations that the clients were in.
func (h *History) sites(orders map[string]*order) sometimes.Counts {
	n := sometimes.Counts{}
	for _, o := range h.Ops {
		switch {
		case o.Code == codeReused:
			n["key reused"]++
		case o.Do == Cancel && o.Code == "order_dispatched":
			n["cancel against ship"]++
		case o.Do == Cancel && o.Outcome == OK && !o.Saw[0].Status.Final():
			n["cancel accepted"]++
		case o.Do == Cancel && o.Outcome == Unknown:
			n["cancel of unknown outcome"]++
		}
		if o.Outcome == Unknown && o.Status == 0 {
			n["server away"]++
		}
	}
	received, reserved := h.received(), map[shop.SKU]int64{}
	for _, key := range slices.Sorted(maps.Keys(orders)) {
		o := orders[key]
		o.sites(n)
		for _, l := range o.lines {
			if o.told(func(s *Seen) bool { return s.holds(l.SKU) }) != never {
				reserved[l.SKU] += l.Quantity
			}
		}
	}
	for sku, q := range reserved {
		if q > received[sku] {
			n["stock sold again"]++
		}
	}
	return n
}

// sites counts those of one order.
func (o *order) sites(n sometimes.Counts) {
	if last := o.last(); last != nil && last.Reason == shop.ReasonOutOfStock {
		n["out of stock"]++
	}
	for i, p := range o.places {
		if p.Outcome != OK {
			continue
		}
		before := o.places[:i]
		lost := slices.ContainsFunc(before, func(b *Op) bool { return b.Outcome == Unknown })
		switch {
		case !lost || slices.ContainsFunc(before, func(b *Op) bool { return b.Outcome == OK }):
		case p.Again:
			n["order of unknown outcome"]++
		default:
			n["request lost"]++
		}
		if !p.Again && slices.ContainsFunc(before, func(b *Op) bool { return b.Outcome == Fail && b.Code == "unknown_sku" }) {
			n["key free after a refusal"]++
		}
		if slices.ContainsFunc(before, func(b *Op) bool { return b.Outcome == OK && b.Call < p.Return && p.Call < b.Return && b.Body == p.Body }) {
			n["twins"]++
		}
	}
}

// received is what came in of each item, as far as it was acknowledged.
func (h *History) received() map[shop.SKU]int64 {
	sums, counted := map[shop.SKU]int64{}, map[string]bool{}
	for _, o := range h.Ops {
		if name := o.route() + " " + o.Key; o.Do == Receive && o.Outcome == OK && !counted[name] {
			counted[name] = true
			sums[o.SKU] += o.Quantity
		}
	}
	return sums
}
