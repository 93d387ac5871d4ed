package field_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	_ "modernc.org/sqlite" // to break a store from outside

	"holdfast/app/local"
	"holdfast/client"
	embedded "holdfast/embedded/bus"
	"holdfast/shop"
	"holdfast/test/fakes"
	"holdfast/test/harness"
)

// broker is a bus outside of the Holdfast, which the test can take away.
type broker struct {
	*embedded.Broker
	t    *testing.T
	cfg  embedded.Config
	deps shop.Deps
}

func newBroker(t *testing.T, cfg *local.Config) *broker {
	t.Helper()
	b := &broker{t: t, cfg: embedded.Config{Dir: filepath.Join(cfg.Data, "broker")}, deps: fakes.Deps(t)}
	b.start()
	t.Cleanup(func() { b.stop() })
	b.cfg.Addr = b.Addrs()[0]
	cfg.Bus.Seeds = b.Addrs()
	cfg.Bus.SendTimeout = time.Second
	return b
}

func (b *broker) start() {
	b.t.Helper()
	var err error
	if b.Broker, err = embedded.New(b.cfg, b.deps); err != nil {
		b.t.Fatal(err)
	}
}

func (b *broker) stop() {
	b.t.Helper()
	if err := b.Close(); err != nil {
		b.t.Error(err)
	}
}

// reader returns a client of the bus.
func reader(t *testing.T, seeds string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(seeds))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// end is the end of a topic's only partition.
func end(t *testing.T, c *kgo.Client, topic string) int64 {
	t.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	rt, rp := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
	rp.Timestamp, rt.Topic = -1, topic
	rt.Partitions = append(rt.Partitions, rp)
	req.ReplicaID, req.Topics = -1, append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	p := resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		t.Fatal(err)
	}
	return p.Offset
}

// tape reads a topic from its beginning to its end.
func tape(t *testing.T, seeds, topic string) (records []*kgo.Record) {
	t.Helper()
	c := reader(t, seeds, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), harness.Limit)
	defer cancel()
	for last := end(t, c, topic); last > 0; {
		fetched := c.PollFetches(ctx)
		if err := fetched.Err0(); err != nil {
			t.Fatal(err)
		}
		records = append(records, fetched.Records()...)
		if n := len(records); n > 0 && records[n-1].Offset >= last-1 {
			break
		}
	}
	return records
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// inOrder asserts that what came first of each order's events came in the order of their versions, without
// a gap; what comes again does so later.
func inOrder(t *testing.T, records []*kgo.Record) (orders int) {
	t.Helper()
	at := map[string]int{}
	for _, r := range records {
		version, err := strconv.Atoi(header(r, "ce_version"))
		if err != nil {
			t.Fatal(err)
		}
		if key := string(r.Key); version == at[key]+1 {
			at[key] = version
		} else if version > at[key] {
			t.Errorf("%s: version %d overtook version %d", key, version, at[key]+1)
		}
	}
	return len(at)
}

// many places n orders at once.
func many(t *testing.T, s *harness.System, n int) (ids []shop.OrderID) {
	t.Helper()
	ids = make([]shop.OrderID, n)
	var group sync.WaitGroup
	for i := range ids {
		group.Go(func() {
			p, err := s.PlaceOrder(t.Context(), client.NewKey(), harness.Command("tok_ok", "10115", harness.Line("TEA", 1)), 0)
			if err != nil {
				t.Error(err)
			}
			ids[i] = p.Order.ID
		})
	}
	group.Wait()
	return ids
}

func fulfilled(t *testing.T, s *harness.System, ids []shop.OrderID) {
	t.Helper()
	for _, id := range ids {
		s.Until(t, id, shop.Fulfilled)
	}
}

// failing tells whether events have been sent in vain.
func failing(t *testing.T, s *harness.System) bool {
	t.Helper()
	return opened(t, s, "bus.send") || s.Policy(t, "bus.send", "breaker").Failures > 0
}

func TestField_eshopOC1340_OutboxRelay(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		b := newBroker(t, &cfg)
		s := started(t, cfg)
		b.stop()
		ids := many(t, s, 30)
		harness.Eventually(t, "sends fail", func() bool { return failing(t, s) })
		if err := s.Stop(); err != nil { // with all of it unsent
			t.Fatal(err)
		}
		b.start()
		s = harness.Start(t, cfg)
		fulfilled(t, s, append(ids, many(t, s, 5)...))
		if n := inOrder(t, tape(t, cfg.Bus.Seeds[0], shop.TopicOrders)); n != 35 {
			t.Errorf("events of %d orders are on the bus, want 35", n)
		}
		s.Verify(t)
	})
}

