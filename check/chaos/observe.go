package chaos

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"holdfast/shop"
)

// Headers of an event, as docs and api/events have them.
const (
	headerID   = "ce_id"
	headerType = "ce_type"
	headerTime = "ce_time"
)

// outcome is what the bus says that an order has come to, for the first time.
type outcome struct {
	is shop.EventType
	at time.Time // of the order's transaction
}

// observer reads the topic of orders with a client of its own, from its end on.
type observer struct {
	bus *kgo.Client

	mu       sync.Mutex
	outcomes map[shop.OrderID]outcome
}

// settles are the facts that an order's saga ends with.
var settles = map[shop.EventType]bool{shop.EventOrderConfirmed: true, shop.EventOrderRejected: true, shop.EventOrderCancelled: true, shop.EventOrderNeedsAttention: true}

// observe begins to read. It returns once the end of the topic is known.
func observe(ctx context.Context, seeds string) (*observer, error) {
	c, err := newBus(seeds, kgo.ConsumeTopics(shop.TopicOrders), kgo.ConsumeResetOffset(kgo.NewOffset().AfterMilli(time.Now().UnixMilli())))
	if err != nil {
		return nil, err
	}
	if err := c.Ping(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("the bus at %s: %w", seeds, err)
	}
	return &observer{bus: c, outcomes: map[shop.OrderID]outcome{}}, nil
}

// newBus makes a client of the bus that tries again for ever.
func newBus(seeds string, opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(opts, kgo.SeedBrokers(strings.Split(seeds, ",")...), kgo.ClientID("holdfast-chaos"), kgo.DisableClientMetrics(),
		kgo.RetryBackoffFn(func(int) time.Duration { return backoff }), kgo.MetadataMinAge(time.Second), kgo.FetchMaxWait(fetchWait))...)
}

const (
	backoff   = 200 * time.Millisecond
	fetchWait = 250 * time.Millisecond
)

// run notes outcomes until ctx ends.
func (o *observer) run(ctx context.Context) {
	defer o.bus.Close()
	for ctx.Err() == nil {
		fetches := o.bus.PollFetches(ctx)
		o.mu.Lock()
		fetches.EachRecord(func(r *kgo.Record) {
			is := shop.EventType(header(r, headerType))
			id := shop.OrderID(r.Key)
			if _, known := o.outcomes[id]; known || !settles[is] {
				return
			}
			at, err := time.Parse(time.RFC3339Nano, header(r, headerTime))
			if err != nil {
				return // what is no event settles nothing
			}
			o.outcomes[id] = outcome{is, at}
		})
		o.mu.Unlock()
	}
}

// of returns the outcome of an order, if there is one.
func (o *observer) of(id shop.OrderID) (outcome, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	found, ok := o.outcomes[id]
	return found, ok
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
