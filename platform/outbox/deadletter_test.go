package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/platform/bus"
	"holdfast/platform/outbox"
	"holdfast/platform/sqldb"
	"holdfast/shop"
	"holdfast/test/stores"
)

func poison(err error, id shop.EventID) func([]shop.Event) error {
	return func(events []shop.Event) error {
		if slices.ContainsFunc(events, func(e shop.Event) bool { return e.ID == id }) {
			return err
		}
		return nil
	}
}

// TestPoison has one event that cannot be handled among others.
func TestPoison(t *testing.T) {
	t.Parallel()
	eachEngine(t, 1, func(t *testing.T, open stores.Open, b *someBus) {
		db := open(t, outbox.Migrations())
		j, p := newJournal(t, db), testProducer(t, b)
		var tries atomic.Int64
		j.failWith(func(events []shop.Event) error {
			if len(events) == 1 && events[0].ID == "1.2" {
				tries.Add(1)
			}
			return poison(errors.New("the handler cannot stand it"), "1.2")(events)
		})
		bad := event(1, 2)
		bad.Time = time.Date(2026, 11, 24, 12, 0, 0, 5000, time.UTC)
		bad.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
		publish(t, p, event(1, 1), event(2, 1))
		publish(t, p, bad, event(2, 2))
		publish(t, p, event(1, 3), event(3, 1))
		stop := run(t, newConsumer(t, db, b, consumerConfig(), j.handle).Run)
		untilNumber(t, db, 6, inInbox)
		publish(t, p, bad, event(1, 4), event(2, 3)) // the poison comes again, and more of its key
		untilNumber(t, db, 8, inInbox)
		got := j.ids(t)
		slices.Sort(got)
		if want := []string{"1.1", "2.1", "2.2", "2.3", "3.1"}; !slices.Equal(got, want) {
			t.Errorf("took effect: %v, want %v", got, want)
		}
		if n := tries.Load(); n != 3 {
			t.Errorf("it was tried alone %d times", n)
		}
		stop()
		checkLetters(t, db, b, p)
		// Another process of the consumer knows that the key is parked, and one that was told to goes on.
		c := newConsumer(t, db, b, consumerConfig(), j.handle)
		run(t, c.Run)
		publish(t, p, event(1, 5))
		untilNumber(t, db, 9, inInbox)
		untilNumber(t, db, 4, letters)
		if was, err := c.Unpark(testContext(t), "ord_1"); !was || err != nil {
			t.Fatal(was, err)
		}
		publish(t, p, event(1, 6))
		untilNumber(t, db, 10, inInbox)
		if got := j.ids(t); !slices.Contains(got, "1.6") || slices.Contains(got, "1.5") {
			t.Errorf("took effect: %v", got)
		}
		if was, err := c.Unpark(testContext(t), "ord_1"); was || err != nil {
			t.Fatal(was, err)
		}
	})
}

// checkLetters sends the three dead letters of TestPoison and looks at them on the bus.
func checkLetters(t *testing.T, db *sqldb.DB, b *someBus, p *bus.Producer) {
	t.Helper()
	if n := number(t, db, letters); n != 3 {
		t.Fatalf("%d dead letters", n)
	}
	if n := number(t, db, `SELECT count(*) FROM outbox WHERE version <> 0`); n != 0 {
		t.Errorf("%d letters take part in the order's versions", n)
	}
	stop := run(t, newOutbox(t, fast("relay"), outbox.Parts{DB: db, Producer: p, Source: "inventory"}).Run)
	defer stop()
	found := readTopic(t, b, shop.DeadLetters(shop.TopicOrders), 3)
	var causes []string
	for _, r := range found {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		causes = append(causes, string(r.Event.ID)+" "+r.Event.Headers[outbox.HeaderDeadCause])
	}
	want := []string{"1.2 the handler cannot stand it", "1.3 behind 1.2", "1.4 behind 1.2"}
	if !slices.Equal(causes, want) {
		t.Errorf("causes %q, want %q", causes, want)
	}
	e := found[0].Event
	if e.Type != shop.EventOrderPlaced || e.Source != "order" || e.OrderID != "ord_1" || e.Version != 2 || string(e.Data) != `{"n":1}` ||
		!e.Time.Equal(time.Date(2026, 11, 24, 12, 0, 0, 5000, time.UTC)) || !strings.HasPrefix(e.TraceParent, "00-0af7") {
		t.Errorf("the letter is not the event: %+v", e)
	}
	h := e.Headers
	if h[outbox.HeaderDeadConsumer] != "inventory" || h[outbox.HeaderDeadTopic] != "orders" || h[outbox.HeaderDeadPartition] != "0" ||
		h[outbox.HeaderDeadOffset] != "2" || !strings.HasPrefix(h[outbox.HeaderDeadID], "evt_") {
		t.Errorf("headers %v", h)
	}
}

