package inventory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// topics and types are what the saga asks of inventory: reserve when an order is placed, release when its
// money is known not to be held, ship when the parcel has left. The first two are asked by the orchestrator
// where there is one, and then the events ask for nothing.
var topics = []string{shop.TopicOrders, shop.TopicPayments, shop.TopicShipping}

var types = []shop.EventType{
	shop.EventOrderPlaced, shop.EventOrderRedriven,
	shop.EventPaymentDeclined, shop.EventPaymentVoided, shop.EventPaymentRefunded, shop.EventPaymentCancelled,
	shop.EventPaymentNeedsAttention,
	shop.EventShipmentDispatched,
}

// asks tells whether an event asks for anything. Of an orchestrated order the orchestrator asks, but for what follows a
// dispatch and for saying a state again.
func asks(e shop.Event) bool {
	return e.Type == shop.EventOrderRedriven || e.Type == shop.EventShipmentDispatched || e.Saga() != shop.Orchestrated
}

// batch is the work of one transaction: rows are loaded once, changed in memory, and saved once.
type batch struct {
	s            *Service
	now          time.Time
	reservations map[shop.OrderID]*reservation
	items        map[shop.SKU]shop.Item
	touched      map[shop.SKU]bool
	movements    []movement
	events       []shop.Event
}

// consume handles the fresh events of a poll.
func (s *Service) consume(ctx context.Context, tx *sqldb.Tx, events []shop.Event) error {
	placed := make(map[shop.EventID]*shop.Brief)
	for _, e := range events {
		if e.Type != shop.EventOrderPlaced && e.Type != shop.EventOrderRedriven {
			continue
		}
		var d shop.OrderData
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return fmt.Errorf("decode %s: %w", e.Type, err)
		}
		if d.Brief == nil {
			return fmt.Errorf("%s has no brief", e.Type)
		}
		placed[e.ID] = d.Brief
	}
	b, err := s.load(ctx, tx, events, slices.Collect(maps.Values(placed)))
	if err != nil {
		return err
	}
	for _, e := range events {
		if err := b.apply(e, placed[e.ID]); err != nil {
			return err
		}
	}
	return b.save(ctx, tx)
}

// load locks what the events touch: reservations by order id, then items by SKU.
func (s *Service) load(ctx context.Context, tx *sqldb.Tx, events []shop.Event, briefs []*shop.Brief) (*batch, error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return nil, err
	}
	ids := make([]shop.OrderID, len(events))
	for i, e := range events {
		ids[i] = e.OrderID
	}
	b := &batch{s: s, now: now, touched: map[shop.SKU]bool{}}
	if b.reservations, err = reservationsOf(ctx, tx, ids); err != nil {
		return nil, err
	}
	var skus []shop.SKU
	for _, brief := range briefs {
		for _, l := range brief.Lines {
			skus = append(skus, l.SKU)
		}
	}
	for _, r := range b.reservations {
		for _, l := range r.Lines {
			skus = append(skus, l.SKU)
		}
	}
	b.items, err = itemsBySKU(ctx, tx, skus, true)
	return b, err
}

// apply does what one event asks for.
func (b *batch) apply(e shop.Event, brief *shop.Brief) error {
	r := b.reservations[e.OrderID]
	switch e.Type {
	case shop.EventOrderPlaced:
		if r != nil {
			return nil // reserved already, or closed before it came
		}
		return b.reserve(e, brief)
	case shop.EventOrderRedriven:
		switch {
		case r != nil:
			return b.emit(r, e, brief)
		case brief.Saga == shop.Orchestrated:
			return nil
		default:
			return b.reserve(e, brief)
		}
	case shop.EventShipmentDispatched:
		return b.ship(r, e)
	default:
		var d shop.PaymentData
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return fmt.Errorf("decode %s: %w", e.Type, err)
		}
		if e.Type == shop.EventPaymentNeedsAttention && d.Reason == shop.ReasonCaptureFailed {
			return nil // the goods have left
		}
		return b.release(r, e)
	}
}

