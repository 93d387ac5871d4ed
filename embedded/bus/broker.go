// Package bus is an event bus inside this process: franz-go's kfake with a data directory, on a
// loopback listener. It is durable against the death of the process, not against that of the machine:
// the outboxes are the truth, and after a stop that was not orderly they send again what may be lost.
package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"holdfast/shop"
)

// adminTimeout bounds each of the broker's requests to itself.
const adminTimeout = 10 * time.Second

// groupsLogBytes is the size at which the log of committed offsets is compacted; kfake reads all of
// it for that, and everybody waits meanwhile.
const groupsLogBytes = 1 << 20

// Config describes the broker.
type Config struct {
	Dir  string `koanf:"dir"`  // the data directory; empty: in memory, for tests
	Addr string `koanf:"addr"` // a loopback address to listen on; port 0 takes any

	// What is kept bounds the disk, and the memory and the time that a start takes: kfake reads all
	// of it then.
	SegmentBytes int64         `koanf:"segment_bytes"` // of one file; what is deleted, is deleted by the file
	RetainBytes  int64         `koanf:"retain_bytes"`  // kept of each partition even if all its readers are through
	MaxBytes     int64         `koanf:"max_bytes"`     // kept of all; beyond it nothing is taken in
	TrimEvery    time.Duration `koanf:"trim_every"`    // how often old files are looked for
	MaxMessage   int           `koanf:"max_message_bytes"`

	// Readers are the consumer groups for which records wait, with their topics. Other groups find
	// what is left.
	Readers map[string][]string `koanf:"-"`
}

// Defaults fills what is zero.
func (c Config) Defaults() Config {
	def := func(n *int64, v int64) {
		if *n == 0 {
			*n = v
		}
	}
	def(&c.SegmentBytes, 2<<20)
	def(&c.RetainBytes, 6<<20)
	def(&c.MaxBytes, 512<<20)
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	if c.TrimEvery == 0 {
		c.TrimEvery = 5 * time.Second
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = 1_048_588 // Kafka's own default
	}
	return c
}

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	host, _, err := net.SplitHostPort(c.Addr)
	switch ip := net.ParseIP(host); {
	case err != nil:
		return fmt.Errorf("embedded bus: addr: %w", err)
	case ip == nil || !ip.IsLoopback():
		return errors.New("embedded bus: addr: only a loopback address: it has no authentication")
	case c.SegmentBytes < 1<<10:
		return errors.New("embedded bus: segment_bytes: at least 1024")
	case c.RetainBytes < c.SegmentBytes:
		return errors.New("embedded bus: retain_bytes: at least segment_bytes")
	case c.MaxBytes < c.RetainBytes:
		return errors.New("embedded bus: max_bytes: at least retain_bytes")
	case c.TrimEvery < 0:
		return errors.New("embedded bus: trim_every: more than 0")
	case c.MaxMessage < 1024:
		return errors.New("embedded bus: max_message_bytes: at least 1024")
	}
	return nil
}

// Broker is a running broker.
type Broker struct {
	cfg     Config
	deps    shop.Deps
	log     *brokerLog
	cluster *kfake.Cluster
	admin   *kgo.Client
	state   state
	clean   bool
	full    atomic.Bool
	close   func() error

	syncing sync.Mutex // guards synced
	synced  map[string]int64
}

// New starts a broker on its data directory. A directory that cannot be read is left where it is, and
// the broker starts empty beside it: the outboxes fill it again.
func New(cfg Config, deps shop.Deps) (*Broker, error) {
	cfg = cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &Broker{cfg: cfg, deps: deps, log: &brokerLog{log: deps.Log}, synced: make(map[string]int64)}
	b.close = sync.OnceValue(b.stop)
	if b.cfg.Dir == "" {
		b.state.Log = deps.IDs.New(logPrefix)
		if err := b.start(""); err != nil {
			return nil, err
		}
		return b, nil
	}
	if err := b.takeState(); err != nil {
		return nil, err
	}
	err := b.open()
	if err != nil && !errors.Is(err, errListen) {
		deps.Log.Warn("the embedded bus cannot read its log and starts an empty one", "left", b.logDir(), "err", err)
		if err = b.newLog(); err == nil {
			err = b.open()
		}
	}
	if err != nil {
		return nil, err
	}
	b.removeOldLogs()
	return b, nil
}

