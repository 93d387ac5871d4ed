package outbox_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/platform/outbox"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// patience bounds what a test waits for; none is expected to take it.
const patience = 20 * time.Second

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// sender is a bus in memory. fail decides what becomes of an event; an event may arrive all the same.
type sender struct {
	mu      sync.Mutex
	arrived []shop.Event
	sends   int
	changed chan struct{}
	fail    func(e shop.Event) (err error, arrives bool)
	hook    func(ctx context.Context, events []shop.Event)
}

func newSender() *sender { return &sender{changed: make(chan struct{})} }

func (s *sender) Send(ctx context.Context, events []shop.Event) []error {
	s.mu.Lock()
	hook := s.hook
	s.mu.Unlock()
	if hook != nil {
		hook(ctx, events)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sends++
	errs := make([]error, len(events))
	for i, e := range events {
		arrives := true
		if s.fail != nil {
			errs[i], arrives = s.fail(e)
		}
		if arrives {
			s.arrived = append(s.arrived, e)
		}
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return errs
}

func (s *sender) set(fail func(e shop.Event) (error, bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

// ids returns what has arrived.
func (s *sender) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ids(s.arrived)
}

func ids(events []shop.Event) []string {
	var out []string
	for _, e := range events {
		out = append(out, string(e.ID))
	}
	return out
}

// until waits for a state of the sender.
func (s *sender) until(t *testing.T, what string, holds func(arrived []shop.Event, sends int) bool) {
	t.Helper()
	for ctx := testContext(t); ; {
		s.mu.Lock()
		ok, changed := holds(s.arrived, s.sends), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("never: %s; arrived: %v", what, s.ids())
		}
	}
}

func (s *sender) untilArrived(t *testing.T, want ...string) {
	t.Helper()
	s.until(t, fmt.Sprintf("%v arrived", want), func(arrived []shop.Event, _ int) bool {
		got := ids(arrived)
		for _, w := range want {
			if !slices.Contains(got, w) {
				return false
			}
		}
		return true
	})
}

func fast(owner string) outbox.Config {
	return outbox.Config{Owner: owner, Poll: 20 * time.Millisecond, RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond,
		Attempts: 3, Lease: 2 * time.Second, Drain: time.Second, Checkpoint: 10 * time.Millisecond}
}

func newOutbox(t *testing.T, cfg outbox.Config, parts outbox.Parts) *outbox.Outbox {
	t.Helper()
	if parts.Deps.Clock == nil {
		parts.Deps = fakes.Deps(t)
	}
	if parts.Tel == nil {
		parts.Tel = telemetry.Nop()
	}
	if parts.Source == "" {
		parts.Source = "order"
	}
	o, err := outbox.New(cfg, parts)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// run runs a component until the test ends or stop is called.
func run(t *testing.T, component func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := component(ctx); err != nil {
			t.Errorf("it ended: %v", err)
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// event is the n-th event of a key on topic orders; its id says so: "1.2".
func event(key, n int) shop.Event {
	return shop.Event{ID: shop.EventID(fmt.Sprintf("%d.%d", key, n)), Type: shop.EventOrderPlaced, Topic: shop.TopicOrders,
		OrderID: shop.OrderID(fmt.Sprintf("ord_%d", key)), Version: int64(n), Data: []byte(`{"n":1}`)}
}

func on(topic string, e shop.Event) shop.Event {
	e.Topic = topic
	e.ID += shop.EventID("@" + topic)
	return e
}

func appendEvents(t *testing.T, db *sqldb.DB, o *outbox.Outbox, events ...shop.Event) {
	t.Helper()
	err := db.Update(testContext(t), func(ctx context.Context, tx *sqldb.Tx) error { return o.Append(ctx, tx, slices.Clone(events)...) })
	if err != nil {
		t.Fatal(err)
	}
}

// number returns what a query says.
func number(t *testing.T, db *sqldb.DB, query string, args ...any) (n int64) {
	t.Helper()
	err := db.View(testContext(t), func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, query, args...).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// until waits for what no channel tells a test of, such as another goroutine's commit.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for ctx := testContext(t); !holds(); {
		if (fakes.RealClock{}).Sleep(ctx, 2*time.Millisecond) != nil {
			t.Fatalf("never: %s", what)
		}
	}
}

// untilNumber waits until a query says want.
func untilNumber(t *testing.T, db *sqldb.DB, want int64, query string, args ...any) {
	t.Helper()
	var got int64
	defer func() {
		if got != want {
			t.Logf("%s: %d, want %d", query, got, want)
		}
	}()
	until(t, query, func() bool {
		got = number(t, db, query, args...)
		return got == want
	})
}

const unsent = `SELECT count(*) FROM outbox_unsent`

func unavailable(shop.Event) (error, bool) {
	return shop.E(shop.Unavailable, "test", "the bus is down"), false
}
