package shop

import (
	"errors"
	"strings"
)

// Kind says what sort of failure an Error is. It decides the HTTP status and code, whether a retry may
// help, and later the Temporal failure type; one table each. Kinds are append-only.
type Kind int

// The kinds. The comment is the problem code of the public API (docs/api.md).
const (
	Internal         Kind = iota // internal
	Invalid                      // validation_failed
	KeyMissing                   // idempotency_key_missing
	KeyInProgress                // idempotency_in_progress
	KeyReused                    // idempotency_key_reused
	Unauthenticated              // unauthenticated
	NotFound                     // not_found, also for what belongs to another caller
	PriceChanged                 // price_changed
	UnknownSKU                   // unknown_sku
	OrderDispatched              // order_dispatched
	VersionConflict              // version_conflict
	RateLimited                  // rate_limited
	Overloaded                   // overloaded
	Unavailable                  // unavailable
	DeadlineExceeded             // deadline_exceeded
	TooLarge                     // too_large
	Conflict                     // conflict: the state of the thing does not allow it
	NotYet                       // unavailable: something that has to be first has not happened yet; ask again
)

// Field is one field at fault, named by an RFC 6901 pointer into the request body ("/lines/0/sku"),
// or by "header/<Name>" and "query/<name>" outside it. It never carries the value.
type Field struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

// Error is the one error type that crosses a package boundary. Callers of the public API see Msg and
// Fields; Op and Err are for the log.
type Error struct {
	Kind   Kind
	Op     string // what was being done, "order.Place"
	Msg    string // what went wrong and what to do, for the caller's eyes; no personal data
	Fields []Field
	Err    error // the cause, for the log only
}

// E makes an Error.
func E(kind Kind, op, msg string) *Error { return &Error{Kind: kind, Op: op, Msg: msg} }

// Wrap makes an Error with a cause.
func Wrap(kind Kind, op, msg string, err error) *Error {
	return &Error{Kind: kind, Op: op, Msg: msg, Err: err}
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	b.WriteString(": ")
	b.WriteString(e.Msg)
	for _, f := range e.Fields {
		b.WriteString("; " + f.Pointer + " " + f.Detail)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first Error in err's chain, and Internal where there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Retryable tells whether the same request may succeed later without the caller changing it.
func (k Kind) Retryable() bool {
	switch k {
	case KeyInProgress, RateLimited, Overloaded, Unavailable, DeadlineExceeded, NotYet:
		return true
	default:
		return false
	}
}
