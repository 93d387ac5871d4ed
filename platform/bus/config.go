// Package bus speaks the Kafka protocol: events as CloudEvents records, an idempotent producer and a
// group consumer. It and embedded/bus are the only places of the product that know franz-go.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"holdfast/platform/certs"
	"holdfast/shop"
)

// The limits of the wire that nobody has had a reason to change.
const (
	// fetchBytes bounds what a consumer holds in memory beyond the batch being handled.
	fetchBytes          = 8 << 20
	fetchPartitionBytes = 1 << 20
	// fetchWait is how long a fetch waits for records at most; partitions that a member is given are
	// not fetched before it.
	fetchWait      = 500 * time.Millisecond
	maxBackoff     = time.Second
	metadataMinAge = 500 * time.Millisecond
)

// Config says where the bus is and how patient its clients are.
type Config struct {
	Seeds    []string `koanf:"seeds"`     // host:port of some brokers
	ClientID string   `koanf:"client_id"` // names this process to the brokers
	// Prefix stands before the names of topics and groups on the brokers, and nowhere else: several
	// Holdfasts can share a Kafka.
	Prefix string `koanf:"prefix"`

	SASL SASL      `koanf:"sasl"`
	TLS  certs.TLS `koanf:"tls"`
	// CreateTopics has the topics made that are missing; otherwise their absence ends the start.
	CreateTopics bool `koanf:"create_topics"`

	SendTimeout time.Duration `koanf:"send_timeout"` // a Send that has no answer by then has failed
	MaxBuffered int           `koanf:"max_buffered"` // events waiting in the producer; a Send of more waits
	// Uncompressed sends events as they are: on a loopback there is nothing to save.
	Uncompressed bool `koanf:"uncompressed"`
	MaxMessage   int  `koanf:"max_message_bytes"` // of one event on the wire; the brokers' message.max.bytes must allow it

	// InstanceID makes group members static: a restart within Session takes its partitions back
	// without a rebalance. Every process of a group then needs its own. Empty: dynamic members.
	InstanceID string `koanf:"instance_id"`
	// Session is how long a member may be silent before it loses its partitions: how long those of a process that
	// was killed stand still. 6 s, the least that Kafka's brokers allow as they come; with their
	// group.min.session.timeout.ms at 2000 it can be 2 s.
	Session   time.Duration `koanf:"session_timeout"`
	Heartbeat time.Duration `koanf:"heartbeat_interval"` // how soon a member learns of a rebalance; a sixth of Session, 1 s at most
	Rebalance time.Duration `koanf:"rebalance_timeout"`  // how long a rebalance waits for a member's batch to end
	Commit    time.Duration `koanf:"commit_interval"`    // how far committed offsets may lag behind handled events
	Batch     int           `koanf:"batch"`              // records handed to a consumer's handler at once

	RetryMin time.Duration `koanf:"retry_min"` // a consumer whose handler fails waits a random time of up to this,
	RetryMax time.Duration `koanf:"retry_max"` // doubled for each failure, and up to this at most
}

// Defaults fills what is zero.
func (c Config) Defaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.SendTimeout, 5*time.Second)
	def(&c.Session, 6*time.Second)
	def(&c.Heartbeat, min(time.Second, c.Session/6))
	def(&c.Rebalance, 30*time.Second)
	def(&c.Commit, 200*time.Millisecond)
	def(&c.RetryMin, 50*time.Millisecond)
	def(&c.RetryMax, time.Second)
	if c.ClientID == "" {
		c.ClientID = "holdfast"
	}
	if c.MaxBuffered == 0 {
		c.MaxBuffered = 10_000
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = 1_000_012 // Kafka's own default, less its overhead
	}
	if c.Batch == 0 {
		c.Batch = 500
	}
	return c
}

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case len(c.Seeds) == 0:
		return errors.New("bus: seeds: name at least one broker")
	case !prefixes.MatchString(c.Prefix):
		return errors.New("bus: prefix: at most 100 letters, digits, dots, hyphens and underscores, as Kafka allows")
	case c.SendTimeout < time.Second:
		return errors.New("bus: send_timeout: at least 1s")
	case c.MaxBuffered < 1:
		return errors.New("bus: max_buffered: at least 1")
	case c.MaxMessage < 1024 || c.MaxMessage > 100<<20:
		return errors.New("bus: max_message_bytes: 1024 to 104857600")
	case c.Heartbeat <= 0 || c.Heartbeat >= c.Session:
		return errors.New("bus: heartbeat_interval: more than 0 and less than session_timeout")
	case c.Rebalance <= 0:
		return errors.New("bus: rebalance_timeout: more than 0")
	case c.Commit < 100*time.Millisecond:
		return errors.New("bus: commit_interval: at least 100ms")
	case c.RetryMin <= 0 || c.RetryMax < c.RetryMin:
		return errors.New("bus: retry_min: more than 0 and at most retry_max")
	case c.Batch < 1 || c.Batch > 10_000:
		return errors.New("bus: batch: 1 to 10000")
	}
	return c.validateSecurity()
}

var prefixes = regexp.MustCompile(`^[A-Za-z0-9._-]{0,100}$`)

// Options are those of every client.
func (c Config) Options(deps shop.Deps) ([]kgo.Opt, error) {
	secure, err := c.security(deps)
	if err != nil {
		return nil, err
	}
	retry := Backoff{Min: 100 * time.Millisecond, Max: maxBackoff}
	return append(secure,
		kgo.SeedBrokers(c.Seeds...),
		kgo.ClientID(c.ClientID),
		kgo.WithLogger(clientLog{deps.Log}),
		kgo.RequestTimeoutOverhead(c.SendTimeout),
		kgo.RetryBackoffFn(func(attempt int) time.Duration { return retry.Delay(deps.Rand, attempt) }),
		kgo.MetadataMinAge(metadataMinAge),
		kgo.DisableClientMetrics(),
	), nil
}

// Backoff spaces attempts: a random time of up to Min, doubled for each failure and capped at Max
// ("full jitter": the sleepers of one outage do not wake together).
type Backoff struct{ Min, Max time.Duration }

// Delay returns the wait after the given number of failures, from 1.
func (b Backoff) Delay(rand shop.Rand, failures int) time.Duration {
	limit := b.Max
	if shift := failures - 1; shift < 30 && b.Min<<max(shift, 0) < b.Max {
		limit = b.Min << max(shift, 0)
	}
	return time.Duration(rand.Float64() * float64(limit))
}

// clientLog hands franz-go's messages on, a level lower: it reports each failed dial of an outage,
// and what matters comes back to us as an error.
type clientLog struct{ log *slog.Logger }

// Level is asked for before every message.
func (l clientLog) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelWarn
	}
	return kgo.LogLevelError
}

// Log implements kgo.Logger.
func (l clientLog) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	to := slog.LevelDebug
	if level == kgo.LogLevelError {
		to = slog.LevelWarn
	}
	l.log.Log(context.Background(), to, "bus client", append([]any{"msg", msg}, keyvals...)...)
}

// unavailable wraps a failure to reach the bus.
func unavailable(op string, err error) error {
	return shop.Wrap(shop.Unavailable, op, "the event bus cannot be reached", err)
}

func newClient(op string, opts []kgo.Opt) (*kgo.Client, error) {
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	return cl, nil
}
