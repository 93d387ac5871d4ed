package payment_test

import (
	"context"
	"encoding/json"
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
	"holdfast/svc/payment"
	"holdfast/test/fakes"
	"holdfast/test/flow"
	"holdfast/test/stores"
)

const (
	id    = shop.OrderID("ord_06h0t55ikhqif3b4tu06m4e0p8")
	limit = 30 * time.Second
)

// provider is a payment provider whose answers the test can spoil. What it did is by idempotency key.
type provider struct {
	mu    sync.Mutex
	done  map[string]string // key to the status of the operation
	posts map[string]int    // kind to the requests that came
	asked int               // questions for an operation
	late  int               // after how many of them an authorisation arrives that was sent long ago; 0: none does
	spoil func(kind string, n int) (act bool, status int)
}

// ServeHTTP does an operation and answers. spoil says whether request n of a kind is acted on, and its
// status; 0 cuts the connection, so that the answer is lost.
func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if key, ok := strings.CutPrefix(r.URL.Path, "/v1/operations/"); ok {
		if p.asked++; p.late > 0 && p.asked > p.late {
			p.done[string(id)+":authorise"] = "succeeded"
		}
		status, ok := p.done[key]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, `{"key":%q,"kind":"x","status":%q,"authorisation":%s}`, key, status, p.document())
		return
	}
	key := r.Header.Get("Idempotency-Key")
	kind := key[strings.LastIndexByte(key, ':')+1:]
	p.posts[kind]++
	act, status := true, http.StatusCreated
	if p.spoil != nil {
		act, status = p.spoil(kind, p.posts[kind])
	}
	if act {
		p.done[key] = "succeeded"
	}
	if status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	fmt.Fprint(w, p.document())
}

// document is the authorisation as the operations done have left it.
func (p *provider) document() string {
	captured, refunded := 0, 0
	if p.done[string(id)+":capture"] != "" {
		captured = 1400
	}
	if p.done[string(id)+":refund"] != "" {
		refunded = 1400
	}
	return fmt.Sprintf(`{"id":"auth_1","amount":1400,"currency":"EUR","reference":%q,"captured":%d,"refunded":%d}`, id, captured, refunded)
}

// did asserts how many requests of a kind came.
func (p *provider) did(t *testing.T, kind string, want int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.posts[kind] != want {
		t.Errorf("%d requests to %s, want %d", p.posts[kind], kind, want)
	}
}

// pay is a payment service with a store and a provider of its own.
type pay struct {
	*payment.Service
	t        *testing.T
	db       *sqldb.DB
	provider *provider
}

// each runs test on both stores.
func each(t *testing.T, spoil func(kind string, n int) (bool, int), test func(t *testing.T, s *pay)) {
	t.Helper()
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		migrations, err := payment.Migrations()
		if err != nil {
			t.Fatal(err)
		}
		s := &pay{t: t, db: open(t, migrations), provider: &provider{done: map[string]string{}, posts: map[string]int{}, spoil: spoil}}
		server := httptest.NewServer(s.provider)
		t.Cleanup(server.Close)
		deps := fakes.Deps(t)
		cfg := payment.Defaults()
		cfg.ProviderURL, cfg.RetryMin, cfg.RetryMax, cfg.Calls.Poll, cfg.UndoFailures, cfg.AuthoriseFailures = server.URL, time.Millisecond, 10*time.Millisecond, 5*time.Millisecond, 3, 3
		s.Service, err = payment.New(cfg, payment.Parts{DB: s.db, Outbox: flow.Outbox(t, s.db, payment.Name, deps),
			Bus: bus.Config{Seeds: []string{"127.0.0.1:1"}, ClientID: "test"}, Deps: deps, Tel: telemetry.Nop(), Policies: flow.Policies(t, deps)})
		if err != nil {
			t.Fatal(err)
		}
		test(t, s)
	})
}

// run makes calls until the test ends.
func (s *pay) run() {
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

// says waits until the service has said an event, and asserts that it said no others but want.
func (s *pay) says(want ...shop.EventType) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	for {
		got := flow.Types(flow.Events(s.t, s.db, shop.TopicPayments))
		if slices.Equal(got, want) {
			return
		}
		if len(got) >= len(want) || (fakes.RealClock{}).Sleep(ctx, 5*time.Millisecond) != nil {
			s.t.Fatalf("said %v, want %v", got, want)
		}
	}
}

func (s *pay) take(kind shop.EventType) {
	s.t.Helper()
	brief := &shop.Brief{OrderID: id, Caller: "c", Currency: "EUR", Total: 1400, PaymentMethod: "tok_ok"}
	e := map[shop.EventType]shop.Event{
		shop.EventStockReserved:      flow.Event(s.t, kind, shop.TopicInventory, id, 1, shop.StockData{Brief: brief}),
		shop.EventShipmentCancelled:  flow.Event(s.t, kind, shop.TopicShipping, id, 1, shop.ShipmentData{OrderID: id}),
		shop.EventShipmentDispatched: flow.Event(s.t, kind, shop.TopicShipping, id, 1, shop.ShipmentData{OrderID: id}),
		shop.EventOrderRedriven:      flow.Event(s.t, kind, shop.TopicOrders, id, 1, shop.OrderData{Brief: brief}),
	}[kind]
	if err := s.Consume(s.t.Context(), e); err != nil {
		s.t.Fatal(err)
	}
}

