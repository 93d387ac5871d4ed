package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/metric"

	"holdfast/platform/telemetry"
	"holdfast/shop"
)

// Producer sends events. It is safe for concurrent use.
type Producer struct {
	cfg     Config
	deps    shop.Deps
	client  *kgo.Client
	seconds metric.Float64Histogram
}

// NewProducer makes a producer; nothing is dialled before the first Send.
//
// Every record waits for all in-sync replicas and is idempotent while the producer retries it. A Send
// that gives up may leave a record that arrives nevertheless: consumers know an event by its id.
func NewProducer(cfg Config, deps shop.Deps, tel *telemetry.Telemetry) (*Producer, error) {
	cfg = cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	seconds, err := tel.Meter.Float64Histogram("holdfast_bus_send_seconds",
		metric.WithDescription("How long the bus took to accept a batch of events"), metric.WithUnit("s"))
	if err != nil {
		return nil, fmt.Errorf("bus metrics: %w", err)
	}
	opts, err := cfg.Options(deps)
	if err != nil {
		return nil, err
	}
	opts = append(opts,
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0),
		kgo.RecordDeliveryTimeout(cfg.SendTimeout),
		kgo.ProduceRequestTimeout(cfg.SendTimeout),
		kgo.AllowIdempotentProduceCancellation(), // else an unanswered request holds its records for ever
		kgo.MaxBufferedRecords(cfg.MaxBuffered),
		kgo.ProducerBatchMaxBytes(int32(cfg.MaxMessage)),
	)
	if cfg.Uncompressed {
		opts = append(opts, kgo.ProducerBatchCompression(kgo.NoCompression()))
	}
	client, err := newClient("bus.NewProducer", opts)
	if err != nil {
		return nil, err
	}
	return &Producer{cfg: cfg, deps: deps, client: client, seconds: seconds}, nil
}

// Send sends events and returns an error slot for each, in order; it takes no longer than
// Config.SendTimeout. The kind of an error is TooLarge or Invalid where the event itself is refused,
// and Unavailable otherwise. Once an event of a key has failed, the later ones of that key are
// reported as failed too; they may be on the bus all the same, so whoever needs the order of a key
// must not have two of its events in one Send.
func (p *Producer) Send(ctx context.Context, events []shop.Event) []error {
	begun := p.deps.Clock.Now()
	errs := make([]error, len(events))
	ctx, cancel := context.WithTimeout(ctx, p.cfg.SendTimeout)
	defer cancel()
	var sent sync.WaitGroup
	sent.Add(len(events))
	for i := range events {
		r := ToRecord(events[i])
		r.Topic = p.cfg.Prefix + r.Topic
		p.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
			errs[i] = err
			sent.Done()
		})
	}
	sent.Wait()
	p.seconds.Record(ctx, p.deps.Clock.Now().Sub(begun).Seconds())
	failed := map[shop.OrderID]error{}
	for i, err := range errs {
		key := events[i].OrderID
		switch before := failed[key]; {
		case before != nil:
			errs[i] = shop.Wrap(shop.Unavailable, "bus.Send", "an earlier event of the same key failed", before)
		case err != nil:
			errs[i] = sendError(err)
			failed[key] = errs[i]
		}
	}
	return errs
}

func sendError(err error) error {
	switch {
	case errors.Is(err, kerr.MessageTooLarge):
		return shop.Wrap(shop.TooLarge, "bus.Send", "the event is larger than the bus allows", err)
	case errors.Is(err, kerr.InvalidRecord), errors.Is(err, kerr.InvalidTimestamp):
		return shop.Wrap(shop.Invalid, "bus.Send", "the bus refuses the event", err)
	default:
		return unavailable("bus.Send", err)
	}
}

// Close ends the producer. Events still under way are failed.
func (p *Producer) Close() { p.client.Close() }
