// Package remote carries the calls from one of our services to another over HTTP: a server for what a service
// offers the others, and clients that implement the same interfaces of package shop. The deadline, the trace,
// the caller and the errors arrive as they would in a direct call. The paths are under /internal/v1, on a
// listener that only our own services can reach, and no part of the public API.
package remote

import (
	"context"
	"errors"
	"net/http"
	"time"

	"holdfast/platform/httpx"
	"holdfast/resilience"
	"holdfast/shop"
)

const (
	prefix = "/internal/v1/"
	// callerHeader says for whom the request is made that led to the call.
	callerHeader = "X-Holdfast-Caller"
	// maxBody bounds questions and answers.
	maxBody = 4 << 20
)

// fault is an error on the wire. Kinds are append-only, so their numbers are known on both sides; the code is
// for people.
type fault struct {
	Kind       shop.Kind    `json:"kind"`
	Code       string       `json:"code"`
	Op         string       `json:"op,omitempty"`
	Msg        string       `json:"msg"`
	Fields     []shop.Field `json:"fields,omitempty"`
	RetryAfter float64      `json:"retry_after,omitempty"` // seconds
	Rejected   bool         `json:"rejected,omitempty"`    // a policy refused it: it says nothing about the service
}

// faultOf puts an error on the wire. The cause stays in the log of the service that had it.
func faultOf(err error) (f fault, status int) {
	var own *shop.Error
	switch {
	case errors.As(err, &own):
		f = fault{Kind: own.Kind, Op: own.Op, Msg: own.Msg, Fields: own.Fields}
	case errors.Is(err, context.DeadlineExceeded):
		f = fault{Kind: shop.DeadlineExceeded, Msg: "the call took longer than it might"}
	case errors.Is(err, context.Canceled):
		f = fault{Kind: shop.Unavailable, Msg: "the call was cut off"}
	default:
		f = fault{Kind: shop.Internal, Msg: "something went wrong; the log of the service says what"}
	}
	if wait, known := resilience.RetryAfter(err); known {
		f.RetryAfter = wait.Seconds()
	}
	f.Rejected = errors.Is(err, resilience.ErrRejected)
	status, f.Code = httpx.StatusOf(f.Kind)
	return f, status
}

// error is the fault as it was before the wire.
func (f fault) error() error {
	e := &shop.Error{Kind: f.Kind, Op: f.Op, Msg: f.Msg, Fields: f.Fields}
	switch {
	case f.RetryAfter > 0 || f.Rejected:
		e.Err = &refusal{time.Duration(f.RetryAfter * float64(time.Second)), f.Rejected}
	case f.Kind == shop.DeadlineExceeded:
		e.Err = context.DeadlineExceeded
	}
	return e
}

// refusal is what is left of the error of a policy.
type refusal struct {
	wait     time.Duration
	rejected bool
}

func (r *refusal) Error() string {
	if r.rejected {
		return "a policy of the other service refused it"
	}
	return "the other service asks to wait"
}

// RetryAfter is what resilience.RetryAfter looks for.
func (r *refusal) RetryAfter() time.Duration { return r.wait }

// Is matches resilience.ErrRejected.
func (r *refusal) Is(target error) bool { return r.rejected && target == resilience.ErrRejected }

// unreachable says that a service gave no answer.
func unreachable(service string, err error) error {
	return shop.Wrap(shop.Unavailable, "remote."+service, "A service that is needed for this cannot be reached. Try again shortly.", err)
}

func token(r *http.Request) string {
	const scheme = "Bearer "
	if h := r.Header.Get("Authorization"); len(h) > len(scheme) && h[:len(scheme)] == scheme {
		return h[len(scheme):]
	}
	return ""
}
