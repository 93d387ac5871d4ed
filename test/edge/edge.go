// Package edge puts the whole public handler on fakes of the services, for tests of the HTTP
// interface and of its client. Every answer that passes is checked against the OpenAPI document.
package edge

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/platform/httpx"
	"holdfast/platform/policy"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/svc/gateway"
	"holdfast/svc/inventory"
	"holdfast/svc/order"
	"holdfast/svc/payment"
	"holdfast/svc/shipping"
	"holdfast/test/fakes"
)

// The keys of two callers, and the secrets of the outside parties.
const (
	Key      = "test-key-of-alice-0001"
	OtherKey = "test-key-of-bob-000001"
)

// Now is where the clock of an Env stands unless it is told otherwise.
var Now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// Secret returns the nth webhook secret.
func Secret(n byte) string {
	return "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{'s', n}, 16))
}

// Env is a public handler with what stands behind it.
type Env struct {
	Gateway   *gateway.Gateway
	Handler   http.Handler
	Contract  *Contract
	Deps      shop.Deps
	Orders    *Orders
	Stock     *Stock
	Payments  *Payments
	Shipments *Shipments
	Log       *Log
}

// New makes an Env. A nil clock is the real one.
func New(t testing.TB, cfg gateway.Config, clock shop.Clock) *Env {
	t.Helper()
	e := &Env{
		Orders: NewOrders(), Stock: NewStock(), Payments: &Payments{}, Shipments: &Shipments{}, Log: &Log{}, Deps: fakes.Deps(t),
	}
	e.Deps.Log = slog.New(slog.NewJSONHandler(e.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if clock != nil {
		e.Deps.Clock = clock
	}
	keys, err := httpx.NewKeys(map[string]shop.Caller{Key: "alice", OtherKey: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	policies, err := policy.New(e.Deps, telemetry.Nop())
	if err != nil {
		t.Fatal(err)
	}
	e.Gateway, err = gateway.New(cfg, gateway.Parts{
		Deps: e.Deps, Tel: telemetry.Nop(), Keys: keys, Policies: policies,
		WebhookSecrets: map[string][]string{
			payment.WebhookParty:  {Secret(1), Secret(2)},
			shipping.WebhookParty: {Secret(3)},
		},
		Mount: []func(*httpx.API) error{
			func(a *httpx.API) error { return order.RegisterHTTP(a, e.Orders, order.Edge{}) },
			func(a *httpx.API) error { inventory.RegisterHTTP(a, e.Stock); return nil },
			func(a *httpx.API) error { payment.RegisterHTTP(a, e.Payments); return nil },
			func(a *httpx.API) error { shipping.RegisterHTTP(a, e.Shipments); return nil },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Contract, err = NewContract(e.Gateway)
	if err != nil {
		t.Fatal(err)
	}
	e.Handler = e.Contract.Check(t, e.Gateway.Handler())
	return e
}

// Request is a request of a test.
type Request struct {
	Method, Path string
	Header       map[string]string
	Body         string
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Do serves one request as alice, with JSON and a fresh Idempotency-Key on a POST. A header given as
// "-" is left out.
func (e *Env) Do(r Request) Answer {
	return e.DoContext(context.Background(), r)
}

// DoContext is Do with a context.
func (e *Env) DoContext(ctx context.Context, r Request) Answer {
	var body io.Reader = http.NoBody
	if r.Body != "" {
		body = strings.NewReader(r.Body)
	}
	req := httptest.NewRequestWithContext(ctx, r.Method, r.Path, body)
	req.Header.Set("Authorization", "Bearer "+Key)
	if r.Body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.Method == http.MethodPost {
		req.Header.Set("Idempotency-Key", e.Deps.IDs.New("key"))
	}
	for name, value := range r.Header {
		req.Header.Del(name)
		if value != "-" {
			req.Header.Set(name, value)
		}
	}
	rec := httptest.NewRecorder()
	e.Handler.ServeHTTP(rec, req)
	return Answer{rec.Code, rec.Header(), rec.Body.String()}
}

// Problem reads the answer as a problem; it is the zero value where it is none.
func (a Answer) Problem() httpx.Problem {
	var p httpx.Problem
	if a.Header.Get("Content-Type") == httpx.ProblemType {
		_ = json.Unmarshal([]byte(a.Body), &p)
	}
	return p
}

// Into decodes the answer's body.
func (a Answer) Into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.Body), v); err != nil {
		t.Fatalf("status %d, body %q: %v", a.Status, a.Body, err)
	}
}

// Log keeps what was logged.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// PlaceBody is a body of POST /v1/orders that is right in every field.
const PlaceBody = `{"customer_id":"cus_42","currency":"EUR",
 "lines":[{"sku":"TEA-EARL-100","quantity":2,"expected_unit_price":450}],
 "shipping_address":{"name":"A. Reader","line1":"1 Long Street","city":"Berlin","postal_code":"10115","country":"DE"},
 "payment_method":"tok_ok","saga":"choreographed","external_id":"web-1001","metadata":{"channel":"web"}}`
