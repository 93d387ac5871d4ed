package outbox_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	embedded "holdfast/embedded/bus"
	"holdfast/platform/bus"
	"holdfast/platform/outbox"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/test/fakes"
	"holdfast/test/stores"
)

// broker is a Broker that says what it is told to.
type broker struct {
	log   string
	clean bool

	mu    sync.Mutex
	syncs int
	err   error
}

func (b *broker) Incarnation() string { return b.log }
func (b *broker) Clean() bool         { return b.clean }
func (b *broker) Sync() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.syncs++
	return b.err
}

// settled runs an outbox on a new log until all of events are sent and the checkpoint is at want.
func settled(t *testing.T, db *sqldb.DB, log string, want int64, events ...shop.Event) {
	t.Helper()
	o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: newSender(), Broker: &broker{log: log}})
	appendEvents(t, db, o, events...)
	stop := run(t, o.Run)
	defer stop()
	untilNumber(t, db, 0, unsent)
	untilNumber(t, db, want, `SELECT COALESCE(max(pos), 0) FROM outbox_checkpoint`)
}

func TestReplay(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		next  *broker
		after []string // what arrives, of 5 events of which 3 are behind the checkpoint
	}{
		{"orderly stop", &broker{log: "one", clean: true}, []string{"9.9"}},
		{"crash", &broker{log: "one"}, []string{"4.1", "5.1", "9.9"}},
		{"another log", &broker{log: "two"}, []string{"1.1", "2.1", "3.1", "4.1", "5.1", "9.9"}},
		{"another log, clean", &broker{log: "two", clean: true}, []string{"1.1", "2.1", "3.1", "4.1", "5.1", "9.9"}},
		{"a bus that loses nothing", nil, []string{"9.9"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stores.Each(t, func(t *testing.T, open stores.Open) {
				db := open(t, outbox.Migrations())
				settled(t, db, "one", 3, event(1, 1), event(2, 1), event(3, 1))
				// Two more are sent, and the machine goes down before they are on the disk.
				o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: newSender()})
				appendEvents(t, db, o, event(4, 1), event(5, 1))
				stop := run(t, o.Run)
				untilNumber(t, db, 0, unsent)
				stop()

				s, parts := newSender(), outbox.Parts{DB: db}
				parts.Producer = s
				if tt.next != nil {
					parts.Broker = tt.next
				}
				o = newOutbox(t, fast("a"), parts)
				appendEvents(t, db, o, event(9, 9)) // and one that was never sent
				stop = run(t, o.Run)
				untilNumber(t, db, 0, unsent)
				stop()
				got := s.ids()
				if !slices.Equal(got, tt.after) {
					t.Errorf("arrived %v, want %v", got, tt.after)
				}
			})
		})
	}
}