// hears has the provider say by a webhook that it did an operation.
func (s *pay) hears(kind string) {
	s.t.Helper()
	data, err := json.Marshal(map[string]any{"key": string(id) + ":" + kind, "kind": kind, "status": "succeeded",
		"authorisation": map[string]any{"id": "auth_1", "amount": 1400, "currency": "EUR", "reference": id}})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.ProviderWebhook(s.t.Context(), shop.Webhook{ID: "msg_1", Type: kind + ".succeeded", Data: data}); err != nil {
		s.t.Fatal(err)
	}
}

// balanced asserts that both sides of the service's ledger add up, and to what.
func (s *pay) balanced(status shop.PaymentStatus, sales shop.Amount) {
	s.t.Helper()
	p, err := s.Payment(s.t.Context(), "c", id)
	if err != nil {
		s.t.Fatal(err)
	}
	var sum, sold shop.Amount
	for _, e := range p.Ledger {
		sum += e.Amount
		if e.Account == "sales" {
			sold -= e.Amount
		}
	}
	if p.Status != status || sum != 0 || sold != sales {
		s.t.Errorf("%s with %d sold and a ledger that adds up to %d, want %s with %d and 0", p.Status, sold, sum, status, sales)
	}
}

func TestLostAnswer(t *testing.T) {
	lost := func(kind string, n int) (bool, int) {
		if n == 1 {
			return true, 0 // done, and nobody heard
		}
		return true, http.StatusCreated
	}
	each(t, lost, func(t *testing.T, s *pay) {
		s.run()
		s.take(shop.EventStockReserved)
		s.says(shop.EventPaymentAuthorised)
		s.take(shop.EventShipmentDispatched)
		s.says(shop.EventPaymentAuthorised, shop.EventPaymentCaptured)
		s.provider.did(t, "authorise", 1) // it asked, and did not do it again
		s.provider.did(t, "capture", 1)
		s.balanced(shop.PaymentCaptured, 1400)
	})
}

func TestUndoneMeanwhile(t *testing.T) {
	each(t, nil, func(t *testing.T, s *pay) {
		s.take(shop.EventStockReserved)
		s.take(shop.EventShipmentCancelled) // while the authorisation is on its way
		s.run()
		s.says(shop.EventPaymentVoided)
		s.take(shop.EventShipmentCancelled)
		s.balanced(shop.PaymentVoided, 0)
		s.provider.did(t, "void", 1)
		if n := len(flow.Events(t, s.db, shop.TopicCompensations)); n != 1 {
			t.Errorf("%d compensations", n)
		}
	})
}

// TestUndoneInDoubt: that the provider does not know an authorisation, or fails, does not say that a request which was
// sent before it does not arrive later: only an attempt that has its outcome does. Of an order that was cancelled
// meanwhile no hold is left.
func TestUndoneInDoubt(t *testing.T) {
	for name, answers := range map[string][]answer{
		"it arrives when the next has failed": {{false, 0}, {true, http.StatusInternalServerError}},
		"it has not when the next has failed": {{false, 0}, {false, http.StatusInternalServerError}},
		"it was done, and failed to say so":   {{true, http.StatusInternalServerError}},
	} {
		t.Run(name, func(t *testing.T) {
			spoil := func(kind string, n int) (bool, int) {
				if kind == "authorise" && n <= len(answers) {
					return answers[n-1].act, answers[n-1].status
				}
				return true, http.StatusCreated
			}
			each(t, spoil, func(t *testing.T, s *pay) {
				s.take(shop.EventStockReserved)
				s.take(shop.EventShipmentCancelled)
				s.run()
				s.says(shop.EventPaymentVoided)
				s.balanced(shop.PaymentVoided, 0)
				s.provider.did(t, "void", 1)
			})
		})
	}
}

// TestSuccessAfterCancel: the provider says that it never did it, the order is closed, and then a webhook says that it
// did after all: the money goes back.
func TestSuccessAfterCancel(t *testing.T) {
	each(t, func(kind string, _ int) (bool, int) {
		if kind == "authorise" {
			return false, http.StatusInternalServerError
		}
		return true, http.StatusCreated
	}, func(t *testing.T, s *pay) {
		s.take(shop.EventStockReserved)
		s.take(shop.EventShipmentCancelled)
		s.run()
		s.says(shop.EventPaymentCancelled)
		s.provider.did(t, "authorise", 1)
		s.hears("authorise")
		s.says(shop.EventPaymentCancelled, shop.EventPaymentVoided)
		s.balanced(shop.PaymentVoided, 0)
	})
}

// answer is whether a request is acted on, and its status.
type answer struct {
	act    bool
	status int
}

