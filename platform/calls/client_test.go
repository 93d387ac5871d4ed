package calls_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/platform/calls"
	"holdfast/platform/policy"
	"holdfast/platform/telemetry"
	"holdfast/resilience"
	"holdfast/test/fakes"
	"holdfast/test/flow"
)

// psp is another party on the loopback interface. The path of a request says what it answers: "/404",
// "/cut" for no answer, "/short" for half of one, "/hang" for none until the caller leaves.
type psp struct {
	*httptest.Server
	mu      sync.Mutex
	arrived []*http.Request
	bodies  []string
	hanging chan struct{}
}

func newPSP(t *testing.T) *psp {
	p := &psp{hanging: make(chan struct{}, 1000)}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *psp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	p.arrived, p.bodies = append(p.arrived, r), append(p.bodies, string(b))
	p.mu.Unlock()
	switch what := strings.TrimPrefix(r.URL.Path, "/"); what {
	case "cut":
		panic(http.ErrAbortHandler)
	case "short":
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "short")
	case "hang":
		p.hanging <- struct{}{}
		<-r.Context().Done()
	default:
		status, err := strconv.Atoi(what)
		if err != nil {
			panic(err)
		}
		if after := r.URL.Query().Get("after"); after != "" {
			w.Header().Set("Retry-After", after)
		}
		w.Header().Set("Location", "/200")
		w.WriteHeader(status)
		if status != http.StatusNoContent && status != http.StatusNotModified {
			io.WriteString(w, r.URL.Query().Get("body"))
		}
	}
}

func (p *psp) arrivals() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.arrived)
}

// client is one for a party at base, with policies of its own.
func client(t *testing.T, base string, c policy.Config) (*calls.Client, *policy.Dependency) {
	t.Helper()
	deps := fakes.Deps(t)
	d := provider(t, flow.Policies(t, deps), c)
	return calls.NewClient(base, d, deps), d
}

func counts(d *policy.Dependency, operation string) resilience.Counts {
	return d.Policy(operation).Breaker().Stats().Counts
}

// TestOutcomes sees what each answer tells about the effect of a request, and what the breaker makes of it.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	p := newPSP(t)
	fine, bad := resilience.Counts{Calls: 1}, resilience.Counts{Calls: 1, Failures: 1}
	cases := []struct {
		path    string
		outcome calls.Outcome
		counts  resilience.Counts
	}{
		{"200", calls.Succeeded, fine}, {"201", calls.Succeeded, fine}, {"202", calls.Succeeded, fine}, {"204", calls.Succeeded, fine},
		{"400", calls.Refused, fine}, {"401", calls.Refused, fine}, {"402", calls.Refused, fine}, {"404", calls.Refused, fine},
		{"409", calls.Refused, fine}, {"422", calls.Refused, fine},
		{"500", calls.Failed, bad}, {"501", calls.Failed, bad},
		{"408", calls.Busy, bad}, {"429", calls.Busy, bad}, {"502", calls.Busy, bad}, {"503", calls.Busy, bad}, {"504", calls.Busy, bad}, {"505", calls.Busy, bad},
		{"302", calls.Lost, bad}, {"304", calls.Lost, bad}, {"cut", calls.Lost, bad}, {"short", calls.Lost, bad},
	}
	for _, c := range cases {
		t.Run(c.path, func(t *testing.T) {
			t.Parallel()
			for operation, ask := range map[string]func(*calls.Client) calls.Answer{
				"authorise": func(cl *calls.Client) calls.Answer {
					return cl.Post(t.Context(), "authorise", "/"+c.path, "key", struct{}{})
				},
				"query": func(cl *calls.Client) calls.Answer { return cl.Get(t.Context(), "query", "/"+c.path) },
			} {
				cl, d := client(t, p.URL+"/", limits())
				a := ask(cl)
				status, err := strconv.Atoi(c.path)
				if err != nil && c.path == "short" {
					status = http.StatusOK
				}
				is(t, operation, a.Outcome, c.outcome)
				is(t, "status", a.Status, status)
				is(t, "an error", a.Err != nil, err != nil)
				is(t, "counts", counts(d, operation), c.counts)
				is(t, "counts of another operation", counts(d, "void"), resilience.Counts{})
			}
		})
	}
}

