package simulation

import (
	"context"
	"net/http"
	"time"

	"holdfast/check"
	"holdfast/check/audit"
	"holdfast/client"
	"holdfast/shop"
)

// sights are what the simulation saw itself do; see races.
type sights struct {
	busLost, trapped int
	jumps, hangs     int
	repeated         int                   // times that inventory said again what it had said
	retried          map[shop.OrderID]bool // by an operator
	sentNotMarked    int                   // crashes with an event on the bus whose row says it is unsent
	final            []shop.Order
	money            []check.MoneyEntry
	parcels          []check.ParcelEntry
	sent             []*sentOrder
	dir              string
}

// judge compares the world at rest with what the customers were told.
func (w *World) judge(left int, sent []*sentOrder) {
	w.seen.sent, w.seen.dir = sent, w.procs["holdfast"].dir
	if left > 0 {
		w.violate("I10", "", "orders still move %s after the faults had ended", restLimit)
	}
	api, err := client.New(url(portAPI), w.key, w.operator)
	if err != nil {
		w.violate("X2", "", "the simulation itself: %v", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), restLimit)
	defer cancel()
	seen, err := check.LookVia(ctx, w.operator, api, check.Addresses{PSP: url(portPSP), Carrier: url(portCarrier)}, "")
	if err != nil {
		w.violate("X1", "", "the world cannot be looked at: %v", err)
		return
	}
	seen.Receipts = map[shop.SKU]int64{}
	for _, s := range stock {
		seen.Receipts[s.sku] = s.count
	}
	for _, r := range w.plan.Receipts {
		seen.Receipts[r.SKU] += r.Quantity
	}
	told := make([]check.Sent, len(sent))
	for i, s := range sent {
		told[i] = s.told(i)
	}
	for _, v := range seen.Verify(told) {
		w.violate(v.Invariant, v.Order, "%s", v.Detail)
	}
	w.judgeCancels(seen.Orders, sent)
	w.seen.final, w.seen.money, w.seen.parcels = seen.Orders, seen.Money, seen.Parcels
}

// told is the order as the checker has it.
func (s *sentOrder) told(number int) check.Sent {
	t := check.Sent{Number: number, Key: s.plan.Key, ID: s.id, Total: s.total, Code: s.code}
	switch {
	case s.id != "":
		t.Status = http.StatusCreated
	case !s.doubt:
		t.Status = s.refused
	}
	return t
}

// judgeCancels: what a cancel was told is not contradicted later (I16).
func (w *World) judgeCancels(orders []shop.Order, sent []*sentOrder) {
	status := make(map[shop.OrderID]shop.OrderStatus, len(orders))
	for _, o := range orders {
		status[o.ID] = o.Status
	}
	for _, s := range sent {
		for _, c := range s.cancels {
			switch ended := status[s.id]; {
			case c.status >= 200 && c.status < 300 && ended != shop.Cancelled && ended != shop.Rejected:
				w.violate("I16", string(s.id), "a cancel was answered with %d, and the order is %s", c.status, ended)
			case c.status == http.StatusConflict && ended != shop.Fulfilled:
				w.violate("I16", string(s.id), "a cancel came too late, and the order is %s", ended)
			}
		}
	}
}

// auditGrace is how long the audit looks again at what is wrong: nothing changes any more.
const auditGrace = 100 * time.Millisecond

// judgeStores has the databases of the stopped process audited, in virtual time, as they were written.
func (w *World) judgeStores() {
	cfg := audit.Config{Data: w.seen.dir, AtRest: true, Grace: auditGrace}
	cfg.PSP, cfg.Carrier = audit.SimulatorLedgers(w.dir)
	if err := w.judgeRepeats(); err != nil {
		w.violate("X2", "", "the stores cannot be read: %v", err)
	}
	r, err := audit.Run(context.Background(), cfg)
	if err != nil {
		w.violate("X2", "", "the stores cannot be read: %v", err)
		return
	}
	for _, x := range r.Results {
		if x.Verdict == audit.Pass || x.Verdict == audit.NotCheckable {
			continue
		}
		w.violate(x.ID, "", "stores: %s, %d wrong, %d open", x.Verdict, x.Wrong, x.Open)
		for _, o := range x.Items {
			w.violate(x.ID, o.ID, "stores: %s", o.Detail)
		}
	}
}

// judgeRepeats: an event took effect once (I14). Inventory says what it has said before only when an order is
// driven again, so often and not more often: who hears of that twice says it twice.
func (w *World) judgeRepeats() error {
	driven, err := counts(w.seen.dir, "order", `SELECT key, count(*) FROM outbox WHERE type = 'OrderRedriven' GROUP BY key`)
	if err != nil {
		return err
	}
	said, err := counts(w.seen.dir, "inventory", `SELECT key, count(*) - count(DISTINCT type) FROM outbox WHERE topic = 'inventory' GROUP BY key`)
	for id, n := range said {
		if n > driven[id] {
			w.violate("I14", id, "was driven again %d times, and inventory said again %d times what it had said", driven[id], n)
		}
		w.seen.repeated += n
	}
	return err
}
