package bus_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"holdfast/platform/bus"
	"holdfast/shop"
	"holdfast/test/engines"
	"holdfast/test/fakes"
)

func sub(topics ...string) bus.Subscription {
	return bus.Subscription{Group: "payment", Topics: topics}
}

func TestConsumeFromTheBeginningAndOnlyOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *broker) {
		p := producer(t, config(c))
		mustSend(t, p, event("one", 1, 1), event("one", 1, 2))
		ids := make(chan string, 10)
		consumer, stop := consume(t, config(c), sub("one"), collect(ids))
		if got := next(t, ids, 2); !slices.Equal(got, []string{"evt_1_1", "evt_1_2"}) {
			t.Fatalf("got %v", got)
		}
		if err := consumer.Ready(testContext(t)); err != nil {
			t.Error(err)
		}
		stop()
		if consumer.Ready(testContext(t)) == nil {
			t.Error("ready although it has stopped")
		}
		mustSend(t, p, event("one", 1, 3))
		consume(t, config(c), sub("one"), collect(ids))
		if got := next(t, ids, 1); !slices.Equal(got, []string{"evt_1_3"}) {
			t.Fatalf("after a restart: %v", got)
		}
	})
}

func TestOffsetsAreCommittedAfterTheHandler(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *broker) {
		mustSend(t, producer(t, config(c)), event("one", 1, 1), event("one", 1, 2))
		entered := make(chan struct{}, 100)
		_, stop := consume(t, config(c), sub("one"), func(ctx context.Context, _ bus.Batch) error {
			entered <- struct{}{}
			<-ctx.Done()
			return ctx.Err() // as a process that is killed: it has not handled them
		})
		<-entered
		stop()
		ids := make(chan string, 10)
		consume(t, config(c), sub("one"), collect(ids))
		if got := next(t, ids, 2); !slices.Equal(got, []string{"evt_1_1", "evt_1_2"}) {
			t.Fatalf("got %v", got)
		}
	})
}

func TestFailedBatchComesAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *broker) {
		mustSend(t, producer(t, config(c)), event("one", 1, 1), event("one", 1, 2))
		ids := make(chan string, 10)
		var mu sync.Mutex
		failures := 0
		consume(t, config(c), sub("one"), func(ctx context.Context, b bus.Batch) error {
			mu.Lock()
			defer mu.Unlock()
			if failures++; failures <= 3 {
				return errors.New("not now")
			}
			return collect(ids)(ctx, b)
		})
		if got := next(t, ids, 2); !slices.Equal(got, []string{"evt_1_1", "evt_1_2"}) {
			t.Fatalf("got %v", got)
		}
	})
}

func TestBatchIsBounded(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *broker) {
		var events []shop.Event
		for n := range 25 {
			events = append(events, event("one", 1, n))
		}
		mustSend(t, producer(t, config(c)), events...)
		cfg := config(c)
		cfg.Batch = 10
		sizes := make(chan int, 100)
		consume(t, cfg, sub("one"), func(_ context.Context, b bus.Batch) error {
			sizes <- len(b.Records)
			return nil
		})
		for total := 0; total < 25; {
			n := <-sizes
			if n > 10 {
				t.Fatalf("a batch of %d", n)
			}
			total += n
		}
	})
}

func TestUndecodableRecord(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *broker) {
		raw, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		bad := &kgo.Record{Topic: c.prefix + "one", Key: []byte("k\xff"), Value: []byte("no JSON"), Headers: []kgo.RecordHeader{{Key: "ce_id", Value: []byte("7")}, {Key: "x", Value: []byte("y")}}}
		if err := raw.ProduceSync(testContext(t), bad).FirstErr(); err != nil {
			t.Fatal(err)
		}
		mustSend(t, producer(t, config(c)), event("one", 1, 1))
		records := make(chan bus.Record, 10)
		consume(t, config(c), sub("one"), func(_ context.Context, b bus.Batch) error {
			for _, r := range b.Records {
				records <- r
			}
			return nil
		})
		first, second := <-records, <-records
		if shop.KindOf(first.Err) != shop.Invalid || string(first.Event.Data) != "no JSON" || first.Event.OrderID != "k\uFFFD" ||
			first.Event.Headers["ce_id"] != "7" || first.Event.Headers["x"] != "y" || first.Offset != 0 {
			t.Errorf("undecodable: %+v", first)
		}
		if second.Err != nil || second.Event.ID != "evt_1_1" || second.Offset != 1 {
			t.Errorf("the next one: %+v", second)
		}
	})
}