// TestNotSent has nobody listen.
func TestNotSent(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	cl, d := client(t, gone.URL, limits())
	a := cl.Post(t.Context(), "authorise", "/200", "key", struct{}{})
	is(t, "outcome", a.Outcome, calls.NotSent)
	is(t, "counts", counts(d, "authorise"), resilience.Counts{Calls: 1, Failures: 1})
	a = cl.Post(t.Context(), "authorise", "/200", "key", func() {})
	is(t, "outcome of what cannot be written", a.Outcome, calls.NotSent)
	is(t, "counts", counts(d, "authorise"), resilience.Counts{Calls: 1, Failures: 1})
}

// TestRequest sees what arrives.
func TestRequest(t *testing.T) {
	t.Parallel()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	p := newPSP(t)
	cl, _ := client(t, p.URL, limits())
	ctx := telemetry.WithTraceParent(t.Context(), parent)
	cl.Post(ctx, "authorise", "/200", "ord_1:authorise", map[string]int{"amount": 7})
	cl.Get(ctx, "query", "/200")
	post, get := p.arrived[0], p.arrived[1]
	is(t, "request", post.Method+" "+p.bodies[0], `POST {"amount":7}`)
	is(t, "key", post.Header.Get("Idempotency-Key"), "ord_1:authorise")
	is(t, "type", post.Header.Get("Content-Type"), "application/json")
	is(t, "trace", post.Header.Get("Traceparent"), parent)
	is(t, "question", get.Method+" "+p.bodies[1], "GET ")
	is(t, "key of a question", get.Header.Get("Idempotency-Key"), "")
	is(t, "trace of a question", get.Header.Get("Traceparent"), parent)
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	p := newPSP(t)
	cl, _ := client(t, p.URL, limits())
	cases := []struct {
		path, body, code string
		wait             time.Duration
	}{
		{"/402?body={%22code%22:%22declined%22}", `{"code":"declined"}`, "declined", 0},
		{"/404", "", "http_404", 0},
		{"/422?body={%22code%22:7}", `{"code":7}`, "http_422", 0},
		{"/503?after=3", "", "http_503", 3 * time.Second},
		{"/429?after=86400", "", "http_429", time.Minute},
		{"/503?after=tomorrow", "", "http_503", 0},
	}
	for _, c := range cases {
		a := cl.Get(t.Context(), "query", c.path)
		is(t, c.path, string(a.Body)+" "+a.Code()+" "+a.RetryAfter.String(), c.body+" "+c.code+" "+c.wait.String())
	}
	is(t, "code of no answer", calls.Answer{}.Code(), "")
}

// TestNotRepeated cuts connections that were used before, which is where net/http would send a request
// with a key again by itself: each request arrives once.
func TestNotRepeated(t *testing.T) {
	t.Parallel()
	p := newPSP(t)
	c := limits()
	c.Operations["authorise"] = resilience.PolicyConfig{Breaker: resilience.BreakerConfig{Off: true}, Retry: resilience.RetryConfig{Off: true}}
	cl, _ := client(t, p.URL, c)
	for n := range 5 {
		is(t, "outcome", cl.Post(t.Context(), "authorise", "/200", "first", struct{}{}).Outcome, calls.Succeeded)
		is(t, "outcome", cl.Post(t.Context(), "authorise", "/cut", "second", struct{}{}).Outcome, calls.Lost)
		is(t, "arrivals", p.arrivals(), 2*(n+1))
	}
}

