package order_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"holdfast/platform/httpx"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/svc/order"
	"holdfast/test/edge"
	"holdfast/test/fakes"
)

// BenchmarkPlace measures the HTTP layer alone: the service answers at once with one order.
func BenchmarkPlace(b *testing.B) {
	orders := edge.NewOrders()
	o := orders.Put("alice", shop.Pending)
	keys, err := httpx.NewKeys(map[string]shop.Caller{edge.Key: "alice"})
	if err != nil {
		b.Fatal(err)
	}
	deps := fakes.Deps(b)
	api, err := httpx.New(httpx.Config{Keys: keys}, httpx.Parts{Deps: deps, Tel: telemetry.Nop()})
	if err != nil {
		b.Fatal(err)
	}
	if err := order.RegisterHTTP(api, &instant{Orders: orders, o: o}, order.Edge{}); err != nil {
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
		if w.Code != http.StatusCreated {
			b.Fatal(w.Body)
		}
	}
}
