package outbox_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/platform/outbox"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/test/fakes"
	"holdfast/test/stores"
)

const (
	inInbox = `SELECT count(*) FROM inbox`
	letters = `SELECT count(*) FROM outbox WHERE topic = 'orders.dlq'`
)

func TestEachEventTakesEffectOnce(t *testing.T) {
	t.Parallel()
	eachEngine(t, 1, func(t *testing.T, open stores.Open, b *someBus) {
		db := open(t, outbox.Migrations())
		j, p := newJournal(t, db), testProducer(t, b)
		other := event(1, 5)
		other.Type = shop.EventOrderProgressed
		var events []shop.Event
		for n := range 10 {
			events = append(events, event(1, 10+n))
		}
		publish(t, p, append(events, other)...)
		publish(t, p, events[3], events[4], events[3]) // again, and twice in one batch
		publish(t, p, event(2, 1))
		run(t, newConsumer(t, db, b, consumerConfig(), j.handle).Run)
		untilNumber(t, db, 11, inInbox)
		want := append(ids(events), "2.1")
		if got := j.ids(t); !slices.Equal(got, want) {
			t.Errorf("took effect: %v\nwant %v", got, want)
		}
		if j.largest.Load() < 5 {
			t.Errorf("at most %d events in one transaction", j.largest.Load())
		}
		publish(t, p, events[0], event(2, 2))
		untilNumber(t, db, 12, inInbox)
		if got := j.ids(t); !slices.Equal(got, append(want, "2.2")) {
			t.Errorf("took effect: %v", got)
		}
	})
}

// TestTwoConsumersOfOneDatabase have an inbox each in the same table.
func TestTwoConsumersOfOneDatabase(t *testing.T) {
	t.Parallel()
	eachEngine(t, 1, func(t *testing.T, open stores.Open, b *someBus) {
		db := open(t, outbox.Migrations())
		j := newJournal(t, db)
		publish(t, testProducer(t, b), event(1, 1))
		second := consumerConfig()
		second.Name = "search"
		run(t, newConsumer(t, db, b, consumerConfig(), j.handle).Run)
		run(t, newConsumer(t, db, b, second, j.handle).Run)
		untilNumber(t, db, 2, inInbox)
		if got := j.ids(t); !slices.Equal(got, []string{"1.1", "1.1"}) {
			t.Errorf("took effect: %v", got)
		}
	})
}

// TestShareAndMove runs two processes of one consumer, and stops one in the middle.
func TestShareAndMove(t *testing.T) {
	t.Parallel()
	eachEngine(t, 4, func(t *testing.T, open stores.Open, b *someBus) {
		db := open(t, outbox.Migrations())
		j, p := newJournal(t, db), testProducer(t, b)
		stopFirst := run(t, newConsumer(t, db, b, consumerConfig(), j.handle).Run)
		run(t, newConsumer(t, db, b, consumerConfig(), j.handle).Run)
		const keys, each = 20, 10
		for n := 1; n <= each; n++ {
			for key := range keys {
				publish(t, p, event(key, n))
			}
			if n == each/2 {
				untilNumber(t, db, keys*each/2, inInbox)
				stopFirst()
			}
		}
		untilNumber(t, db, keys*each, inInbox)
		last := map[int]int{}
		for _, id := range j.ids(t) {
			var key, n int
			if _, err := fmt.Sscanf(id, "%d.%d", &key, &n); err != nil {
				t.Fatal(err)
			}
			if n != last[key]+1 {
				t.Fatalf("key %d: %d took effect after %d", key, n, last[key])
			}
			last[key] = n
		}
	})
}

func TestPurgeInbox(t *testing.T) {
	t.Parallel()
	eachEngine(t, 1, func(t *testing.T, open stores.Open, b *someBus) {
		db := open(t, outbox.Migrations())
		now := time.Now()
		err := db.Update(testContext(t), func(ctx context.Context, tx *sqldb.Tx) error {
			for i, age := range []time.Duration{20, 19, 18, 17, 1, 0} {
				for _, consumer := range []string{"inventory", "other"} {
					if _, err := tx.Exec(ctx, `INSERT INTO inbox (consumer, event_id, at) VALUES (?, ?, ?)`, consumer, fmt.Sprintf("evt_%d", i),
						sqldb.Micros(now.Add(-age*24*time.Hour))); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		cfg := fast("letters")
		cfg.PurgeBatch = 2
		c, err := outbox.NewConsumer(consumerConfig(), outbox.ConsumerParts{DB: db, Outbox: newOutbox(t, cfg, outbox.Parts{DB: db, Producer: newSender()}),
			Bus: busConfig(b), Deps: fakes.Deps(t), Tel: telemetry.Nop()}, newJournal(t, db).handle)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := c.Purge(testContext(t)); n != 4 || err != nil {
			t.Errorf("purged %d, %v", n, err)
		}
		if n := number(t, db, `SELECT count(*) FROM inbox WHERE consumer = 'other'`); n != 6 {
			t.Errorf("%d of another consumer are left", n)
		}
	})
}

func TestNewConsumerValidates(t *testing.T) {
	t.Parallel()
	eachBus(t, 1, func(t *testing.T, b *someBus) {
		db := stores.SQLite(t, outbox.Migrations())
		for want, change := range map[string]func(*outbox.ConsumerConfig){
			"name": func(c *outbox.ConsumerConfig) { c.Name = "" }, "topics": func(c *outbox.ConsumerConfig) { c.Topics = nil },
			"types": func(c *outbox.ConsumerConfig) { c.Types = nil }, "attempts": func(c *outbox.ConsumerConfig) { c.Attempts = -1 },
			"timeout": func(c *outbox.ConsumerConfig) { c.Timeout = -1 },
		} {
			cfg := consumerConfig()
			change(&cfg)
			_, err := outbox.NewConsumer(cfg, outbox.ConsumerParts{DB: db, Outbox: newOutbox(t, fast("x"), outbox.Parts{DB: db, Producer: newSender()}),
				Bus: busConfig(b), Deps: fakes.Deps(t), Tel: telemetry.Nop()}, nil)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", want, err)
			}
		}
	})
}

// TestSessionRefused has the bus refuse the group, which ends the consumer: a process with one that does nothing would
// look as if all were well.
func TestSessionRefused(t *testing.T) {
	t.Parallel()
	eachEngine(t, 1, func(t *testing.T, open stores.Open, b *someBus) {
		db := open(t, outbox.Migrations())
		cfg := busConfig(b)
		cfg.Session = 500 * time.Millisecond
		c, err := outbox.NewConsumer(consumerConfig(), outbox.ConsumerParts{DB: db, Outbox: newOutbox(t, fast("x"), outbox.Parts{DB: db, Producer: newSender()}),
			Bus: cfg, Deps: fakes.Deps(t), Tel: telemetry.Nop()}, func(context.Context, *sqldb.Tx, []shop.Event) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Run(testContext(t)); shop.KindOf(err) != shop.Invalid {
			t.Errorf("got %v", err)
		}
	})
}
