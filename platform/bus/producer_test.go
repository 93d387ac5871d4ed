package bus_test

import (
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"holdfast/platform/bus"
	"holdfast/shop"
	"holdfast/test/engines"
	"holdfast/test/fakes"
)

func TestSendKeepsOrder(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *broker) {
		p := producer(t, config(c))
		var events []shop.Event
		for n := range 50 {
			for key := range 10 {
				events = append(events, event("orders", key, n))
			}
		}
		mustSend(t, p, events...)
		seen := map[string]int{}
		for _, id := range read(t, c, "orders", len(events)) {
			var key, n int
			if _, err := fmt.Sscanf(id, "evt_%d_%d", &key, &n); err != nil {
				t.Fatal(err)
			}
			k := fmt.Sprint(key)
			if n != seen[k] {
				t.Fatalf("key %d: event %d, want %d", key, n, seen[k])
			}
			seen[k]++
		}
	})
}

func TestSendOneAnswerLost(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	// The broker appends, and says that it timed out: the producer tries again, and the broker knows it.
	lost := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut})
	p := producer(t, config(c))
	mustSend(t, p, event("one", 1, 1))
	mustSend(t, p, event("one", 1, 2))
	if lost.Hits() != 1 {
		t.Fatal("the answer was not lost")
	}
	if got := read(t, c, "one", 2); !slices.Equal(got, []string{"evt_1_1", "evt_1_2"}) {
		t.Errorf("on the bus: %v", got)
	}
}

func TestSendTooLarge(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *broker) {
		cfg := config(c)
		cfg.MaxMessage = 4096
		p := producer(t, cfg)
		large := event("orders", 1, 1)
		large.Data = []byte(`"` + strings.Repeat("0123456789abcdef", 4096) + `"`)
		errs := p.Send(testContext(t), []shop.Event{large, event("orders", 1, 2), event("orders", 2, 1)})
		var kinds []shop.Kind
		for _, err := range errs[:2] {
			kinds = append(kinds, shop.KindOf(err))
		}
		if want := []shop.Kind{shop.TooLarge, shop.Unavailable}; !reflect.DeepEqual(kinds, want) || errs[2] != nil {
			t.Errorf("errors %v", errs)
		}
	})
}

func TestSendRefusedIsRetryable(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.UnknownServerError}) // a disk full, with kfake
	p := producer(t, config(c))
	errs := p.Send(testContext(t), []shop.Event{event("one", 1, 1)})
	if !shop.KindOf(errs[0]).Retryable() {
		t.Fatalf("error %v", errs[0])
	}
	mustSend(t, p, event("one", 1, 1))
	if got := read(t, c, "one", 1); !slices.Equal(got, []string{"evt_1_1"}) {
		t.Errorf("on the bus: %v", got)
	}
}

func TestSendUnknownTopic(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *broker) {
		p := producer(t, config(c))
		begun := time.Now()
		errs := p.Send(testContext(t), []shop.Event{event("nowhere", 1, 1), event("orders", 1, 1)})
		if shop.KindOf(errs[0]) != shop.Unavailable {
			t.Errorf("error %v", errs[0])
		}
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// TestSendEndsInTime has nobody to talk to: nobody listens, somebody listens and says nothing, and a
// broker that stops answering.
func TestSendEndsInTime(t *testing.T) {
	t.Parallel()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mute.Close() })
	nobody, _ := port(t)
	stuck := cluster(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	stuck.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		stuck.KeepControl()
		stuck.SleepControl(func() { <-release })
		return nil, errors.New("never answered"), true
	})
	for name, addr := range map[string]string{"nobody": nobody, "mute": mute.Addr().String(), "stuck": stuck.ListenAddrs()[0]} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := producer(t, bus.Config{Seeds: []string{addr}, SendTimeout: time.Second})
			for range 2 {
				begun := time.Now()
				errs := p.Send(testContext(t), []shop.Event{event("one", 1, 1), event("one", 2, 1)})
				if d := time.Since(begun); d > 5*time.Second {
					t.Errorf("it took %v", d)
				}
				for _, err := range errs {
					if shop.KindOf(err) != shop.Unavailable {
						t.Errorf("error %v", err)
					}
				}
			}
		})
	}
}