func TestField_otel1590_BrokerRestart(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		b := newBroker(t, &cfg)
		s := started(t, cfg)
		ids := many(t, s, 10)
		for range 2 {
			b.stop()
			began := time.Now()
			ids = append(ids, many(t, s, 20)...)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("20 orders took %s without a broker", took)
			}
			harness.Eventually(t, "sends fail", func() bool { return failing(t, s) })
			b.start()
			ids = append(ids, many(t, s, 5)...)
			fulfilled(t, s, ids)
		}
		s.Verify(t)
	})
}

// An event that no consumer can read among good ones, and events that nobody can handle for a while.
func TestField_eshop_AckOnException(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		newBroker(t, &cfg)
		s := started(t, cfg)
		s.Refuse(t, "inventory-store.write", true)
		waiting := many(t, s, 10)
		harness.Eventually(t, "handling fails", func() bool { return s.Policy(t, "inventory-store.write", "breaker").Rejected >= 6 }) // more than an event's attempts
		s.Refuse(t, "inventory-store.write", false)
		fulfilled(t, s, waiting)

		poison := &kgo.Record{Topic: shop.TopicOrders, Key: []byte("ord_poison"), Value: []byte(`{"order": "nonsense"}`), Headers: []kgo.RecordHeader{
			{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte("evt_poison")}, {Key: "ce_type", Value: []byte(shop.EventOrderPlaced)},
			{Key: "ce_source", Value: []byte("order")}, {Key: "ce_version", Value: []byte("1")}, {Key: "content-type", Value: []byte("application/json")}}}
		c := reader(t, cfg.Bus.Seeds[0])
		if err := c.ProduceSync(t.Context(), poison).FirstErr(); err != nil {
			t.Fatal(err)
		}
		fulfilled(t, s, many(t, s, 10))
		dead := shop.DeadLetters(shop.TopicOrders)
		harness.Eventually(t, "a dead letter", func() bool { return end(t, c, dead) > 0 })
		letters := tape(t, cfg.Bus.Seeds[0], dead)
		l := letters[0]
		if len(letters) != 1 || string(l.Value) != string(poison.Value) || header(l, "ce_id") != "evt_poison" || header(l, "dlq_consumer") != "inventory" || header(l, "dlq_cause") == "" {
			t.Errorf("%d letters, the first: %s %v", len(letters), l.Value, l.Headers)
		}
		s.Verify(t, "ord_poison") // which the books rightly miss
	})
}

// flaky is a network whose connections to one address break after so many writes, each time that it dials.
type flaky struct {
	fakes.Net
	to     string
	writes atomic.Int64 // that a connection lasts; 0: for ever
	broken atomic.Int64
}

func (f *flaky) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := f.Net.DialContext(ctx, network, address)
	if err != nil || address != f.to {
		return conn, err
	}
	return &brittle{Conn: conn, f: f}, nil
}

type brittle struct {
	net.Conn
	f *flaky
	n atomic.Int64
}

// Write breaks before or after the bytes have gone: then the broker has them, and its answer is lost.
func (b *brittle) Write(p []byte) (int, error) {
	limit, n := b.f.writes.Load(), b.n.Add(1)
	if limit == 0 || n < limit {
		return b.Conn.Write(p)
	}
	if b.f.broken.Add(1)%2 == 0 {
		_, _ = b.Conn.Write(p)
	}
	_ = b.Conn.Close()
	return 0, net.ErrClosed
}

func TestField_dekaf3054_OvertakeAfterFailure(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		b := newBroker(t, &cfg)
		broken := &flaky{to: b.Addrs()[0]}
		deps := fakes.Deps(t)
		deps.Net = broken
		s := harness.StartWith(t, cfg, deps)
		s.Item(t, "TEA", 450, 1000)
		broken.writes.Store(12)
		ids := many(t, s, 60)
		harness.Eventually(t, "connections break", func() bool { return broken.broken.Load() > 20 })
		broken.writes.Store(0)
		fulfilled(t, s, ids)
		for _, topic := range []string{shop.TopicOrders, shop.TopicInventory, shop.TopicPayments, shop.TopicShipping} {
			if n := inOrder(t, tape(t, cfg.Bus.Seeds[0], topic)); n != len(ids) {
				t.Errorf("%s: events of %d orders, want %d", topic, n, len(ids))
			}
		}
		s.Verify(t)
	})
}

