// Package outbox carries events from a service's transactions to the bus and back into transactions.
//
// An event is written in the transaction that makes it true, and a relay sends it afterwards; a
// consumer notes an event's id in the transaction of its effect. Each step may happen again after a
// crash, and none is left out: at least once on the bus, once in effect. The events of a key arrive in
// the order in which they were written.
package outbox

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math"
	"sync/atomic"
	"time"

	"holdfast/platform/bus"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations returns the migrations of the outbox and the inbox, numbered 1 to 99. They live in each
// service's own database.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the folder is embedded
	}
	return sub
}

// slots is the number of shares that the keys are divided into; each is one relay's at a time. It is
// part of what is stored.
const slots = 16

// maxLease is the longest lease of any relay, however it is configured.
const maxLease = time.Minute

// Sender sends events and returns an error slot for each, in order. bus.Producer is one.
type Sender interface {
	Send(ctx context.Context, events []shop.Event) []error
}

// Broker is a bus that may lose what it has acknowledged when it is not stopped in order. The embedded
// one is such a bus; a replicated Kafka is not.
type Broker interface {
	// Incarnation names the log; another name than before means that it began empty.
	Incarnation() string
	// Clean tells whether the last stop was orderly.
	Clean() bool
	// Sync makes durable what was acknowledged before it.
	Sync() error
}

// Config sets the limits of an outbox and of the inbox beside it.
type Config struct {
	Owner string `koanf:"owner"` // names this process; the same after a restart, another in each replica

	Batch int `koanf:"batch"` // events read and sent at once
	// Poll is how often an idle relay looks for events that it was not told of. Where several relays
	// share the keys that is how others' events reach it, so it is PollShared then.
	Poll       time.Duration `koanf:"poll"`
	PollShared time.Duration `koanf:"poll_shared"`
	// Lease is how long a relay keeps its share of the keys without a sign of life. It gives one each quarter
	// of that, and a send that takes longer is cut off and made again. By default 2 s; on SQLite, which has
	// one process, 1 min, which is also the most.
	Lease time.Duration `koanf:"lease"`

	// Waits after failures are random, up to RetryMin doubled each time, and up to RetryMax at most. They need
	// not be long: breakers stand before the store and the bus.
	RetryMin time.Duration `koanf:"retry_min"`
	RetryMax time.Duration `koanf:"retry_max"`
	Attempts int           `koanf:"attempts"` // how often an event may be refused for what it is before its lane is parked
	Drain    time.Duration `koanf:"drain"`    // for sending what is left at a stop

	Keep       time.Duration `koanf:"keep"`        // how long sent events are kept: they are the replay source
	KeepInbox  time.Duration `koanf:"keep_inbox"`  // how long events are known as handled; longer than Keep and than the topics' retention
	PurgeEvery time.Duration `koanf:"purge_every"` // how often old rows are looked for
	PurgeBatch int           `koanf:"purge_batch"` // rows looked at in one transaction

	Checkpoint time.Duration `koanf:"checkpoint"` // how much is sent again after a crash of the embedded bus
}

