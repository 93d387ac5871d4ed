package e2e_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"holdfast/client"
	"holdfast/platform/bus"
	"holdfast/platform/outbox"
	"holdfast/shop"
)

// fulfilled are the last words of each service on an order that is fulfilled, and cancelled of one that is cancelled.
var (
	fulfilled = told(shop.EventOrderFulfilled, shop.EventStockShipped, shop.EventPaymentCaptured, shop.EventShipmentDispatched)
	cancelled = told(shop.EventOrderCancelled, shop.EventStockReleased, shop.EventPaymentVoided, shop.EventShipmentCancelled)
)

// sameEventTwice has the bus bring every event of an order a second time at once, and all of them again once it has ended.
func sameEventTwice(t *testing.T, s *system) string {
	s.item(t, "TWICE", 450, 10)
	w := s.events(t)
	o := s.place(t, command("tok_ok", "10115", line("TWICE", 2)))
	seen := map[string]bool{}
	var events []*kgo.Record
	w.of(t, func(r *kgo.Record) {
		if id := named(r, bus.HeaderID); !seen[id] {
			seen[id] = true
			events = append(events, r)
			if err := w.client.ProduceSync(t.Context(), again(r, nil)).FirstErr(); err != nil {
				t.Error(err)
			}
		}
	}, fulfilled, o.ID)
	s.unchanged(t, o.ID, func() {
		var copies []*kgo.Record
		for _, r := range events {
			copies = append(copies, again(r, nil))
		}
		w.send(t, copies...)
	})
	return s.end(t, o.ID, "TWICE")
}

// eventsOutOfOrder has the bus bring the events of orders that have ended again, the newest first, as events that
// nobody has heard of before: what they say is old.
func eventsOutOfOrder(t *testing.T, s *system) string {
	s.item(t, "ORDER", 450, 10)
	done := s.place(t, command("tok_ok", "10115", line("ORDER", 2)))
	undone := s.place(t, command("tok_ok", "00005", line("ORDER", 1)))
	s.until(t, undone.ID, shop.Confirmed)
	if _, err := s.CancelOrder(t.Context(), client.NewKey(), undone.ID); err != nil {
		t.Fatal(err)
	}
	s.until(t, undone.ID, shop.Cancelled) // and what it held is released: the item is the other's, too
	var ends []string
	for _, id := range []shop.OrderID{done.ID, undone.ID} {
		last := fulfilled
		if id == undone.ID {
			last = cancelled
		}
		w := s.events(t)
		events := w.of(t, nothing, last, id)
		var late []*kgo.Record
		for _, r := range slices.Backward(events) {
			late = append(late, again(r, map[string]string{bus.HeaderID: "late_" + named(r, bus.HeaderID)}))
		}
		s.unchanged(t, id, func() { w.send(t, late...) })
		ends = append(ends, s.end(t, id, "ORDER"))
	}
	return strings.Join(ends, ", ")
}

// unchanged wants an order to be after change as it was before.
func (s *system) unchanged(t *testing.T, id shop.OrderID, change func()) {
	t.Helper()
	was := s.until(t, id, ended...)
	change()
	now, err := s.GetOrder(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(was, now) {
		t.Errorf("it was %+v and is %+v", was, now)
	}
}

// end is how an order has ended, and what is left of its item.
func (s *system) end(t *testing.T, id shop.OrderID, sku shop.SKU) string {
	t.Helper()
	o, err := s.GetOrder(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	it, err := s.GetItem(t.Context(), sku)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s; %d on hand, %d reserved", state(o), it.OnHand, it.Reserved)
}

// poisonEvent has the bus bring what is no event, an event that says nothing that can be read, and one behind it. All
// become dead letters; the order that they name stays as it is, and those after it on the same partition go on.
func poisonEvent(t *testing.T, s *system) string {
	s.item(t, "POISON", 450, 1000)
	o := s.place(t, command("tok_ok", "10115", line("POISON", 1)))
	s.waiting = append(s.waiting, o.ID) // its dead letters are an operator's to look at
	w := s.events(t)
	events := w.of(t, nothing, fulfilled, o.ID)
	stock := events[slices.IndexFunc(events, func(r *kgo.Record) bool { return named(r, bus.HeaderType) == string(shop.EventStockShipped) })]
	noEvent := &kgo.Record{Topic: stock.Topic, Partition: stock.Partition, Key: stock.Key, Value: []byte{0xff}}
	unreadable := again(stock, map[string]string{bus.HeaderID: "late_poison", bus.HeaderVersion: "1000"})
	unreadable.Value = []byte("{")
	behind := again(stock, map[string]string{bus.HeaderID: "late_behind", bus.HeaderVersion: "1001"})
	s.unchanged(t, o.ID, func() { w.send(t, noEvent, unreadable, behind) })

	letters := s.read(t, shop.DeadLetters(shop.TopicInventory)).of(t, nothing, func(have []*kgo.Record) bool { return len(have) >= 4 }, o.ID)
	var causes []string
	for _, r := range letters {
		cause, _, _ := strings.Cut(strings.TrimPrefix(named(r, outbox.HeaderDeadCause), "bus.FromRecord: "), ":")
		causes = append(causes, named(r, outbox.HeaderDeadConsumer)+": "+cause)
	}
	slices.Sort(causes)
	return fmt.Sprintf("%s; dead letters [%s]; those after it [%s]", s.end(t, o.ID, "POISON"), strings.Join(causes, ", "), s.after(t, stock))
}

// after places orders until the stock of one was shipped behind a record, and tells how all of them end.
func (s *system) after(t *testing.T, record *kgo.Record) string {
	t.Helper()
	w := s.events(t)
	for range 10 {
		var placed []shop.OrderID
		for range 4 {
			placed = append(placed, s.place(t, command("tok_ok", "10115", line("POISON", 1))).ID)
		}
		shipped := map[string]bool{}
		there := false
		w.of(t, func(r *kgo.Record) {
			if named(r, bus.HeaderType) == string(shop.EventStockShipped) {
				shipped[string(r.Key)] = true
				there = there || r.Partition == record.Partition
			}
		}, func([]*kgo.Record) bool { return len(shipped) == len(placed) }, placed...)
		var states []string
		for _, id := range placed {
			states = append(states, state(s.until(t, id, ended...)))
		}
		if states = slices.Compact(states); there || len(states) > 1 {
			return strings.Join(states, ", ")
		}
	}
	t.Fatal("no order has come behind it")
	return ""
}