// skip commits the end of a topic for a group that does not run: what lies before it is lost to the group.
func skip(t *testing.T, seeds, group, topic string) {
	t.Helper()
	c := reader(t, seeds, kgo.MaxVersions(kversion.V2_3_0())) // later ones name topics by their ids
	req := kmsg.NewPtrOffsetCommitRequest()
	rt, rp := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Offset, rt.Topic = end(t, c, topic), topic
	rt.Partitions = append(rt.Partitions, rp)
	req.Group, req.Generation, req.Topics = group, -1, append(req.Topics, rt)
	harness.Eventually(t, "the group is gone", func() bool { // it leaves a moment after its members stop
		resp, err := req.RequestWith(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode) == nil
	})
}

func TestField_ftgo111_StuckPending(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		newBroker(t, &cfg)
		cfg.Order.WatchEvery, cfg.Order.RedriveAfter = 100*time.Millisecond, 3*time.Second
		cfg.Bus.SendTimeout = 5 * time.Second
		s := started(t, cfg)
		s.Refuse(t, "inventory-store.write", true)
		ids := many(t, s, 5)
		c := reader(t, cfg.Bus.Seeds[0])
		harness.Eventually(t, "the orders are on the bus", func() bool { return end(t, c, shop.TopicOrders) >= 5 })
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		before := end(t, c, shop.TopicOrders)
		skip(t, cfg.Bus.Seeds[0], "inventory", shop.TopicOrders)
		s = harness.Start(t, cfg)
		fulfilled(t, s, ids)
		redriven := 0
		var lost []shop.OrderID // events, which the books rightly miss
		for _, r := range tape(t, cfg.Bus.Seeds[0], shop.TopicOrders) {
			switch {
			case r.Offset < before:
				lost = append(lost, shop.OrderID(header(r, "ce_id")))
			case header(r, "ce_type") == string(shop.EventOrderRedriven):
				redriven++
			}
		}
		if redriven < len(ids) {
			t.Errorf("%d orders were driven again, want %d: their events were not lost", redriven, len(ids))
		}
		s.Verify(t, lost...)
	})
}

// The order's row cannot be stored although everything before it in the transaction was fine.
func TestField_awsretail_PublishBeforeCommit(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		newBroker(t, &cfg)
		s := started(t, cfg)
		good := many(t, s, 5)
		fulfilled(t, s, good)
		mend := breakCommits(t, cfg)
		for i := range 5 {
			p, err := s.PlaceOrder(t.Context(), fmt.Sprint("refused-", i), harness.Command("tok_ok", "10115", harness.Line("TEA", 1)), 0)
			if err == nil {
				t.Errorf("%s was accepted and cannot be stored", p.Order.ID)
			}
		}
		mend()
		good = append(good, many(t, s, 3)...)
		fulfilled(t, s, good)
		known := map[string]bool{}
		for _, id := range good {
			known[string(id)] = true
		}
		for _, r := range tape(t, cfg.Bus.Seeds[0], shop.TopicOrders) {
			if !known[string(r.Key)] {
				t.Errorf("%s of %s is on the bus, and there is no such order", header(r, "ce_type"), r.Key)
			}
		}
		s.Verify(t)
	})
}

// breakCommits has the order store refuse the last statement of a transaction that stores an order: on
// PostgreSQL the commit itself, on SQLite the row of the outbox.
func breakCommits(t *testing.T, cfg local.Config) (mend func()) {
	t.Helper()
	driver, dsn := "sqlite", filepath.Join(cfg.Data, "order.db")+"?_pragma=busy_timeout(10000)"
	breaks, mends := []string{`CREATE TRIGGER broken AFTER INSERT ON outbox_unsent BEGIN SELECT RAISE(ABORT, 'broken by a test'); END`}, []string{`DROP TRIGGER broken`}
	if cfg.Store.Driver == "postgres" {
		driver, dsn = "pgx", strings.ReplaceAll(cfg.Store.DSN, "{service}", "order")
		breaks = []string{`CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''broken by a test''; END'`,
			`CREATE CONSTRAINT TRIGGER broken AFTER INSERT ON outbox DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION broken()`}
		mends = []string{`DROP TRIGGER broken ON outbox`, `DROP FUNCTION broken`}
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	run := func(statements []string) {
		for _, s := range statements {
			if _, err := db.ExecContext(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(breaks)
	return func() { run(mends) }
}
