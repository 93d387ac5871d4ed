package policy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/platform/policy"
	"holdfast/resilience"
	"holdfast/test/fakes"
)

// party is another party in memory: it answers with one status after the other, the last of them again
// and again, and keeps what it was asked.
type party struct {
	statuses   []int
	retryAfter string
	hang       bool // until the request's context ends

	mu      sync.Mutex
	arrived []arrival
	bodies  []*body // of the answers
}

// arrival is a request as it came.
type arrival struct {
	body, timeout string
	rewinds       bool // net/http could send it again by itself
	at            time.Time
}

func (p *party) RoundTrip(r *http.Request) (*http.Response, error) {
	a := arrival{timeout: r.Header.Get("Request-Timeout"), rewinds: r.GetBody != nil, at: time.Now()}
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		a.body = string(b)
		r.Body.Close()
	}
	p.mu.Lock()
	p.arrived = append(p.arrived, a)
	n := len(p.arrived)
	p.mu.Unlock()
	if p.hang {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	status := p.statuses[min(n, len(p.statuses))-1]
	answer := newBody("answer")
	p.mu.Lock()
	p.bodies = append(p.bodies, answer)
	p.mu.Unlock()
	resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: answer, Request: r}
	if p.retryAfter != "" {
		resp.Header.Set("Retry-After", p.retryAfter)
	}
	return resp, nil
}

func (p *party) arrivals() []arrival {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.arrived
}

// body counts how often it is closed.
type body struct {
	io.Reader
	closed atomic.Int32
}

func newBody(text string) *body { return &body{Reader: strings.NewReader(text)} }

func (b *body) Close() error {
	b.closed.Add(1)
	return nil
}

// through puts the policies of a configuration before next.
func through(t *testing.T, next http.RoundTripper, c policy.Config) (http.RoundTripper, *policy.Dependency) {
	t.Helper()
	d := newWorld(t, nil).dependency(t, c)
	return &policy.Transport{Next: next, Clock: fakes.RealClock{}, Policy: func(*http.Request) *resilience.Policy { return d.Policy("call") }}, d
}

func request(ctx context.Context, t *testing.T, method, url string, b io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, url, b)
	return must(t, r, err)
}

// get asks for a small document and returns its status, or 0.
func get(ctx context.Context, t *testing.T, rt http.RoundTripper) (int, error) {
	t.Helper()
	resp, err := rt.RoundTrip(request(ctx, t, http.MethodGet, "http://api.test/", nil))
	if err != nil {
		return 0, err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error(err)
	}
	return resp.StatusCode, resp.Body.Close()
}

func counts(d *policy.Dependency) resilience.Counts { return d.Policy("call").Breaker().Stats().Counts }

func state(d *policy.Dependency) resilience.State { return d.Policy("call").Breaker().State() }

// TestTransportStatuses sees what the breaker makes of each answer of a real server.
func TestTransportStatuses(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		if _, err := fmt.Sscanf(r.URL.Path, "/%d", &status); err != nil || status == 0 {
			panic(http.ErrAbortHandler) // no answer
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	cases := map[int]int{200: 0, 201: 0, 204: 0, 301: 0, 304: 0, 400: 0, 401: 0, 402: 0, 403: 0, 404: 0, 405: 0, 409: 0, 410: 0, 413: 0, 422: 0, 451: 0,
		408: 1, 429: 1, 500: 1, 501: 1, 502: 1, 503: 1, 504: 1, 505: 1, 0: 1}
	for status, failures := range cases {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			rt, d := through(t, http.DefaultTransport, config())
			resp, err := rt.RoundTrip(request(t.Context(), t, http.MethodGet, fmt.Sprintf("%s/%d", server.URL, status), nil))
			if (err != nil) != (status == 0) {
				t.Fatal(err)
			}
			if err == nil {
				is(t, "status", resp.StatusCode, status)
				resp.Body.Close()
			}
			is(t, "counts", counts(d), resilience.Counts{Calls: 1, Failures: failures})
		})
	}
}

// TestTransportStorm has a hundred requests refused for their senders' faults, and then some fail.
func TestTransportStorm(t *testing.T) {
	t.Parallel()
	p := &party{statuses: []int{404}}
	rt, d := through(t, p, config())
	for i := range 100 {
		p.statuses = []int{[]int{404, 422}[i%2]}
		if status, err := get(t.Context(), t, rt); err != nil || status != p.statuses[0] {
			t.Fatal(status, err)
		}
	}
	is(t, "state after the storm", state(d), resilience.Closed)
	p.statuses = []int{503}
	for range 10 {
		_, _ = get(t.Context(), t, rt)
	}
	is(t, "state after failures", state(d), resilience.Open)
	asked := len(p.arrivals())
	is(t, "arrivals", asked, 105) // five failures are half of the last ten
	for range 100 {
		if _, err := get(t.Context(), t, rt); !errors.Is(err, resilience.ErrOpen) {
			t.Fatal(err)
		}
	}
	is(t, "arrivals while open", len(p.arrivals()), asked)
}

