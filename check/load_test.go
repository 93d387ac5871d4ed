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

// TestResend: an answer that asks for it again is not the last one; a refusal is.
func TestResend(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   string // of the order: its id or its code
	}{
		{"stored", http.StatusCreated, `{"id":"ord_1"}`, "ord_1"},
		{"refused", http.StatusUnprocessableEntity, `{"code":"unknown_sku"}`, "unknown_sku"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				switch got.Add(1) {
				case 1:
					w.WriteHeader(http.StatusTooManyRequests)
					_, _ = io.WriteString(w, `{"code":"rate_limited"}`)
				case 2:
					w.WriteHeader(http.StatusConflict)
					_, _ = io.WriteString(w, `{"code":"idempotency_in_progress"}`)
				default:
					w.WriteHeader(c.status)
					_, _ = io.WriteString(w, c.body)
				}
			}))
			t.Cleanup(server.Close)
			orders := []Sent{{Number: 0}}
			err := Resend(t.Context(), Plan{URL: server.URL}, orders)
			if s := orders[0]; err != nil || string(s.ID)+s.Code != c.want || s.InDoubt() || got.Load() != 3 {
				t.Errorf("%+v after %d requests: %v", s, got.Load(), err)
			}
		})
	}
}
