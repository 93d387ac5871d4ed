package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"holdfast/shop"
)

// leaveTimeout bounds the goodbye of a group member, and the last commit before partitions are given away;
// a member that could not say goodbye is missed after Config.Session, and what it could not commit comes again.
const leaveTimeout = 3 * time.Second

// Record is a record of the bus. Where Err is set it is no event, and Event holds what FromRecord
// could say of it.
type Record struct {
	Event     shop.Event
	Err       error
	Partition int32
	Offset    int64
}

// Batch is what one poll brought: records in the order of their partitions.
type Batch struct {
	Records []Record
	// Assignment changes whenever this member has been given partitions: what was remembered of their
	// keys may be out of date.
	Assignment int64
}

// Handler handles a batch. An error means that none of it counts as handled: it is handed over again
// after a while, without the records of partitions that another member has taken over meanwhile.
type Handler func(ctx context.Context, b Batch) error

// Subscription says what a consumer reads, and as which group.
type Subscription struct {
	Group  string
	Topics []string
}

// Consumer is a member of a consumer group. It starts with the oldest record that the group has not
// handled, and offsets are committed only after the handler has returned: a record may come again,
// and none is left out.
type Consumer struct {
	cfg     Config
	deps    shop.Deps
	opts    []kgo.Opt
	retry   Backoff
	joined  atomic.Bool
	changes atomic.Int64

	mu    sync.Mutex
	owned map[partition]bool
}

type partition struct {
	topic string
	id    int32
}

// NewConsumer makes a consumer; Run joins the group.
func NewConsumer(cfg Config, sub Subscription, deps shop.Deps) (*Consumer, error) {
	cfg = cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if sub.Group == "" || len(sub.Topics) == 0 {
		return nil, errors.New("bus: a consumer needs a group and topics")
	}
	c := &Consumer{cfg: cfg, deps: deps, owned: make(map[partition]bool),
		retry: Backoff{Min: cfg.RetryMin, Max: cfg.RetryMax}}
	topics := make([]string, 0, len(sub.Topics))
	for _, name := range sub.Topics {
		topics = append(topics, cfg.Prefix+name)
	}
	opts, err := cfg.Options(deps)
	if err != nil {
		return nil, err
	}
	c.opts = append(opts,
		kgo.ConsumerGroup(cfg.Prefix+sub.Group),
		kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), // rather twice than never
		kgo.SessionTimeout(cfg.Session),
		kgo.HeartbeatInterval(cfg.Heartbeat),
		kgo.RebalanceTimeout(cfg.Rebalance),
		kgo.FetchMaxWait(fetchWait),
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(fetchPartitionBytes),
		kgo.BlockRebalanceOnPoll(),
		kgo.AutoCommitMarks(),
		kgo.AutoCommitInterval(cfg.Commit),
		kgo.OnPartitionsAssigned(c.assigned),
		kgo.OnPartitionsRevoked(c.revoked),
		kgo.OnPartitionsLost(c.lost),
	)
	if cfg.InstanceID != "" {
		c.opts = append(c.opts, kgo.InstanceID(cfg.InstanceID))
	}
	return c, nil
}

// Ready returns nil once the group has been joined.
func (c *Consumer) Ready(context.Context) error {
	if !c.joined.Load() {
		return shop.E(shop.Unavailable, "bus.Consumer", "the consumer group has not been joined yet")
	}
	return nil
}

// Run hands batches to handle until ctx ends. The batch being handled then is let finish. An error names a setting
// that the brokers refuse.
func (c *Consumer) Run(ctx context.Context, handle Handler) error {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	client, err := newClient("bus.Consumer", append(slices.Clip(c.opts), kgo.WithContext(life)))
	if err != nil {
		return err
	}
	defer c.close(life, end, client)
	failures := 0
	for ctx.Err() == nil && err == nil {
		fetches := client.PollRecords(ctx, c.cfg.Batch)
		batch, last := c.decode(fetches)
		if len(batch.Records) > 0 {
			failures = 0
			c.handle(ctx, client, batch, last, handle)
		} else if c.report(ctx, fetches) {
			failures++
			_ = c.deps.Clock.Sleep(ctx, c.retry.Delay(c.deps.Rand, failures)) // Run ends where ctx does
			err = c.refused(fetches)
		}
		client.AllowRebalance()
	}
	return err
}

