package bus_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"holdfast/platform/bus"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// patience bounds what a test waits for; none is expected to take it.
const patience = 30 * time.Second

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func producer(t *testing.T, cfg bus.Config) *bus.Producer {
	t.Helper()
	p, err := bus.NewProducer(cfg, fakes.Deps(t), telemetry.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func event(topic string, key, n int) shop.Event {
	return shop.Event{
		ID: shop.EventID(fmt.Sprintf("evt_%d_%d", key, n)), Type: shop.EventOrderPlaced, Source: "order", Topic: topic,
		OrderID: shop.OrderID(fmt.Sprintf("ord_%d", key)), Version: int64(n), Time: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), Data: []byte(`{"a":1}`),
	}
}

func mustSend(t *testing.T, p *bus.Producer, events ...shop.Event) {
	t.Helper()
	for i, err := range p.Send(testContext(t), events) {
		if err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
	}
}

// read returns the ids of the first n records of a topic, as a reader of its own sees them.
func read(t *testing.T, c *broker, topic string, n int) []string {
	t.Helper()
	return readWhile(t, c, topic, func(ids []string) bool { return len(ids) < n })
}

// readUntil returns the ids of a topic up to one.
func readUntil(t *testing.T, c *broker, topic, id string) []string {
	t.Helper()
	return readWhile(t, c, topic, func(ids []string) bool { return !slices.Contains(ids, id) })
}

func readWhile(t *testing.T, c *broker, topic string, more func(ids []string) bool) []string {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(c.prefix+topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var ids []string
	for ctx := testContext(t); more(ids); {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %v: %v", ids, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			e, err := bus.FromRecord(r)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, string(e.ID))
		})
	}
	return ids
}

// port returns an address that was free a moment ago.
func port(t *testing.T) (addr string, number int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String(), ln.Addr().(*net.TCPAddr).Port
}

// consume runs a consumer until the test ends or stop is called, and hands each batch on.
func consume(t *testing.T, cfg bus.Config, sub bus.Subscription, handle bus.Handler) (c *bus.Consumer, stop func()) {
	t.Helper()
	c, err := bus.NewConsumer(cfg, sub, fakes.Deps(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx, handle); err != nil {
			t.Errorf("consumer: %v", err)
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return c, stop
}

// collect hands every event id to a channel.
func collect(ids chan<- string) bus.Handler {
	return func(_ context.Context, b bus.Batch) error {
		for _, r := range b.Records {
			ids <- string(r.Event.ID)
		}
		return nil
	}
}

// next returns the next n ids.
func next(t *testing.T, ids <-chan string, n int) []string {
	t.Helper()
	var got []string
	for ctx := testContext(t); len(got) < n; {
		select {
		case id := <-ids:
			got = append(got, id)
		case <-ctx.Done():
			t.Fatalf("only %d of %d came: %v", len(got), n, got)
		}
	}
	return got
}
