package calls

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"time"

	"holdfast/platform/telemetry"
	"holdfast/shop"
)

// Outcome says what an answer, or the lack of one, tells about the effect of a request.
type Outcome string

// The outcomes. Only NotSent and Failed say that nothing happened; after Lost and Busy the other party
// must be asked.
const (
	Succeeded Outcome = "succeeded" // 2xx
	Refused   Outcome = "refused"   // any other 4xx: asking again will not help
	Failed    Outcome = "failed"    // 500, 501: the other party answered that it failed
	Busy      Outcome = "busy"      // 408, 429, 502, 503, 504: somebody on the way could not
	NotSent   Outcome = "not_sent"  // no connection
	Lost      Outcome = "unknown"   // sent, and no usable answer
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// maxIdle is how many idle connections are kept to one party.
const maxIdle = 128

// Answer is what came back.
type Answer struct {
	Outcome Outcome
	Status  int // 0 where no answer came
	Body    []byte
	Err     error
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

// Client sends JSON requests to one outside party.
type Client struct {
	base    string
	timeout time.Duration
	http    *http.Client
}

// NewClient makes a client; each request is given up after timeout.
func NewClient(base string, timeout time.Duration, deps shop.Deps) *Client {
	return &Client{base: strings.TrimRight(base, "/"), timeout: timeout, http: &http.Client{
		Transport: &http.Transport{DialContext: deps.Net.DialContext, MaxIdleConnsPerHost: maxIdle, MaxIdleConns: maxIdle,
			IdleConnTimeout: 30 * time.Second, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Get asks a question.
func (c *Client) Get(ctx context.Context, path string) Answer {
	return c.do(ctx, http.MethodGet, path, "", nil)
}

// Post sends a command with its idempotency key.
func (c *Client) Post(ctx context.Context, path, key string, body any) Answer {
	b, err := json.Marshal(body)
	if err != nil {
		return Answer{Outcome: NotSent, Err: err}
	}
	return c.do(ctx, http.MethodPost, path, key, b)
}

func (c *Client) do(ctx context.Context, method, path, key string, body []byte) Answer {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
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
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return Answer{Outcome: Lost, Status: resp.StatusCode, Err: err}
	}
	return Answer{Outcome: classify(resp.StatusCode), Status: resp.StatusCode, Body: b}
}

// sent tells a request that never left from one whose answer was lost.
func sent(err error) Outcome {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
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

// Backoff returns a wait before attempt n+1: exponential from least to most, with full jitter
// (M. Brooker, "Exponential Backoff And Jitter", 2015), and never below a tenth of least.
func Backoff(rand shop.Rand, n int, least, most time.Duration) time.Duration {
	ceiling := math.Min(float64(most), float64(least)*math.Pow(2, float64(min(n, 60))))
	return max(time.Duration(rand.Float64()*ceiling), least/10)
}
