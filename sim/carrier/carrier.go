// Package carrier is a simulated carrier. Its ledger is the outside truth about parcels. How it behaves is
// chosen by the postal code of a shipment:
//
//	any            schedules, dispatches after a while and says so by webhook
//	00001          refuses: not shippable
//	00002, 00003   fails the first time, or always
//	00004          does it and never answers; a query tells
//	00005          never dispatches
//
// A parcel leaves when its customer has answered the message about its dispatch with a success. With a
// conflict it stays, and waits to be cancelled.
package carrier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/shop"
	"holdfast/sim/party"
)

// Config describes the carrier.
type Config struct {
	Dir           string        `koanf:"dir"`
	WebhookURL    string        `koanf:"webhook_url"` // "": nobody is told, and nothing leaves
	WebhookSecret string        `koanf:"webhook_secret"`
	DispatchAfter time.Duration `koanf:"dispatch_after"`
}

// Defaults returns what is used where nothing is configured.
func Defaults() Config { return Config{DispatchAfter: 3 * time.Second} }

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	if c.Dir == "" || c.DispatchAfter < 0 {
		return errors.New("carrier_sim.dir must name a directory and carrier_sim.dispatch_after not be negative")
	}
	return nil
}

// Simulator is a carrier.
type Simulator struct {
	cfg      Config
	deps     shop.Deps
	ledger   *party.Ledger
	hooks    *party.Hooks
	arrivals *party.Arrivals
	stopping chan struct{}

	mu      sync.Mutex
	parcels []*parcel
	ops     map[string]operation
	tried   map[string]int // failures on purpose, by key; forgotten at a restart
	seq     int64
}

// parcel is what is kept of one.
type parcel struct {
	number    int
	reference string
	postal    string
	at        time.Time
	status    string // scheduled, cancelled, dispatched
	held      bool
}

// operation is what is kept of an idempotency key.
type operation struct {
	parcel *parcel // nil for a refusal
	kind   string
	hash   uint64
	commit *party.Commit
}

// never is how long a request that is never answered is held at most.
const never = time.Minute

// New opens the carrier on its directory.
func New(cfg Config, deps shop.Deps) (*Simulator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Simulator{cfg: cfg, deps: deps, stopping: make(chan struct{}), arrivals: party.NewArrivals("schedule", "cancel", "query")}
	var err error
	if s.hooks, err = party.NewHooks(cfg.WebhookURL, cfg.WebhookSecret, deps); err != nil {
		return nil, fmt.Errorf("carrier: %w", err)
	}
	if s.ledger, err = party.OpenLedger(deps.Files, cfg.Dir, s.reload); err != nil {
		return nil, fmt.Errorf("carrier: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.replay(); err != nil {
		return nil, errors.Join(err, s.ledger.Close())
	}
	for _, p := range s.parcels {
		if p.status == "scheduled" && !p.held {
			s.collect(p)
		}
	}
	return s, nil
}

// Handler serves the carrier's API.
func (s *Simulator) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/shipments", s.schedule)
	mux.HandleFunc("POST /v1/shipments/{id}/cancel", s.cancel)
	mux.HandleFunc("GET /v1/operations/{key}", s.query)
	mux.HandleFunc("GET /ledger", party.ServeLedger(s.ledger))
	mux.Handle("GET /arrivals", s.arrivals)
	mux.HandleFunc("GET /healthz", party.Healthy)
	return mux
}

// Run sends messages until ctx ends, and then lets go of the requests that are never answered.
func (s *Simulator) Run(ctx context.Context) error {
	defer close(s.stopping)
	return s.hooks.Run(ctx)
}

// Close closes the ledger.
func (s *Simulator) Close() error {
	if err := s.ledger.Close(); !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return nil
}

// line is a line of the ledger.
type line struct {
	Seq       int64     `json:"seq"`
	At        time.Time `json:"at"`
	Entry     string    `json:"entry"` // scheduled, refused, cancelled, held, dispatched
	ID        string    `json:"id,omitempty"`
	Reference string    `json:"reference"`
	Key       string    `json:"key,omitempty"`
	Postal    string    `json:"postal_code,omitempty"`
	Hash      uint64    `json:"hash,omitempty"`
}

// reload forgets everything that did not come to the disk.
func (s *Simulator) reload() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.replay(); err != nil {
		s.deps.Log.Error("the carrier's ledger cannot be read again", "err", err)
	}
}

// replay makes the state from the ledger.
func (s *Simulator) replay() error {
	s.parcels, s.ops, s.tried, s.seq = nil, map[string]operation{}, map[string]int{}, 0
	return s.ledger.Replay(func(b []byte) error {
		var l line
		if err := json.Unmarshal(b, &l); err != nil {
			return err
		}
		s.apply(l, nil)
		return nil
	})
}

// write decides on a line: it is applied, and on its way to the disk.
func (s *Simulator) write(l line) *party.Commit {
	l.Seq, l.At = s.seq+1, s.deps.Clock.Now().UTC()
	if l.Entry == "scheduled" {
		l.ID = parcelID(len(s.parcels) + 1)
	}
	b, err := json.Marshal(l)
	if err != nil {
		s.deps.Log.Error("a line of the ledger cannot be encoded", "err", err)
	}
	c := s.ledger.Append(append(b, '\n'))
	s.apply(l, c)
	return c
}

// apply brings the state in line with a line.
func (s *Simulator) apply(l line, c *party.Commit) {
	s.seq = l.Seq
	p := s.find(l.ID)
	switch l.Entry {
	case "scheduled":
		p = &parcel{number: len(s.parcels) + 1, reference: l.Reference, postal: l.Postal, at: l.At, status: "scheduled"}
		s.parcels = append(s.parcels, p)
		s.ops[l.Key] = operation{p, "schedule", l.Hash, c}
	case "refused":
		s.ops[l.Key] = operation{nil, "schedule", l.Hash, c}
	case "cancelled":
		p.status = "cancelled"
		s.ops[l.Key] = operation{p, "cancel", l.Hash, c}
	case "held":
		p.held = true
	case "dispatched":
		p.status = "dispatched"
	}
}

const idPrefix = "par_"

func parcelID(n int) string { return idPrefix + strconv.Itoa(n) }

func (s *Simulator) find(id string) *parcel {
	n, err := strconv.Atoi(strings.TrimPrefix(id, idPrefix))
	if err != nil || n < 1 || n > len(s.parcels) {
		return nil
	}
	return s.parcels[n-1]
}

// collect has a parcel collected once its time has come: the customer is told, and the answer decides.
func (s *Simulator) collect(p *parcel) {
	if p.postal == "00005" {
		return
	}
	doc := document(p)
	doc.Status = "dispatched"
	s.hooks.Add(&party.Hook{ID: "msg_" + doc.ID + "_" + strconv.FormatInt(p.at.UnixNano(), 36), Due: p.at.Add(s.cfg.DispatchAfter), Type: "shipment.dispatched", Data: doc,
		Answer: func(status int) bool { return s.answered(doc.ID, status) }})
}

// answered takes the customer's answer about a parcel, and tells whether it was one.
func (s *Simulator) answered(id string, status int) bool {
	if status != http.StatusConflict && (status < 200 || status > 299) {
		return false
	}
	s.mu.Lock()
	p := s.find(id)
	if p == nil || p.status != "scheduled" {
		s.mu.Unlock()
		return true // cancelled meanwhile
	}
	l := line{Entry: "dispatched", ID: id, Reference: p.reference}
	if status == http.StatusConflict {
		l.Entry = "held"
	}
	c := s.write(l)
	s.mu.Unlock()
	return c.Wait() == nil
}
