package policy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"holdfast/platform/httpx"
	"holdfast/resilience"
	"holdfast/shop"
)

const (
	// maxReplay is the largest body that is kept to be sent again; a request with a larger one is not repeated.
	maxReplay = 1 << 20
	// maxDrain is how much of an unwanted answer is read, so that its connection can be used again.
	maxDrain = 64 << 10
)

// Transport is an http.RoundTripper whose requests go through policies. A request is repeated where its
// method or an Idempotency-Key makes that safe and its body can be sent again; a status is judged by Judge.
// An answer keeps its place in the bulkhead until its body is closed.
type Transport struct {
	Next  http.RoundTripper
	Clock shop.Clock
	// Policy returns the policy of a request; nil lets it through as it is.
	Policy func(*http.Request) *resilience.Policy
}

// RoundTrip implements http.RoundTripper. Where the last attempt was answered, that answer is returned,
// whatever its status; a refused request has a *resilience.Rejection.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	p := t.Policy(req)
	if p == nil {
		return t.Next.RoundTrip(req)
	}
	body, err := replayable(req)
	if err != nil {
		return nil, err
	}
	call := resilience.Call[*http.Response]{
		Func:     func(ctx context.Context) (*http.Response, error) { return t.attempt(ctx, req, body) },
		Classify: judgeAnswer, Discard: discard, Hold: hold,
	}
	var r resilience.Result[*http.Response]
	if body != nil && idempotent(req) {
		call.Idempotent = true
		r, err = resilience.DoCall(req.Context(), p, call)
	} else {
		r, err = resilience.Try(req.Context(), p, call)
	}
	if body == nil && r.Attempts == 0 {
		_ = req.Body.Close() // nobody else will: it never left
	}
	if err != nil && r.Value != nil {
		discard(r.Value)
		r.Value = nil
	}
	return r.Value, err
}

// attempt sends the request once.
func (t *Transport) attempt(ctx context.Context, req *http.Request, body func() (io.ReadCloser, error)) (*http.Response, error) {
	r := req.Clone(ctx)
	if body != nil {
		b, err := body()
		if err != nil {
			return nil, err
		}
		r.Body = b
		// net/http sends a request again by itself where it can rewind the body. That is decided here.
		r.GetBody = nil
	}
	if at, ok := ctx.Deadline(); ok {
		r.Header.Set(httpx.TimeoutHeader, seconds(at.Sub(t.Clock.Now())))
	}
	return t.Next.RoundTrip(r)
}

// seconds is a time to wait in seconds, and never nothing: whoever gets it may still be in time.
func seconds(d time.Duration) string {
	return strconv.FormatFloat(max(d.Seconds(), 0.001), 'f', 3, 64)
}

// replayable returns what makes the request's body anew, or nil where that cannot be done.
func replayable(req *http.Request) (func() (io.ReadCloser, error), error) {
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		return func() (io.ReadCloser, error) { return http.NoBody, nil }, nil
	case req.GetBody != nil:
		return req.GetBody, req.Body.Close() // each attempt has its own
	case req.ContentLength < 0 || req.ContentLength > maxReplay:
		return nil, nil
	}
	b, err := io.ReadAll(io.LimitReader(req.Body, maxReplay))
	if err := req.Body.Close(); err != nil {
		return nil, fmt.Errorf("close the request's body: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the request's body: %w", err)
	}
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }, nil
}

// idempotent tells whether a request may be repeated: RFC 9110, section 9.2.2, or by its key.
func idempotent(req *http.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	default:
		return req.Header.Get("Idempotency-Key") != ""
	}
}

func judgeAnswer(resp *http.Response, err error) resilience.Verdict {
	if err != nil {
		return resilience.Classify(err)
	}
	return Judge(resp.StatusCode, resp.Header)
}

// Judge tells what a status says about the server that sent it. A 4xx is the sender's fault, and a success
// of the server that found it, except where it says that the server has too much to do.
func Judge(status int, h http.Header) resilience.Verdict {
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return resilience.Verdict{Outcome: resilience.Failure, Retryable: true, RetryAfter: RetryAfter(h)}
	case status < http.StatusInternalServerError:
		return resilience.Verdict{Outcome: resilience.Success}
	case status == http.StatusNotImplemented, status == http.StatusHTTPVersionNotSupported:
		return resilience.Verdict{Outcome: resilience.Failure}
	default:
		return resilience.Verdict{Outcome: resilience.Failure, Retryable: true, RetryAfter: RetryAfter(h)}
	}
}

// discard gives up an answer that nobody will read.
func discard(resp *http.Response) {
	if resp != nil {
		_, _ = io.CopyN(io.Discard, resp.Body, maxDrain) // for the connection's sake; it may be shorter
		_ = resp.Body.Close()
	}
}

// hold keeps the attempt's place until the answer's body is closed.
func hold(resp *http.Response, release func()) *http.Response {
	if resp == nil {
		release()
		return nil
	}
	resp.Body = &heldBody{ReadCloser: resp.Body, release: sync.OnceFunc(release)}
	return resp
}

type heldBody struct {
	io.ReadCloser
	release func()
}

func (b *heldBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}
