package outbox

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"holdfast/platform/telemetry"
	"holdfast/shop"
)

// sampled tells whether somebody records the trace of a W3C traceparent. Most events need no span.
func sampled(traceparent string) bool {
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if len(traceparent) < length {
		return false
	}
	switch traceparent[length-1] {
	case '1', '3', '5', '7', '9', 'b', 'd', 'f':
		return true
	default:
		return false
	}
}

// startSpans begins a span for each event whose trace is recorded, and returns what ends them.
func (o *Outbox) startSpans(ctx context.Context, events []shop.Event) (end func([]error)) {
	var spans map[int]trace.Span
	for i := range events {
		if e := &events[i]; sampled(e.TraceParent) {
			if spans == nil {
				spans = make(map[int]trace.Span)
			}
			_, spans[i] = o.parts.Tel.Tracer.Start(telemetry.WithTraceParent(ctx, e.TraceParent), "send "+e.Topic,
				trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(eventAttributes(e)...))
		}
	}
	return func(errs []error) {
		for i, span := range spans {
			endSpan(span, errs[i])
		}
	}
}

// startSpans begins a span for the batch and one for each of its events, in the event's own trace and
// linked with the batch, where that trace is recorded.
func (c *Consumer) startSpans(ctx context.Context, items []item) (context.Context, func(error)) {
	first := 0
	for first < len(items) && !sampled(items[first].event.TraceParent) {
		first++
	}
	if first == len(items) {
		return ctx, func(error) {}
	}
	tracer := c.parts.Tel.Tracer
	batchCtx, batch := tracer.Start(ctx, "handle events", trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(attribute.String("messaging.consumer.group.name", c.cfg.Name), attribute.Int("messaging.batch.message_count", len(items))))
	link := trace.WithLinks(trace.Link{SpanContext: batch.SpanContext()})
	spans := []trace.Span{batch}
	for i := first; i < len(items); i++ {
		if e := &items[i].event; sampled(e.TraceParent) {
			_, span := tracer.Start(telemetry.WithTraceParent(ctx, e.TraceParent), "handle "+string(e.Type), link,
				trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(eventAttributes(e)...))
			spans = append(spans, span)
		}
	}
	return batchCtx, func(err error) {
		for _, span := range spans {
			endSpan(span, err)
		}
	}
}

func endSpan(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

func eventAttributes(e *shop.Event) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "kafka"),
		attribute.String("messaging.destination.name", e.Topic),
		attribute.String("cloudevents.event_id", string(e.ID)),
		attribute.String("cloudevents.event_type", string(e.Type)),
		attribute.String("order_id", string(e.OrderID)),
	}
}