// open starts kfake on the current log, and puts in order what a crash has left.
func (b *Broker) open() error {
	b.log.complained.Store(false)
	if err := b.start(b.logDir()); err != nil {
		return err
	}
	if b.log.complained.Load() {
		b.clean = false // it cut off what it could not read
	}
	if b.clean {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	err := b.checkTopics(ctx)
	if err == nil {
		err = b.clampOffsets(ctx)
	}
	if err != nil {
		b.admin.Close()
		b.cluster.Close()
	}
	return err
}

var errListen = errors.New("listen")

func (b *Broker) start(dir string) error {
	ln, err := b.deps.Net.Listen(context.Background(), "tcp", b.cfg.Addr)
	if err != nil {
		return shop.Wrap(shop.Unavailable, "embedded bus",
			"cannot listen on "+b.cfg.Addr+"; is another process using it?", errors.Join(errListen, err))
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return ln, nil }),
		kfake.WithLogger(b.log),
		kfake.GroupMinSessionTimeout(time.Second),
		kfake.BrokerConfigs(map[string]string{
			"log.segment.bytes":       strconv.FormatInt(b.cfg.SegmentBytes, 10),
			"log.retention.ms":        "-1", // Trim sees to it, with an eye on the readers
			"log.retention.bytes":     "-1",
			"message.max.bytes":       strconv.Itoa(b.cfg.MaxMessage),
			"state.log.compact.bytes": strconv.Itoa(groupsLogBytes),
		}),
	}
	if dir != "" {
		opts = append(opts, kfake.DataDir(dir))
	}
	if b.cluster, err = kfake.NewCluster(opts...); err != nil {
		return fmt.Errorf("embedded bus: %w", err)
	}
	b.refuseWhenFull()
	if b.admin, err = newAdmin(b.Addrs(), b.deps); err != nil {
		b.cluster.Close()
	}
	return err
}

// Addrs returns the addresses that the broker listens on.
func (b *Broker) Addrs() []string { return b.cluster.ListenAddrs() }

// Clean tells whether the last stop was orderly and everything that was taken in before is still
// there. It is false on the first start.
func (b *Broker) Clean() bool { return b.clean }

// Incarnation names the log. Another name than before means that it began empty.
func (b *Broker) Incarnation() string { return b.state.Log }

// Run deletes old files until ctx ends, and then closes the broker.
func (b *Broker) Run(ctx context.Context) error {
	for b.deps.Clock.Sleep(ctx, b.cfg.TrimEvery) == nil {
		if err := b.Trim(ctx); err != nil && ctx.Err() == nil {
			b.deps.Log.WarnContext(ctx, "deleting old files of the embedded bus failed", "err", err)
		}
	}
	return b.Close()
}

// Ready returns nil when the broker answers.
func (b *Broker) Ready(ctx context.Context) error {
	if err := b.admin.Ping(ctx); err != nil {
		return shop.Wrap(shop.Unavailable, "embedded bus", "it does not answer", err)
	}
	return nil
}

// Close stops the broker and notes that it was stopped in order. Clients must have been closed before.
func (b *Broker) Close() error { return b.close() }

func (b *Broker) stop() error {
	b.admin.Close()
	b.log.complained.Store(false)
	b.cluster.Close()
	if b.cfg.Dir == "" {
		return nil
	}
	if b.log.complained.Load() {
		return errors.New("embedded bus: its state could not be saved; the next start sends again what may be lost")
	}
	if err := b.Sync(); err != nil {
		return err
	}
	b.state.Clean = true
	return b.writeState()
}

func (b *Broker) logDir() string { return filepath.Join(b.cfg.Dir, b.state.Log) }
