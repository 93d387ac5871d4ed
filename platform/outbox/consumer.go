package outbox

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"holdfast/platform/bus"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

// Handler takes the effect of events: those of one poll that have not been handled before, in the
// order of the bus, in one transaction. It may run more than once, with only one run committed. An
// error of a retryable kind (shop.Unavailable, say) is tried again for as long as it takes; with any
// other the events are handed over one by one, and the culprit ends as a dead letter.
type Handler func(ctx context.Context, tx *sqldb.Tx, events []shop.Event) error

// ConsumerConfig says what a consumer reads and how patient it is.
type ConsumerConfig struct {
	Name   string           // its group, and its name in the inbox: never change it
	Topics []string         // to read
	Types  []shop.EventType // to handle; others are passed over
	// Asks tells by an event alone whether it asks for anything; one that does not is passed over, too. Nil: all do.
	Asks func(e shop.Event) bool

	Attempts int           `koanf:"attempts"` // of an event before it is a dead letter
	Timeout  time.Duration `koanf:"timeout"`  // for one run of the handler with its transaction
}

// Defaults fills what is zero.
func (c ConsumerConfig) Defaults() ConsumerConfig {
	if c.Attempts == 0 {
		c.Attempts = 5
	}
	if c.Timeout == 0 {
		c.Timeout = 20 * time.Second
	}
	return c
}

// Validate names the first setting that cannot work.
func (c ConsumerConfig) Validate() error {
	switch {
	case c.Name == "":
		return errors.New("consumer: it needs a name")
	case len(c.Topics) == 0 || len(c.Types) == 0:
		return errors.New("consumer: it needs topics and types")
	case c.Attempts < 1:
		return errors.New("consumer: attempts: at least 1")
	case c.Timeout <= 0:
		return errors.New("consumer: timeout: more than 0")
	}
	return nil
}

// ConsumerParts are what a consumer works with. Dead letters go out through the Outbox, whose
// settings for retries and for the inbox count here too.
type ConsumerParts struct {
	DB     *sqldb.DB
	Outbox *Outbox
	Bus    bus.Config
	Deps   shop.Deps
	Tel    *telemetry.Telemetry
}

// Consumer handles events, each once in effect: its id is noted in the transaction of the effect.
type Consumer struct {
	cfg     ConsumerConfig
	parts   ConsumerParts
	deps    shop.Deps
	source  *bus.Consumer
	handler Handler
	types   map[shop.EventType]bool
	metrics *consumerMetrics

	maxMessage int
	assignment int64        // for which parked was loaded
	parked     atomic.Int64 // how many keys are parked, or more; 0 is exact
}

// NewConsumer makes a consumer; Run reads.
func NewConsumer(cfg ConsumerConfig, parts ConsumerParts, h Handler) (*Consumer, error) {
	cfg = cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Consumer{cfg: cfg, parts: parts, deps: parts.Deps, handler: h, types: make(map[shop.EventType]bool), assignment: -1,
		maxMessage: max(parts.Bus.Defaults().MaxMessage, 2*letterRoom)}
	for _, t := range cfg.Types {
		c.types[t] = true
	}
	var err error
	if c.source, err = bus.NewConsumer(parts.Bus, bus.Subscription{Group: cfg.Name, Topics: cfg.Topics}, parts.Deps); err != nil {
		return nil, fmt.Errorf("consumer %s: %w", cfg.Name, err)
	}
	if c.metrics, err = newConsumerMetrics(c); err != nil {
		return nil, fmt.Errorf("consumer %s metrics: %w", cfg.Name, err)
	}
	return c, nil
}

// Ready returns nil once the consumer's group has been joined.
func (c *Consumer) Ready(ctx context.Context) error { return c.source.Ready(ctx) }

// Run handles events until ctx ends; the batch being handled then is let finish.
func (c *Consumer) Run(ctx context.Context) error {
	purging, stop := context.WithCancel(ctx)
	purged := make(chan struct{})
	go func() {
		defer close(purged)
		purgeLoop(purging, c.parts.Outbox, "deleting old inbox rows failed", c.Purge)
	}()
	err := c.source.Run(ctx, c.handle)
	stop() // ctx goes on where the bus refuses the group
	<-purged
	return err
}

// item is a record that concerns this consumer.
type item struct {
	event shop.Event
	id    string // in the inbox
	cause string // why it is a dead letter already: it is no event
	bus.Record
}

