package httpx

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"holdfast/shop"
)

// ProblemType is the media type of problems.
const ProblemType = "application/problem+json"

// Problem is an error as callers see it: RFC 9457 with a code to switch on. It never carries the
// rejected value, a cause or another party's text.
type Problem struct {
	Type      string       `json:"type" doc:"A relative URI that names the code" example:"/problems/validation_failed"`
	Title     string       `json:"title" doc:"What the code means, the same each time"`
	Status    int          `json:"status" doc:"The HTTP status"`
	Detail    string       `json:"detail" doc:"What went wrong this time and what to do"`
	Code      string       `json:"code" doc:"What to switch on" example:"validation_failed"`
	Errors    []FieldError `json:"errors,omitempty" doc:"Every field at fault"`
	RequestID string       `json:"request_id" doc:"Names this request in the logs"`
	TraceID   string       `json:"trace_id,omitempty" doc:"Names the trace of this request"`
	Retryable bool         `json:"retryable" doc:"Whether the same request may succeed later without a change"`
	Instance  string       `json:"instance" doc:"A URI that names this occurrence"`
}

// FieldError is one field at fault.
type FieldError struct {
	Pointer string `json:"pointer" doc:"An RFC 6901 pointer into the body, or header/<name>, query/<name>, path/<name>" example:"/lines/0/sku"`
	Detail  string `json:"detail" doc:"What is wrong with it; never the value"`
}

// The conversion keeps FieldError the same as shop.Field, of which it is the documented form.
var _ = FieldError(shop.Field{})

// Error makes a Problem an error; handlers of Huma return it.
func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// GetStatus tells Huma the status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType tells Huma the media type.
func (p *Problem) ContentType(string) string { return ProblemType }

// answer is how a kind of failure is put to a caller.
type answer struct {
	status     int
	code       string
	title      string
	retryAfter int // seconds; 0 sends no Retry-After
}

// answers is the one table from kind to HTTP.
var answers = map[shop.Kind]answer{
	shop.Internal:         {http.StatusInternalServerError, "internal", "Internal error", 0},
	shop.Invalid:          {http.StatusUnprocessableEntity, "validation_failed", "The request is not valid", 0},
	shop.KeyMissing:       {http.StatusBadRequest, "idempotency_key_missing", "The Idempotency-Key header is missing", 0},
	shop.KeyInProgress:    {http.StatusConflict, "idempotency_in_progress", "A request with this key is still running", 1},
	shop.KeyReused:        {http.StatusUnprocessableEntity, "idempotency_key_reused", "This key was used with another request", 0},
	shop.Unauthenticated:  {http.StatusUnauthorized, "unauthenticated", "Credentials are missing or wrong", 0},
	shop.NotFound:         {http.StatusNotFound, "not_found", "Not found", 0},
	shop.PriceChanged:     {http.StatusConflict, "price_changed", "A price has changed", 0},
	shop.UnknownSKU:       {http.StatusUnprocessableEntity, "unknown_sku", "An item does not exist", 0},
	shop.OrderDispatched:  {http.StatusConflict, "order_dispatched", "The order has been dispatched", 0},
	shop.VersionConflict:  {http.StatusPreconditionFailed, "version_conflict", "The version is another", 0},
	shop.RateLimited:      {http.StatusTooManyRequests, "rate_limited", "Too many requests", 1},
	shop.Overloaded:       {http.StatusServiceUnavailable, "overloaded", "The service is overloaded", 1},
	shop.Unavailable:      {http.StatusServiceUnavailable, "unavailable", "The service is unavailable", 2},
	shop.DeadlineExceeded: {http.StatusGatewayTimeout, "deadline_exceeded", "The deadline has passed", 1},
	shop.TooLarge:         {http.StatusRequestEntityTooLarge, "too_large", "The request is too large", 0},
	shop.Conflict:         {http.StatusConflict, "conflict", "The state does not allow it", 0},
	shop.NotYet:           {http.StatusServiceUnavailable, "unavailable", "The service is unavailable", 1},
}

// The failures that only HTTP knows, beside the kinds.
var (
	methodNotAllowed = answer{http.StatusMethodNotAllowed, "method_not_allowed", "The method is not allowed here", 0}
	unsupportedMedia = answer{http.StatusUnsupportedMediaType, "unsupported_media_type", "The media type is not supported", 0}
	requestTimeout   = answer{http.StatusRequestTimeout, "request_timeout", "The request did not arrive in time", 0}
)

// httpError is a failure that only HTTP knows.
type httpError struct {
	answer answer
	msg    string
}

func (e *httpError) Error() string { return e.answer.code + ": " + e.msg }

// StatusOf returns the status and code of a kind.
func StatusOf(k shop.Kind) (status int, code string) {
	a := answers[k]
	return a.status, a.code
}

// explain turns any error into a problem without the parts that belong to the request, and the
// seconds after which to try again. What it does not know is internal, and its text stays inside.
func explain(err error) (p *Problem, retryAfter int) {
	var (
		own *shop.Error
		web *httpError
	)
	switch {
	case errors.As(err, &own):
		a, ok := answers[own.Kind]
		if !ok || own.Kind == shop.Internal {
			return internalProblem(), 0
		}
		p = a.problem(own.Msg, own.Kind.Retryable())
		for _, f := range own.Fields {
			p.Errors = append(p.Errors, FieldError(f))
		}
		return p, a.retryAfter
	case errors.As(err, &web):
		return web.answer.problem(web.msg, false), web.answer.retryAfter
	case errors.Is(err, context.DeadlineExceeded):
		a := answers[shop.DeadlineExceeded]
		return a.problem("The request took longer than its deadline. It may or may not have had its effect: repeat it with the same Idempotency-Key.", true), a.retryAfter
	case errors.Is(err, context.Canceled):
		// The caller is gone, or the process is stopping and cut the request off.
		a := answers[shop.Unavailable]
		return a.problem("The request was cut off. Repeat it with the same Idempotency-Key.", true), a.retryAfter
	default:
		return internalProblem(), 0
	}
}

func (a answer) problem(detail string, retryable bool) *Problem {
	return &Problem{
		Type: "/problems/" + a.code, Title: a.title, Status: a.status, Detail: detail, Code: a.code,
		Retryable: retryable,
	}
}

func internalProblem() *Problem {
	return answers[shop.Internal].problem("Something went wrong on our side. The request_id finds it in the logs.", false)
}

// invalid is the error for fields at fault.
func invalid(fields []shop.Field) error {
	msg := "One field is not valid; errors says which and why."
	if len(fields) != 1 {
		msg = strconv.Itoa(len(fields)) + " fields are not valid; errors says which and why."
	}
	return &shop.Error{Kind: shop.Invalid, Op: "httpx", Msg: msg, Fields: fields}
}
