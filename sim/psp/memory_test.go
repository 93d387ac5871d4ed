package psp_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"holdfast/shop"
	"holdfast/sim/psp"
	"holdfast/test/fakes"
)

// heap returns the bytes that are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemoryPerOrder bounds what the provider keeps in memory of an order that was authorised and
// captured. It is not parallel: others would be counted as well.
func TestMemoryPerOrder(t *testing.T) {
	const orders, most = 10_000, 250
	deps := fakes.Deps(t)
	deps.Files = &disk{Files: deps.Files, unsynced: true}
	c := psp.Defaults()
	c.Dir, c.SyncEvery = t.TempDir(), 0
	before := heap()
	sim, err := psp.New(c, deps)
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	h := sim.Handler()
	call := func(path, key, body string) string {
		req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		req.Header.Set("Idempotency-Key", key)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code >= 300 {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		return w.Body.String()
	}
	for i := range orders {
		order := shop.OrderID(deps.IDs.New("ord"))
		doc := decode[document](t, call("/v1/authorisations", string(order)+":authorise", strings.Replace(authorisation("tok_ok"), "ord_1", string(order), 1)))
		call("/v1/authorisations/"+doc.ID+"/capture", fmt.Sprintf("%s:capture", order), `{"amount":1400}`)
		if i == 0 {
			before = heap() // what the first one takes is not per order
		}
	}
	per := (heap() - before) / (orders - 1)
	t.Logf("%d bytes an order", per)
	if per > most {
		t.Errorf("%d bytes an order, want at most %d", per, most)
	}
	w := httptest.NewRecorder() // which keeps it alive
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ledger", nil))
	if got := strings.Count(w.Body.String(), "\n"); got != 2*orders || w.Code != http.StatusOK {
		t.Errorf("%d entries", got)
	}
}
