package client

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

const (
	// maxRetries is how often one request is repeated.
	maxRetries = 2
	// firstPause is the wait before the first repetition where the server names none; it doubles.
	firstPause = 200 * time.Millisecond
	// maxPause is the longest wait that a server is granted; with a longer one the caller decides.
	maxPause = 5 * time.Second
)

// errRepeated is what is known of a try that net/http has sent more than once, as it does where a connection breaks.
var errRepeated = errors.New("the request was sent more than once, was refused in the end, and may have been carried out before: send it again with its key")

// retrier repeats requests that are safe to repeat. It is the one layer that does.
type retrier struct{ hc *http.Client }

// Do sends a request, and sends it again where that may help and cannot harm. Where a try may have been carried out, a
// later one that the server refused unseen does not speak for it: the error is then that of the first.
func (t *retrier) Do(r *http.Request) (*http.Response, error) {
	var doubt error
	var times atomic.Int64 // that net/http has sent the last try
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{WroteHeaders: func() { times.Add(1) }}))
	for n := 0; ; n++ {
		times.Store(0)
		answer, err := t.hc.Do(r)
		if doubt == nil && times.Load() > 1 && r.Method != http.MethodGet {
			doubt = errRepeated
		}
		pause, again := verdict(r, answer, err)
		if !again || n == maxRetries {
			if doubt != nil && err == nil && mayRefuse(answer) {
				return nil, outcome(answer, doubt)
			}
			return answer, err
		}
		if pause == 0 {
			pause = firstPause << n
		}
		if doubt == nil && times.Load() > 0 && r.Method != http.MethodGet {
			doubt = inDoubt(answer, err)
		}
		if answer != nil {
			_ = answer.Body.Close() // what is left of it is of no use
		}
		if !sleep(r.Context(), pause) {
			return nil, context.Cause(r.Context())
		}
		if r, err = repeated(r); err != nil {
			return nil, err
		}
	}
}

// mayRefuse tells whether an answer can be that of a server which has not looked at the request.
func mayRefuse(answer *http.Response) bool {
	return answer.StatusCode == http.StatusServiceUnavailable || answer.StatusCode == http.StatusTooManyRequests
}

// refused tells whether a problem says that nothing was done.
func refused(p *Problem) bool {
	return p.Status == http.StatusTooManyRequests || p.Code == "overloaded"
}

// outcome is the error of a request whose last answer may be a refusal, and of which a try before is in doubt.
func outcome(answer *http.Response, doubt error) error {
	p := problemOf(answer)
	_ = answer.Body.Close() // it has been read
	if refused(p) {
		return doubt
	}
	return p
}

// inDoubt returns the error of a try that was sent and may have been carried out, and nil of one that was refused.
func inDoubt(answer *http.Response, err error) error {
	if err != nil {
		return err
	}
	if p := problemOf(answer); !refused(p) {
		return p
	}
	return nil
}

// verdict says whether to send r again, and after what pause if the server says.
func verdict(r *http.Request, answer *http.Response, err error) (pause time.Duration, again bool) {
	// A PUT that demands a version is not safe: its own success would refuse the repetition.
	safe := r.Method == http.MethodGet || r.Header.Get("Idempotency-Key") != "" ||
		r.Method == http.MethodPut && r.Header.Get("If-Match") == ""
	switch {
	case !safe || r.Context().Err() != nil || errors.Is(err, context.DeadlineExceeded):
		return 0, false
	case err != nil:
		return 0, true
	case answer.StatusCode == http.StatusServiceUnavailable:
		pause = retryAfter(answer.Header)
		return pause, pause <= maxPause
	default:
		return 0, false
	}
}

// repeated makes a request for one more sending, with its body from the start.
func repeated(r *http.Request) (*http.Request, error) {
	next := r.Clone(r.Context())
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		next.Body = body
	}
	return next, nil
}

// sleep waits for d and tells whether ctx lasted that long.
func sleep(ctx context.Context, d time.Duration) bool {
	wait, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-wait.Done()
	return ctx.Err() == nil
}
