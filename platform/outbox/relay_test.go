package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/platform/outbox"
	"holdfast/platform/sqldb"
	"holdfast/shop"
	"holdfast/test/fakes"
	"holdfast/test/stores"
)

func TestAppend(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		db, s := open(t, outbox.Migrations()), newSender()
		o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s})
		given := shop.Event{ID: "evt_x", Type: shop.EventStockReserved, Source: "other", Topic: shop.TopicInventory, OrderID: "ord_1", Version: 7,
			Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			Headers: map[string]string{"a": "\x00 and \u00fc", "b": ""}, Data: []byte("\xff\x00 need not be JSON")}
		bare := shop.Event{Type: shop.EventOrderPlaced, Topic: shop.TopicOrders, OrderID: "ord_2", Data: []byte("{}")}
		events := []shop.Event{given, bare}
		refuse := errors.New("no")
		err := db.Update(testContext(t), func(ctx context.Context, tx *sqldb.Tx) error {
			return errors.Join(o.Append(ctx, tx, event(9, 9)), refuse)
		})
		if !errors.Is(err, refuse) {
			t.Fatal(err)
		}
		err = db.Update(testContext(t), func(ctx context.Context, tx *sqldb.Tx) error { return o.Append(ctx, tx, events...) })
		if err != nil {
			t.Fatal(err)
		}
		if e := events[1]; e.ID == "" || e.Source != "order" || e.Time.IsZero() {
			t.Errorf("not filled in: %+v", e)
		}
		run(t, o.Run)
		s.untilArrived(t, "evt_x", string(events[1].ID))
		if !reflect.DeepEqual(s.arrived, events) {
			t.Errorf("arrived %+v\nwant    %+v", s.arrived, events)
		}
		untilNumber(t, db, 0, unsent)
		if n := number(t, db, `SELECT count(*) FROM outbox`); n != 2 {
			t.Errorf("%d events are kept", n)
		}
	})
}

func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	db := stores.SQLite(t, outbox.Migrations())
	o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: newSender()})
	for name, change := range map[string]func(*shop.Event){
		"topic": func(e *shop.Event) { e.Topic = "" }, "type": func(e *shop.Event) { e.Type = "" }, "order": func(e *shop.Event) { e.OrderID = "" },
	} {
		e := event(1, 1)
		change(&e)
		err := db.Update(testContext(t), func(ctx context.Context, tx *sqldb.Tx) error { return o.Append(ctx, tx, e) })
		if shop.KindOf(err) != shop.Internal || err == nil {
			t.Errorf("no %s: %v", name, err)
		}
	}
	appendEvents(t, db, o, event(1, 1))
	err := db.Update(testContext(t), func(ctx context.Context, tx *sqldb.Tx) error { return o.Append(ctx, tx, event(1, 1)) })
	if !sqldb.IsUnique(err) {
		t.Errorf("the same event twice: %v", err)
	}
}

// TestOrderHoldsOverFailures lets sends fail at random, some of them only in appearance. Nothing may
// arrive before everything earlier of its key has, nor after something later has.
func TestOrderHoldsOverFailures(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		const keys, each = 12, 15
		db, s, rnd := open(t, outbox.Migrations()), newSender(), fakes.NewRand(t)
		s.fail = func(e shop.Event) (error, bool) {
			switch draw := rnd.Float64(); {
			case draw < 0.6:
				return nil, true
			case draw < 0.8:
				return shop.E(shop.Unavailable, "test", "no answer"), true
			default:
				return shop.E(shop.Unavailable, "test", "no way"), false
			}
		}
		o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s})
		stop := run(t, o.Run)
		for n := 1; n <= each; n++ {
			var events []shop.Event
			for key := range keys {
				events = append(events, event(key, n))
			}
			appendEvents(t, db, o, events...)
			if n == each/2 { // a restart in the middle of it
				stop()
				o = newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s})
				run(t, o.Run)
			}
		}
		untilNumber(t, db, 0, unsent)
		at := map[int]int{}
		for _, id := range s.ids() {
			var key, n int
			if _, err := fmt.Sscanf(id, "%d.%d", &key, &n); err != nil {
				t.Fatal(err)
			}
			if n != at[key] && n != at[key]+1 {
				t.Fatalf("key %d: %d came after %d", key, n, at[key])
			}
			at[key] = n
		}
		for key, n := range at {
			if n != each {
				t.Errorf("key %d: the last to come was %d", key, n)
			}
		}
		if len(at) != keys {
			t.Errorf("events of %d keys came", len(at))
		}
		if n := number(t, db, `SELECT count(*) FROM outbox_blocked`); n != 0 {
			t.Errorf("%d lanes are still blocked", n)
		}
	})
}

