package outbox_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"holdfast/platform/outbox"
	"holdfast/platform/sqldb"
	"holdfast/shop"
	"holdfast/test/stores"
)

// TestTwoRelaysShare runs two relays with their own owners: each gets half of the slots, a key is sent
// by one of them at a time, and when one dies the other takes over.
func TestTwoRelaysShare(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		db, s := open(t, outbox.Migrations()), newSender()
		cfg := func(owner string) outbox.Config {
			c := fast(owner)
			c.Lease, c.Poll = 300*time.Millisecond, patience // so that only PollShared finds what the other has not been told of
			c.PollShared = 10 * time.Millisecond
			return c
		}
		var mu sync.Mutex
		by := map[string]map[shop.OrderID]bool{"a": {}, "b": {}}
		via := func(owner string) outbox.Sender {
			return sendFunc(func(ctx context.Context, events []shop.Event) []error {
				mu.Lock()
				for _, e := range events {
					by[owner][e.OrderID] = true
				}
				mu.Unlock()
				return s.Send(ctx, events)
			})
		}
		a := newOutbox(t, cfg("a"), outbox.Parts{DB: db, Producer: via("a")})
		b := newOutbox(t, cfg("b"), outbox.Parts{DB: db, Producer: via("b")})
		stopA := run(t, a.Run)
		untilNumber(t, db, 16, `SELECT count(*) FROM outbox_slots WHERE owner = 'a'`)
		run(t, b.Run)
		untilNumber(t, db, 8, `SELECT count(*) FROM outbox_slots WHERE owner = 'b'`)
		untilNumber(t, db, 8, `SELECT count(*) FROM outbox_slots WHERE owner = 'a'`)
		const keys = 200
		var events []shop.Event
		for n := 1; n <= 3; n++ {
			for key := range keys {
				events = append(events, event(key, n))
			}
		}
		appendEvents(t, db, a, events...) // b is not told, and polls
		untilNumber(t, db, 0, unsent)
		if n := len(s.ids()); n != len(events) {
			t.Errorf("%d arrived, want %d", n, len(events))
		}
		mu.Lock()
		for key := range by["a"] {
			if by["b"][key] {
				t.Errorf("%s was sent by both", key)
			}
		}
		if len(by["a"])+len(by["b"]) != keys || len(by["a"]) < keys/4 || len(by["b"]) < keys/4 {
			t.Errorf("a sent %d keys, b %d", len(by["a"]), len(by["b"]))
		}
		mu.Unlock()
		stopA()
		untilNumber(t, db, 16, `SELECT count(*) FROM outbox_slots WHERE owner = 'b'`)
	})
}

// TestLeasesOfAClockAhead: relays that died after the clock was an hour ahead keep their slots no longer than any relay may.
func TestLeasesOfAClockAhead(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		db := open(t, outbox.Migrations())
		err := db.Update(testContext(t), func(ctx context.Context, tx *sqldb.Tx) error {
			now, err := tx.Now(ctx)
			if err != nil {
				return err
			}
			far := sqldb.Micros(now.Add(time.Hour))
			if _, err = tx.Exec(ctx, `INSERT INTO outbox_relays (owner, until) VALUES ('dead', ?)`, far); err == nil {
				_, err = tx.Exec(ctx, `UPDATE outbox_slots SET owner = 'dead', until = ?`, far)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		run(t, newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: newSender()}).Run)
		longest := sqldb.Micros(time.Now().Add(time.Minute + patience))
		untilNumber(t, db, 0, `SELECT count(*) FROM outbox_slots WHERE until > ?`, longest)
		untilNumber(t, db, 1, `SELECT count(*) FROM outbox_relays WHERE owner = 'dead' AND until <= ?`, longest)
		if n := number(t, db, `SELECT count(*) FROM outbox_slots WHERE owner = 'dead'`); n != 16 {
			t.Errorf("a relay that may be alive has kept %d slots", n)
		}
	})
}

type sendFunc func(ctx context.Context, events []shop.Event) []error

func (f sendFunc) Send(ctx context.Context, events []shop.Event) []error { return f(ctx, events) }

// TestHungRelay has a relay hang in a Send: its lease runs out, another takes over, and its own Send is
// cut off before that.
func TestHungRelay(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		db, s := open(t, outbox.Migrations()), newSender()
		cfg := fast("a")
		cfg.Lease = 500 * time.Millisecond
		cut := make(chan bool, 1)
		hung := newOutbox(t, cfg, outbox.Parts{DB: db, Producer: sendFunc(func(ctx context.Context, events []shop.Event) []error {
			<-ctx.Done()
			select {
			case cut <- number(t, db, `SELECT count(*) FROM outbox_slots WHERE owner = 'b'`) == 0:
			default:
			}
			errs := make([]error, len(events))
			for i := range errs {
				errs[i], _ = unavailable(events[i])
			}
			return errs
		})})
		appendEvents(t, db, hung, event(1, 1))
		stop := run(t, hung.Run)
		if inTime := <-cut; !inTime {
			t.Error("it was still sending when another had the lease")
		}
		stop()
		cfg.Owner = "b"
		run(t, newOutbox(t, cfg, outbox.Parts{DB: db, Producer: s}).Run)
		s.untilArrived(t, "1.1")
	})
}
