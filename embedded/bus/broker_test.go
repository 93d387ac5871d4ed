package bus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	embedded "holdfast/embedded/bus"
	"holdfast/platform/bus"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/test/fakes"
)

const patience = 30 * time.Second

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, cfg embedded.Config) *embedded.Broker {
	t.Helper()
	b, err := embedded.New(cfg, fakes.Deps(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // it may have been closed already, with its error looked at
	return b
}

func stop(t *testing.T, b *embedded.Broker) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

func client(b *embedded.Broker) bus.Config {
	return bus.Config{Seeds: b.Addrs(), SendTimeout: 2 * time.Second, Commit: 100 * time.Millisecond, Heartbeat: 100 * time.Millisecond}
}

func makeTopics(t *testing.T, b *embedded.Broker) {
	t.Helper()
	if err := bus.EnsureTopics(testContext(t), client(b), fakes.Deps(t), bus.Topics(2, 1)); err != nil {
		t.Fatal(err)
	}
}

func event(key, n int) shop.Event {
	return shop.Event{ID: shop.EventID(fmt.Sprintf("evt_%d_%d", key, n)), Type: shop.EventOrderPlaced, Source: "order", Topic: shop.TopicOrders,
		OrderID: shop.OrderID(fmt.Sprintf("ord_%d", key)), Version: int64(n), Data: []byte(`"` + strings.Repeat("x", 1000) + `"`)}
}

func producer(t *testing.T, b *embedded.Broker) *bus.Producer {
	t.Helper()
	p, err := bus.NewProducer(client(b), fakes.Deps(t), telemetry.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func send(t *testing.T, b *embedded.Broker, events ...shop.Event) []error {
	t.Helper()
	p := producer(t, b)
	defer p.Close()
	return p.Send(testContext(t), events)
}

func mustSend(t *testing.T, b *embedded.Broker, events ...shop.Event) {
	t.Helper()
	for i, err := range send(t, b, events...) {
		if err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
	}
}

// consume reads n events as a group and commits them.
func consume(t *testing.T, b *embedded.Broker, n int) []string {
	t.Helper()
	c, err := bus.NewConsumer(client(b), bus.Subscription{Group: "payment", Topics: []string{shop.TopicOrders}}, fakes.Deps(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	var ids []string
	if err := c.Run(ctx, func(_ context.Context, batch bus.Batch) error {
		for _, r := range batch.Records {
			ids = append(ids, string(r.Event.ID))
		}
		if len(ids) >= n {
			cancel()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(ids) < n {
		t.Fatalf("%d of %d events came: %v", len(ids), n, ids)
	}
	return ids
}

func TestOrderlyStop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, embedded.Config{Dir: dir})
	if first.Clean() {
		t.Error("the first start is clean: an outbox that is older than the bus would not send again")
	}
	makeTopics(t, first)
	mustSend(t, first, event(1, 1), event(1, 2))
	if got := consume(t, first, 2); !slices.Equal(got, []string{"evt_1_1", "evt_1_2"}) {
		t.Fatal(got)
	}
	stop(t, first)
	second := start(t, embedded.Config{Dir: dir})
	if !second.Clean() || second.Incarnation() != first.Incarnation() {
		t.Errorf("clean %v, log %s, was %s", second.Clean(), second.Incarnation(), first.Incarnation())
	}
	mustSend(t, second, event(1, 3))
	if got := consume(t, second, 1); !slices.Equal(got, []string{"evt_1_3"}) {
		t.Errorf("after the restart: %v", got)
	}
}

// TestHelperBroker is the process that TestKill kills. It is no test.
func TestHelperBroker(t *testing.T) {
	dir := os.Getenv("HOLDFAST_BROKER_DIR")
	if dir == "" {
		t.Skip("run by TestKill")
	}
	b := start(t, embedded.Config{Dir: dir})
	makeTopics(t, b)
	mustSend(t, b, event(1, 1), event(2, 1))
	c, err := bus.NewConsumer(client(b), bus.Subscription{Group: "payment", Topics: []string{shop.TopicOrders}}, fakes.Deps(t))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = c.Run(context.Background(), func(context.Context, bus.Batch) error { // as long as the process lives
			mustSend(t, b, event(1, 2))
			fmt.Println("handling")
			select {}
		})
	}()
	select {}
}

// TestKill kills a process with a broker and an active member of a group. The next one has everything
// that was acknowledged, and its member need not wait for the session of the dead one.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.CommandContext(testContext(t), os.Args[0], "-test.run=^TestHelperBroker$", "-test.v")
	cmd.Env = append(os.Environ(), "HOLDFAST_BROKER_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var told []byte
	for buf := make([]byte, 4096); !strings.Contains(string(told), "handling"); {
		n, err := out.Read(buf)
		told = append(told, buf[:n]...)
		if err != nil {
			t.Fatalf("%v: %s", err, told)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	begun := time.Now()
	b := start(t, embedded.Config{Dir: dir})
	if b.Clean() {
		t.Error("clean after a kill")
	}
	got := consume(t, b, 3)
	if d := time.Since(begun); d > client(b).Defaults().Session/2 {
		t.Errorf("it took %v", d)
	}
	t.Logf("from the start of the broker to the end of its consumer: %v", time.Since(begun))
	slices.Sort(got)
	if !slices.Equal(got, []string{"evt_1_1", "evt_1_2", "evt_2_1"}) {
		t.Errorf("got %v", got)
	}
}

// crash leaves the directory as a crash would: closed, and without the note that it was in order.
func crash(t *testing.T, b *embedded.Broker, dir string) {
	t.Helper()
	stop(t, b)
	path := filepath.Join(dir, "broker.json")
	var state map[string]any
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &state)
	}
	if err != nil {
		t.Fatal(err)
	}
	state["clean"] = false
	data, err = json.Marshal(state)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func segments(t *testing.T, dir string, b *embedded.Broker) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, b.Incarnation(), "partitions", "orders-*", "*.dat"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestLostTail cuts off the end of the log behind what a group has committed, as a power cut may: what
// is sent next must not be left out.
func TestLostTail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, embedded.Config{Dir: dir})
	makeTopics(t, first)
	for n := range 5 {
		mustSend(t, first, event(1, n))
	}
	consume(t, first, 5)
	crash(t, first, dir)
	cut := 0
	for _, path := range segments(t, dir, first) {
		if info, err := os.Stat(path); err != nil {
			t.Fatal(err)
		} else if info.Size() > 0 {
			cut++
			if err := os.Truncate(path, info.Size()/2); err != nil {
				t.Fatal(err)
			}
		}
	}
	if cut != 1 {
		t.Fatalf("%d files were cut", cut)
	}
	second := start(t, embedded.Config{Dir: dir})
	if second.Clean() || second.Incarnation() != first.Incarnation() {
		t.Fatalf("clean %v, log %s, was %s", second.Clean(), second.Incarnation(), first.Incarnation())
	}
	for n := 5; n < 12; n++ {
		mustSend(t, second, event(1, n))
	}
	want := []string{"evt_1_5", "evt_1_6", "evt_1_7", "evt_1_8", "evt_1_9", "evt_1_10", "evt_1_11"}
	if got := consume(t, second, len(want)); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// TestDamage has the broker find what it cannot read.
func TestDamage(t *testing.T) {
	t.Parallel()
	write := func(path ...string) func(*testing.T, string, string) {
		return func(t *testing.T, dir, log string) {
			t.Helper()
			name := filepath.Join(append([]string{dir}, path...)...)
			name = strings.ReplaceAll(name, "LOG", log)
			if err := os.WriteFile(name, []byte("{garbage"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, damage := range map[string]func(t *testing.T, dir, log string){
		"state":  write("broker.json"),
		"meta":   write("LOG", "meta.json"),
		"topics": write("LOG", "topics.json"),
		"no topics any more": func(t *testing.T, dir, log string) {
			if err := os.Remove(filepath.Join(dir, log, "topics.json")); err != nil {
				t.Fatal(err)
			}
		},
		"all gone": func(t *testing.T, dir, _ string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "bus")
			first := start(t, embedded.Config{Dir: dir})
			makeTopics(t, first)
			mustSend(t, first, event(1, 1))
			crash(t, first, dir)
			damage(t, dir, first.Incarnation())
			second := start(t, embedded.Config{Dir: dir})
			if second.Clean() || second.Incarnation() == first.Incarnation() {
				t.Errorf("clean %v, log %s, was %s", second.Clean(), second.Incarnation(), first.Incarnation())
			}
			makeTopics(t, second)
			mustSend(t, second, event(1, 2))
			if got := consume(t, second, 1); !slices.Equal(got, []string{"evt_1_2"}) {
				t.Errorf("got %v", got)
			}
			if _, err := os.Stat(filepath.Join(dir, first.Incarnation())); err != nil && name != "all gone" {
				t.Errorf("the damaged log was not left for whoever wants to see it: %v", err)
			}
		})
	}
}

// TestOldLogsGo damages one log after the other: the disk holds only the youngest of them.
func TestOldLogsGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 4 {
		b := start(t, embedded.Config{Dir: dir})
		makeTopics(t, b)
		mustSend(t, b, event(1, 1))
		stop(t, b)
		if err := os.WriteFile(filepath.Join(dir, b.Incarnation(), "meta.json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	logs, err := filepath.Glob(filepath.Join(dir, "log_*"))
	if err != nil || len(logs) != 2 {
		t.Errorf("logs %v, %v", logs, err)
	}
}

// TestCutOffCleanLog has the broker cut off what it cannot read although its last stop was orderly.
func TestCutOffCleanLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, embedded.Config{Dir: dir})
	makeTopics(t, first)
	mustSend(t, first, event(1, 1))
	stop(t, first)
	for _, path := range segments(t, dir, first) {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString("garbage at the end of it, long enough for a header")
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if start(t, embedded.Config{Dir: dir}).Clean() {
		t.Error("clean")
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dir := t.TempDir()
	_, err = embedded.New(embedded.Config{Dir: dir, Addr: ln.Addr().String()}, fakes.Deps(t))
	if err == nil || !strings.Contains(err.Error(), ln.Addr().String()) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("error %v", err)
	}
}

func TestAddr(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	b := start(t, embedded.Config{Addr: addr})
	if got := b.Addrs(); !slices.Equal(got, []string{addr}) {
		t.Errorf("listening on %v, want %s", got, addr)
	}
	if err := b.Ready(testContext(t)); err != nil {
		t.Error(err)
	}
}

func TestInMemory(t *testing.T) {
	t.Parallel()
	b := start(t, embedded.Config{})
	makeTopics(t, b)
	mustSend(t, b, event(1, 1))
	if b.Clean() || b.Incarnation() == "" || b.Sync() != nil || b.Trim(testContext(t)) != nil {
		t.Error("in memory")
	}
	consume(t, b, 1)
	stop(t, b)
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	good := embedded.Config{}.Defaults()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*embedded.Config){
		"addr: ": func(c *embedded.Config) { c.Addr = "here" }, "loopback": func(c *embedded.Config) { c.Addr = "0.0.0.0:9092" },
		"segment_bytes": func(c *embedded.Config) { c.SegmentBytes = 1 }, "retain_bytes": func(c *embedded.Config) { c.RetainBytes = 1 },
		"max_bytes": func(c *embedded.Config) { c.MaxBytes = 1 }, "trim_every": func(c *embedded.Config) { c.TrimEvery = -1 },
		"max_message_bytes": func(c *embedded.Config) { c.MaxMessage = 1 },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// logStart returns the first offset of each partition of topic orders that there still is.
func logStart(t *testing.T, b *embedded.Broker) map[int32]int64 {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = shop.TopicOrders
	for id := range int32(2) {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = id, -2
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(testContext(t), cl)
	if err != nil {
		t.Fatal(err)
	}
	starts := make(map[int32]int64)
	for _, p := range resp.Topics[0].Partitions {
		starts[p.Partition] = p.Offset
	}
	return starts
}

func size(t *testing.T, paths []string) (n int64) {
	t.Helper()
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n
}
