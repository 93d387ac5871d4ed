package httpx

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"holdfast/platform/telemetry"
	"holdfast/resilience"
	"holdfast/shop"
)

// Class says what a route asks of the machinery in front of it.
type Class string

// The classes of routes.
const (
	ClassRequest Class = "request" // answered at once, or held where Prefer: wait says so
	ClassStream  Class = "stream"  // server-sent events, open for long
	ClassWebhook Class = "webhook" // signed by an outside party, no API key
	ClassPage    Class = "page"    // documents, health, metrics
)

// Route is one entry of the route table: what an edge in front of the service has to know.
type Route struct {
	Method  string
	Path    string // with {names}
	ID      string // the operation id; empty for pages
	Tag     string // the service
	Class   Class
	Open    bool          // needs no API key
	Keyed   bool          // needs an Idempotency-Key
	MaxBody int64         // in bytes; 0 takes none
	Timeout time.Duration // 0 for streams
	// Criticality is what refusing a request of this route costs: where there are too many, those of the
	// least are refused first.
	Criticality resilience.Criticality
}

// route serves one Route: everything between the mux and the handler.
type route struct {
	Route
	api      *API
	name     string // method and path: the name of the span
	spanOpts []trace.SpanStartOption
	query    []string // the known query parameters
	checks   bool     // parameters are checked
	body     *plan
	admit    func(shop.Request) error
	handle   func(*call, *http.Request) error
	metrics  [600]metric.MeasurementOption // by status
}

func (a *API) newRoute(r Route) *route {
	rt := &route{Route: r, api: a, name: r.Method + " " + r.Path}
	attrs := []attribute.KeyValue{
		attribute.String("http.request.method", r.Method),
		attribute.String("http.route", r.Path),
	}
	rt.spanOpts = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attrs...)}
	for status := http.StatusOK; status < len(rt.metrics); status++ {
		if http.StatusText(status) == "" {
			continue
		}
		set := attribute.NewSet(append(slices.Clone(attrs), attribute.Int("http.response.status_code", status))...)
		rt.metrics[status] = metric.WithAttributeSet(set)
	}
	return rt
}

