package outbox_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"holdfast/platform/outbox"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/test/fakes"
	"holdfast/test/stores"
)

const (
	recorded    = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	notRecorded = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

// instruments returns telemetry that keeps what it is told.
func instruments() (*telemetry.Telemetry, *tracetest.SpanRecorder, *sdkmetric.ManualReader) {
	spans, reader := tracetest.NewSpanRecorder(), sdkmetric.NewManualReader()
	tel := telemetry.Nop()
	tel.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
	tel.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	return tel, spans, reader
}

func traced(e shop.Event, parent string) shop.Event {
	e.TraceParent = parent
	return e
}

// values returns the metrics as numbers: sums, gauges, and the counts of histograms.
func values(t *testing.T, reader *sdkmetric.ManualReader) map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(testContext(t), &all); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				got[m.Name] = float64(d.DataPoints[0].Value)
			case metricdata.Gauge[int64]:
				got[m.Name] = float64(d.DataPoints[0].Value)
			case metricdata.Gauge[float64]:
				got[m.Name] = d.DataPoints[0].Value
			case metricdata.Histogram[float64]:
				got[m.Name] = float64(d.DataPoints[0].Count)
			}
		}
	}
	return got
}

func TestOutboxTelemetry(t *testing.T) {
	t.Parallel()
	db, s := stores.SQLite(t, outbox.Migrations()), newSender()
	tel, spans, reader := instruments()
	s.fail = func(e shop.Event) (error, bool) {
		if e.ID == "3.1" {
			return shop.E(shop.TooLarge, "test", "too large"), false
		}
		return nil, true
	}
	o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s, Tel: tel})
	appendEvents(t, db, o, traced(event(1, 1), recorded), traced(event(2, 1), notRecorded), traced(event(3, 1), recorded), event(3, 2), event(4, 1))
	run(t, o.Run)
	untilNumber(t, db, 1, `SELECT count(*) FROM outbox_blocked WHERE parked = 1`)
	untilNumber(t, db, 2, unsent)
	got := values(t, reader)
	if got["holdfast_outbox_oldest_seconds"] <= 0 {
		t.Errorf("oldest: %v", got["holdfast_outbox_oldest_seconds"])
	}
	for name, want := range map[string]float64{"holdfast_outbox_sent": 3, "holdfast_outbox_failures": 3, "holdfast_outbox_unsent": 2, "holdfast_outbox_parked": 1} {
		if got[name] != want {
			t.Errorf("%s: %v, want %v", name, got[name], want)
		}
	}
	var ok, failed int
	for _, span := range spans.Ended() {
		if span.Name() != "send orders" || span.Parent().TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || !span.Parent().IsRemote() {
			t.Errorf("span %s of %v", span.Name(), span.Parent())
		}
		if span.Status().Code == codes.Error {
			failed++
		} else {
			ok++
		}
	}
	if ok != 1 || failed != 3 {
		t.Errorf("%d spans of sent events and %d of failed sends", ok, failed)
	}
	if tp := s.arrived[0].TraceParent; tp != recorded {
		t.Errorf("on the bus the parent is %s", tp)
	}
}

func TestConsumerTelemetry(t *testing.T) {
	t.Parallel()
	eachBus(t, 1, func(t *testing.T, b *someBus) {
		db := stores.SQLite(t, outbox.Migrations())
		tel, spans, reader := instruments()
		j, p := newJournal(t, db), testProducer(t, b)
		j.failWith(poison(errors.New("bad"), "3.1"))
		late := event(4, 1)
		late.Time = fakes.RealClock{}.Now()
		publish(t, p, traced(event(1, 1), recorded), traced(event(2, 1), notRecorded))
		publish(t, p, event(1, 1), event(3, 1), late, event(3, 2))
		c, err := outbox.NewConsumer(consumerConfig(), outbox.ConsumerParts{DB: db, Outbox: newOutbox(t, fast("x"), outbox.Parts{DB: db, Producer: newSender()}),
			Bus: busConfig(b), Deps: fakes.Deps(t), Tel: tel}, j.handle)
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, c.Run)
		untilNumber(t, db, 5, inInbox)
		stop()
		got := values(t, reader)
		if got["holdfast_consumer_retries"] < 3 || got["holdfast_consumer_lag_seconds"] != 1 {
			t.Errorf("retries and lag: %v", got)
		}
		for name, want := range map[string]float64{"holdfast_consumer_handled": 3, "holdfast_consumer_duplicates": 1, "holdfast_consumer_dead_letters": 2, "holdfast_consumer_parked": 1} {
			if got[name] != want {
				t.Errorf("%s: %v, want %v", name, got[name], want)
			}
		}
		var names []string
		for _, span := range spans.Ended() {
			names = append(names, span.Name())
			if span.Name() == "handle OrderPlaced" {
				if span.Parent().TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || len(span.Links()) != 1 {
					t.Errorf("span of %v with links %v", span.Parent(), span.Links())
				}
			}
		}
		if !slices.Contains(names, "handle events") || !slices.Contains(names, "handle OrderPlaced") {
			t.Errorf("spans %v", names)
		}
	})
}

// TestAppendTakesTheTrace has an event without a trace appended within one.
func TestAppendTakesTheTrace(t *testing.T) {
	t.Parallel()
	db, s := stores.SQLite(t, outbox.Migrations()), newSender()
	o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s})
	run(t, o.Run)
	events := []shop.Event{event(1, 1), traced(event(2, 1), notRecorded)}
	ctx := telemetry.WithTraceParent(testContext(t), recorded)
	if err := db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return o.Append(ctx, tx, events...) }); err != nil {
		t.Fatal(err)
	}
	s.untilArrived(t, "1.1", "2.1")
	if events[0].TraceParent != recorded || events[1].TraceParent != notRecorded {
		t.Errorf("traces %s, %s", events[0].TraceParent, events[1].TraceParent)
	}
}