// TestReplayGoesOn has a replay interrupted by an orderly stop: the next start is clean and goes on all
// the same.
func TestReplayGoesOn(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		db := open(t, outbox.Migrations())
		settled(t, db, "one", 2, event(1, 1), event(2, 1))
		err := db.Update(testContext(t), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE outbox_checkpoint SET pos = 1, replaying = 1`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		s := newSender()
		o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s, Broker: &broker{log: "one", clean: true}})
		if n, err := o.Replay(testContext(t)); n != 1 || err != nil {
			t.Fatalf("replayed %d, %v", n, err)
		}
		if n, err := o.Replay(testContext(t)); n != 0 || err != nil {
			t.Fatalf("replayed again %d, %v", n, err)
		}
		run(t, o.Run)
		s.untilArrived(t, "2.1")
	})
}

// TestCheckpointCountsOnlyWhatIsOnTheDisk has a Sync fail, and then an event that is not sent.
func TestCheckpointCountsOnlyWhatIsOnTheDisk(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		const at = `SELECT COALESCE(max(pos), 0) FROM outbox_checkpoint`
		db, s := open(t, outbox.Migrations()), newSender()
		b := &broker{log: "one", err: shop.E(shop.Unavailable, "test", "the disk fails")}
		o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s, Broker: b})
		appendEvents(t, db, o, event(1, 1))
		run(t, o.Run)
		until(t, "three syncs", func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.syncs >= 3
		})
		if n := number(t, db, at); n != 0 {
			t.Fatalf("the checkpoint is at %d", n)
		}
		b.mu.Lock()
		b.err = nil
		b.mu.Unlock()
		untilNumber(t, db, 1, at)
		s.set(func(e shop.Event) (error, bool) {
			if e.OrderID == "ord_2" {
				return unavailable(e)
			}
			return nil, true
		})
		appendEvents(t, db, o, event(2, 1), event(3, 1), event(2, 2))
		s.untilArrived(t, "3.1")
		b.mu.Lock()
		before := b.syncs
		b.mu.Unlock()
		if n := number(t, db, at); n != 1 {
			t.Errorf("the checkpoint passed an unsent event: %d", n)
		}
		s.set(nil)
		untilNumber(t, db, 4, at)
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.syncs == before {
			t.Error("no Sync before it")
		}
	})
}

// TestParkedLaneDoesNotHoldTheCheckpoint has a parked event, then passes it, and takes the checkpoint
// back when it is tried again.
func TestParkedLaneDoesNotHoldTheCheckpoint(t *testing.T) {
	t.Parallel()
	db, s := stores.SQLite(t, outbox.Migrations()), newSender()
	s.fail = func(e shop.Event) (error, bool) {
		if e.ID == "1.1" {
			return shop.E(shop.TooLarge, "test", "too large"), false
		}
		return nil, true
	}
	o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s, Broker: &broker{log: "one"}})
	appendEvents(t, db, o, event(1, 1), event(2, 1), event(1, 2), event(3, 1))
	stop := run(t, o.Run)
	untilNumber(t, db, 4, `SELECT COALESCE(max(pos), 0) FROM outbox_checkpoint`)
	stop()
	if _, err := o.Unpark(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if n := number(t, db, `SELECT pos FROM outbox_checkpoint`); n != 0 {
		t.Errorf("the checkpoint is at %d", n)
	}
}

// TestBusLost runs the real parts: the embedded bus loses its whole directory, and everything arrives
// again, without a second effect.
func TestBusLost(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		const events = 60
		from, to, dir := open(t, outbox.Migrations()), open(t, outbox.Migrations()), filepath.Join(t.TempDir(), "bus")
		var mu sync.Mutex
		effects := map[shop.EventID]int{}
		round := func(appended int) {
			deps := fakes.Deps(t)
			b, err := embedded.New(embedded.Config{Dir: dir}, deps)
			if err != nil {
				t.Fatal(err)
			}
			own := &someBus{seeds: b.Addrs()}
			cfg := busConfig(own)
			if err := bus.EnsureTopics(testContext(t), cfg, deps, bus.Topics(4, 1)); err != nil {
				t.Fatal(err)
			}
			p, err := bus.NewProducer(cfg, deps, telemetry.Nop())
			if err != nil {
				t.Fatal(err)
			}
			o := newOutbox(t, fast("a"), outbox.Parts{DB: from, Producer: p, Broker: b, Deps: deps})
			c := newConsumer(t, to, own, consumerConfig(), func(_ context.Context, tx *sqldb.Tx, events []shop.Event) error {
				tx.AfterCommit(func() {
					mu.Lock()
					defer mu.Unlock()
					for _, e := range events {
						effects[e.ID]++
					}
				})
				return nil
			})
			stopRelay, stopConsumer := run(t, o.Run), run(t, c.Run)
			for n := range appended {
				appendEvents(t, from, o, event(n%7, 1000+n))
			}
			untilNumber(t, from, 0, unsent)
			untilNumber(t, to, events, `SELECT count(*) FROM inbox`)
			if got := len(readTopic(t, own, shop.TopicOrders, events)); got != events {
				t.Errorf("the bus holds %d events", got)
			}
			stopRelay()
			stopConsumer()
			p.Close()
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
		round(events)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		round(0)
		round(0) // and once more, orderly
		mu.Lock()
		defer mu.Unlock()
		for id, n := range effects {
			if n != 1 {
				t.Errorf("%s took effect %d times", id, n)
			}
		}
		if len(effects) != events {
			t.Errorf("%d events took effect", len(effects))
		}
	})
}
