package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"holdfast/check"
	"holdfast/check/audit"
	"holdfast/shop"
)

// fakeSystem is a Holdfast that accepts orders and confirms them at once, on a broker of its own. It has no
// stores, and so checks itself: it finds nothing.
type fakeSystem struct {
	target check.Target
	parts  []Part
	links  []Link
	api    *fakeAPI
}

func (s *fakeSystem) Target() check.Target { return s.target }
func (s *fakeSystem) Stores() audit.Config { return audit.Config{} }
func (s *fakeSystem) Parts() []Part        { return s.parts }
func (s *fakeSystem) Links() []Link        { return s.links }

// fakePart notes what is done to it.
type fakePart struct {
	name, kind string

	mu    sync.Mutex
	done  []string
	alive bool
	told  chan string // each that is done; may be nil
}

func newPart(name, kind string) *fakePart {
	return &fakePart{name: name, kind: kind, alive: true, told: make(chan string, 16)}
}

func (p *fakePart) note(what string, alive bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done, p.alive = append(p.done, what), alive
	p.told <- what
	return nil
}

func (p *fakePart) all() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.done, " ")
}

func (p *fakePart) Name() string                { return p.name }
func (p *fakePart) Kind() string                { return p.kind }
func (p *fakePart) Kill() error                 { return p.note("kill", false) }
func (p *fakePart) Stop() error                 { return p.note("stop", false) }
func (p *fakePart) Start(context.Context) error { return p.note("start", true) }
func (p *fakePart) Pause() error                { return p.note("pause", true) }
func (p *fakePart) Resume() error               { return p.note("resume", true) }
func (p *fakePart) Throttle(s float64) error    { return p.note(fmt.Sprintf("throttle=%g", s), true) }
func (p *fakePart) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alive
}

// fakeLink bites once for each time that it is set to something.
type fakeLink struct {
	name      string
	out, back LinkFault
	bites     int64
	cuts      int
}

func (l *fakeLink) Name() string { return l.name }
func (l *fakeLink) Bites() int64 { return l.bites }
func (l *fakeLink) Cut()         { l.cuts++ }
func (l *fakeLink) Set(out, back LinkFault) {
	l.out, l.back = out, back
	if out != (LinkFault{}) || back != (LinkFault{}) {
		l.bites++
	}
}

// fakeHoldfast runs the API, the outside parties and the broker of a fakeSystem.
func fakeHoldfast(t *testing.T, parts ...Part) *fakeSystem {
	t.Helper()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, shop.TopicOrders))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	bus, err := newBus(broker.ListenAddrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	api := &fakeAPI{bus: bus, orders: map[shop.OrderID]shop.Order{}, keys: map[string]int{}}
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	at := check.Addresses{API: server.URL, Admin: server.URL, PSP: server.URL + "/psp", Carrier: server.URL + "/carrier", Kafka: broker.ListenAddrs()[0]}
	return &fakeSystem{api: api, parts: parts, target: check.Target{URL: server.URL, Key: "key", Addresses: at}}
}

type fakeAPI struct {
	bus *kgo.Client
	n   atomic.Int64

	mu     sync.Mutex
	orders map[shop.OrderID]shop.Order
	keys   map[string]int // of orders, to how many came with each
}

func (a *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case path == "/v1/orders" && r.Method == http.MethodPost:
		a.place(w, r)
	case path == "/v1/orders":
		a.list(w, r)
	case strings.HasSuffix(path, "/cancel"):
		answer(w, http.StatusAccepted, a.change(shop.OrderID(strings.Split(path, "/")[3])))
	case strings.HasPrefix(path, "/v1/orders/"):
		a.mu.Lock()
		defer a.mu.Unlock()
		answer(w, http.StatusOK, a.orders[shop.OrderID(strings.TrimPrefix(path, "/v1/orders/"))])
	case strings.HasPrefix(path, "/v1/items/"):
		answer(w, http.StatusOK, shop.Item{SKU: check.SKU})
	case path == "/admin/v1/verify":
		answer(w, http.StatusOK, audit.Report{Verdict: audit.Pass})
	case strings.HasSuffix(path, "/ledger"):
	default: // lists, and what the outside parties have counted: none
		answer(w, http.StatusOK, map[string]any{"items": []int{}})
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (a *fakeAPI) place(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var cmd shop.PlaceOrder
	_ = json.Unmarshal(body, &cmd)
	o := shop.Order{ID: shop.OrderID(fmt.Sprintf("ord_%d", a.n.Add(1))), Status: shop.Confirmed, ExternalID: cmd.ExternalID, CustomerID: cmd.CustomerID}
	a.mu.Lock()
	a.orders[o.ID] = o
	a.keys[r.Header.Get("Idempotency-Key")]++
	a.mu.Unlock()
	a.bus.Produce(context.Background(), &kgo.Record{Topic: shop.TopicOrders, Key: []byte(o.ID), Headers: []kgo.RecordHeader{
		{Key: headerType, Value: []byte(shop.EventOrderConfirmed)}, {Key: headerTime, Value: []byte(time.Now().UTC().Format(time.RFC3339Nano))}}}, nil)
	answer(w, http.StatusCreated, o)
}

func (a *fakeAPI) change(id shop.OrderID) shop.Order {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := a.orders[id]
	o.Status = shop.Cancelled
	a.orders[id] = o
	return o
}

func (a *fakeAPI) list(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	page := shop.OrderPage{Items: []shop.Order{}}
	status := shop.OrderStatus(r.URL.Query().Get("status"))
	for _, o := range a.orders {
		if status == "" || o.Status == status {
			page.Items = append(page.Items, o)
		}
	}
	answer(w, http.StatusOK, page)
}
