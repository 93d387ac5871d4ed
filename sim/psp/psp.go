// Package psp is a simulated payment provider. Its ledger is the outside truth about money. How it behaves
// is chosen by the payment method of an authorisation:
//
//	tok_ok                                 authorises, captures, voids, refunds
//	tok_declined, tok_insufficient_funds   declines
//	tok_slow                               answers after a while
//	tok_error_once, tok_error              500 to the first call of a key, or to every call
//	tok_timeout_ok, tok_timeout_fail       authorises or not, and never answers; a query tells
//	tok_void_fails_N, tok_void_fails       void and refund fail N times, or for ever
//	tok_webhook_twice, tok_webhook_first   the webhook comes twice, or before the answer
//
// Any other method behaves as tok_ok. These behaviours are about the authorisation, but for those of void
// and refund. What one has done so far is in the ledger and outlives a restart. The faults that PUT /faults
// sets act in front of them, and are forgotten at a restart.
package psp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"holdfast/shop"
	"holdfast/sim/party"
)

// Simulator is a payment provider.
type Simulator struct {
	cfg      Config
	deps     shop.Deps
	ledger   *party.Ledger
	sender   *party.Sender
	queue    *party.Queue // of webhooks
	arrivals *party.Arrivals
	door     *party.Door
	faults   *party.Faults
	locks    *party.Locks // of keys and authorisations that something is being done to

	mu          sync.Mutex
	keys        *party.Index        // where the line of a key's operation is
	auths       *party.Index        // where the latest line of an authorisation is
	failed      map[string]struct{} // keys that have failed, and not been used since
	undosFailed map[string]int      // voids and refunds that have failed, by authorisation
	full        bool                // the last write has failed
}

// New opens the provider on its directory; Run sends its webhooks.
func New(cfg Config, deps shop.Deps) (*Simulator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Simulator{cfg: cfg, deps: deps, queue: party.NewQueue(deps), door: party.NewDoor(deps.Clock), locks: party.NewLocks(),
		arrivals: party.NewArrivals(kindAuthorise, kindCapture, kindVoid, kindRefund, kindQuery),
		keys:     party.NewIndex(), auths: party.NewIndex(), failed: make(map[string]struct{}), undosFailed: make(map[string]int)}
	s.faults = party.NewFaults(s.arrivals, s.door, deps)
	var err error
	if s.sender, err = party.NewSender(cfg.WebhookURL, cfg.WebhookSecret, deps); err != nil {
		return nil, fmt.Errorf("psp_sim: %w", err)
	}
	undelivered := make(map[int64]struct{})
	s.ledger, err = party.OpenLedger(cfg.Dir, cfg.SyncEvery, deps, func(place int64, text []byte) error {
		return s.replay(place, text, undelivered)
	})
	if err != nil {
		return nil, fmt.Errorf("psp_sim: %w", err)
	}
	for place := range undelivered {
		s.tell(place)
	}
	return s, nil
}

// replay takes up one line of the ledger. undelivered are the places of entries whose webhook nobody has
// taken so far.
func (s *Simulator) replay(place int64, text []byte, undelivered map[int64]struct{}) error {
	key, id := party.Field(text, "key"), party.Field(text, "authorisation")
	switch party.Field(text, "note") {
	case "":
		if key == "" || id == "" || party.Field(text, "print") == "" {
			return errors.New("it is not an entry that this version has written")
		}
		s.keys.Put(key, place)
		s.auths.Put(id, place)
		delete(s.failed, key)
		if party.Field(text, "hook") != "" {
			undelivered[place] = struct{}{}
		}
	case noteNever:
		s.keys.Put(key, place)
	case noteFailed:
		s.failed[key] = struct{}{}
	case noteUndoFailed:
		s.undosFailed[id]++
	case noteDelivered:
		of, _ := s.keys.Place(key)
		delete(undelivered, of)
	default:
		return errors.New("it is of a kind that this version does not know")
	}
	return nil
}

// Handler serves the provider's API.
func (s *Simulator) Handler() http.Handler {
	mux := http.NewServeMux()
	operation := func(pattern, kind string, do http.HandlerFunc) {
		mux.HandleFunc(pattern, s.faults.Around(kind, s.reference, do))
	}
	operation("POST /v1/authorisations", kindAuthorise, s.authorise)
	operation("POST /v1/authorisations/{id}/capture", kindCapture, s.capture)
	operation("POST /v1/authorisations/{id}/void", kindVoid, s.void)
	operation("POST /v1/authorisations/{id}/refund", kindRefund, s.refund)
	operation("GET /v1/authorisations/{id}", kindQuery, s.get)
	operation("GET /v1/operations/{key}", kindQuery, s.query)
	s.faults.Mount(mux)
	mux.Handle("GET /ledger", s.ledger)
	mux.Handle("GET /arrivals", s.arrivals)
	mux.HandleFunc("GET /healthz", party.Healthy)
	mux.HandleFunc("/", party.Unknown)
	return mux
}

// Run sends webhooks until ctx ends, and then lets go of the calls that are held.
func (s *Simulator) Run(ctx context.Context) error {
	defer s.door.Close()
	s.queue.Run(ctx, s.deliver)
	return nil
}

// Close lets go of the calls that are held and closes the ledger. Calls that come later are refused.
func (s *Simulator) Close() error {
	s.door.Close()
	s.sender.Close()
	return s.ledger.Close()
}
