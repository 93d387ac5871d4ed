package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/client"
	"holdfast/shop"
)

const pending, confirmed, fulfilled = `{"id":"ord_1","status":"pending","version":1}`, `{"id":"ord_1","status":"confirmed","version":2}`, `{"id":"ord_1","status":"fulfilled","version":3}`

// server answers each request with the next of its answers, the last of them for ever.
type server struct {
	mu       sync.Mutex
	answers  []http.HandlerFunc
	requests []*http.Request
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r)
	answer := s.answers[min(len(s.requests), len(s.answers))-1]
	s.mu.Unlock()
	answer(w, r)
}

// seen lists a header of every request.
func (s *server) seen(name string) (values []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		values = append(values, r.Header.Get(name))
	}
	return values
}

func start(t *testing.T, answers ...http.HandlerFunc) (*client.Client, *server) {
	t.Helper()
	s := &server{answers: answers}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	c, err := client.New(h.URL, "the-key", nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func says(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// cut ends the connection without an answer.
func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

const (
	unavailable = `{"code":"unavailable","detail":"the database is away","retryable":true,"request_id":"req_1"}`
	overloaded  = `{"code":"overloaded","detail":"too much to do","retryable":true,"request_id":"req_2"}`
)

func TestPlaceIsRepeatedWithItsKey(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]http.HandlerFunc{"no answer": cut, "unavailable": says(503, unavailable)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, s := start(t, trouble, trouble, says(201, pending, "Idempotent-Replayed", "true"))
			placed, err := c.PlaceOrder(t.Context(), "key-1", shop.PlaceOrder{}, 0)
			if err != nil || placed.Order.ID != "ord_1" || !placed.Replayed {
				t.Errorf("%+v %v", placed, err)
			}
			if keys := s.seen("Idempotency-Key"); !slices.Equal(slices.Compact(keys), []string{"key-1"}) {
				t.Errorf("the keys were %v", keys)
			}
			if auth := s.seen("Authorization"); auth[len(auth)-1] != "Bearer the-key" {
				t.Errorf("authorisation %q", auth)
			}
		})
	}
}

func TestGivesUp(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer http.HandlerFunc
		code   string
		sent   int
	}{
		{"unavailable for long", says(503, unavailable), "unavailable", 3},
		{"unavailable, to come back in an hour", says(503, unavailable, "Retry-After", "3600"), "unavailable", 1},
		{"a refusal", says(422, `{"code":"validation_failed","detail":"no","errors":[{"pointer":"/lines","detail":"is empty"}]}`), "validation_failed", 1},
		{"a failure of the server's own", says(500, `{"code":"internal","detail":"no"}`), "internal", 1},
		{"somebody else's server", says(502, `<html>`), "unexpected_answer", 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, s := start(t, test.answer)
			_, err := c.PlaceOrder(t.Context(), "key-1", shop.PlaceOrder{}, 0)
			var p *client.Problem
			if !errors.As(err, &p) || p.Code != test.code || p.Error() == "" {
				t.Fatalf("%v, want the problem %s", err, test.code)
			}
			if test.code == "validation_failed" && !strings.Contains(p.Error(), "/lines is empty") {
				t.Errorf("it does not name the field: %v", p)
			}
			if n := len(s.seen("Host")); n != test.sent {
				t.Errorf("sent %d times, want %d", n, test.sent)
			}
		})
	}
}

// TestRefusedInDoubt: the first try may have placed the order, so that nobody is told of the second that it was refused.
func TestRefusedInDoubt(t *testing.T) {
	t.Parallel()
	limited := says(429, `{"code":"rate_limited","detail":"too many"}`)
	tests := []struct {
		name    string
		answers []http.HandlerFunc
		code    string // "" is an error without one
	}{
		{"no answer, then too much to do", []http.HandlerFunc{cut, says(503, overloaded)}, ""},
		{"no answer, then too many", []http.HandlerFunc{cut, limited}, ""},
		{"too much to do, no answer, too much to do", []http.HandlerFunc{says(503, overloaded), cut, says(503, overloaded)}, ""},
		{"no answer, then a failure", []http.HandlerFunc{cut, says(503, unavailable)}, "unavailable"},
		{"a failure, then too much to do", []http.HandlerFunc{says(503, unavailable), says(503, overloaded)}, "unavailable"},
		{"a failure, then too many", []http.HandlerFunc{says(503, unavailable), limited}, "unavailable"},
		{"too much to do", []http.HandlerFunc{says(503, overloaded)}, "overloaded"},
		{"too much to do, then too many", []http.HandlerFunc{says(503, overloaded), limited}, "rate_limited"},
		{"no answer, then a refusal", []http.HandlerFunc{cut, says(422, `{"code":"validation_failed","detail":"no"}`)}, "validation_failed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, _ := start(t, test.answers...)
			_, err := c.PlaceOrder(t.Context(), "key-1", shop.PlaceOrder{}, 0)
			var p *client.Problem
			if errors.As(err, &p) != (test.code != "") || err == nil || p != nil && p.Code != test.code {
				t.Errorf("%v, want the code %q", err, test.code)
			}
		})
	}
}

