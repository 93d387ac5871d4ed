package order_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"holdfast/platform/httpx"
	"holdfast/platform/telemetry"
	"holdfast/resilience"
	"holdfast/shop"
	"holdfast/svc/order"
	"holdfast/test/edge"
	"holdfast/test/fakes"
)

// BenchmarkPlace measures the HTTP layer alone: the service answers at once with one order.
func BenchmarkPlace(b *testing.B) {
	place(b, httpx.Parts{}, order.Edge{}, http.StatusCreated)
}

// BenchmarkRefuse measures what it takes to refuse an order, to be compared with BenchmarkPlace.
func BenchmarkRefuse(b *testing.B) {
	rejection := &resilience.Rejection{}
	overloaded := shop.Wrap(shop.Overloaded, "bench", "too much", rejection)
	b.Run("admission", func(b *testing.B) {
		place(b, httpx.Parts{Admit: func(httpx.Route, *http.Request) (func(int), error) { return nil, overloaded }}, order.Edge{}, http.StatusServiceUnavailable)
	})
	b.Run("rate", func(b *testing.B) {
		place(b, httpx.Parts{Limit: func(shop.Caller) resilience.Decision { return resilience.Decision{} }}, order.Edge{}, http.StatusTooManyRequests)
	})
	b.Run("load", func(b *testing.B) {
		place(b, httpx.Parts{}, order.Edge{Admit: func(shop.Request) error { return overloaded }}, http.StatusServiceUnavailable)
	})
}

func place(b *testing.B, parts httpx.Parts, edges order.Edge, status int) {
	b.Helper()
	orders := edge.NewOrders()
	o := orders.Put("alice", shop.Pending)
	keys, err := httpx.NewKeys(map[string]shop.Caller{edge.Key: "alice"})
	if err != nil {
		b.Fatal(err)
	}
	parts.Deps, parts.Tel = fakes.Deps(b), telemetry.Nop()
	api, err := httpx.New(httpx.Config{Keys: keys}, parts)
	if err != nil {
		b.Fatal(err)
	}
	if err := order.RegisterHTTP(api, &instant{Orders: orders, o: o}, edges); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/v1/orders", strings.NewReader(edge.PlaceBody))
		r.Header.Set("Authorization", "Bearer "+edge.Key)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", "key")
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		if w.Code != status {
			b.Fatal(w.Body)
		}
	}
}