// Defaults fills what is zero.
func (c Config) Defaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Poll, time.Second)
	def(&c.PollShared, 50*time.Millisecond)
	def(&c.RetryMin, 50*time.Millisecond)
	def(&c.RetryMax, time.Second)
	def(&c.Drain, 2*time.Second)
	def(&c.Keep, 7*24*time.Hour)
	def(&c.KeepInbox, 14*24*time.Hour)
	def(&c.PurgeEvery, time.Minute)
	def(&c.Checkpoint, 2*time.Second)
	if c.Batch == 0 {
		c.Batch = 500
	}
	if c.Attempts == 0 {
		c.Attempts = 5
	}
	if c.PurgeBatch == 0 {
		c.PurgeBatch = 1000
	}
	return c
}

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case c.Owner == "":
		return errors.New("outbox: owner: name this process")
	case c.Batch < 1 || c.Batch > 2000:
		return errors.New("outbox: batch: 1 to 2000")
	case c.Poll <= 0 || c.PollShared <= 0:
		return errors.New("outbox: poll and poll_shared: more than 0")
	case c.Lease < 0 || c.Lease > 0 && c.Lease < 100*time.Millisecond || c.Lease > maxLease:
		return errors.New("outbox: lease: 100ms to 1m")
	case c.RetryMin <= 0 || c.RetryMax < c.RetryMin:
		return errors.New("outbox: retry_min: more than 0 and at most retry_max")
	case c.Attempts < 1:
		return errors.New("outbox: attempts: at least 1")
	case c.Keep <= 0:
		return errors.New("outbox: keep: more than 0")
	case c.KeepInbox <= c.Keep:
		return errors.New("outbox: keep_inbox: longer than keep, or a replay would take effect twice")
	case c.PurgeEvery <= 0 || c.PurgeBatch < 1:
		return errors.New("outbox: purge_every and purge_batch: more than 0")
	case c.Checkpoint <= 0:
		return errors.New("outbox: checkpoint: more than 0")
	}
	return nil
}

// Parts are what an outbox works with.
type Parts struct {
	DB       *sqldb.DB
	Producer Sender
	Broker   Broker // nil: a bus that keeps what it acknowledges
	Deps     shop.Deps
	Tel      *telemetry.Telemetry
	Source   string // the service's name
}

// Outbox is the outbox of one service.
type Outbox struct {
	cfg       Config
	parts     Parts
	deps      shop.Deps
	retry     bus.Backoff
	metrics   *metrics
	wakeup    chan struct{}
	wake      func()
	lease     lease
	blocked   int64     // lanes of ours that wait for a retry or are parked; the relay's own
	floor     int64     // of the positions to look at, see unsent; the relay's own
	lookAtAll time.Time // when to look below it; the relay's own
	ready     atomic.Bool
	lag       atomic.Int64              // see Backlog
	back      atomic.Pointer[time.Time] // when the bus took something again, by our clock; away; nil: it always has
}

// New makes an outbox; Run sends what is in it.
func New(cfg Config, parts Parts) (*Outbox, error) {
	cfg = cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Lease == 0 {
		cfg.Lease = 2 * time.Second
		if parts.DB.Dialect() == sqldb.SQLite {
			cfg.Lease = maxLease
		}
	}
	o := &Outbox{cfg: cfg, parts: parts, deps: parts.Deps, retry: bus.Backoff{Min: cfg.RetryMin, Max: cfg.RetryMax},
		wakeup: make(chan struct{}, 1)}
	o.wake = func() {
		select {
		case o.wakeup <- struct{}{}:
		default: // it has been told already
		}
	}
	var err error
	if o.metrics, err = newMetrics(o); err != nil {
		return nil, fmt.Errorf("outbox metrics: %w", err)
	}
	return o, nil
}

// Append writes events that are sent once tx commits. It fills in what is empty of ID, Time, Source
// and TraceParent, in events too. The events of a key must be written in their order: by one
// transaction after the other.
func (o *Outbox) Append(ctx context.Context, tx *sqldb.Tx, events ...shop.Event) error {
	if len(events) == 0 {
		return nil
	}
	now, err := tx.Now(ctx) // the clocks of replicas need not agree
	if err != nil {
		return err
	}
	trace := ""
	for i := range events {
		e := &events[i]
		if e.Topic == "" || e.Type == "" || e.OrderID == "" {
			return shop.E(shop.Internal, "outbox.Append", "an event needs a topic, a type and an order")
		}
		if e.ID == "" {
			e.ID = shop.EventID(o.deps.IDs.New(shop.EventPrefix))
		}
		if e.Time.IsZero() {
			e.Time = now
		}
		if e.Source == "" {
			e.Source = o.parts.Source
		}
		if e.TraceParent == "" {
			if trace == "" {
				trace = telemetry.TraceParent(ctx)
			}
			e.TraceParent = trace
		}
	}
	for from, to := range tx.Pieces(len(events)) {
		if err := insert(ctx, tx, events[from:to]); err != nil {
			return fmt.Errorf("write events: %w", err)
		}
	}
	tx.AfterCommit(o.wake)
	return nil
}

