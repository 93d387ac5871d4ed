package outbox_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	embedded "holdfast/embedded/bus"
	"holdfast/platform/bus"
	"holdfast/platform/outbox"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/test/engines"
	"holdfast/test/fakes"
	"holdfast/test/stores"
)

// someBus is a bus whose topics nobody else uses.
type someBus struct {
	seeds  []string
	prefix string
}

func busConfig(b *someBus) bus.Config {
	return bus.Config{Seeds: b.seeds, Prefix: b.prefix, SendTimeout: 2 * time.Second, Commit: 100 * time.Millisecond, Heartbeat: 100 * time.Millisecond,
		RetryMin: time.Millisecond, RetryMax: 50 * time.Millisecond}
}

// eachEngine runs a test on the embedded bus with each kind of store, and on the real bus with the real
// store. With one partition per topic all events are in one order.
func eachEngine(t *testing.T, partitions int, test func(t *testing.T, open stores.Open, b *someBus)) {
	t.Helper()
	stores.Each(t, func(t *testing.T, open stores.Open) { test(t, open, newBus(t, engines.Embedded, partitions)) })
	t.Run("postgres and kafka", func(t *testing.T) {
		t.Parallel()
		test(t, stores.Postgres, newBus(t, engines.Real, partitions))
	})
}

// eachBus runs a test on each kind of bus.
func eachBus(t *testing.T, partitions int, test func(t *testing.T, b *someBus)) {
	t.Helper()
	for _, kind := range engines.Buses {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, newBus(t, kind, partitions))
		})
	}
}

func newBus(t *testing.T, kind engines.Kind, partitions int) *someBus {
	t.Helper()
	var b *someBus
	if kind == engines.Real {
		k := engines.SharedKafka(t)
		b = &someBus{seeds: k.Addrs(), prefix: k.Prefix()}
	} else {
		broker, err := embedded.New(embedded.Config{}, fakes.Deps(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = broker.Close() }) // of nothing in memory
		b = &someBus{seeds: broker.Addrs()}
	}
	if err := bus.EnsureTopics(testContext(t), busConfig(b), fakes.Deps(t), bus.Topics(partitions, 1)); err != nil {
		t.Fatal(err)
	}
	return b
}

func testProducer(t *testing.T, b *someBus) *bus.Producer {
	t.Helper()
	p, err := bus.NewProducer(busConfig(b), fakes.Deps(t), telemetry.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func publish(t *testing.T, p *bus.Producer, events ...shop.Event) {
	t.Helper()
	for i := range events {
		if events[i].Source == "" {
			events[i].Source = "order"
		}
	}
	for i, err := range p.Send(testContext(t), events) {
		if err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
	}
}

func consumerConfig() outbox.ConsumerConfig {
	return outbox.ConsumerConfig{Name: "inventory", Topics: []string{shop.TopicOrders}, Types: []shop.EventType{shop.EventOrderPlaced}, Attempts: 3}
}

func newConsumer(t *testing.T, db *sqldb.DB, b *someBus, cfg outbox.ConsumerConfig, h outbox.Handler) *outbox.Consumer {
	t.Helper()
	c, err := outbox.NewConsumer(cfg, outbox.ConsumerParts{DB: db, Outbox: newOutbox(t, fast("letters"), outbox.Parts{DB: db, Producer: newSender(), Source: "inventory"}),
		Bus: busConfig(b), Deps: fakes.Deps(t), Tel: telemetry.Nop()}, h)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// readTopic returns the first n events of a topic, as a group of its own sees them.
func readTopic(t *testing.T, b *someBus, topic string, n int) []bus.Record {
	t.Helper()
	var group [8]byte
	fakes.IDs{}.Secret(group[:])
	c, err := bus.NewConsumer(busConfig(b), bus.Subscription{Group: fmt.Sprintf("reader-%x", group), Topics: []string{topic}}, fakes.Deps(t))
	if err != nil {
		t.Fatal(err)
	}
	var records []bus.Record
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	if err := c.Run(ctx, func(_ context.Context, batch bus.Batch) error {
		if records = append(records, batch.Records...); len(records) >= n {
			cancel()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return records
}

// journal is an effect: a table with a row per event, in the transaction.
type journal struct {
	db      *sqldb.DB
	fail    atomic.Pointer[func(events []shop.Event) error]
	largest atomic.Int64
	calls   atomic.Int64
}

func newJournal(t *testing.T, db *sqldb.DB) *journal {
	t.Helper()
	err := db.Update(testContext(t), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `CREATE TABLE journal (id TEXT NOT NULL, at BIGINT NOT NULL)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return &journal{db: db}
}

func (j *journal) failWith(fail func(events []shop.Event) error) { j.fail.Store(&fail) }

func (j *journal) handle(ctx context.Context, tx *sqldb.Tx, events []shop.Event) error {
	at := j.calls.Add(1)
	j.largest.Store(max(j.largest.Load(), int64(len(events))))
	for i, e := range events {
		if _, err := tx.Exec(ctx, `INSERT INTO journal (id, at) VALUES (?, ?)`, string(e.ID), at*1000+int64(i)); err != nil {
			return err
		}
	}
	if fail := j.fail.Load(); fail != nil {
		return (*fail)(events)
	}
	return nil
}

func (j *journal) ids(t *testing.T) (got []string) {
	t.Helper()
	err := j.db.View(testContext(t), func(ctx context.Context, tx *sqldb.Tx) error {
		rows, err := tx.Query(ctx, `SELECT id FROM journal ORDER BY at`)
		if err != nil {
			return err
		}
		defer rows.Close()
		got = nil
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			got = append(got, id)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}
