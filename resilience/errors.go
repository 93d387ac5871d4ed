package resilience

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// What errors.Is finds in the errors of this package.
var (
	// ErrRejected is every rejection: the call did not reach the dependency. Each of the next four is one.
	ErrRejected = errors.New("rejected")
	// ErrOpen means that the breaker is open, or half-open with all its probes under way.
	ErrOpen = errors.New("circuit open")
	// ErrFull means that the bulkhead had no slot, at once or within the wait that it allows.
	ErrFull = errors.New("bulkhead full")
	// ErrShed means that admission kept the capacity for more critical calls.
	ErrShed = errors.New("load shed")
	// ErrRateLimited means that the caller has used up its rate.
	ErrRateLimited = errors.New("rate limited")

	// ErrTimeout means that the policy gave up waiting for a function. It may have had, or may yet have,
	// its effect. Such an error is a context.DeadlineExceeded, too.
	ErrTimeout = errors.New("timed out")
	// ErrNotAllowed means that a kind of operation may not have a policy: a retry of a command that is
	// not idempotent, a hedge of a command, a fallback for anything but a Read.
	ErrNotAllowed = errors.New("not allowed for this kind of operation")
)

// Reason says why a call was rejected.
type Reason uint8

// The reasons.
const (
	ReasonOpen         Reason = iota // breaker: open
	ReasonForcedOpen                 // breaker: an operator opened it
	ReasonProbing                    // breaker: half-open, and all probes are under way
	ReasonFull                       // bulkhead: no slot and no place in the queue
	ReasonQueueTimeout               // bulkhead: no slot within the wait
	ReasonShed                       // admission
	ReasonRateLimited                // rate limit
)

// Reasons returns all reasons, so that a metric can have a series for each from the start.
func Reasons() []Reason {
	return []Reason{ReasonOpen, ReasonForcedOpen, ReasonProbing, ReasonFull, ReasonQueueTimeout, ReasonShed, ReasonRateLimited}
}

// String returns the reason in snake case.
func (r Reason) String() string {
	return name(r, "open", "forced_open", "probing", "full", "queue_timeout", "shed", "rate_limited")
}

// Policy returns the policy that rejects for this reason: breaker, bulkhead, admission, or rate_limit.
func (r Reason) Policy() string {
	return name(r, "breaker", "breaker", "breaker", "bulkhead", "bulkhead", "admission", "rate_limit")
}

func (r Reason) sentinel() error {
	switch r {
	case ReasonFull, ReasonQueueTimeout:
		return ErrFull
	case ReasonShed:
		return ErrShed
	case ReasonRateLimited:
		return ErrRateLimited
	default:
		return ErrOpen
	}
}

// Rejection is the error of a call that a policy refused. It is made once and given to many callers.
type Rejection struct {
	Label  Label
	Reason Reason
	// wait is how long to wait, where until is not set; until is when the breaker may admit a probe.
	wait  time.Duration
	until instant
}

// Error names the operation, the policy and the reason.
func (r *Rejection) Error() string {
	return fmt.Sprintf("%s: %s: %s (%s)", r.Label, r.Reason.Policy(), r.Reason.sentinel(), r.Reason)
}

// Is matches ErrRejected, and the sentinel of the policy that refused.
func (r *Rejection) Is(target error) bool {
	return target == ErrRejected || target == r.Reason.sentinel()
}

// RetryAfter returns how long from now another call would be refused as well, as far as that is known;
// otherwise 0. It is computed from the clock when it is asked for.
func (r *Rejection) RetryAfter() time.Duration {
	if r.until == 0 {
		return r.wait
	}
	return max(0, r.until.sub(now()))
}

// RetryAfter returns how long err, or an error that it wraps, asks to wait: the first that has a method
// RetryAfter() time.Duration. It is false where none has, or where the wait is not known.
func RetryAfter(err error) (time.Duration, bool) {
	r, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err)
	if !ok {
		return 0, false
	}
	d := r.RetryAfter()
	return d, d > 0
}

// Scope tells which of the timeouts ended a call.
type Scope uint8

// The scopes.
const (
	ScopeAttempt Scope = iota // the time for one attempt
	ScopeTotal                // the time for all attempts
	ScopeCaller               // the caller's own deadline
)

// String returns the scope in lower case.
func (s Scope) String() string { return name(s, "attempt", "total", "caller") }

// TimeoutError is the error of a function that did not return in time and was left to itself.
type TimeoutError struct {
	Label Label
	Scope Scope
}

// Error names the operation and the timeout.
func (e *TimeoutError) Error() string { return fmt.Sprintf("%s: %s: %s", e.Label, ErrTimeout, e.Scope) }

// Is matches ErrTimeout and context.DeadlineExceeded.
func (e *TimeoutError) Is(target error) bool {
	return target == ErrTimeout || target == context.DeadlineExceeded
}

// Timeout is true: a TimeoutError is a timeout as package net knows them.
func (e *TimeoutError) Timeout() bool { return true }

// PanicError carries a panic from the goroutine that a function ran on to the caller, who panics with
// it. Where the caller had already left, it is the error of the late result.
type PanicError struct {
	Value any
	Stack []byte
}

// Error has the stack of the function, which the caller's own would not show.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n\n%s", e.Value, e.Stack) }

// Unwrap returns the value that the function panicked with, where that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// under prefixes a nested configuration's error with the name of its section.
func under(section string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s.%w", section, err)
}
