package httpx

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"holdfast/platform/telemetry"
	"holdfast/resilience"
	"holdfast/shop"
)

// call is one request in flight: the response writer that its handler gets, and what the layers
// around the handler know of it. It is one value in the context instead of one per layer.
type call struct {
	http.ResponseWriter
	route   *route
	id      string
	traceID string
	caller  shop.Caller
	order   shop.OrderID // which the request is about, for the log
	fields  []shop.Field // fields at fault that were found before the handler
	status  int          // 0 until the header is written
	force   int          // the status of the problem being written, where Huma has another in mind
	err     error        // what the problem was made of, for the log
}

type callKey struct{}

// callOf returns the call of ctx, or nil outside a route.
func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// Caller returns whom the request acts for; it is empty on routes without authentication.
func Caller(ctx context.Context) shop.Caller {
	if c := callOf(ctx); c != nil {
		return c.caller
	}
	return ""
}

// WithCaller makes the request one of caller's, where another process has found out who that is.
func WithCaller(ctx context.Context, caller shop.Caller) context.Context {
	if c := callOf(ctx); c != nil {
		c.caller = caller
	}
	return ctx
}

// WithOrder tells logs and traces which order the request is about.
func WithOrder(ctx context.Context, id shop.OrderID) context.Context {
	if c := callOf(ctx); c != nil {
		c.order = id
	}
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(attribute.String("order_id", string(id)))
	}
	return telemetry.WithOrder(ctx, id)
}

// RequestID returns the id under which the logs speak of the request.
func RequestID(ctx context.Context) string {
	if c := callOf(ctx); c != nil {
		return c.id
	}
	return ""
}

// WriteHeader notes the status.
func (c *call) WriteHeader(status int) {
	if c.status == 0 && status >= 200 {
		c.status = status
	}
	c.ResponseWriter.WriteHeader(status)
}

// Write notes that an answer without a status is a 200.
func (c *call) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	return c.ResponseWriter.Write(p)
}

// Unwrap serves http.ResponseController.
func (c *call) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// problem turns err into what the caller sees, and sets the headers that go with it.
func (c *call) problem(err error) *Problem {
	p, retryAfter := explain(err)
	c.err = err
	c.complete(p)
	if wait, known := resilience.RetryAfter(err); known {
		retryAfter = int((wait + time.Second - 1) / time.Second)
	}
	if retryAfter > 0 {
		c.Header()["Retry-After"] = retryAfterValue(retryAfter)
	}
	if p.Status == http.StatusUnauthorized {
		c.Header().Set("WWW-Authenticate", `Bearer realm="holdfast"`)
	}
	return p
}

// limit refuses a caller that has used up its rate, and tells it when to come back.
func (c *call) limit(d resilience.Decision) error {
	if d.Allowed {
		return nil
	}
	h := c.Header()
	h.Set("RateLimit-Limit", strconv.Itoa(d.Limit))
	h.Set("RateLimit-Remaining", strconv.Itoa(d.Remaining))
	h.Set("RateLimit-Reset", strconv.Itoa(int((d.Reset+time.Second-1)/time.Second)))
	return shop.Wrap(shop.RateLimited, "httpx.limit", "You send more requests than you may. Retry-After says when to go on.", d.Err())
}

// retryAfterValue is the header's value for some seconds.
func retryAfterValue(seconds int) []string {
	if seconds < len(retryAfterValues) {
		return retryAfterValues[seconds]
	}
	return []string{strconv.Itoa(seconds)}
}

// complete adds what belongs to the request.
func (c *call) complete(p *Problem) {
	p.RequestID, p.TraceID = c.id, c.traceID
	p.Instance = "urn:holdfast:request:" + c.id
}

// refuse writes err as a problem. After the header is written it can only be logged.
func (c *call) refuse(err error) {
	if c.status != 0 {
		c.err = err
		return
	}
	p := c.problem(err)
	h := c.Header()
	h["Content-Type"] = problemTypeValue
	c.WriteHeader(p.Status)
	_ = encode(c, p) // a caller that is gone cannot be told
}

// The values of headers that every answer carries are shared: net/http reads them only.
var (
	problemTypeValue = []string{ProblemType}
	jsonTypeValue    = []string{"application/json"}
	noStoreValue     = []string{"no-store"}
	noSniffValue     = []string{"nosniff"}
	cspValue         = []string{"default-src 'none'; frame-ancestors 'none'"}
	noReferrerValue  = []string{"no-referrer"}
	retryAfterValues = [][]string{{"0"}, {"1"}, {"2"}}
)

type stopKey struct{}

// withStop puts the end of the server into its requests' contexts.
func withStop(ctx, stop context.Context) context.Context {
	return context.WithValue(ctx, stopKey{}, stop)
}

// Stopping tells whether the server of this request is shutting down: streams and long polls end
// then, while other requests are let finish.
func Stopping(ctx context.Context) bool {
	stop, ok := ctx.Value(stopKey{}).(context.Context)
	return ok && stop.Err() != nil
}

// WaitContext is for waiting on behalf of a caller: it ends with ctx, after d, and when the server
// begins to shut down.
func WaitContext(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	wait, cancel := context.WithTimeout(ctx, d)
	stop, ok := ctx.Value(stopKey{}).(context.Context)
	if !ok {
		return wait, cancel
	}
	release := context.AfterFunc(stop, cancel)
	return wait, func() { release(); cancel() }
}
