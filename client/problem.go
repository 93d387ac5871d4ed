package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/shop"
)

// maxProblem is how much of a failure's body is read.
const maxProblem = 1 << 20

// Problem is a failure as the server told it. Code says what to do about it.
type Problem struct {
	Status    int          `json:"status"`
	Code      string       `json:"code"`
	Title     string       `json:"title"`
	Detail    string       `json:"detail"`
	Errors    []shop.Field `json:"errors"` // every field at fault
	RequestID string       `json:"request_id"`
	TraceID   string       `json:"trace_id"`
	Retryable bool         `json:"retryable"`
	// RetryAfter is how long the server asks to wait before trying again; 0 where it does not say.
	RetryAfter time.Duration `json:"-"`
}

func (p *Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", p.Code, p.Detail)
	for _, f := range p.Errors {
		fmt.Fprintf(&b, "\n  %s %s", f.Pointer, f.Detail)
	}
	if p.RequestID != "" {
		fmt.Fprintf(&b, " (request %s)", p.RequestID)
	}
	return b.String()
}

// problemOf reads a failure. One that is not from Holdfast, such as a proxy's, becomes a Problem too.
func problemOf(r *http.Response) *Problem {
	p := &Problem{}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxProblem))
	if err != nil || json.Unmarshal(body, p) != nil || p.Code == "" {
		p = &Problem{Code: "unexpected_answer", Title: r.Status, Detail: "the answer was " + r.Status + " without a problem document; is this a Holdfast server?"}
	}
	p.Status = r.StatusCode
	p.RetryAfter = retryAfter(r.Header)
	return p
}

// retryAfter reads Retry-After in seconds; the form with a date is not used here.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.ParseUint(h.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