// reserve takes all lines or none. Lines of one SKU are summed before the check.
func (b *batch) reserve(e shop.Event, brief *shop.Brief) error {
	need := make(map[shop.SKU]int64, len(brief.Lines))
	for _, l := range brief.Lines {
		need[l.SKU] += l.Quantity
	}
	r := b.open(e.OrderID)
	r.Status = shop.StockReserved
	for sku, n := range need {
		if item := b.items[sku]; item.OnHand-item.Reserved < n {
			r.Status, r.Reason = shop.StockRejected, shop.ReasonOutOfStock
		}
	}
	if r.Status == shop.StockReserved {
		r.Lines, r.ExpiresAt = brief.Lines, b.now.Add(b.s.cfg.ReservationTTL)
		b.move(r, "reserve", 0, 1)
	}
	return b.emit(r, e, brief)
}

// release puts the stock back. Where nothing was reserved it leaves a tombstone, so that a reserve
// that comes late is refused.
func (b *batch) release(r *reservation, e shop.Event) error {
	if r == nil {
		r = b.open(e.OrderID)
		r.Status = shop.StockReleased
		return b.emit(r, e, nil)
	}
	if r.Status != shop.StockReserved {
		return nil
	}
	b.move(r, "release", 0, -1)
	r.Status = shop.StockReleased
	if err := b.emit(r, e, nil); err != nil {
		return err
	}
	undone := b.events[len(b.events)-1]
	undone.Topic, undone.Version = shop.TopicCompensations, 0
	b.events = append(b.events, undone)
	return nil
}

// ship takes the stock off the shelf.
func (b *batch) ship(r *reservation, e shop.Event) error {
	if r == nil || (r.Status != shop.StockReserved && r.Status != shop.StockShipped) {
		return fmt.Errorf("the parcel of %s left, but its stock is not reserved", e.OrderID)
	}
	if r.Status == shop.StockShipped {
		return nil
	}
	b.move(r, "ship", -1, -1)
	r.Status = shop.StockShipped
	return b.emit(r, e, nil)
}

func (b *batch) open(id shop.OrderID) *reservation {
	r := &reservation{Reservation: shop.Reservation{ID: shop.ReservationID(b.s.deps.IDs.New(shop.ReservationPrefix)), OrderID: id}}
	b.reservations[id] = r
	return r
}

// move books each line of r with the given signs for on_hand and reserved.
func (b *batch) move(r *reservation, kind string, onHand, reserved int64) {
	for _, l := range r.Lines {
		item := b.items[l.SKU]
		item.OnHand += onHand * l.Quantity
		item.Reserved += reserved * l.Quantity
		b.items[l.SKU] = item
		b.touched[l.SKU] = true
		b.movements = append(b.movements, movement{sku: l.SKU, kind: kind, onHand: onHand * l.Quantity,
			reserved: reserved * l.Quantity, orderID: r.OrderID, reference: string(r.ID)})
	}
}

// emit says r's state. cause is what led to it.
func (b *batch) emit(r *reservation, cause shop.Event, brief *shop.Brief) error {
	t := map[shop.ReservationStatus]shop.EventType{
		shop.StockReserved: shop.EventStockReserved, shop.StockRejected: shop.EventStockRejected,
		shop.StockReleased: shop.EventStockReleased, shop.StockShipped: shop.EventStockShipped,
	}[r.Status]
	if r.Status != shop.StockReserved {
		brief = nil
	}
	r.version++
	r.dirty = true
	e, err := shop.NewEvent(t, shop.TopicInventory, r.OrderID, r.version, cause.TraceParent, shop.StockData{Reservation: r.Reservation, Brief: brief})
	b.events = append(b.events, e)
	return err
}

func (b *batch) save(ctx context.Context, tx *sqldb.Tx) error {
	var dirty []*reservation
	for _, r := range b.reservations {
		if r.dirty {
			dirty = append(dirty, r)
		}
	}
	slices.SortFunc(dirty, func(x, y *reservation) int { return cmp.Compare(x.OrderID, y.OrderID) })
	if err := saveReservations(ctx, tx, dirty); err != nil {
		return err
	}
	for _, sku := range slices.Sorted(maps.Keys(b.touched)) {
		item := b.items[sku]
		item.Version++
		if err := upsertItem(ctx, tx, item); err != nil {
			return err
		}
	}
	if err := insertMovements(ctx, tx, b.movements); err != nil {
		return err
	}
	return b.s.outbox.Append(ctx, tx, b.events...)
}

// Topics are those that the service reads. The embedded bus keeps a record until its readers have it.
func Topics() []string { return topics }