// refused tells of a setting that no repetition makes good.
func (c *Consumer) refused(fetches kgo.Fetches) (err error) {
	fetches.EachError(func(_ string, _ int32, cause error) {
		if errors.Is(cause, kerr.InvalidSessionTimeout) {
			err = shop.Wrap(shop.Invalid, "bus.Consumer", fmt.Sprintf("bus.session_timeout is %s, which the brokers do not allow; see their group.min.session.timeout.ms", c.cfg.Session), cause)
		}
	})
	return err
}

// decode turns fetches into events, and returns the last record of each partition for the commit.
func (c *Consumer) decode(fetches kgo.Fetches) (Batch, []*kgo.Record) {
	batch := Batch{Records: make([]Record, 0, fetches.NumRecords()), Assignment: c.changes.Load()}
	var last []*kgo.Record
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		for _, r := range p.Records {
			e, err := FromRecord(r)
			e.Topic = strings.TrimPrefix(e.Topic, c.cfg.Prefix)
			batch.Records = append(batch.Records, Record{Event: e, Err: err, Partition: r.Partition, Offset: r.Offset})
		}
		if n := len(p.Records); n > 0 {
			last = append(last, p.Records[n-1])
		}
	})
	return batch, last
}

// handle hands a batch over until it has been handled. Between attempts it lets the group rebalance:
// a member that waits for its store must not hold up the others, and what it loses it forgets.
func (c *Consumer) handle(ctx context.Context, client *kgo.Client, batch Batch, last []*kgo.Record, handle Handler) {
	for failures := 1; len(batch.Records) > 0; failures++ {
		err := handle(ctx, batch)
		if err == nil {
			client.MarkCommitRecords(c.stillOwned(last)...)
			return
		}
		if ctx.Err() != nil {
			return
		}
		c.deps.Log.WarnContext(ctx, "handling a batch of events failed", "events", len(batch.Records), "failures", failures, "err", err)
		client.AllowRebalance()
		if c.deps.Clock.Sleep(ctx, c.retry.Delay(c.deps.Rand, failures)) != nil {
			return
		}
		batch.Records = c.keepOwned(batch.Records)
	}
}

// report logs what a poll without records brought instead, and tells whether it was a failure.
func (c *Consumer) report(ctx context.Context, fetches kgo.Fetches) (failed bool) {
	fetches.EachError(func(topic string, partition int32, err error) {
		if ctx.Err() != nil || errors.Is(err, kgo.ErrClientClosed) {
			return
		}
		failed = true
		c.deps.Log.WarnContext(ctx, "fetching events failed", "topic", topic, "partition", partition, "err", err)
	})
	return failed
}

// close commits, leaves the group and ends the client, within leaveTimeout: then everything that the client
// waits for is given up. Only Close leaves the group: where LeaveGroupContext has done so before, Close does it
// again, waits for the first time only, and may leave the goroutine of the second behind for ever.
func (c *Consumer) close(life context.Context, end context.CancelFunc, client *kgo.Client) {
	c.joined.Store(false)
	patience, cancel := context.WithTimeout(life, leaveTimeout)
	defer cancel()
	defer context.AfterFunc(patience, end)()
	client.CloseAllowingRebalance()
	if life.Err() != nil {
		c.deps.Log.WarnContext(patience, "leaving the consumer group failed: the bus does not answer", "patience", leaveTimeout)
	}
}

func (c *Consumer) assigned(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	each(parts, func(p partition) { c.owned[p] = true })
	c.changes.Add(1)
	c.joined.Store(true)
}

// revoked commits what is handled before another member takes the partitions over. Polls wait for it, whatever
// their context says, so it has its bound.
func (c *Consumer) revoked(ctx context.Context, client *kgo.Client, parts map[string][]int32) {
	bounded, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	if err := client.CommitMarkedOffsets(bounded); err != nil {
		c.deps.Log.WarnContext(ctx, "committing offsets failed", "err", err)
	}
	c.lost(ctx, client, parts)
}

func (c *Consumer) lost(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	each(parts, func(p partition) { delete(c.owned, p) })
}

func (c *Consumer) stillOwned(records []*kgo.Record) []*kgo.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := records[:0]
	for _, r := range records {
		if c.owned[partition{r.Topic, r.Partition}] {
			kept = append(kept, r)
		}
	}
	return kept
}

func (c *Consumer) keepOwned(records []Record) []Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := records[:0]
	for _, r := range records {
		if c.owned[partition{c.cfg.Prefix + r.Event.Topic, r.Partition}] {
			kept = append(kept, r)
		}
	}
	return kept
}

func each(parts map[string][]int32, visit func(partition)) {
	for topic, ids := range parts {
		for _, id := range ids {
			visit(partition{topic, id})
		}
	}
}