// TestCallerLeaves has callers leave while the other party hangs, and then deadlines pass.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	p := newPSP(t)
	cl, d := client(t, p.URL, limits())
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan calls.Answer)
		go func() { done <- cl.Post(ctx, "authorise", "/hang", "key", struct{}{}) }()
		select {
		case <-p.hanging:
		case a := <-done:
			t.Fatalf("it did not arrive: %+v", a)
		}
		cancel()
		if a := <-done; a.Outcome != calls.Lost || !errors.Is(a.Err, context.Canceled) {
			t.Fatalf("%+v", a)
		}
	}
	is(t, "counts of those who left", counts(d, "authorise"), resilience.Counts{})
	left, cancel := context.WithCancel(t.Context())
	cancel()
	is(t, "outcome of one who left before", cl.Post(left, "authorise", "/200", "key", struct{}{}).Outcome, calls.Rejected)
	for range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		is(t, "outcome", cl.Post(ctx, "authorise", "/hang", "key", struct{}{}).Outcome, calls.Lost)
		cancel()
	}
	is(t, "state after deadlines", d.Policy("authorise").Breaker().State(), resilience.Open)
}

// TestCallTimeout has the policy's own time for one request pass.
func TestCallTimeout(t *testing.T) {
	t.Parallel()
	p, c := newPSP(t), limits()
	op := c.Operations["authorise"]
	op.Timeout.Attempt = 10 * time.Millisecond
	c.Operations["authorise"] = op
	cl, d := client(t, p.URL, c)
	for range 4 {
		is(t, "outcome", cl.Post(t.Context(), "authorise", "/hang", "key", struct{}{}).Outcome, calls.Lost)
	}
	is(t, "state", d.Policy("authorise").Breaker().State(), resilience.Open)
}

// TestClientRejects sees that nothing leaves while the breaker is open or there is no slot, and that
// nothing keeps a slot.
func TestClientRejects(t *testing.T) {
	t.Parallel()
	p, c := newPSP(t), limits()
	c.Bulkhead.Limit = 1
	cl, d := client(t, p.URL, c)
	for range 4 { // one after the other, through one slot
		cl.Post(t.Context(), "authorise", "/503", "key", struct{}{})
	}
	a := cl.Post(t.Context(), "authorise", "/200", "key", struct{}{})
	is(t, "outcome", a.Outcome, calls.Rejected)
	is(t, "errors.Is ErrOpen", errors.Is(a.Err, resilience.ErrOpen), true)
	is(t, "code", a.Code(), "")
	if a.RetryAfter <= time.Hour-patience || a.RetryAfter > time.Hour {
		t.Errorf("it is to come again in %s", a.RetryAfter)
	}
	is(t, "arrivals", p.arrivals(), 4)
	is(t, "another operation", cl.Post(t.Context(), "capture", "/200", "key", struct{}{}).Outcome, calls.Succeeded)

	under, err := d.Policy("capture").Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a = cl.Post(t.Context(), "capture", "/200", "key", struct{}{})
	is(t, "outcome", a.Outcome, calls.Rejected)
	is(t, "errors.Is ErrFull", errors.Is(a.Err, resilience.ErrFull), true)
	is(t, "an operation to undo", cl.Post(t.Context(), "void", "/200", "key", struct{}{}).Outcome, calls.Succeeded)
	under.Record(resilience.Neutral)
	is(t, "outcome", cl.Post(t.Context(), "capture", "/200", "key", struct{}{}).Outcome, calls.Succeeded)
}

// silentNet never connects: a name that nobody tells, or packets that nobody answers.
type silentNet struct{ fakes.Net }

func (silentNet) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, &net.DNSError{Err: ctx.Err().Error(), Name: "psp.example", IsTimeout: true}
}

// TestNoConnection: a request for which no connection comes about within a while was not sent, whatever its dialler
// says, so that nothing is in doubt.
func TestNoConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		deps := fakes.Deps(t)
		deps.Net = silentNet{}
		c := calls.NewClient("http://psp.example", provider(t, flow.Policies(t, deps), limits()), deps)
		if a := c.Post(t.Context(), "authorise", "/200", "key", "body"); a.Outcome != calls.NotSent {
			t.Errorf("%s: %v", a.Outcome, a.Err)
		}
	})
}