// TestCommitsOutOfOrder has a transaction commit after another one whose events have later positions, and
// have been sent by then: its own are sent, too. SQLite has one writer, so that this cannot be there.
func TestCommitsOutOfOrder(t *testing.T) {
	t.Parallel()
	db, s := stores.Postgres(t, outbox.Migrations()), newSender()
	o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s})
	run(t, o.Run)
	written, later, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- db.Update(testContext(t), func(ctx context.Context, tx *sqldb.Tx) error {
			err := o.Append(ctx, tx, event(1, 1))
			close(written)
			select {
			case <-later:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	<-written
	others := make([]shop.Event, 2500) // more than a relay looks back
	for i := range others {
		others[i] = event(2, i+1)
	}
	appendEvents(t, db, o, others...)
	s.untilArrived(t, "2.2500")
	untilNumber(t, db, 0, unsent)
	close(later)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	s.untilArrived(t, "1.1")
	untilNumber(t, db, 0, unsent)
}

// TestOneUnacknowledgedPerLane looks into each Send: two events of a lane must never be in one, since
// the bus may take the second and not the first.
func TestOneUnacknowledgedPerLane(t *testing.T) {
	t.Parallel()
	db, s := stores.SQLite(t, outbox.Migrations()), newSender()
	s.hook = func(_ context.Context, events []shop.Event) {
		seen := map[string]bool{}
		for _, e := range events {
			lane := e.Topic + string(e.OrderID)
			if seen[lane] {
				t.Errorf("two events of %s in one Send", lane)
			}
			seen[lane] = true
		}
	}
	o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s})
	var events []shop.Event
	for n := range 20 {
		for key := range 5 {
			events = append(events, event(key, n), on(shop.TopicCompensations, event(key, n)))
		}
	}
	appendEvents(t, db, o, events...)
	run(t, o.Run)
	untilNumber(t, db, 0, unsent)
	if s.sends > 25 { // 20 waves, and the batches need not end with one
		t.Errorf("%d sends for 20 waves", s.sends)
	}
}

// TestCrashBetweenSendAndMark has a process die after the bus took an event and before that was stored:
// the next one sends it again.
func TestCrashBetweenSendAndMark(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		db, dying, s := open(t, outbox.Migrations()), newSender(), newSender()
		entered, released := make(chan struct{}), make(chan struct{})
		var once sync.Once
		dying.hook = func(context.Context, []shop.Event) {
			once.Do(func() { close(entered) })
			<-released
		}
		first := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: dying})
		appendEvents(t, db, first, event(1, 1), event(1, 2))
		run(t, first.Run)
		t.Cleanup(func() { close(released) })
		<-entered
		second := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s}) // the same owner: it need not wait for the lease
		begun := time.Now()
		run(t, second.Run)
		s.untilArrived(t, "1.1", "1.2")
		if d := time.Since(begun); d > time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

func TestOutageParksNothing(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		db, s := open(t, outbox.Migrations()), newSender()
		s.fail = unavailable
		o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s})
		appendEvents(t, db, o, event(1, 1), event(2, 1), event(1, 2))
		run(t, o.Run)
		s.until(t, "30 attempts", func(_ []shop.Event, sends int) bool { return sends >= 30 })
		if n := number(t, db, `SELECT count(*) FROM outbox_blocked`); n != 0 {
			t.Errorf("%d lanes are blocked by an outage", n)
		}
		age, waiting, err := o.Oldest(testContext(t))
		if err != nil || waiting != 3 || age <= 0 || age > patience {
			t.Errorf("oldest %v, %d, %v", age, waiting, err)
		}
		s.set(nil)
		s.untilArrived(t, "1.1", "1.2", "2.1")
		untilNumber(t, db, 0, unsent)
		if age, waiting, err = o.Oldest(testContext(t)); age != 0 || waiting != 0 || err != nil {
			t.Errorf("oldest %v, %d, %v", age, waiting, err)
		}
	})
}