// ServeHTTP runs the handler between its beginning and its end: ids, trace, deadline, log, metrics.
func (rt *route) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := rt.api
	start := a.deps.Clock.Now()
	c := &call{ResponseWriter: w, route: rt, id: requestID(r)}
	if c.id == "" {
		c.id = a.deps.IDs.New("req")
	}
	ctx := r.Context()
	if tp := r.Header.Get("Traceparent"); tp != "" {
		ctx = telemetry.WithTraceParent(ctx, tp)
	}
	ctx, span := a.tracer.Start(ctx, rt.name, rt.spanOpts...)
	if sc := span.SpanContext(); sc.HasTraceID() {
		c.traceID = sc.TraceID().String()
	}
	ctx = context.WithValue(ctx, callKey{}, c)
	rt.setHeaders(c, telemetry.TraceParent(ctx))
	defer rt.end(ctx, c, span, start)

	if rt.Timeout > 0 {
		d, ok := timeout(r, rt.Timeout)
		if !ok {
			c.fields = append(c.fields, shop.Field{Pointer: "header/" + TimeoutHeader, Detail: "must be a number of seconds above 0, such as 2.5"})
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	if err := rt.serve(c, r.WithContext(ctx)); err != nil {
		c.refuse(err)
	}
}

// serve lets the request in and runs its handler. An error is one that nobody has written yet.
func (rt *route) serve(c *call, r *http.Request) error {
	release, err := rt.api.admit(rt.Route, r)
	if err != nil {
		return err
	}
	defer func() { release(c.status) }()
	if !rt.Open {
		if c.caller, err = rt.api.cfg.Keys.authenticate(r); err != nil {
			return err
		}
		if err := c.limit(rt.api.limit(c.caller)); err != nil {
			return err
		}
	}
	r = r.WithContext(resilience.WithCriticality(r.Context(), rt.Criticality))
	if rt.Keyed {
		if keys := r.Header[KeyHeader]; len(keys) == 0 || keys[0] == "" {
			return shop.E(shop.KeyMissing, "httpx", "Send an Idempotency-Key header: any text of 1 to 255 printable ASCII characters, new for each new request and the same for its repetitions.")
		} else if len(keys) > 1 {
			c.fields = append(c.fields, shop.Field{Pointer: "header/" + KeyHeader, Detail: "must not be given twice"})
		}
	}
	if rt.checks {
		c.fields = append(c.fields, rt.checkQuery(r.URL.RawQuery)...)
	}
	if rt.admit != nil {
		if err := rt.admit(shop.Request{Caller: c.caller, Key: r.Header.Get(KeyHeader)}); err != nil {
			return err
		}
	}
	return rt.handle(c, r)
}

// checkQuery finds unknown and repeated parameters and text that no store could hold.
func (rt *route) checkQuery(raw string) []shop.Field {
	if raw == "" {
		return nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return []shop.Field{{Pointer: "query", Detail: "cannot be read: it is not well-formed"}}
	}
	var fields []shop.Field
	for name, all := range values {
		detail := ""
		switch {
		case !slices.Contains(rt.query, name):
			detail = "is not a known parameter"
		case len(all) > 1:
			detail = "must not be given twice"
		case !utf8.ValidString(all[0]) || slices.Contains([]byte(all[0]), 0):
			detail = "must be UTF-8 without the character U+0000"
		}
		if detail != "" && len(fields) < maxFields {
			fields = append(fields, shop.Field{Pointer: "query/" + maskName(name), Detail: detail})
		}
	}
	slices.SortFunc(fields, func(a, b shop.Field) int { return compare(a.Pointer, b.Pointer) })
	return fields
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (rt *route) setHeaders(c *call, traceParent string) {
	h := c.Header()
	h[RequestIDHeader] = []string{c.id}
	h["Cache-Control"] = noStoreValue
	h["X-Content-Type-Options"] = noSniffValue
	h["Content-Security-Policy"] = cspValue
	h["Referrer-Policy"] = noReferrerValue
	if traceParent != "" {
		h["Traceparent"] = []string{traceParent}
	}
}

// end recovers from a panic, ends the span, counts and logs. It is deferred.
func (rt *route) end(ctx context.Context, c *call, span trace.Span, start time.Time) {
	a := rt.api
	if v := recover(); v != nil {
		if v == http.ErrAbortHandler { //nolint:errorlint // a panic value, compared as net/http does: its way to cut a connection
			span.End()
			panic(v)
		}
		// The value of a panic may quote what the request said; the stack does not.
		a.deps.Log.ErrorContext(ctx, "request handler panicked", "route", rt.name, "request_id", c.id,
			"type", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
		written := c.status != 0
		c.refuse(fmt.Errorf("panic in %s", rt.name))
		if written {
			span.End()
			panic(http.ErrAbortHandler) // half an answer must not look like a whole one
		}
	}
	if c.status == 0 {
		c.status = http.StatusOK // a handler that wrote nothing; net/http sends 200
	}
	took := a.deps.Clock.Now().Sub(start)
	if opt := rt.metrics[min(c.status, len(rt.metrics)-1)]; opt != nil {
		a.duration.Record(ctx, took.Seconds(), opt)
	}
	if span.IsRecording() {
		span.SetAttributes(attribute.Int("http.response.status_code", c.status))
		if c.status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, strconv.Itoa(c.status))
		}
	}
	span.End()
	if c.order != "" {
		ctx = telemetry.WithOrder(ctx, c.order)
	}
	rt.log(ctx, c, took)
}

// log writes the access log: everything at debug, failures of ours where everybody sees them.
func (rt *route) log(ctx context.Context, c *call, took time.Duration) {
	level := slog.LevelDebug
	switch {
	case c.status == http.StatusInternalServerError:
		level = slog.LevelError
	case c.status > http.StatusInternalServerError:
		level = slog.LevelInfo
	}
	log := rt.api.deps.Log
	if !log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("route", rt.name), slog.Int("status", c.status), slog.Duration("took", took), slog.String("request_id", c.id),
	}
	if c.err != nil && c.status >= http.StatusInternalServerError {
		attrs = append(attrs, slog.String("err", c.err.Error()))
	}
	log.LogAttrs(ctx, level, "request answered", attrs...)
}
