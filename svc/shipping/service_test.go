package shipping_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/platform/bus"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/svc/shipping"
	"holdfast/test/fakes"
	"holdfast/test/flow"
	"holdfast/test/stores"
)

const (
	id     = shop.OrderID("ord_06h0t55ikhqif3b4tu06m4e0p8")
	parcel = `{"id":"par_1","status":"scheduled","tracking":"HF1","reference":"` + string(id) + `"}`
	limit  = 30 * time.Second
)

// carrier is a carrier whose answers the test can spoil.
type carrier struct {
	mu    sync.Mutex
	done  map[string]bool
	posts map[string]int // kind to the requests that came
	spoil func(kind string, n int) (act bool, status int)
}

// ServeHTTP does an operation and answers. spoil says whether request n of a kind is acted on, and its
// status; 0 cuts the connection, so that the answer is lost.
func (c *carrier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if key, ok := strings.CutPrefix(r.URL.Path, "/v1/operations/"); ok {
		if !c.done[key] {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, `{"key":%q,"status":"succeeded","shipment":%s}`, key, parcel)
		return
	}
	key := r.Header.Get("Idempotency-Key")
	kind := key[strings.LastIndexByte(key, ':')+1:]
	c.posts[kind]++
	act, status := true, http.StatusOK
	if c.spoil != nil {
		act, status = c.spoil(kind, c.posts[kind])
	}
	if act {
		c.done[key] = true
	}
	switch status {
	case 0:
		panic(http.ErrAbortHandler)
	case http.StatusUnprocessableEntity:
		w.WriteHeader(status)
		fmt.Fprint(w, `{"code":"not_shippable","message":"we do not go there"}`)
	default:
		w.WriteHeader(status)
		fmt.Fprint(w, parcel)
	}
}

// gate is the order service as shipping needs it.
type gate struct {
	shop.Orders
	refuse error
	asked  int
}

func (g *gate) AllowDispatch(context.Context, shop.OrderID) error {
	g.asked++
	return g.refuse
}

// ship is a shipping service with a store and a carrier of its own.
type ship struct {
	*shipping.Service
	t       *testing.T
	db      *sqldb.DB
	carrier *carrier
	orders  *gate
}

// each runs test on both stores.
func each(t *testing.T, spoil func(kind string, n int) (bool, int), test func(t *testing.T, s *ship)) {
	t.Helper()
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		migrations, err := shipping.Migrations()
		if err != nil {
			t.Fatal(err)
		}
		s := &ship{t: t, db: open(t, migrations), carrier: &carrier{done: map[string]bool{}, posts: map[string]int{}, spoil: spoil}, orders: &gate{}}
		server := httptest.NewServer(s.carrier)
		t.Cleanup(server.Close)
		deps := fakes.Deps(t)
		cfg := shipping.Defaults()
		cfg.CarrierURL, cfg.RetryMin, cfg.RetryMax, cfg.Calls.Poll, cfg.CancelFailures, cfg.ScheduleFailures = server.URL, time.Millisecond, 10*time.Millisecond, 5*time.Millisecond, 3, 3
		s.Service, err = shipping.New(cfg, shipping.Parts{DB: s.db, Outbox: flow.Outbox(t, s.db, shipping.Name, deps), Orders: s.orders,
			Bus: bus.Config{Seeds: []string{"127.0.0.1:1"}, ClientID: "test"}, Deps: deps, Tel: telemetry.Nop(), Policies: flow.Policies(t, deps)})
		if err != nil {
			t.Fatal(err)
		}
		test(t, s)
	})
}

// run makes calls until the test ends.
func (s *ship) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Calls(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	})
}

// says waits until the service has said these events, and no others.
func (s *ship) says(want ...shop.EventType) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	for {
		got := flow.Types(flow.Events(s.t, s.db, shop.TopicShipping))
		if slices.Equal(got, want) {
			return
		}
		if len(got) >= len(want) || (fakes.RealClock{}).Sleep(ctx, 5*time.Millisecond) != nil {
			s.t.Fatalf("said %v, want %v", got, want)
		}
	}
}

func (s *ship) did(kind string, want int) {
	s.t.Helper()
	s.carrier.mu.Lock()
	defer s.carrier.mu.Unlock()
	if s.carrier.posts[kind] != want {
		s.t.Errorf("%d requests to %s, want %d", s.carrier.posts[kind], kind, want)
	}
}

