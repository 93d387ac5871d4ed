package telemetry

import (
	"context"
	"encoding/hex"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"holdfast/shop"
)

type orderKey struct{}

// WithOrder returns a context whose log lines carry the order's id.
func WithOrder(ctx context.Context, id shop.OrderID) context.Context {
	return context.WithValue(ctx, orderKey{}, id)
}

// parentLen is the length of a W3C traceparent of version 00: 2-32-16-2 digits.
const parentLen = 55

// TraceParent returns the W3C header of ctx's span, or "" where there is none.
func TraceParent(ctx context.Context) string {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return ""
	}
	var b [parentLen]byte
	tid, sid := sc.TraceID(), sc.SpanID()
	copy(b[:], "00-")
	hex.Encode(b[3:], tid[:])
	b[35] = '-'
	hex.Encode(b[36:], sid[:])
	copy(b[52:], "-00")
	if sc.IsSampled() {
		b[54] = '1'
	}
	return string(b[:])
}

// WithTraceParent returns a context whose spans continue the trace of a W3C header. A header that is
// empty or malformed changes nothing.
func WithTraceParent(ctx context.Context, header string) context.Context {
	sc, ok := parse(header)
	if !ok {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, sc)
}

// TraceID returns the trace's id in a W3C header, or "".
func TraceID(header string) string {
	if sc, ok := parse(header); ok {
		return sc.TraceID().String()
	}
	return ""
}

func parse(header string) (trace.SpanContext, bool) {
	var none trace.SpanContext
	if len(header) < parentLen || header[2] != '-' || header[35] != '-' || header[52] != '-' || header[:2] == "ff" ||
		header[:2] == "00" && len(header) > parentLen || len(header) > parentLen && header[parentLen] != '-' || strings.ToLower(header) != header {
		return none, false
	}
	var c trace.SpanContextConfig
	var version, flags [1]byte
	if !decode(version[:], header[:2]) || !decode(c.TraceID[:], header[3:35]) || !decode(c.SpanID[:], header[36:52]) || !decode(flags[:], header[53:55]) {
		return none, false
	}
	c.TraceFlags = trace.TraceFlags(flags[0]) & trace.FlagsSampled
	c.Remote = true
	sc := trace.NewSpanContext(c)
	return sc, sc.IsValid()
}

func decode(dst []byte, src string) bool {
	n, err := hex.Decode(dst, []byte(src))
	return err == nil && n == len(dst)
}

// LogHandler adds the ids of ctx's trace, span and order to each line.
func LogHandler(h slog.Handler) slog.Handler { return logHandler{h} }

type logHandler struct{ slog.Handler }

func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	if id, ok := ctx.Value(orderKey{}).(shop.OrderID); ok && !has(r, "order_id") {
		r.AddAttrs(slog.String("order_id", string(id)))
	}
	return h.Handler.Handle(ctx, r)
}

func has(r slog.Record, key string) (found bool) {
	r.Attrs(func(a slog.Attr) bool {
		found = a.Key == key
		return !found
	})
	return found
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attrs)}
}

func (h logHandler) WithGroup(name string) slog.Handler { return logHandler{h.Handler.WithGroup(name)} }
