// Package psp is a simulated payment provider. Its ledger is the outside truth about money. How it behaves
// is chosen by the payment method of an authorisation:
//
//	tok_ok                                 authorises, captures, voids, refunds
//	tok_declined, tok_insufficient_funds   declines
//	tok_slow                               answers after a while
//	tok_error_once, tok_error              fails the first time, or always
//	tok_timeout_ok, tok_timeout_fail       does it or not, and never answers; a query tells
//	tok_void_fails_N, tok_void_fails       void and refund fail N times, or always
//	tok_webhook_twice, tok_webhook_first   the message comes twice, or before the answer
//
// Any other method behaves as tok_ok.
package psp

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

// Simulator is a payment provider.
type Simulator struct {
	cfg      Config
	deps     shop.Deps
	ledger   *party.Ledger
	hooks    *party.Hooks
	arrivals *party.Arrivals
	stopping chan struct{}

	mu    sync.Mutex
	auths []*authorisation
	ops   map[string]operation
	tried map[string]int // failures on purpose, by key or authorisation; forgotten at a restart
	seq   int64
}

// authorisation is what is kept of one.
type authorisation struct {
	number     int
	reference  string
	method     string
	currency   shop.Currency
	amount     shop.Amount
	captured   shop.Amount
	refunded   shop.Amount
	declined   string
	voided     bool
	authorised time.Time
}

// operation is what is kept of an idempotency key.
type operation struct {
	auth   *authorisation // nil for one that failed for good
	kind   string
	hash   uint64
	status string // succeeded, declined, failed
	commit *party.Commit
}

// New opens the provider on its directory.
func New(cfg Config, deps shop.Deps) (*Simulator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Simulator{cfg: cfg, deps: deps, stopping: make(chan struct{}),
		arrivals: party.NewArrivals(kindAuthorise, kindCapture, kindVoid, kindRefund, "query")}
	var err error
	if s.hooks, err = party.NewHooks(cfg.WebhookURL, cfg.WebhookSecret, deps); err != nil {
		return nil, fmt.Errorf("psp: %w", err)
	}
	if s.ledger, err = party.OpenLedger(deps.Files, cfg.Dir, s.reload); err != nil {
		return nil, fmt.Errorf("psp: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.replay(); err != nil {
		return nil, errors.Join(err, s.ledger.Close())
	}
	return s, nil
}

// Handler serves the provider's API.
func (s *Simulator) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/authorisations", s.authorise)
	mux.HandleFunc("POST /v1/authorisations/{id}/{kind}", s.change)
	mux.HandleFunc("GET /v1/authorisations/{id}", s.get)
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
	Seq           int64         `json:"seq"`
	At            time.Time     `json:"at"`
	Entry         string        `json:"entry"` // authorised, declined, captured, voided, refunded; failed
	Authorisation string        `json:"authorisation,omitempty"`
	Reference     string        `json:"reference"`
	Key           string        `json:"key"`
	Amount        shop.Amount   `json:"amount"`
	Currency      shop.Currency `json:"currency"`
	Method        string        `json:"method,omitempty"`
	Code          string        `json:"code,omitempty"`
	Hash          uint64        `json:"hash"`
}

// reload forgets everything that did not come to the disk.
func (s *Simulator) reload() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.replay(); err != nil {
		s.deps.Log.Error("the provider's ledger cannot be read again", "err", err)
	}
}

// replay makes the state from the ledger.
func (s *Simulator) replay() error {
	s.auths, s.ops, s.tried, s.seq = nil, map[string]operation{}, map[string]int{}, 0
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
func (s *Simulator) write(l line) operation {
	l.Seq, l.At = s.seq+1, s.deps.Clock.Now().UTC()
	if l.Entry == "authorised" || l.Entry == "declined" {
		l.Authorisation = authID(len(s.auths) + 1)
	}
	b, err := json.Marshal(l)
	if err != nil {
		s.deps.Log.Error("a line of the ledger cannot be encoded", "err", err)
	}
	s.apply(l, s.ledger.Append(append(b, '\n')))
	return s.ops[l.Key]
}

// apply brings the state in line with a line.
func (s *Simulator) apply(l line, c *party.Commit) {
	s.seq = l.Seq
	op := operation{auth: s.find(l.Authorisation), hash: l.Hash, status: "succeeded", commit: c}
	switch l.Entry {
	case "authorised", "declined":
		op.kind = kindAuthorise
		op.auth = &authorisation{number: len(s.auths) + 1, reference: l.Reference, method: l.Method, currency: l.Currency, amount: l.Amount, authorised: l.At}
		s.auths = append(s.auths, op.auth)
		if l.Entry == "declined" {
			op.status, op.auth.declined = "declined", l.Code
		}
	case "failed":
		op.kind, op.status = kindAuthorise, "failed"
	case "captured":
		op.auth.captured += l.Amount
		op.kind = kindCapture
		if strings.HasSuffix(l.Key, autoCapture) {
			return // part of an authorisation, without a key of its own
		}
	case "voided":
		op.auth.voided, op.kind = true, kindVoid
	case "refunded":
		op.auth.refunded += l.Amount
		op.kind = kindRefund
	}
	s.ops[l.Key] = op
}

const idPrefix = "auth_"

func authID(n int) string { return idPrefix + strconv.Itoa(n) }

func (s *Simulator) find(id string) *authorisation {
	n, err := strconv.Atoi(strings.TrimPrefix(id, idPrefix))
	if err != nil || n < 1 || n > len(s.auths) {
		return nil
	}
	return s.auths[n-1]
}

// Document is an authorisation as the API shows it.
type Document struct {
	ID          string        `json:"id"`
	Status      string        `json:"status"`
	Amount      shop.Amount   `json:"amount"`
	Currency    shop.Currency `json:"currency"`
	Reference   string        `json:"reference"`
	Captured    shop.Amount   `json:"captured"`
	Refunded    shop.Amount   `json:"refunded"`
	DeclineCode string        `json:"decline_code"`
	ExpiresAt   time.Time     `json:"expires_at"`
}

func (s *Simulator) document(a *authorisation) Document {
	d := Document{ID: authID(a.number), Status: "authorised", Amount: a.amount, Currency: a.currency, Reference: a.reference,
		Captured: a.captured, Refunded: a.refunded, DeclineCode: a.declined, ExpiresAt: a.authorised.Add(s.cfg.Hold)}
	switch {
	case a.declined != "":
		d.Status = "declined"
	case a.voided:
		d.Status = "voided"
	case a.refunded > 0 && a.refunded == a.captured:
		d.Status = "refunded"
	case a.captured > 0:
		d.Status = "captured"
	}
	return d
}
