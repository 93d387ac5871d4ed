package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"holdfast/shop"
)

// echo puts a share of all events on the bus again, after a while and in another order.
type echo struct {
	share float64
	delay time.Duration // at most; each waits for a part of it

	bus  *kgo.Client
	stop func()

	mu    sync.Mutex
	sent  int64
	wrong error
}

// echoed marks what was sent by an echo, which is not echoed again.
const echoed = "chaos-echo"

func (e *echo) Touches() string { return "bus" }

func (e *echo) Describe() string {
	return fmt.Sprintf("%g %% of all events come again, within %s and in another order", 100*e.share, e.delay)
}

func (e *echo) Inject(ctx context.Context, f *Field) error {
	c, err := newBus(f.System.Target().Addresses.Kafka, kgo.ConsumeTopics(shop.Topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AfterMilli(time.Now().UnixMilli())),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	if err := c.Ping(ctx); err != nil {
		c.Close()
		return err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var loop sync.WaitGroup
	e.bus, e.stop = c, func() { cancel(); loop.Wait() }
	// A source of its own: it draws while others do.
	loop.Go(func() { e.run(running, rand.New(rand.NewPCG(f.Rand.Uint64(), 0))) })
	return nil
}

// run holds records back and sends them again in an order that is drawn.
func (e *echo) run(ctx context.Context, random *rand.Rand) {
	var held []*kgo.Record
	for ctx.Err() == nil {
		step, cancel := context.WithTimeout(ctx, e.delay/4)
		e.bus.PollFetches(step).EachRecord(func(r *kgo.Record) {
			if header(r, echoed) == "" && random.Float64() < e.share {
				held = append(held, &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: append(slices.Clone(r.Headers), kgo.RecordHeader{Key: echoed, Value: []byte("1")})})
			}
		})
		cancel()
		random.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
		n := (len(held) + 1) / 2
		e.send(ctx, held[:n])
		held = slices.Clone(held[n:])
	}
}

func (e *echo) send(ctx context.Context, records []*kgo.Record) {
	err := e.bus.ProduceSync(ctx, records...).FirstErr()
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		e.sent += int64(len(records))
	} else if ctx.Err() == nil {
		e.wrong = errors.Join(e.wrong, err)
	}
}

func (e *echo) Heal(context.Context) error {
	if e.bus != nil {
		e.stop()
		e.bus.Close()
		e.bus = nil
	}
	return nil
}

func (e *echo) Bites() (int64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sent, e.wrong
}

// poison puts records on the topic of orders that nobody can handle. It has bitten once they are dead letters.
type poison struct {
	bus     *kgo.Client
	stop    func()
	since   time.Time
	keys    []string
	mu      sync.Mutex
	letters int64
	last    time.Duration // until the last of them was a dead letter
}

func (p *poison) Touches() string { return "bus" }

func (p *poison) Describe() string {
	return fmt.Sprintf("on topic %s, a record that is no event, and an OrderPlaced that cannot be read", shop.TopicOrders)
}

func (p *poison) Inject(ctx context.Context, f *Field) error {
	c, err := newBus(f.System.Target().Addresses.Kafka, kgo.ConsumeTopics(shop.DeadLetters(shop.TopicOrders)), kgo.ConsumeResetOffset(kgo.NewOffset().AfterMilli(time.Now().UnixMilli())))
	if err != nil {
		return err
	}
	id := fmt.Sprintf("poison-%016x", f.Rand.Uint64())
	text := func(name, value string) kgo.RecordHeader { return kgo.RecordHeader{Key: name, Value: []byte(value)} }
	p.since, p.keys = time.Now(), []string{id + "-garbage", id + "-event"}
	records := []*kgo.Record{
		{Topic: shop.TopicOrders, Key: []byte(p.keys[0]), Value: []byte("\x00\xff this is no event")},
		{Topic: shop.TopicOrders, Key: []byte(p.keys[1]), Value: []byte(`{"order_id":[]}`), Headers: []kgo.RecordHeader{
			text("ce_specversion", "1.0"), text(headerID, "evt_"+id), text(headerType, string(shop.EventOrderPlaced)), text("ce_source", "order"),
			text(headerTime, p.since.UTC().Format(time.RFC3339Nano)), text("ce_subject", p.keys[1]), text("ce_version", "1"), text("content-type", "application/json")}},
	}
	for _, key := range append(p.keys, "evt_"+id) {
		f.Expected[key] = true
	}
	if err := c.ProduceSync(ctx, records...).FirstErr(); err != nil {
		c.Close()
		return err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var loop sync.WaitGroup
	p.bus, p.stop = c, func() { cancel(); loop.Wait() }
	loop.Go(func() { p.count(running) })
	return nil
}

// count counts the dead letters of the records.
func (p *poison) count(ctx context.Context) {
	for ctx.Err() == nil {
		p.bus.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			if slices.Contains(p.keys, string(r.Key)) {
				p.mu.Lock()
				p.letters, p.last = p.letters+1, time.Since(p.since)
				p.mu.Unlock()
			}
		})
	}
}

func (p *poison) Heal(context.Context) error {
	if p.bus != nil {
		p.stop()
		p.bus.Close()
		p.bus = nil
	}
	return nil
}

func (p *poison) Bites() (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.letters, nil
}