func TestPanicIsPoison(t *testing.T) {
	t.Parallel()
	eachBus(t, 1, func(t *testing.T, b *someBus) {
		db := stores.SQLite(t, outbox.Migrations())
		j, p := newJournal(t, db), testProducer(t, b)
		j.failWith(func(events []shop.Event) error {
			if events[0].ID == "1.1" {
				panic("nil map")
			}
			return nil
		})
		publish(t, p, event(1, 1))
		publish(t, p, event(2, 1))
		run(t, newConsumer(t, db, b, consumerConfig(), j.handle).Run)
		untilNumber(t, db, 2, inInbox)
		untilNumber(t, db, 1, letters)
		if got := j.ids(t); !slices.Equal(got, []string{"2.1"}) {
			t.Errorf("took effect: %v", got)
		}
	})
}

// TestOutageMakesNoDeadLetters has what the handler needs fail for longer than an event's attempts.
func TestOutageMakesNoDeadLetters(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"unavailable": shop.E(shop.Unavailable, "test", "down"), "deadline": fmt.Errorf("slow: %w", context.DeadlineExceeded),
		"overloaded": fmt.Errorf("wrapped: %w", shop.E(shop.Overloaded, "test", "busy")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachBus(t, 1, func(t *testing.T, b *someBus) {
				db := stores.SQLite(t, outbox.Migrations())
				j, p := newJournal(t, db), testProducer(t, b)
				down := make(chan struct{})
				j.failWith(func([]shop.Event) error {
					if j.calls.Load() > 8 {
						select {
						case <-down:
						default:
							close(down)
						}
					}
					return err
				})
				publish(t, p, event(1, 1), event(2, 1), event(1, 2))
				run(t, newConsumer(t, db, b, consumerConfig(), j.handle).Run)
				select {
				case <-down:
				case <-testContext(t).Done():
					t.Fatalf("%d attempts", j.calls.Load())
				}
				if n := number(t, db, inInbox) + number(t, db, letters); n != 0 {
					t.Errorf("%d events were given up", n)
				}
				j.failWith(func([]shop.Event) error { return nil })
				untilNumber(t, db, 3, inInbox)
				if got := j.ids(t); len(got) != 3 || slices.Index(got, "1.1") > slices.Index(got, "1.2") {
					t.Errorf("took effect: %v", got)
				}
			})
		})
	}
}

// TestOutageWhileOneByOne has the store fail in the middle of the search for the culprit.
func TestOutageWhileOneByOne(t *testing.T) {
	t.Parallel()
	eachBus(t, 1, func(t *testing.T, b *someBus) {
		db := stores.SQLite(t, outbox.Migrations())
		j, p := newJournal(t, db), testProducer(t, b)
		var outages atomic.Int64
		j.failWith(func(events []shop.Event) error {
			switch {
			case len(events) > 1:
				return errors.New("one of them is bad")
			case events[0].ID == "2.1" && outages.Add(1) <= 3:
				return shop.E(shop.Unavailable, "test", "down")
			}
			return poison(errors.New("bad"), "3.1")(events)
		})
		publish(t, p, event(1, 1), event(2, 1), event(3, 1), event(4, 1))
		run(t, newConsumer(t, db, b, consumerConfig(), j.handle).Run)
		untilNumber(t, db, 4, inInbox)
		if got := j.ids(t); !slices.Equal(got, []string{"1.1", "2.1", "4.1"}) {
			t.Errorf("took effect: %v", got)
		}
		if n := number(t, db, letters); n != 1 {
			t.Errorf("%d dead letters", n)
		}
	})
}

