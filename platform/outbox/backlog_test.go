package outbox_test

import (
	"context"
	"testing"
	"time"

	"holdfast/platform/outbox"
	"holdfast/platform/sqldb"
	"holdfast/shop"
	"holdfast/test/stores"
)

// TestBacklogInOutage: while the bus is down, and for what has waited for it afterwards, there is no backlog: new
// orders would be refused because of it. What waits for the relay is one.
func TestBacklogInOutage(t *testing.T) {
	t.Parallel()
	db, s := stores.SQLite(t, outbox.Migrations()), newSender()
	o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s})
	if taking := o.Taking(); taking < 1000*time.Hour {
		t.Errorf("a bus that was never away has taken events for %s", taking)
	}
	seen := make(chan time.Duration, 1000)
	s.hook = func(context.Context, []shop.Event) { seen <- o.Backlog() } // while a try is under way
	s.set(func(shop.Event) (error, bool) { return shop.E(shop.Unavailable, "test", "no bus"), false })
	old := func(key int) shop.Event {
		e := event(key, 1)
		e.Time = time.Now().Add(-time.Hour)
		return e
	}
	appendEvents(t, db, o, old(1), old(2))
	run(t, o.Run)
	if backlog := <-seen; backlog < time.Hour {
		t.Errorf("before the outage is known the backlog is %s, want an hour", backlog)
	}
	for range 3 {
		if backlog := <-seen; backlog != 0 {
			t.Errorf("the backlog is %s while the bus is down, want 0", backlog)
		}
		if taking := o.Taking(); taking != 0 {
			t.Errorf("a bus that is down has taken events for %s", taking)
		}
	}
	s.set(nil)
	s.untilArrived(t, "1.1", "2.1")
	for len(seen) > 0 {
		<-seen
	}
	appendEvents(t, db, o, old(3))
	s.untilArrived(t, "3.1")
	if backlog := <-seen; backlog <= 0 || backlog > time.Minute {
		t.Errorf("the backlog of what waited for the bus is %s, want it to count from the bus's return", backlog)
	}
	if taking := o.Taking(); taking <= 0 || taking > time.Minute {
		t.Errorf("a bus that has just come back has taken events for %s", taking)
	}
}

// TestBacklogWithoutLease: a relay that loses its keys in an outage, and gets them back, does not take the bus for one that
// is there again: the age of what waits would count as a backlog.
func TestBacklogWithoutLease(t *testing.T) {
	t.Parallel()
	db, s := stores.SQLite(t, outbox.Migrations()), newSender()
	cfg := fast("a")
	cfg.Lease = 100 * time.Millisecond
	o := newOutbox(t, cfg, outbox.Parts{DB: db, Producer: s})
	seen := make(chan time.Duration, 1000)
	s.hook = func(context.Context, []shop.Event) { seen <- o.Backlog() } // while a try is under way
	s.set(func(shop.Event) (error, bool) { return shop.E(shop.Unavailable, "test", "no bus"), false })
	old := event(1, 1)
	old.Time = time.Now().Add(-time.Hour)
	appendEvents(t, db, o, old)
	run(t, o.Run)
	<-seen
	<-seen // the outage is known
	to := func(owner string, until time.Time) {
		t.Helper()
		err := db.Update(testContext(t), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE outbox_slots SET owner = ?, until = ?`, owner, sqldb.Micros(until))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	to("b", time.Now().Add(30*time.Second))
	until(t, "it has noticed that the keys are another's", func() bool {
		select {
		case <-seen:
			return false
		case <-time.After(5 * cfg.RetryMax):
			return true
		}
	})
	to("", time.Time{})
	for range 3 {
		if backlog := <-seen; backlog != 0 {
			t.Errorf("the backlog is %s while the bus is down, want 0", backlog)
		}
	}
}