// handle handles a batch. An error of it is retryable: the caller comes again with the same records.
func (c *Consumer) handle(ctx context.Context, b bus.Batch) error {
	// An attempt that has begun is finished even where the process is stopping.
	ctx = context.WithoutCancel(ctx)
	if b.Assignment != c.assignment {
		if err := c.loadParked(ctx); err != nil {
			return err
		}
		c.assignment = b.Assignment
	}
	items := c.wanted(b.Records)
	if len(items) == 0 {
		return nil
	}
	ctx, end := c.startSpans(ctx, items)
	err := c.transact(ctx, items)
	if err != nil && !retryable(err) && len(items) > 1 {
		c.metrics.retries.Add(ctx, int64(len(items)), c.metrics.consumer)
		c.deps.Log.WarnContext(ctx, "a batch of events failed and is handled one by one", "consumer", c.cfg.Name, "events", len(items), "err", err)
		err = nil
		for i := range items {
			if err = c.single(ctx, items[i:i+1], 0); err != nil {
				break
			}
		}
	} else if err != nil && !retryable(err) {
		err = c.single(ctx, items, 1)
	}
	end(err)
	if err != nil {
		c.assignment = -1 // partitions may go and come before the next attempt
		c.metrics.retries.Add(ctx, int64(len(items)), c.metrics.consumer)
	}
	return err
}

// wanted selects what concerns this consumer: events of its types, and what is no event.
func (c *Consumer) wanted(records []bus.Record) []item {
	items := make([]item, 0, len(records))
	for i := range records {
		r := &records[i]
		switch {
		case r.Err != nil:
			items = append(items, item{event: r.Event, id: rawID(r), cause: r.Err.Error(), Record: *r})
		case c.types[r.Event.Type] && (c.cfg.Asks == nil || c.cfg.Asks(r.Event)):
			items = append(items, item{event: r.Event, id: string(r.Event.ID), Record: *r})
		}
	}
	return items
}

// single handles one event that has failed so often already, until it is handled or a dead letter. An
// error of it is retryable.
func (c *Consumer) single(ctx context.Context, one []item, failures int) error {
	var err error
	for ; failures < c.cfg.Attempts; failures++ {
		if failures > 0 {
			c.metrics.retries.Add(ctx, 1, c.metrics.consumer)
			if err := c.deps.Clock.Sleep(ctx, c.parts.Outbox.retry.Delay(c.deps.Rand, failures)); err != nil {
				return shop.Wrap(shop.Unavailable, "outbox.Consumer", "it is stopping", err)
			}
		}
		if err = c.transact(ctx, one); err == nil || retryable(err) {
			return err
		}
	}
	e := &one[0].event
	ctx = telemetry.WithOrder(ctx, e.OrderID)
	c.deps.Log.ErrorContext(ctx, "an event cannot be handled: it is a dead letter now and its key is parked",
		"consumer", c.cfg.Name, "event", e.ID, "type", e.Type, "attempts", failures, "err", err)
	if err == nil {
		err = shop.E(shop.Internal, "outbox.Consumer", "it has failed before")
	}
	one[0].cause = err.Error()
	return c.bury(ctx, one[0])
}

// transact handles items in one transaction.
func (c *Consumer) transact(ctx context.Context, items []item) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var fresh, dead int
	err := c.parts.DB.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		todo, err := c.note(ctx, tx, items)
		fresh, dead = len(todo), 0
		if err != nil || len(todo) == 0 {
			return err
		}
		events, letters, err := c.sort(ctx, tx, todo)
		if err != nil {
			return err
		}
		dead = len(letters)
		if err := c.parts.Outbox.Append(ctx, tx, letters...); err != nil {
			return err
		}
		if len(events) == 0 {
			return nil
		}
		return c.call(ctx, tx, events)
	})
	if err != nil {
		return err
	}
	c.metrics.done(ctx, c, items, fresh, dead)
	return nil
}

// call runs the handler. What panics on an event would do so again after every restart.
func (c *Consumer) call(ctx context.Context, tx *sqldb.Tx, events []shop.Event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.deps.Log.ErrorContext(ctx, "a handler panicked", "consumer", c.cfg.Name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = shop.E(shop.Internal, "outbox.Consumer", "the handler panicked")
		}
	}()
	return c.handler(ctx, tx, events)
}

// retryable tells whether the fault may lie with what the handler needs rather than with the event.
func retryable(err error) bool {
	return shop.KindOf(err).Retryable() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
