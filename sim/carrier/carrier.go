// Package carrier is a simulated carrier. Its ledger is the outside truth about parcels. How it behaves is
// chosen by the postal code of a shipment:
//
//	any            schedules, dispatches after a while and says so by webhook
//	00001          refuses: not shippable
//	00002, 00003   500 to the first call of a key, or to every call
//	00004          schedules and never answers; a query tells
//	00005          never dispatches
//
// A parcel leaves when its customer has answered the message about its dispatch with a success. With a
// conflict it stays, and waits to be cancelled. Until there is an answer the message is sent again.
//
// The faults that PUT /faults sets act in front of all this, and are forgotten at a restart.
package carrier

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"holdfast/shop"
	"holdfast/sim/party"
)

// Simulator is a carrier.
type Simulator struct {
	cfg      Config
	deps     shop.Deps
	ledger   *party.Ledger
	sender   *party.Sender
	queue    *party.Queue // of dispatches
	arrivals *party.Arrivals
	door     *party.Door
	faults   *party.Faults
	rates    []rate
	locks    *party.Locks // of keys and parcels that something is being done to

	mu      sync.Mutex
	keys    *party.Index        // where the line of a key's operation is
	parcels *party.Index        // where the latest line of a parcel is
	failed  map[string]struct{} // keys that have failed, and not been used since
	full    bool                // the last write has failed
}

// New opens the carrier on its directory; Run dispatches.
func New(cfg Config, deps shop.Deps) (*Simulator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Simulator{cfg: cfg, deps: deps, queue: party.NewQueue(deps), door: party.NewDoor(deps.Clock), locks: party.NewLocks(),
		arrivals: party.NewArrivals(kindSchedule, kindCancel, kindQuery, kindRates), rates: sortedRates(cfg.Rates),
		keys: party.NewIndex(), parcels: party.NewIndex(), failed: make(map[string]struct{})}
	s.faults = party.NewFaults(s.arrivals, s.door, deps)
	var err error
	if s.sender, err = party.NewSender(cfg.WebhookURL, cfg.WebhookSecret, deps); err != nil {
		return nil, fmt.Errorf("carrier_sim: %w", err)
	}
	waiting := make(map[int64]time.Time)
	s.ledger, err = party.OpenLedger(cfg.Dir, cfg.SyncEvery, deps, func(place int64, text []byte) error {
		return s.replay(place, text, waiting)
	})
	if err != nil {
		return nil, fmt.Errorf("carrier_sim: %w", err)
	}
	for place, at := range waiting {
		s.collect(place, at)
	}
	return s, nil
}

// replay takes up one line of the ledger. waiting are the places of the parcels that are still to leave,
// with the times when they were scheduled.
func (s *Simulator) replay(place int64, text []byte, waiting map[int64]time.Time) error {
	key, id, entry := party.Field(text, "key"), party.Field(text, "id"), party.Field(text, "entry")
	switch {
	case party.Field(text, "note") == noteFailed:
		s.failed[key] = struct{}{}
		return nil
	case entry == "" || key+id == "":
		return errors.New("it is not an entry that this version has written")
	}
	if key != "" {
		s.keys.Put(key, place)
		delete(s.failed, key)
	}
	if id == "" {
		return nil
	}
	if before, found := s.parcels.Place(id); found {
		delete(waiting, before)
	}
	s.parcels.Put(id, place)
	if entry == entryScheduled && party.Field(text, "dispatch") != never {
		at, err := time.Parse(time.RFC3339Nano, party.Field(text, "at"))
		if err != nil {
			return errors.New("its time cannot be read")
		}
		waiting[place] = at
	}
	return nil
}

// Handler serves the carrier's API.
func (s *Simulator) Handler() http.Handler {
	mux := http.NewServeMux()
	operation := func(pattern, kind string, do http.HandlerFunc) {
		mux.HandleFunc(pattern, s.faults.Around(kind, s.reference, do))
	}
	operation("POST /v1/shipments", kindSchedule, s.schedule)
	operation("POST /v1/shipments/{id}/cancel", kindCancel, s.cancel)
	operation("GET /v1/shipments/{id}", kindQuery, s.get)
	operation("GET /v1/operations/{key}", kindQuery, s.query)
	operation("GET /v1/rates", kindRates, s.showRates)
	s.faults.Mount(mux)
	mux.Handle("GET /ledger", s.ledger)
	mux.Handle("GET /arrivals", s.arrivals)
	mux.HandleFunc("GET /healthz", party.Healthy)
	mux.HandleFunc("/", party.Unknown)
	return mux
}

// Run dispatches until ctx ends, and then lets go of the calls that are held.
func (s *Simulator) Run(ctx context.Context) error {
	defer s.door.Close()
	s.queue.Run(ctx, s.dispatch)
	return nil
}

// Close lets go of the calls that are held and closes the ledger. Calls that come later are refused.
func (s *Simulator) Close() error {
	s.door.Close()
	s.sender.Close()
	return s.ledger.Close()
}
