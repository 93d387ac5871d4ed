package policy_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/resilience"
)

// TestTransportRepeats sees which requests are sent again, and that each time all of the body is.
func TestTransportRepeats(t *testing.T) {
	t.Parallel()
	const small = "a small body"
	large := strings.Repeat("x", 1<<20+1)
	known := func(text string) func(*http.Request) {
		return func(r *http.Request) { r.Body, r.GetBody, r.ContentLength = newBody(text), nil, int64(len(text)) }
	}
	unknown := func(r *http.Request) { r.Body, r.GetBody, r.ContentLength = newBody(small), nil, -1 }
	rewindable := func(text string) func(*http.Request) {
		return func(r *http.Request) {
			r.GetBody = func() (io.ReadCloser, error) { return newBody(text), nil }
			r.Body, r.ContentLength = newBody(text), int64(len(text))
		}
	}
	cases := []struct {
		name, method, key string
		body              func(*http.Request)
		attempts          int
		want              string
	}{
		{"a question", http.MethodGet, "", nil, 2, ""},
		{"a question about the headers", http.MethodHead, "", nil, 2, ""},
		{"a replacement", http.MethodPut, "", known(small), 2, small},
		{"a removal", http.MethodDelete, "", nil, 2, ""},
		{"a command", http.MethodPost, "", rewindable(small), 1, small},
		{"a command without a body", http.MethodPost, "", nil, 1, ""},
		{"a change", http.MethodPatch, "", known(small), 1, small},
		{"a command with a key", http.MethodPost, "k", rewindable(small), 2, small},
		{"a body that must be kept", http.MethodPost, "k", known(small), 2, small},
		{"no body", http.MethodPost, "k", nil, 2, ""},
		{"a large body that can be made again", http.MethodPost, "k", rewindable(large), 2, large},
		{"a body of the most bytes that are kept", http.MethodPost, "k", known(large[1:]), 2, large[1:]},
		{"a larger body", http.MethodPost, "k", known(large), 1, large},
		{"a body of unknown length", http.MethodPost, "k", unknown, 1, small},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := &party{statuses: []int{503, 200}}
				rt, _ := through(t, p, retrying(config()))
				r := request(t.Context(), t, c.method, "http://api.test/", nil)
				if c.body != nil {
					c.body(r)
				}
				if c.key != "" {
					r.Header.Set("Idempotency-Key", c.key)
				}
				sent := r.Body
				resp, err := rt.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				is(t, "attempts", len(p.arrived), c.attempts)
				for i, a := range p.arrived {
					is(t, "body", len(a.body), len(c.want))
					if a.body != c.want || a.rewinds {
						t.Errorf("attempt %d: another body, or one that net/http may send again: %v", i+1, a.rewinds)
					}
				}
				is(t, "status", resp.StatusCode, p.statuses[c.attempts-1])
				if b, ok := sent.(*body); ok {
					is(t, "the request's own body was closed", b.closed.Load(), 1)
				}
				for i, b := range p.bodies {
					is(t, "bodies of unwanted answers are closed, and the last is not", b.closed.Load() == 1, i < len(p.bodies)-1)
				}
				resp.Body.Close()
			})
		})
	}
}

// TestTransportClosesRefused sees that the body of a request that never leaves is closed all the same, as
// http.RoundTripper has it.
func TestTransportClosesRefused(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]int64{"one that can be sent again": 4, "one that cannot": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rt, d := through(t, &party{}, config())
			d.Policy("call").Breaker().ForceOpen("test")
			b := newBody("body")
			r := request(t.Context(), t, http.MethodPost, "http://api.test/", b)
			r.ContentLength = length
			if _, err := rt.RoundTrip(r); !errors.Is(err, resilience.ErrOpen) {
				t.Fatal(err)
			}
			is(t, "closed", b.closed.Load(), 1)
		})
	}
}

// spoiled is a body that cannot be read, or not be closed.
type spoiled struct{ read, close error }

func (s spoiled) Read([]byte) (int, error) {
	if s.read != nil {
		return 0, s.read
	}
	return 0, io.EOF
}
func (s spoiled) Close() error { return s.close }

func TestTransportSpoiledBody(t *testing.T) {
	t.Parallel()
	bad := errors.New("spoiled")
	for name, b := range map[string]spoiled{"cannot be read": {read: bad}, "cannot be closed": {close: bad}} {
		p := &party{statuses: []int{200}}
		rt, _ := through(t, p, config())
		r := request(t.Context(), t, http.MethodPut, "http://api.test/", b)
		r.ContentLength = 4
		if _, err := rt.RoundTrip(r); !errors.Is(err, bad) || len(p.arrived) != 0 {
			t.Errorf("%s: %v after %d requests", name, err, len(p.arrived))
		}
	}
}

// TestTransportHoldsSlot has an answer keep its place until its body is closed.
func TestTransportHoldsSlot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, c := &party{statuses: []int{200}}, config()
		c.Bulkhead = resilience.BulkheadConfig{Limit: 1}
		rt, _ := through(t, p, c)
		open := func() *http.Response {
			resp, err := rt.RoundTrip(request(t.Context(), t, http.MethodGet, "http://api.test/", nil))
			return must(t, resp, err)
		}
		refused := func() {
			t.Helper()
			if _, err := get(t.Context(), t, rt); !errors.Is(err, resilience.ErrFull) {
				t.Errorf("got %v, want a full bulkhead", err)
			}
		}
		first := open()
		refused()
		if b, err := io.ReadAll(first.Body); err != nil || string(b) != "answer" {
			t.Errorf("%q, %v", b, err)
		}
		refused() // read is not closed
		first.Body.Close()
		second := open()
		first.Body.Close() // again, which must not give back what is another's
		refused()
		second.Body.Close()
		is(t, "arrivals", len(p.arrived), 2)
		is(t, "closed", p.bodies[0].closed.Load(), 2)
	})
}

// TestTransportWaitsForSlot is the same where there is a queue.
func TestTransportWaitsForSlot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, c := &party{statuses: []int{200}}, config()
		c.Bulkhead = resilience.BulkheadConfig{Limit: 1, Queue: 1, MaxWait: time.Minute}
		rt, _ := through(t, p, c)
		first, err := rt.RoundTrip(request(t.Context(), t, http.MethodGet, "http://api.test/", nil))
		if err != nil {
			t.Fatal(err)
		}
		second := make(chan error)
		go func() {
			_, err := get(t.Context(), t, rt)
			second <- err
		}()
		synctest.Wait()
		is(t, "arrivals before the body was closed", len(p.arrivals()), 1)
		time.Sleep(10 * time.Second)
		first.Body.Close()
		if err := <-second; err != nil {
			t.Error(err)
		}
		is(t, "waited", p.arrived[1].at.Sub(p.arrived[0].at), 10*time.Second)
	})
}

// TestTransportGivesSlotBack sees that the deadline of an answer that nobody closes frees its place.
func TestTransportGivesSlotBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, c := &party{statuses: []int{200}}, config()
		c.Bulkhead = resilience.BulkheadConfig{Limit: 1}
		rt, _ := through(t, p, operation(c, func(op *resilience.PolicyConfig) { op.Timeout.Attempt = 3 * time.Second }))
		if _, err := rt.RoundTrip(request(context.WithoutCancel(t.Context()), t, http.MethodGet, "http://api.test/", nil)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if _, err := get(t.Context(), t, rt); err != nil {
			t.Error(err)
		}
	})
}