func TestSendSurvivesBrokerRestart(t *testing.T) {
	t.Parallel()
	for _, kind := range engines.Buses {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			c := ownBroker(t, kind)
			cfg := config(c)
			cfg.SendTimeout = time.Second
			p := producer(t, cfg)
			mustSend(t, p, event("one", 1, 1))
			c.kill()
			if err := p.Send(testContext(t), []shop.Event{event("one", 1, 2)})[0]; shop.KindOf(err) != shop.Unavailable {
				t.Fatalf("error %v", err)
			}
			c.again()
			for ctx := testContext(t); ; {
				err := p.Send(ctx, []shop.Event{event("one", 1, 2)})[0]
				if err == nil {
					break
				}
				if ctx.Err() != nil {
					t.Fatal(err)
				}
			}
			if got := read(t, c, "one", 2); !slices.Equal(got, []string{"evt_1_1", "evt_1_2"}) {
				t.Errorf("on the bus: %v", got)
			}
		})
	}
}

// TestSendToPaused has a broker that keeps its connections and does nothing: a Send ends in time, and the
// next one gets through once the broker goes on. The first event may be there by then, and that twice.
func TestSendToPaused(t *testing.T) {
	t.Parallel()
	k := engines.StartKafka(t, engines.KafkaConfig{})
	c := onKafka(t, k)
	cfg := config(c)
	cfg.SendTimeout = time.Second
	p := producer(t, cfg)
	mustSend(t, p, event("one", 1, 1))
	k.Pause(t)
	begun := time.Now()
	if err := p.Send(testContext(t), []shop.Event{event("one", 1, 2)})[0]; shop.KindOf(err) != shop.Unavailable {
		t.Errorf("error %v", err)
	}
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
	k.Resume(t)
	for ctx := testContext(t); p.Send(ctx, []shop.Event{event("one", 1, 3)})[0] != nil; {
		if ctx.Err() != nil {
			t.Fatal("the producer does not come back")
		}
	}
	for _, id := range readUntil(t, c, "one", "evt_1_3") {
		if id == "evt_1_1" || id == "evt_1_2" || id == "evt_1_3" {
			continue
		}
		t.Errorf("on the bus: %s", id)
	}
}

func TestEnsureTopics(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, c *broker) {
		specs := append(bus.Topics(3, 1), bus.TopicSpec{Name: "more", Config: map[string]string{"segment.bytes": "4096"}}) // "orders" exists, with 4
		for range 2 {
			if err := bus.EnsureTopics(testContext(t), config(c), fakes.Deps(t), specs); err != nil {
				t.Fatal(err)
			}
		}
		p := producer(t, config(c))
		for _, topic := range shop.Topics {
			mustSend(t, p, event(topic, 1, 1), event(shop.DeadLetters(topic), 1, 1))
		}
		nobody, _ := port(t)
		ctx := testContext(t)
		if err := bus.EnsureTopics(ctx, bus.Config{Seeds: []string{nobody}, SendTimeout: time.Second}, fakes.Deps(t), specs); shop.KindOf(err) != shop.Unavailable {
			t.Errorf("error %v", err)
		}
	})
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	good := bus.Config{Seeds: []string{"127.0.0.1:1"}}.Defaults()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*bus.Config){
		"seeds": func(c *bus.Config) { c.Seeds = nil }, "send_timeout": func(c *bus.Config) { c.SendTimeout = 1 },
		"max_buffered": func(c *bus.Config) { c.MaxBuffered = -1 }, "max_message_bytes": func(c *bus.Config) { c.MaxMessage = 1 },
		"heartbeat_interval": func(c *bus.Config) { c.Heartbeat = c.Session }, "rebalance_timeout": func(c *bus.Config) { c.Rebalance = -1 },
		"commit_interval": func(c *bus.Config) { c.Commit = 1 }, "batch": func(c *bus.Config) { c.Batch = -1 },
		"prefix": func(c *bus.Config) { c.Prefix = "a/b" }, "retry_min": func(c *bus.Config) { c.RetryMax = 1 },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