func (s *ship) take(kind shop.EventType, undo bool) {
	s.t.Helper()
	brief := &shop.Brief{OrderID: id, Caller: "c", Lines: []shop.ReservedLine{{Line: 1, SKU: "A", Quantity: 1}}}
	e := flow.Event(s.t, kind, shop.TopicOrders, id, 1, shop.OrderData{Undo: undo})
	if kind == shop.EventPaymentAuthorised {
		e = flow.Event(s.t, kind, shop.TopicPayments, id, 1, shop.PaymentData{OrderID: id, Brief: brief})
	}
	if err := s.Consume(s.t.Context(), e); err != nil {
		s.t.Fatal(err)
	}
}

func (s *ship) collect() error {
	return s.CarrierWebhook(s.t.Context(), shop.Webhook{ID: "msg_1", Type: "shipment.dispatched", Data: []byte(parcel)})
}

func TestLostAnswer(t *testing.T) {
	lost := func(_ string, n int) (bool, int) { return true, http.StatusOK * min(n-1, 1) }
	each(t, lost, func(t *testing.T, s *ship) {
		s.run()
		s.take(shop.EventPaymentAuthorised, false)
		s.says(shop.EventShipmentScheduled)
		s.did("schedule", 1) // it asked, and did not order a second parcel
		s.take(shop.EventOrderUndoRequested, true)
		s.says(shop.EventShipmentScheduled, shop.EventShipmentCancelled)
		s.did("cancel", 1)
	})
}

func TestRefused(t *testing.T) {
	each(t, func(string, int) (bool, int) { return false, http.StatusUnprocessableEntity }, func(t *testing.T, s *ship) {
		s.run()
		s.take(shop.EventPaymentAuthorised, false)
		s.says(shop.EventShipmentRejected)
		s.take(shop.EventOrderUndoRequested, true)
		s.says(shop.EventShipmentRejected)
		s.did("cancel", 0)
	})
}

// TestUndone: an undo before, while and after a parcel comes about leaves none.
func TestUndone(t *testing.T) {
	each(t, nil, func(t *testing.T, s *ship) {
		s.take(shop.EventOrderUndoRequested, true)
		s.take(shop.EventPaymentAuthorised, false)
		s.run()
		s.take(shop.EventOrderRedriven, true) // its answer comes after whatever was begun
		s.says(shop.EventShipmentCancelled, shop.EventShipmentCancelled)
		s.did("schedule", 0)
		if err := s.collect(); shop.KindOf(err) != shop.Conflict { // whatever brought that about
			t.Errorf("it may leave: %v", err)
		}
		s.says(shop.EventShipmentCancelled, shop.EventShipmentCancelled, shop.EventShipmentCancelled)
		s.did("cancel", 1)
	})
}

func TestUndoneMeanwhile(t *testing.T) {
	each(t, nil, func(t *testing.T, s *ship) {
		s.take(shop.EventPaymentAuthorised, false)
		s.take(shop.EventOrderUndoRequested, true)
		s.run()
		s.says(shop.EventShipmentCancelled)
		s.did("cancel", 1)
	})
}

// TestUndoneInDoubt: that the carrier does not know a parcel, or fails, does not say that a request which was sent
// before it does not arrive later: only an attempt that has its outcome does. Of an order that was cancelled meanwhile
// no parcel is left.
func TestUndoneInDoubt(t *testing.T) {
	for name, answers := range map[string][]answer{
		"it arrives when the next has failed": {{false, 0}, {true, http.StatusInternalServerError}},
		"it has not when the next has failed": {{false, 0}, {false, http.StatusInternalServerError}},
		"it was done, and failed to say so":   {{true, http.StatusInternalServerError}},
	} {
		t.Run(name, func(t *testing.T) {
			spoil := func(kind string, n int) (bool, int) {
				if kind == "schedule" && n <= len(answers) {
					return answers[n-1].act, answers[n-1].status
				}
				return true, http.StatusOK
			}
			each(t, spoil, func(t *testing.T, s *ship) {
				s.take(shop.EventPaymentAuthorised, false)
				s.take(shop.EventOrderUndoRequested, true)
				s.run()
				s.says(shop.EventShipmentCancelled)
				s.did("cancel", 1)
			})
		})
	}
}

// answer is whether a request is acted on, and its status.
type answer struct {
	act    bool
	status int
}

// TestNeverArrives: what is not known long after the last attempt is given up, and no sooner where the carrier refuses
// the same request when that is sent again. A parcel of it that the carrier comes for all the same must not leave, and
// is cancelled.
func TestNeverArrives(t *testing.T) {
	for name, status := range map[string]int{"no answer to any": 0, "a refusal of the others": http.StatusBadRequest} {
		t.Run(name, func(t *testing.T) {
			each(t, func(kind string, n int) (bool, int) {
				if kind == "cancel" {
					return true, http.StatusOK
				}
				if n == 1 {
					return false, 0
				}
				return false, status
			}, func(t *testing.T, s *ship) {
				s.take(shop.EventPaymentAuthorised, false)
				s.run()
				s.says(shop.EventShipmentRejected)
				s.did("schedule", 4)
				if err := s.collect(); shop.KindOf(err) != shop.Conflict {
					t.Errorf("it may leave: %v", err)
				}
				s.says(shop.EventShipmentRejected, shop.EventShipmentCancelled)
				s.did("cancel", 1)
			})
		})
	}
}