// TestBlockedLane has one key fail while others go on: its later events wait, and come in order.
func TestBlockedLane(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		db, s := open(t, outbox.Migrations()), newSender()
		down := func(e shop.Event) (error, bool) {
			if e.OrderID == "ord_1" && e.Topic == shop.TopicOrders {
				return unavailable(e)
			}
			return nil, true
		}
		s.fail = down
		o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s})
		appendEvents(t, db, o, event(1, 1), event(2, 1), event(1, 2), on(shop.TopicCompensations, event(1, 1)))
		stop := run(t, o.Run)
		s.untilArrived(t, "2.1", "1.1@order-compensations")
		s.until(t, "10 attempts", func(_ []shop.Event, sends int) bool { return sends >= 10 })
		appendEvents(t, db, o, event(1, 3), event(2, 2))
		s.untilArrived(t, "2.2")
		stop()
		if n := number(t, db, `SELECT count(*) FROM outbox_blocked WHERE parked = 0 AND lane = 'orders/ord_1'`); n != 1 {
			t.Errorf("%d lanes are blocked", n)
		}
		o = newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s})
		run(t, o.Run)
		appendEvents(t, db, o, event(2, 3))
		s.untilArrived(t, "2.3")
		s.set(nil)
		s.untilArrived(t, "1.3")
		untilNumber(t, db, 0, unsent)
		untilNumber(t, db, 0, `SELECT count(*) FROM outbox_blocked`)
		got := slices.DeleteFunc(s.ids(), func(id string) bool { return !strings.HasPrefix(id, "1.") || strings.Contains(id, "@") })
		if !slices.Equal(got, []string{"1.1", "1.2", "1.3"}) {
			t.Errorf("arrived %v", got)
		}
	})
}

func TestRefusedEventIsParked(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		db, s := open(t, outbox.Migrations()), newSender()
		refused := 0
		s.fail = func(e shop.Event) (error, bool) {
			if e.ID == "1.1" {
				refused++
				return shop.E(shop.TooLarge, "test", "too large"), false
			}
			return nil, true
		}
		o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s})
		appendEvents(t, db, o, event(1, 1), event(2, 1), event(1, 2), on(shop.TopicCompensations, event(1, 1)))
		stop := run(t, o.Run)
		untilNumber(t, db, 1, `SELECT count(*) FROM outbox_blocked WHERE parked = 1 AND attempts = 3`)
		appendEvents(t, db, o, event(2, 2))
		s.untilArrived(t, "2.1", "2.2", "1.1@order-compensations")
		stop()
		if got := s.ids(); len(got) != 3 || refused != 3 {
			t.Errorf("arrived %v after %d refusals", got, refused)
		}
		// Somebody allows larger messages.
		s.set(nil)
		if n, err := o.Unpark(testContext(t)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		o = newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s})
		run(t, o.Run)
		s.untilArrived(t, "1.1", "1.2")
		untilNumber(t, db, 0, `SELECT count(*) FROM outbox_blocked`)
		if n, err := o.Unpark(testContext(t)); n != 0 || err != nil {
			t.Error(n, err)
		}
	})
}

// TestRefusedTogether has the bus refuse every batch that has one event in it: the others are tried
// alone and go.
func TestRefusedTogether(t *testing.T) {
	t.Parallel()
	db, s := stores.SQLite(t, outbox.Migrations()), newSender()
	large := false
	s.hook = func(_ context.Context, events []shop.Event) {
		s.mu.Lock()
		defer s.mu.Unlock()
		large = slices.ContainsFunc(events, func(e shop.Event) bool { return e.ID == "3.1" })
	}
	s.fail = func(shop.Event) (error, bool) {
		if large {
			return shop.E(shop.TooLarge, "test", "the batch is too large"), false
		}
		return nil, true
	}
	o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s})
	appendEvents(t, db, o, event(1, 1), event(2, 1), event(3, 1), event(4, 1), event(1, 2))
	run(t, o.Run)
	s.untilArrived(t, "1.1", "2.1", "4.1", "1.2")
	untilNumber(t, db, 1, `SELECT count(*) FROM outbox_blocked WHERE parked = 1`)
}

// TestManyBlockedLanes has more failing lanes at the head than a batch holds: the one behind goes on.
func TestManyBlockedLanes(t *testing.T) {
	t.Parallel()
	db, s := stores.SQLite(t, outbox.Migrations()), newSender()
	s.fail = func(e shop.Event) (error, bool) {
		if e.OrderID != "ord_0" {
			return unavailable(e)
		}
		return nil, true
	}
	cfg := fast("a")
	cfg.Batch = 10
	o := newOutbox(t, cfg, outbox.Parts{DB: db, Producer: s})
	events := []shop.Event{event(0, 1)}
	for key := 1; key <= 9; key++ { // with the first they are a batch that fails in part
		events = append(events, event(key, 1))
	}
	for n := 2; n <= 5; n++ {
		for key := 1; key <= 9; key++ {
			events = append(events, event(key, n))
		}
	}
	appendEvents(t, db, o, append(events, event(0, 2))...)
	run(t, o.Run)
	s.untilArrived(t, "0.1", "0.2")
	s.set(nil)
	untilNumber(t, db, 0, unsent)
	if n := len(s.ids()); n != 9*5+2 {
		t.Errorf("%d arrived", n)
	}
}