// TestArrivesLate: no authorisation is given up on the word of a provider that does not know it yet, nor because it refuses
// the same request when that is sent again.
func TestArrivesLate(t *testing.T) {
	for name, status := range map[string]int{"no answer to any": 0, "a refusal of the others": http.StatusUnprocessableEntity} {
		t.Run(name, func(t *testing.T) {
			each(t, func(kind string, n int) (bool, int) {
				if kind != "authorise" {
					return true, http.StatusCreated
				}
				if n == 1 {
					return false, 0
				}
				return false, status
			}, func(t *testing.T, s *pay) {
				s.provider.late = 4 // the attempts' own questions, and the first after the last of them
				s.take(shop.EventStockReserved)
				s.run()
				s.says(shop.EventPaymentAuthorised)
				s.provider.did(t, "authorise", 4) // the first, and as many as may fail
			})
		})
	}
}

// TestNeverArrives: what is not known long after the last attempt is given up.
func TestNeverArrives(t *testing.T) {
	each(t, func(string, int) (bool, int) { return false, 0 }, func(t *testing.T, s *pay) {
		s.take(shop.EventStockReserved)
		s.run()
		s.says(shop.EventPaymentDeclined)
		s.provider.did(t, "authorise", 4)
	})
}

func TestUndoneBefore(t *testing.T) {
	each(t, nil, func(t *testing.T, s *pay) {
		s.run()
		s.take(shop.EventShipmentCancelled)
		s.take(shop.EventStockReserved)
		s.take(shop.EventOrderRedriven) // its answer comes after whatever was begun
		s.says(shop.EventPaymentCancelled, shop.EventPaymentCancelled)
		s.provider.did(t, "authorise", 0)
	})
}

// TestSuccessAfterGivingUp: the provider says that it never did it, the order is given up, and then a
// webhook says that it did after all: the money goes back.
func TestSuccessAfterGivingUp(t *testing.T) {
	fails := func(kind string, _ int) (bool, int) {
		if kind == "authorise" {
			return false, http.StatusInternalServerError
		}
		return true, http.StatusOK
	}
	each(t, fails, func(t *testing.T, s *pay) {
		s.run()
		s.take(shop.EventStockReserved)
		s.says(shop.EventPaymentDeclined)
		s.provider.did(t, "authorise", 3)
		for range 2 {
			s.hears("authorise")
		}
		s.says(shop.EventPaymentDeclined, shop.EventPaymentVoided)
		s.provider.did(t, "void", 1)
		s.balanced(shop.PaymentVoided, 0)
	})
}

// TestWebhookFirst: the webhook brings the outcome before any answer, and the call is not made again.
func TestWebhookFirst(t *testing.T) {
	each(t, nil, func(t *testing.T, s *pay) {
		s.take(shop.EventStockReserved)
		hook := func(key, status string) error {
			return s.ProviderWebhook(t.Context(), shop.Webhook{ID: "msg_" + key + status, Data: []byte(`{"key":"` + key + `","kind":"authorise","status":"` + status + `","authorisation":` + s.provider.document() + `}`)})
		}
		for _, ours := range []error{hook("somebody-else:authorise", "succeeded"), hook(string(id)+":authorise", "failed")} {
			if ours != nil {
				t.Error(ours)
			}
		}
		s.says() // neither says that ours succeeded
		if err := hook(string(id)+":authorise", "succeeded"); err != nil {
			t.Fatal(err)
		}
		s.says(shop.EventPaymentAuthorised)
		s.run()
		s.take(shop.EventShipmentCancelled)
		s.says(shop.EventPaymentAuthorised, shop.EventPaymentVoided)
		s.provider.did(t, "authorise", 0)
		if err := s.ProviderWebhook(t.Context(), shop.Webhook{ID: "m", Data: []byte(`{"key":1}`)}); shop.KindOf(err) != shop.Invalid {
			t.Errorf("a webhook that makes no sense: %v", err)
		}
	})
}

// TestVoidFailsUntilAnOperatorActs: an undo that keeps failing waits for an operator, and is tried again
// where the operator says so.
func TestVoidFailsUntilAnOperatorActs(t *testing.T) {
	fails := func(kind string, n int) (bool, int) {
		if kind == "void" && n <= 3 {
			return false, http.StatusInternalServerError
		}
		return true, http.StatusOK
	}
	each(t, fails, func(t *testing.T, s *pay) {
		s.run()
		s.take(shop.EventStockReserved)
		s.says(shop.EventPaymentAuthorised)
		s.take(shop.EventShipmentCancelled)
		s.says(shop.EventPaymentAuthorised, shop.EventPaymentNeedsAttention)
		s.provider.did(t, "void", 3)
		s.balanced(shop.PaymentNeedsAttention, 0)
		s.take(shop.EventOrderRedriven)
		s.says(shop.EventPaymentAuthorised, shop.EventPaymentNeedsAttention, shop.EventPaymentNeedsAttention, shop.EventPaymentVoided)
		s.balanced(shop.PaymentVoided, 0)
	})
}
