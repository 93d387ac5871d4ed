package points

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"holdfast/check"
	"holdfast/check/audit"
	"holdfast/shop"
)

const (
	// quietTime without an effect is the end of a run.
	quietTime = 250 * time.Millisecond
	// auditGrace is how long what is wrong in the stores may take to come right.
	auditGrace = 6 * time.Second
)

// rest waits until no order is on its way. Requests that the crash cuts off are made again.
func (w *World) rest() {
	ctx, cancel := context.WithTimeout(context.Background(), restLimit)
	defer cancel()
	var last string
	for ctx.Err() == nil && !w.wrong() {
		left, err := w.moving(ctx)
		if err == nil && left == 0 {
			return
		}
		last = fmt.Sprintf("%d orders move, %v", left, err)
		time.Sleep(pause)
	}
	if !w.wrong() {
		w.violate("I10", "", "not at rest after %s: %s", restLimit, last)
	}
}

// wrong tells whether something is wrong already, so that nothing is to be waited for.
func (w *World) wrong() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.found) > 0
}

func (w *World) moving(ctx context.Context) (n int, err error) {
	page, err := w.api.ListOrders(ctx, shop.OrderQuery{Limit: 100})
	for _, o := range page.Items {
		if slices.Contains([]shop.OrderStatus{shop.Pending, shop.Cancelling, shop.Confirmed}, o.Status) {
			n++
		}
	}
	return n, err
}

// quiet waits until the process has had no effect for a while, or has died and been started again.
func (w *World) quiet() {
	size, since := int64(-1), time.Now()
	for time.Since(since) < quietTime && !w.died() {
		info, err := os.Stat(w.life.Effects)
		if err != nil {
			w.violate("X2", "", "the test itself: %v", err)
			return
		}
		if info.Size() != size {
			size, since = info.Size(), time.Now()
		}
		time.Sleep(pause)
	}
}

// disarm has the process live on, unless it has died meanwhile; then it has been started again.
func (w *World) disarm() {
	if err := w.first.tell(wordDisarm); err != nil {
		w.violate("X2", "", "the test itself: %v", err)
	}
	select {
	case <-w.first.done:
		<-w.guard
	default:
	}
}

// judge compares everything at rest with what the client was told, and with how the scenario ends.
func (w *World) judge() {
	ctx, cancel := context.WithTimeout(context.Background(), restLimit+2*auditGrace)
	defer cancel()
	seen, err := check.LookVia(ctx, w.http, w.api, check.Addresses{PSP: w.life.url(portPSP), Carrier: w.life.url(portCarrier)}, "")
	if err == nil {
		err = seen.LookAtBooks(ctx, w.api)
	}
	if err != nil {
		w.violate("X1", "", "the world cannot be looked at: %v", err)
		return
	}
	seen.Receipts = stock()
	w.mu.Lock()
	told, wants := slices.Collect(maps.Values(w.sent)), maps.Clone(w.wants)
	w.mu.Unlock()
	for _, v := range seen.Verify(told) {
		w.violate(v.Invariant, v.Order, "%s", v.Detail)
	}
	for _, o := range seen.Orders {
		if ends := wants[o.ID]; !slices.Contains(ends, state(o)) {
			w.violate("end state", string(o.ID), "%s, want one of %q", state(o), ends)
		}
	}
	w.judgeStores(ctx)
}

// state is how an order has ended, as docs/scenarios.md says it.
func state(o shop.Order) string {
	text := string(o.Status)
	if o.Reason != "" {
		text += " (" + string(o.Reason) + ")"
	}
	shipment := "none"
	if o.Shipment != nil {
		shipment = string(o.Shipment.Status)
	}
	return fmt.Sprintf("%s; payment %s; shipment %s", text, cmp.Or(string(o.Payment.Status), "none"), shipment)
}

// judgeStores has the databases audited beside the running process.
func (w *World) judgeStores(ctx context.Context) {
	cfg := audit.Config{Data: w.life.Dir, AtRest: true, Grace: auditGrace}
	cfg.PSP, cfg.Carrier = audit.SimulatorLedgers(w.dir)
	r, err := audit.Run(ctx, cfg)
	if err != nil {
		w.violate("X2", "", "the stores cannot be read: %v", err)
		return
	}
	for _, x := range r.Results {
		if x.Verdict == audit.Pass || x.Verdict == audit.NotCheckable {
			continue
		}
		if len(x.Items) == 0 {
			w.violate(x.ID, "", "stores: %s, %d wrong, %d open", x.Verdict, x.Wrong, x.Open)
		}
		for _, o := range x.Items {
			if !w.exempt[o.ID] {
				w.violate(x.ID, o.ID, "stores: %s", o.Detail)
			}
		}
	}
	if n := int(r.Counts.DeadLetters); n != w.letters {
		w.violate("I14", "", "%d dead letters, want %d", n, w.letters)
	}
}