// TestWakesAfterCommit stops the clock: what is sent is sent because of the commit, not of a poll.
func TestWakesAfterCommit(t *testing.T) {
	t.Parallel()
	db, s, deps := stores.SQLite(t, outbox.Migrations()), newSender(), fakes.Deps(t)
	clock := fakes.NewClock(deps.Clock.Now())
	deps.Clock = clock
	cfg := fast("a")
	cfg.Lease = time.Minute
	o := newOutbox(t, cfg, outbox.Parts{DB: db, Producer: s, Deps: deps})
	run(t, o.Run)
	for n := 1; n <= 3; n++ {
		if err := clock.Waiters(testContext(t), 2); err != nil { // the relay's poll, and the purge
			t.Fatal(err)
		}
		appendEvents(t, db, o, event(1, n))
		s.untilArrived(t, fmt.Sprintf("1.%d", n))
	}
	// Left alone it writes nothing, poll as it may.
	untilNumber(t, db, 0, unsent)
	before := db.Stats().Transactions
	for range 20 {
		if err := clock.Waiters(testContext(t), 2); err != nil {
			t.Fatal(err)
		}
		clock.Advance(cfg.Poll)
	}
	if n := db.Stats().Transactions - before; n != 0 {
		t.Errorf("%d transactions with nothing to do", n)
	}
}

// TestDrain has the process stop right after a commit: what it has promised it still sends.
func TestDrain(t *testing.T) {
	t.Parallel()
	db, s := stores.SQLite(t, outbox.Migrations()), newSender()
	cfg := fast("a")
	cfg.Batch = 10
	o := newOutbox(t, cfg, outbox.Parts{DB: db, Producer: s})
	stop := run(t, o.Run)
	until(t, "the relay runs", func() bool { return o.Ready(testContext(t)) == nil })
	var events []shop.Event
	for key := range 95 {
		events = append(events, event(key, 1))
	}
	appendEvents(t, db, o, events...)
	stop()
	if n := number(t, db, unsent); n != 0 {
		t.Errorf("%d events were left", n)
	}
	if n := number(t, db, `SELECT count(*) FROM outbox_slots WHERE owner <> ''`); n != 0 {
		t.Errorf("%d slots were not handed over", n)
	}
}

func TestPurge(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		db, s := open(t, outbox.Migrations()), newSender()
		s.fail = func(e shop.Event) (error, bool) {
			if e.OrderID == "ord_3" {
				return unavailable(e)
			}
			return nil, true
		}
		cfg := fast("a")
		cfg.Keep, cfg.KeepInbox, cfg.PurgeBatch = time.Hour, 2*time.Hour, 2
		o := newOutbox(t, cfg, outbox.Parts{DB: db, Producer: s})
		now := time.Now()
		for key, age := range []time.Duration{3 * time.Hour, 2 * time.Hour, 90 * time.Minute, 2 * time.Hour, 2 * time.Hour, 30 * time.Minute, 0} {
			e := event(key, 1)
			e.Time = now.Add(-age)
			appendEvents(t, db, o, e)
		}
		stop := run(t, o.Run)
		untilNumber(t, db, 1, unsent)
		stop()
		n, err := o.Purge(testContext(t))
		if n != 4 || err != nil {
			t.Errorf("purged %d, %v", n, err)
		}
		// The unsent one stays, and so do the young ones.
		if n := number(t, db, `SELECT count(*) FROM outbox WHERE event_id IN ('3.1', '5.1', '6.1')`); n != 3 {
			t.Errorf("%d of the right ones are left", n)
		}
		if n, err := o.Purge(testContext(t)); n != 0 || err != nil {
			t.Errorf("purged %d, %v", n, err)
		}
	})
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	good := outbox.Config{Owner: "a"}.Defaults()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*outbox.Config){
		"owner": func(c *outbox.Config) { c.Owner = "" }, "batch": func(c *outbox.Config) { c.Batch = -1 }, "poll": func(c *outbox.Config) { c.Poll = -1 },
		"lease": func(c *outbox.Config) { c.Lease = 1 }, "retry_min": func(c *outbox.Config) { c.RetryMax = 1 }, "attempts": func(c *outbox.Config) { c.Attempts = -1 },
		"100ms to 1m": func(c *outbox.Config) { c.Lease = 61 * time.Second },
		"keep:":       func(c *outbox.Config) { c.Keep = -1 }, "keep_inbox": func(c *outbox.Config) { c.KeepInbox = c.Keep },
		"purge": func(c *outbox.Config) { c.PurgeBatch = -1 }, "checkpoint": func(c *outbox.Config) { c.Checkpoint = -1 },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