// TestNeverSent: a try that found nobody is in no doubt.
func TestNeverSent(t *testing.T) {
	t.Parallel()
	s := &server{answers: []http.HandlerFunc{says(503, overloaded)}}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	var dials atomic.Int32
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) == 1 {
			return nil, errors.New("nobody is there")
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(h.URL, "the-key", &http.Client{Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.PlaceOrder(t.Context(), "key-1", shop.PlaceOrder{}, 0)
	var p *client.Problem
	if !errors.As(err, &p) || p.Code != "overloaded" || len(s.seen("Host")) != 2 {
		t.Errorf("%v after %d requests", err, len(s.seen("Host")))
	}
}

// TestPutUnderAVersion is not repeated: its own success would refuse the repetition.
func TestPutUnderAVersion(t *testing.T) {
	t.Parallel()
	for version, sent := range map[int64]int{0: 3, 7: 1} {
		c, s := start(t, says(503, unavailable))
		if _, err := c.PutItem(t.Context(), "TEA", version, shop.PutItem{}); err == nil {
			t.Error("no error")
		}
		if n := len(s.seen("Host")); n != sent {
			t.Errorf("under version %d it was sent %d times, want %d", version, n, sent)
		}
	}
}

// TestWatchReconnects: a stream that breaks goes on after the last version that was seen.
func TestWatchReconnects(t *testing.T) {
	t.Parallel()
	event := func(order string) string { return "event: order\ndata: " + order + "\n\n" }
	stream := func(text string, whole bool) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, text)
			_ = http.NewResponseController(w).Flush()
			if !whole {
				panic(http.ErrAbortHandler)
			}
		}
	}
	c, s := start(t, stream(event(pending), false), cut, stream(event(confirmed), true), says(503, unavailable), stream(event(fulfilled), true))
	var got []shop.OrderStatus
	for o, err := range c.Watch(t.Context(), "ord_1", 0) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, o.Status)
	}
	if !slices.Equal(got, []shop.OrderStatus{shop.Pending, shop.Confirmed, shop.Fulfilled}) {
		t.Errorf("saw %v", got)
	}
	if last := s.seen("Last-Event-Id"); last[0] != "" || last[len(last)-1] != "2" {
		t.Errorf("went on after %q", last)
	}
}

func TestWatchEnds(t *testing.T) {
	t.Parallel()
	c, _ := start(t, says(204, ""))
	for o, err := range c.Watch(t.Context(), "ord_1", 3) {
		t.Errorf("there is nothing more to come: %v %v", o, err)
	}
	c, s := start(t, says(404, `{"code":"not_found","detail":"no such order"}`))
	var failed error
	for _, failed = range c.Watch(t.Context(), "ord_1", 0) {
	}
	var p *client.Problem
	if !errors.As(failed, &p) || p.Code != "not_found" || len(s.seen("Host")) != 1 {
		t.Errorf("%v after %d requests", failed, len(s.seen("Host")))
	}
}

func TestWaitIsAskedFor(t *testing.T) {
	t.Parallel()
	c, s := start(t, says(201, confirmed))
	if _, err := c.PlaceOrder(t.Context(), client.NewKey(), shop.PlaceOrder{}, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if got := s.seen("Prefer"); got[0] != "wait=10" {
		t.Errorf("preferred %q", got)
	}
	if a, b := client.NewKey(), client.NewKey(); a == b {
		t.Errorf("two keys are %s", a)
	}
}