// TestRefusedInDoubt: a parcel that the carrier has refused may come of a request that was sent before: it must not leave,
// and is cancelled.
func TestRefusedInDoubt(t *testing.T) {
	each(t, func(kind string, n int) (bool, int) {
		if kind == "cancel" {
			return true, http.StatusOK
		}
		return false, http.StatusUnprocessableEntity * min(n-1, 1)
	}, func(t *testing.T, s *ship) {
		s.take(shop.EventPaymentAuthorised, false)
		s.run()
		s.says(shop.EventShipmentRejected)
		if err := s.collect(); shop.KindOf(err) != shop.Conflict {
			t.Errorf("it may leave: %v", err)
		}
		s.says(shop.EventShipmentRejected, shop.EventShipmentCancelled)
		s.did("cancel", 1)
	})
}

// TestUndoMissed: the event that says again what an order is up to also brings an undo that was missed.
func TestUndoMissed(t *testing.T) {
	each(t, nil, func(t *testing.T, s *ship) {
		s.run()
		s.take(shop.EventPaymentAuthorised, false)
		s.says(shop.EventShipmentScheduled)
		s.take(shop.EventOrderRedriven, false)
		s.says(shop.EventShipmentScheduled, shop.EventShipmentScheduled)
		s.take(shop.EventOrderRedriven, true)
		s.says(shop.EventShipmentScheduled, shop.EventShipmentScheduled, shop.EventShipmentCancelled)
	})
}

func TestCollect(t *testing.T) {
	each(t, nil, func(t *testing.T, s *ship) {
		if err := s.collect(); shop.KindOf(err) != shop.Conflict {
			t.Errorf("an unknown parcel may leave: %v", err)
		}
		s.take(shop.EventPaymentAuthorised, false)
		s.orders.refuse = shop.E(shop.NotYet, "test", "not every step is known")
		if err := s.collect(); shop.KindOf(err) != shop.NotYet {
			t.Errorf("the parcel leaves before the order allows it: %v", err)
		}
		s.says(shop.EventShipmentScheduled) // which the carrier's message told before any answer
		s.orders.refuse = nil
		for range 3 {
			if err := s.collect(); err != nil {
				t.Fatal(err)
			}
		}
		s.says(shop.EventShipmentScheduled, shop.EventShipmentDispatched)
		s.run()
		s.take(shop.EventOrderUndoRequested, true)
		s.says(shop.EventShipmentScheduled, shop.EventShipmentDispatched)
		s.did("schedule", 0)
		s.did("cancel", 0)
	})
}

// TestCollectAfterCancel: a parcel that was cancelled must not leave, and the order is not even asked.
func TestCollectAfterCancel(t *testing.T) {
	each(t, nil, func(t *testing.T, s *ship) {
		s.run()
		s.take(shop.EventPaymentAuthorised, false)
		s.says(shop.EventShipmentScheduled)
		s.take(shop.EventOrderUndoRequested, true)
		s.says(shop.EventShipmentScheduled, shop.EventShipmentCancelled)
		if err := s.collect(); shop.KindOf(err) != shop.Conflict || s.orders.asked > 0 {
			t.Errorf("a cancelled parcel: %v, asked %d times", err, s.orders.asked)
		}
	})
}

// TestCancelFailsUntilAnOperatorActs: a cancel that the carrier keeps refusing waits for an operator.
func TestCancelFailsUntilAnOperatorActs(t *testing.T) {
	fails := func(kind string, n int) (bool, int) {
		if kind == "cancel" && n <= 3 {
			return false, http.StatusConflict
		}
		return true, http.StatusOK
	}
	each(t, fails, func(t *testing.T, s *ship) {
		s.run()
		s.take(shop.EventPaymentAuthorised, false)
		s.says(shop.EventShipmentScheduled)
		s.take(shop.EventOrderUndoRequested, true)
		s.says(shop.EventShipmentScheduled, shop.EventShipmentNeedsAttention)
		s.did("cancel", 3)
		s.take(shop.EventOrderRedriven, true)
		s.says(shop.EventShipmentScheduled, shop.EventShipmentNeedsAttention, shop.EventShipmentNeedsAttention, shop.EventShipmentCancelled)
	})
}