func TestGroupShares(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *broker) {
		type delivery struct {
			id   string
			who  int
			with int64
		}
		got := make(chan delivery, 10_000)
		handler := func(who int) bus.Handler {
			return func(_ context.Context, b bus.Batch) error {
				for _, r := range b.Records {
					got <- delivery{string(r.Event.ID), who, b.Assignment}
				}
				return nil
			}
		}
		p := producer(t, config(c))
		_, stopFirst := consume(t, config(c), sub("orders"), handler(1))
		consume(t, config(c), sub("orders"), handler(2))
		sent, seen := 0, map[string]int{}
		who := map[int]bool{}
		last := map[int]int64{}
		// Events go on until both have had some; then one leaves, and the other has to get all.
		left := false
		for ctx := testContext(t); ; {
			if ctx.Err() != nil {
				t.Fatalf("of %d events %d came, to %v", sent, len(seen), who)
			}
			sent++
			mustSend(t, p, event("orders", sent%16, sent))
			for len(seen) < sent {
				select {
				case d := <-got:
					seen[d.id]++
					who[d.who] = true
					if d.with < last[d.who] {
						t.Fatalf("assignment went back from %d to %d", last[d.who], d.with)
					}
					last[d.who] = d.with
				case <-ctx.Done():
					t.Fatalf("of %d events %d came, to %v", sent, len(seen), who)
				}
			}
			if who[1] && who[2] && !left {
				stopFirst()
				left, who = true, map[int]bool{}
				sent += 0
			} else if left && sent%64 == 0 {
				break
			}
		}
		for id, times := range seen {
			if times != 1 {
				t.Errorf("%s came %d times though nobody was killed", id, times)
			}
		}
	})
}

// TestWaitingMemberDoesNotHoldUpTheGroup has a member fail for ever; another joins, and gets the
// partitions that the group gives it while the first still waits.
func TestWaitingMemberDoesNotHoldUpTheGroup(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *broker) {
		p := producer(t, config(c))
		for key := range 16 {
			mustSend(t, p, event("orders", key, 1))
		}
		failing := make(chan []string, 1000)
		consume(t, config(c), sub("orders"), func(_ context.Context, b bus.Batch) error {
			var tried []string
			for _, r := range b.Records {
				tried = append(tried, string(r.Event.ID))
			}
			failing <- tried
			return errors.New("the store is down")
		})
		<-failing
		ids := make(chan string, 100)
		consume(t, config(c), sub("orders"), collect(ids))
		moved := next(t, ids, 1)[0]
		for ctx := testContext(t); ; {
			select {
			case tried := <-failing: // what it has lost it does not try any more; a first batch may not have had it
				if !slices.Contains(tried, moved) {
					return
				}
			case <-ctx.Done():
				t.Fatal("the first member still tries all")
			}
		}
	})
}

func TestConsumeSurvivesBrokerRestart(t *testing.T) {
	t.Parallel()
	for _, kind := range engines.Buses {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			c := ownBroker(t, kind)
			cfg := config(c)
			ids := make(chan string, 10)
			p := producer(t, cfg)
			consume(t, cfg, sub("one"), collect(ids))
			mustSend(t, p, event("one", 1, 1))
			next(t, ids, 1)
			c.kill()
			c.again()
			for ctx := testContext(t); p.Send(ctx, []shop.Event{event("one", 1, 2)})[0] != nil; {
				if ctx.Err() != nil {
					t.Fatal("the producer does not come back")
				}
			}
			for id := ""; id != "evt_1_2"; { // the first may come again
				id = next(t, ids, 1)[0]
			}
		})
	}
}

