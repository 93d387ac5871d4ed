package outbox_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	embedded "holdfast/embedded/bus"
	"holdfast/embedded/sqlite"
	"holdfast/platform/bus"
	"holdfast/platform/outbox"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// BenchmarkPath takes events from a transaction through the relay and the embedded bus into another
// service's transaction, on SQLite with full durability. It reports CPU time per event besides.
func BenchmarkPath(b *testing.B) {
	for _, perKey := range []int{1, 10} {
		b.Run(fmt.Sprintf("%d_per_key", perKey), func(b *testing.B) { benchPath(b, perKey) })
	}
}

func benchPath(b *testing.B, perKey int) {
	const batch = 500
	deps := fakes.Deps(b)
	broker, err := embedded.New(embedded.Config{Dir: b.TempDir()}, deps)
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	cfg := bus.Config{Seeds: broker.Addrs()}
	if err := bus.EnsureTopics(b.Context(), cfg, deps, bus.Topics(4, 1)); err != nil {
		b.Fatal(err)
	}
	open := func(name string) *sqldb.DB {
		db, err := sqldb.Open(b.Context(), sqldb.Config{Driver: "sqlite", SQLite: sqlite.Connector, Path: filepath.Join(b.TempDir(), name)}, deps)
		if err == nil {
			err = db.Migrate(b.Context(), name, outbox.Migrations())
		}
		if err != nil {
			b.Fatal(err)
		}
		return db
	}
	from, to := open("order"), open("inventory")
	defer from.Close()
	defer to.Close()
	p, err := bus.NewProducer(cfg, deps, telemetry.Nop())
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	newOutbox := func(db *sqldb.DB) *outbox.Outbox {
		o, err := outbox.New(outbox.Config{Owner: "bench"}, outbox.Parts{DB: db, Producer: p, Broker: broker, Deps: deps, Tel: telemetry.Nop(), Source: "order"})
		if err != nil {
			b.Fatal(err)
		}
		return o
	}
	out := newOutbox(from)
	var handled atomic.Int64
	done := make(chan struct{})
	consumer, err := outbox.NewConsumer(outbox.ConsumerConfig{Name: "inventory", Topics: []string{shop.TopicOrders}, Types: []shop.EventType{shop.EventOrderPlaced}},
		outbox.ConsumerParts{DB: to, Outbox: newOutbox(to), Bus: cfg, Deps: deps, Tel: telemetry.Nop()},
		func(_ context.Context, tx *sqldb.Tx, events []shop.Event) error {
			tx.AfterCommit(func() {
				if handled.Add(int64(len(events))) == int64(b.N) {
					close(done)
				}
			})
			return nil
		})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 2)
	go func() { ended <- out.Run(ctx) }()
	go func() { ended <- consumer.Run(ctx) }()
	data := []byte(`{"order":"` + strings.Repeat("x", 1000) + `"}`)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	for n := 0; n < b.N; {
		events := make([]shop.Event, min(batch, b.N-n))
		for i := range events {
			events[i] = shop.Event{Type: shop.EventOrderPlaced, Topic: shop.TopicOrders, Version: 1, Data: data, OrderID: shop.OrderID(fmt.Sprintf("ord_%026d", (n+i)/perKey))}
		}
		if err := from.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return out.Append(ctx, tx, events...) }); err != nil {
			b.Fatal(err)
		}
		n += len(events)
	}
	<-done
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-us/event")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.StopTimer()
	cancel()
	<-ended
	<-ended
}

// cpu is the time that this process has had of the processors.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
