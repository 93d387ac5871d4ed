package calls

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"holdfast/platform/policy"
	"holdfast/platform/telemetry"
	"holdfast/resilience"
	"holdfast/shop"
)

// Outcome says what an answer, or the lack of one, tells about the effect of a request.
type Outcome string

// The outcomes. Only Rejected, NotSent and Failed say that nothing happened; after Lost and Busy the other
// party must be asked.
const (
	Rejected  Outcome = "rejected"  // by our own policies: it never left
	Succeeded Outcome = "succeeded" // 2xx
	Refused   Outcome = "refused"   // any other 4xx: the party did not do it now
	Failed    Outcome = "failed"    // 500, 501: the other party answered that it failed
	Busy      Outcome = "busy"      // 408, 429, 502, 503, 504: somebody on the way could not
	NotSent   Outcome = "not_sent"  // no connection
	Lost      Outcome = "unknown"   // sent, and no usable answer
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// maxIdle is how many idle connections are kept to one party.
const maxIdle = 128

// dialTimeout is how long the other party may take to be found and to accept a connection: once, a lost packet of
// it is sent again within that time.
const dialTimeout = 2 * time.Second

// Answer is what came back.
type Answer struct {
	Outcome Outcome
	Status  int // 0 where no answer came
	Body    []byte
	Err     error
	// RetryAfter is the least wait before another request, as the other party or the policy that rejected
	// this one asks for it; 0 where nobody did.
	RetryAfter time.Duration
}

// Code returns the member "code" of a refusal, or its status.
func (a Answer) Code() string {
	var b struct {
		Code string `json:"code"`
	}
	if json.Unmarshal(a.Body, &b) == nil && b.Code != "" {
		return b.Code
	}
	if a.Status != 0 {
		return fmt.Sprintf("http_%d", a.Status)
	}
	return ""
}

// Client sends JSON requests to one outside party, each through the policy of its operation. It repeats
// nothing: that is for the Runner, and for it alone.
type Client struct {
	base     string
	policies *policy.Dependency
	http     *http.Client
}

// NewClient makes a client; each request is given up after the attempt's timeout of its policy.
func NewClient(base string, policies *policy.Dependency, deps shop.Deps) *Client {
	return &Client{base: strings.TrimRight(base, "/"), policies: policies, http: &http.Client{
		Transport: &http.Transport{DialContext: dial(deps), MaxIdleConnsPerHost: maxIdle, MaxIdleConns: maxIdle,
			IdleConnTimeout: 30 * time.Second, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// errDial marks that no connection came about, so that nothing was sent.
type errDial struct{ error }

func (e errDial) Unwrap() error { return e.error }

// dial gives up before the attempt does, whose end alone would not tell whether anything was sent.
func dial(deps shop.Deps) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		c, err := deps.Net.DialContext(ctx, network, addr)
		if err != nil {
			return nil, errDial{err}
		}
		return c, nil
	}
}

// Get asks a question.
func (c *Client) Get(ctx context.Context, operation, path string) Answer {
	return c.do(ctx, operation, http.MethodGet, path, "", nil)
}

// Post sends a command with its idempotency key.
func (c *Client) Post(ctx context.Context, operation, path, key string, body any) Answer {
	b, err := json.Marshal(body)
	if err != nil {
		return Answer{Outcome: NotSent, Err: err}
	}
	return c.do(ctx, operation, http.MethodPost, path, key, b)
}

// do makes one request where the operation's policy lets it through.
func (c *Client) do(ctx context.Context, operation, method, path, key string, body []byte) Answer {
	attempt, err := c.policies.Policy(operation).Acquire(ctx)
	if err != nil {
		wait, _ := resilience.RetryAfter(err)
		return Answer{Outcome: Rejected, Err: err, RetryAfter: wait}
	}
	defer attempt.Record(resilience.Neutral) // where send panics; otherwise it is recorded below
	a := c.send(attempt.Context(), method, path, key, body)
	switch {
	case a.Outcome == Succeeded || a.Outcome == Refused:
		attempt.Record(resilience.Success) // a refusal is an answer, too
	case !errors.Is(ctx.Err(), context.Canceled):
		attempt.Record(resilience.Failure) // a deadline that passes, whosever it was, tells of one that hangs
	}
	return a
}

func (c *Client) send(ctx context.Context, method, path, key string, body []byte) Answer {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return Answer{Outcome: NotSent, Err: err}
	}
	if key != "" {
		// net/http sends a request with such a key again by itself where a connection broke, unless it
		// cannot rewind the body. Here that is decided in one place, which asks before it repeats.
		req.GetBody = nil
		req.Header.Set("Idempotency-Key", key)
		req.Header.Set("Content-Type", "application/json")
	}
	if tp := telemetry.TraceParent(ctx); tp != "" {
		req.Header.Set("Traceparent", tp)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Answer{Outcome: sent(err), Err: err}
	}
	defer resp.Body.Close()
	a := Answer{Status: resp.StatusCode, RetryAfter: policy.RetryAfter(resp.Header)}
	if a.Body, a.Err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)); a.Err != nil {
		a.Outcome = Lost
		return a
	}
	a.Outcome = classify(resp.StatusCode)
	return a
}

// sent tells a request that never left from one whose answer was lost.
func sent(err error) Outcome {
	var unsent errDial
	if errors.As(err, &unsent) {
		return NotSent
	}
	return Lost
}

func classify(status int) Outcome {
	switch {
	case status >= 200 && status < 300:
		return Succeeded
	case status == http.StatusInternalServerError, status == http.StatusNotImplemented:
		return Failed
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status > 500:
		return Busy
	case status >= 400:
		return Refused
	default:
		return Lost // a redirect or worse: nobody that we know answered
	}
}