// TestTransportOpen sees that a client learns why, too, and that what has no policy passes.
func TestTransportOpen(t *testing.T) {
	t.Parallel()
	p := &party{statuses: []int{200}}
	rt, d := through(t, p, config())
	d.Policy("call").Breaker().ForceOpen("test")
	_, err := (&http.Client{Transport: rt}).Do(request(t.Context(), t, http.MethodGet, "http://api.test/", nil))
	is(t, "errors.Is ErrOpen", errors.Is(err, resilience.ErrOpen), true)
	is(t, "errors.Is ErrRejected", errors.Is(err, resilience.ErrRejected), true)
	is(t, "arrivals", len(p.arrivals()), 0)
	rt.(*policy.Transport).Policy = func(*http.Request) *resilience.Policy { return nil }
	if status, err := get(t.Context(), t, rt); status != http.StatusOK || err != nil {
		t.Error(status, err)
	}
}

// TestTransportRetryAfter lets an overloaded server say when to come again.
func TestTransportRetryAfter(t *testing.T) {
	cases := []struct {
		name, retryAfter string
		statuses         []int
		deadline, wait   time.Duration
		want             int
	}{
		{"as asked", "7", []int{503, 200}, 0, 7 * time.Second, 200},
		{"too many requests", "2", []int{429, 200}, 0, 2 * time.Second, 200},
		{"nothing asked", "", []int{503, 200}, 0, 100 * time.Millisecond, 200},
		{"twice", "3", []int{503, 503, 200}, 0, 6 * time.Second, 200},
		{"for ever", "1000000", []int{503, 200}, 0, time.Minute, 200},
		{"a date", "Wed, 21 Oct 2015 07:28:00 GMT", []int{503, 200}, 0, 100 * time.Millisecond, 200},
		{"past the deadline", "7", []int{503, 200}, 5 * time.Second, 0, 503},
		{"a refusal", "7", []int{404, 200}, 0, 0, 404},
		{"never implemented", "", []int{501, 200}, 0, 0, 501},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx := t.Context()
				if c.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.deadline)
					defer cancel()
				}
				rt, _ := through(t, &party{statuses: c.statuses, retryAfter: c.retryAfter}, retrying(config()))
				start := time.Now()
				status, err := get(ctx, t, rt)
				if err != nil {
					t.Fatal(err)
				}
				is(t, "status", status, c.want)
				is(t, "wait", time.Since(start), c.wait)
			})
		})
	}
}

// TestTransportTimeoutHeader sees that each attempt tells the server how much time is left.
func TestTransportTimeoutHeader(t *testing.T) {
	cases := []struct {
		name             string
		caller, attempt  time.Duration
		retryAfter, want string
	}{
		{"the caller's deadline", 5 * time.Second, 0, "3", "5.000 2.000"},
		{"the attempt's", 0, 2 * time.Second, "3", "2.000 2.000"},
		{"whichever is sooner", 4500 * time.Millisecond, 2 * time.Second, "3", "2.000 1.500"},
		{"none", 0, 0, "3", " "},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx := t.Context()
				if c.caller > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.caller)
					defer cancel()
				}
				p := &party{statuses: []int{503, 200}, retryAfter: c.retryAfter}
				rt, _ := through(t, p, operation(retrying(config()), func(op *resilience.PolicyConfig) { op.Timeout.Attempt = c.attempt }))
				if _, err := get(ctx, t, rt); err != nil {
					t.Fatal(err)
				}
				is(t, "headers", p.arrived[0].timeout+" "+p.arrived[1].timeout, c.want)
			})
		})
	}
}

// TestTransportCancelled has callers leave while the server hangs, and others wait for their deadlines.
func TestTransportCancelled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		rt, d := through(t, &party{hang: true}, config())
		for range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() {
				_, err := get(ctx, t, rt)
				done <- err
			}()
			synctest.Wait() // the request hangs
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		is(t, "counts of those who left", counts(d), resilience.Counts{})
		is(t, "state", state(d), resilience.Closed)
		for range 4 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := get(ctx, t, rt); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			cancel()
		}
		is(t, "state after deadlines", state(d), resilience.Open)
	})
}