// TestPassingFailure has an event fail twice and then not: it is no dead letter.
func TestPassingFailure(t *testing.T) {
	t.Parallel()
	eachBus(t, 1, func(t *testing.T, b *someBus) {
		db := stores.SQLite(t, outbox.Migrations())
		j, p := newJournal(t, db), testProducer(t, b)
		j.failWith(func([]shop.Event) error {
			if j.calls.Load() <= 2 {
				return shop.E(shop.VersionConflict, "test", "somebody was faster")
			}
			return nil
		})
		publish(t, p, event(1, 1))
		run(t, newConsumer(t, db, b, consumerConfig(), j.handle).Run)
		untilNumber(t, db, 1, inInbox)
		if got := j.ids(t); !slices.Equal(got, []string{"1.1"}) || number(t, db, letters) != 0 {
			t.Errorf("took effect: %v", got)
		}
	})
}

// TestUndecodable has records that are no events among others: they become dead letters, once, with
// their headers, and park nothing.
func TestUndecodable(t *testing.T) {
	t.Parallel()
	eachEngine(t, 1, func(t *testing.T, open stores.Open, b *someBus) {
		db := open(t, outbox.Migrations())
		j, p := newJournal(t, db), testProducer(t, b)
		bad := event(1, 1)
		bad.Data = []byte("\x00\xff no JSON")
		bad.Headers = map[string]string{"ce_specversion": "0.3", "x-own": "\x00y\xff"}
		publish(t, p, bad, event(2, 1))
		publish(t, p, event(1, 2))
		stop := run(t, newConsumer(t, db, b, consumerConfig(), j.handle).Run)
		untilNumber(t, db, 3, inInbox)
		stop()
		if got := j.ids(t); !slices.Equal(got, []string{"2.1", "1.2"}) {
			t.Errorf("took effect: %v", got)
		}
		run(t, newOutbox(t, fast("relay"), outbox.Parts{DB: db, Producer: p, Source: "inventory"}).Run)
		r := readTopic(t, b, shop.DeadLetters(shop.TopicOrders), 1)[0]
		h := r.Event.Headers
		if shop.KindOf(r.Err) != shop.Invalid || h["ce_specversion"] != "0.3" || h["ce_id"] != "1.1" || h["x-own"] != "y\uFFFD" ||
			!strings.Contains(h[outbox.HeaderDeadCause], "ce_specversion") || string(r.Event.Data) != string(bad.Data) || r.Event.OrderID != "ord_1" {
			t.Errorf("the letter: %+v", r)
		}
	})
}

func TestRecordWithoutAnything(t *testing.T) {
	t.Parallel()
	eachBus(t, 1, func(t *testing.T, b *someBus) {
		db := stores.SQLite(t, outbox.Migrations())
		p := testProducer(t, b)
		publish(t, p, shop.Event{Topic: shop.TopicOrders, Headers: map[string]string{"ce_specversion": "", "ce_source": "", "ce_version": "", "content-type": ""}})
		stop := run(t, newConsumer(t, db, b, consumerConfig(), newJournal(t, db).handle).Run)
		untilNumber(t, db, 1, letters)
		stop()
		run(t, newOutbox(t, fast("relay"), outbox.Parts{DB: db, Producer: p, Source: "inventory"}).Run)
		r := readTopic(t, b, shop.DeadLetters(shop.TopicOrders), 1)[0]
		if r.Event.Headers[outbox.HeaderDeadOffset] != "0" {
			t.Errorf("the letter: %+v", r)
		}
	})
}

// TestLargeLetterIsCut has an event that fits the bus, and would not with the headers of a dead letter:
// it must not become an event that can never be sent.
func TestLargeLetterIsCut(t *testing.T) {
	t.Parallel()
	eachBus(t, 1, func(t *testing.T, b *someBus) {
		db := stores.SQLite(t, outbox.Migrations())
		j, p := newJournal(t, db), testProducer(t, b)
		j.failWith(poison(errors.New("bad"), "1.1"))
		large := event(1, 1)
		large.Data = []byte(strings.Repeat("x", 999_000))
		publish(t, p, large)
		stop := run(t, newConsumer(t, db, b, consumerConfig(), j.handle).Run)
		untilNumber(t, db, 1, letters)
		stop()
		run(t, newOutbox(t, fast("relay"), outbox.Parts{DB: db, Producer: p, Source: "inventory"}).Run)
		e := readTopic(t, b, shop.DeadLetters(shop.TopicOrders), 1)[0].Event
		if cut := e.Headers[outbox.HeaderDeadCut]; cut == "" || fmt.Sprint(999_000-len(e.Data)) != cut {
			t.Errorf("%d bytes, and %q are missing", len(e.Data), cut)
		}
	})
}