// TestOffsetOutOfRange has the group's offset fall out of the log on either side: nothing that is still
// there may be left out.
func TestOffsetOutOfRange(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		commit int64
		cut    int64
		want   []string
	}{
		"before its start": {0, 2, []string{"evt_1_2", "evt_1_3"}},
		"beyond its end":   {99, 0, []string{"evt_1_0", "evt_1_1", "evt_1_2", "evt_1_3"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, c *broker) {
				for n := range 4 {
					mustSend(t, producer(t, config(c)), event("one", 1, n))
				}
				admin, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
				if err != nil {
					t.Fatal(err)
				}
				defer admin.Close()
				commitOffset(t, admin, c.prefix, tt.commit)
				if tt.cut > 0 {
					deleteBelow(t, admin, c.prefix, tt.cut)
				}
				ids := make(chan string, 10)
				consume(t, config(c), sub("one"), collect(ids))
				if got := next(t, ids, len(tt.want)); !slices.Equal(got, tt.want) {
					t.Errorf("got %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func commitOffset(t *testing.T, cl *kgo.Client, prefix string, offset int64) {
	t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = prefix+"payment", -1
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID = prefix+"one", topicID(t, cl, prefix+"one")
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Offset = offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(testContext(t), cl)
	if err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatal(err, resp)
	}
}

func topicID(t *testing.T, cl *kgo.Client, topic string) [16]byte {
	t.Helper()
	req := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(testContext(t), cl)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Topics[0].TopicID
}

func deleteBelow(t *testing.T, cl *kgo.Client, prefix string, offset int64) {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 1000
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = prefix + "one"
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Offset = offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	if _, err := req.RequestWith(testContext(t), cl); err != nil {
		t.Fatal(err)
	}
}

// TestStaticMemberComesBackAtOnce kills a member, which says no goodbye: with an instance id its
// partitions are its own again, long before its session is over.
func TestStaticMemberComesBackAtOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *broker) {
		cfg := config(c)
		cfg.InstanceID, cfg.Session = "payment-0", 20*time.Second
		ids := make(chan string, 10)
		_, stop := consume(t, cfg, sub("one"), collect(ids)) // a static member never says goodbye
		p := producer(t, cfg)
		mustSend(t, p, event("one", 1, 1))
		next(t, ids, 1)
		stop()
		mustSend(t, p, event("one", 1, 2))
		begun := time.Now()
		consume(t, cfg, sub("one"), collect(ids))
		if got := next(t, ids, 1)[0]; got != "evt_1_2" {
			t.Fatal(got)
		}
		if d := time.Since(begun); d > cfg.Session/2 {
			t.Errorf("it took %v", d)
		}
	})
}

// TestPrefix has two Holdfasts on one bus, with the same topics and the same group.
func TestPrefix(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	for _, prefix := range []string{"a.", "b."} {
		own := &broker{addrs: c.addrs, prefix: prefix}
		if err := bus.EnsureTopics(testContext(t), config(own), fakes.Deps(t), []bus.TopicSpec{{Name: "one", Partitions: 1, Replicas: 1}}); err != nil {
			t.Fatal(err)
		}
		mustSend(t, producer(t, config(own)), event("one", 1, 1))
		records := make(chan bus.Record, 10)
		consume(t, config(own), sub("one"), func(_ context.Context, b bus.Batch) error {
			for _, r := range b.Records {
				records <- r
			}
			return nil
		})
		if r := <-records; r.Err != nil || r.Offset != 0 || r.Event.Topic != "one" {
			t.Errorf("%s: got %+v", prefix, r)
		}
	}
}

// TestSessionRefused has brokers that do not allow the session: the process is told which setting it is.
func TestSessionRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *broker) {
		cfg := config(b)
		cfg.Session = 500 * time.Millisecond
		c, err := bus.NewConsumer(cfg, bus.Subscription{Group: "g", Topics: []string{"orders"}}, fakes.Deps(t))
		if err != nil {
			t.Fatal(err)
		}
		err = c.Run(testContext(t), func(context.Context, bus.Batch) error { return nil })
		if shop.KindOf(err) != shop.Invalid || !strings.Contains(err.Error(), "bus.session_timeout") {
			t.Errorf("got %v", err)
		}
	})
}

func TestNewConsumerValidates(t *testing.T) {
	t.Parallel()
	for _, s := range []bus.Subscription{{Group: "", Topics: []string{"one"}}, {Group: "g"}} {
		if _, err := bus.NewConsumer(bus.Config{Seeds: []string{"127.0.0.1:1"}}, s, fakes.Deps(t)); err == nil {
			t.Errorf("%v is accepted", s)
		}
	}
	if _, err := bus.NewConsumer(bus.Config{}, sub("one"), fakes.Deps(t)); err == nil {
		t.Error("no seeds are accepted")
	}
}
