package check

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// net/http sends an order again by itself where a connection that was used before breaks. What the second one is refused
// with does not speak for the first.
func TestRepeatedByNetHTTP(t *testing.T) {
	t.Parallel()
	var got atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := got.Add(1)
		if n == 3 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"code":"rate_limited"}`)
	}))
	t.Cleanup(server.Close)
	l := &load{plan: Plan{URL: server.URL}, http: server.Client()}
	for n := range 3 {
		s := l.place(t.Context(), n)
		if repeated := n == 2; s.Code != "rate_limited" || s.Repeated != repeated || s.Refused() == repeated || s.InDoubt() != repeated {
			t.Errorf("order %d, refused %t, in doubt %t: %+v", n, s.Refused(), s.InDoubt(), s)
		}
	}
	if got.Load() != 4 {
		t.Errorf("%d requests arrived, want 4", got.Load())
	}
}
