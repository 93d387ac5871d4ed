package order

import (
	"cmp"
	"context"
	"slices"
	"time"

	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

// row is a row of orders.
type row struct {
	state
	caller shop.Caller
	rev    int64
	look   time.Time // when the watchdog looks at it
	later  time.Time // the watchdog leaves it alone until then
	dirty  bool      // it has to be written
	trace  string
	moved  bool // something that the public sees has changed: it gets a version and an event
}

// batch is the work of one transaction: rows are loaded once, changed in memory, and saved once.
type batch struct {
	s       *Service
	now     time.Time
	rows    map[shop.OrderID]*row
	entries []entry
	events  []shop.Event
}

// entry is a row of the timeline.
type entry struct {
	order shop.OrderID
	shop.TimelineItem
}

// load locks the rows of the orders.
func (s *Service) load(ctx context.Context, tx *sqldb.Tx, ids ...shop.OrderID) (*batch, error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := rowsOf(ctx, tx, ids, forUpdate)
	return &batch{s: s, now: now, rows: rows}, err
}

// save writes what was changed. An order that moved gets one version and one event, however many
// changes led to it.
func (b *batch) save(ctx context.Context, tx *sqldb.Tx) error {
	dirty := make([]*row, 0, len(b.rows))
	for _, r := range b.rows {
		if r.dirty {
			dirty = append(dirty, r)
		}
	}
	slices.SortFunc(dirty, func(x, y *row) int { return cmp.Compare(x.Order.ID, y.Order.ID) })
	for _, r := range dirty {
		if !r.moved {
			continue
		}
		before := r.Order.Status
		r.settle()
		if err := b.emit(r, eventFor(before, r.Order.Status), r.trace); err != nil {
			return err
		}
	}
	if err := saveRows(ctx, tx, b.s.cfg, dirty); err != nil {
		return err
	}
	if err := insertEntries(ctx, tx, b.entries); err != nil {
		return err
	}
	if err := b.s.outbox.Append(ctx, tx, b.events...); err != nil {
		return err
	}
	tx.AfterCommit(func() { b.s.committed(b.events, dirty) })
	return nil
}

// progress marks r as changed by a step.
func (b *batch) progress(r *row, traceParent string) {
	r.ProgressAt, r.Drives, r.Stuck = b.now, 0, false
	b.move(r, traceParent)
}

// move marks r as changed.
func (b *batch) move(r *row, traceParent string) {
	r.dirty, r.moved, r.trace = true, true, traceParent
}

// undo has the order undone. The last step is undone first: shipping hears it, then payment hears
// shipping, then inventory hears payment.
func (b *batch) undo(r *row, why shop.Reason, traceParent string) error {
	r.Undo = why
	b.progress(r, traceParent)
	r.settle()
	r.moved = false // this event says it
	return b.emit(r, shop.EventOrderUndoRequested, traceParent)
}

// redrive asks every service to do its step or to say its state again.
func (b *batch) redrive(r *row, traceParent string) error {
	r.dirty = true
	return b.emit(r, shop.EventOrderRedriven, traceParent)
}

// next gives r its next version.
func (r *row) next(now time.Time) {
	r.dirty = true
	r.Order.Version++
	r.Order.UpdatedAt = now
}

// emit says r's state under its next version.
func (b *batch) emit(r *row, t shop.EventType, traceParent string) error {
	r.next(b.now)
	return b.say(r, t, traceParent)
}

// say says r's state.
func (b *batch) say(r *row, t shop.EventType, traceParent string) error {
	d := shop.OrderData{Order: r.Order, Undo: r.Undo != ""}
	if t == shop.EventOrderPlaced || t == shop.EventOrderRedriven {
		d.Brief = r.brief(r.caller)
	}
	e, err := shop.NewEvent(t, shop.TopicOrders, r.Order.ID, r.Order.Version, traceParent, d)
	if err != nil {
		return err
	}
	b.events = append(b.events, e)
	if t != shop.EventOrderProgressed { // its cause is on the timeline
		b.note(r.Order.ID, b.now, Name, string(t), string(r.Order.Reason), traceParent)
	}
	return nil
}

// note puts an event on the order's timeline.
func (b *batch) note(id shop.OrderID, at time.Time, service, what, detail, traceParent string) {
	b.entries = append(b.entries, entry{order: id, TimelineItem: shop.TimelineItem{At: at, Kind: "event", Service: service,
		What: what, Detail: detail, TraceID: telemetry.TraceID(traceParent)}})
}

// eventFor names the event of a change of status.
func eventFor(before, after shop.OrderStatus) shop.EventType {
	if before == after {
		return shop.EventOrderProgressed
	}
	switch after {
	case shop.Confirmed:
		return shop.EventOrderConfirmed
	case shop.Rejected:
		return shop.EventOrderRejected
	case shop.Cancelled:
		return shop.EventOrderCancelled
	case shop.Fulfilled:
		return shop.EventOrderFulfilled
	case shop.NeedsAttention:
		return shop.EventOrderNeedsAttention
	default:
		return shop.EventOrderProgressed
	}
}