// insert writes the events, and their positions to the list of what is to be sent.
func insert(ctx context.Context, tx *sqldb.Tx, events []shop.Event) error {
	const columns = 11
	args := make([]any, 0, columns*len(events))
	for i := range events {
		e := &events[i]
		headers, err := encodeHeaders(e.Headers)
		if err != nil {
			return err
		}
		data := []byte(e.Data)
		if data == nil {
			data = []byte{} // nil would be NULL
		}
		args = append(args, string(e.ID), slotOf(e.OrderID), e.Topic, string(e.OrderID), e.Version, string(e.Type),
			e.Source, sqldb.Micros(e.Time), e.TraceParent, headers, data)
	}
	values, args := tx.Values(columns, args)
	text := `INSERT INTO outbox (event_id, slot, topic, key, version, type, source, time, traceparent, headers, data) ` + values + ` RETURNING pos, slot, topic, key`
	if tx.Dialect() == sqldb.Postgres { // in one round trip
		_, err := tx.Exec(ctx, `WITH e AS (`+text+`) INSERT INTO outbox_unsent (pos, slot, lane) SELECT pos, slot, topic || '/' || key FROM e`, args...)
		return err
	}
	rows, err := tx.Query(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var unsent []any
	for rows.Next() {
		var pos, slot int64
		var topic, key string
		if err := rows.Scan(&pos, &slot, &topic, &key); err != nil {
			return err
		}
		unsent = append(unsent, pos, slot, laneOf(topic, key))
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if err := rows.Close(); err != nil {
		return err
	}
	values, unsent = tx.Values(3, unsent)
	_, err = tx.Exec(ctx, `INSERT INTO outbox_unsent (pos, slot, lane) `+values, unsent...)
	return err
}

func encodeHeaders(h map[string]string) (string, error) {
	if len(h) == 0 {
		return "", nil
	}
	b, err := json.Marshal(h)
	return string(b), err
}

// laneOf names what is sent in order: the events of a key on a topic, as insert also does. A dead letter that cannot be sent
// must not hold up the order's other events.
func laneOf(topic, key string) string { return topic + "/" + key }

// slotOf divides the keys among the slots.
func slotOf(key shop.OrderID) int {
	h := fnv.New32a()
	h.Write([]byte(key)) // never fails
	return int(h.Sum32() % slots)
}

// Backlog is how long the event had waited that the relay of this process took up last. It grows where
// more is written than can be sent. While the bus does not take events it is 0, and what has waited for
// the bus counts from its return: that is not because of too much work.
func (o *Outbox) Backlog() time.Duration { return time.Duration(o.lag.Load()) }

// away is not a time, but that the bus takes nothing.
var away = new(time.Time)

// Taking is for how long the bus has taken events: 0 while it does not, and the longest time of all where it was never
// away as far as the relay of this process knows.
func (o *Outbox) Taking() time.Duration {
	switch back := o.back.Load(); back {
	case nil:
		return math.MaxInt64
	case away:
		return 0
	default:
		return max(0, o.deps.Clock.Now().Sub(*back))
	}
}

// Oldest returns how long the oldest unsent event has waited and how many wait. Events of parked
// lanes are among them.
func (o *Outbox) Oldest(ctx context.Context) (age time.Duration, unsent int64, err error) {
	err = o.parts.DB.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM outbox_unsent`).Scan(&unsent); err != nil || unsent == 0 {
			age = 0
			return err
		}
		var first int64
		err := tx.QueryRow(ctx, `SELECT o.time FROM outbox_unsent u JOIN outbox o ON o.pos = u.pos ORDER BY u.pos LIMIT 1`).Scan(&first)
		if err != nil {
			return err
		}
		now, err := tx.Now(ctx)
		age = max(0, now.Sub(sqldb.FromMicros(first)))
		return err
	})
	return age, unsent, err
}
