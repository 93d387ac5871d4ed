// Package telemetry makes traces, metrics and log lines that can be joined: OpenTelemetry with its own
// providers, Prometheus on its own registry, and slog with the ids of the trace and of the order.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"holdfast/shop"
)

// scope names the instrumentation.
const scope = "holdfast"

// maxQueued bounds the spans that wait to be exported; more are dropped: telemetry never blocks.
const maxQueued = 8192

// Telemetry is what a component reports through.
type Telemetry struct {
	Tracer trace.Tracer
	Meter  metric.Meter

	registry *prometheus.Registry
	stop     []func(context.Context) error
}

// New makes the telemetry of a process named service. Spans are exported where the environment asks for
// it, by OTEL_TRACES_EXPORTER=otlp or an OTEL_EXPORTER_OTLP endpoint, with the rest of OTEL_* as
// OpenTelemetry specifies; otherwise they have ids and are kept nowhere.
func New(ctx context.Context, service string, deps shop.Deps) (*Telemetry, error) {
	t := &Telemetry{registry: prometheus.NewRegistry()}
	t.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	res, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", service)), resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil {
		return nil, fmt.Errorf("telemetry: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	if err := t.traces(ctx, res, deps); err != nil {
		return nil, err
	}
	exporter, err := otelprom.New(otelprom.WithRegisterer(t.registry), otelprom.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("telemetry: metrics: %w", err)
	}
	metrics := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithResource(res))
	t.Meter = metrics.Meter(scope)
	t.stop = append(t.stop, metrics.Shutdown)
	return t, nil
}

// traces makes the tracer.
func (t *Telemetry) traces(ctx context.Context, res *resource.Resource, deps shop.Deps) error {
	wanted, err := exported(os.Getenv)
	if err != nil {
		return err
	}
	options := []sdktrace.TracerProviderOption{sdktrace.WithResource(res)}
	if wanted {
		exporter, err := otlptracehttp.New(ctx)
		if err != nil {
			return fmt.Errorf("telemetry: OTEL_EXPORTER_OTLP_*: %w", err)
		}
		options = append(options, sdktrace.WithBatcher(&reporting{SpanExporter: exporter, deps: deps}, sdktrace.WithMaxQueueSize(maxQueued)))
	} else {
		options = append(options, sdktrace.WithSampler(sdktrace.NeverSample()))
	}
	provider := sdktrace.NewTracerProvider(options...)
	t.Tracer = provider.Tracer(scope)
	t.stop = append(t.stop, provider.Shutdown)
	return nil
}

// exported tells whether the environment asks for spans to be exported.
func exported(getenv func(string) string) (bool, error) {
	if getenv("OTEL_SDK_DISABLED") == "true" {
		return false, nil
	}
	switch name := getenv("OTEL_TRACES_EXPORTER"); name {
	case "none":
		return false, nil
	case "":
		if getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
			return false, nil
		}
	case "otlp":
	default:
		return false, fmt.Errorf("telemetry: OTEL_TRACES_EXPORTER is %q; it may be otlp or none", name)
	}
	for _, key := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if p := getenv(key); p != "" && p != "http/protobuf" {
			return false, fmt.Errorf("telemetry: %s is %q; only http/protobuf is built in", key, p)
		}
	}
	return true, nil
}

// reporting logs failed exports: the SDK would hand them to a global.
type reporting struct {
	sdktrace.SpanExporter
	deps shop.Deps
}

func (r *reporting) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := r.SpanExporter.ExportSpans(ctx, spans); err != nil {
		r.deps.Log.WarnContext(ctx, "exporting spans failed", "spans", len(spans), "err", err)
	}
	return nil
}

// Nop returns telemetry that keeps nothing, for tests.
func Nop() *Telemetry {
	never := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())) // spans still have ids
	return &Telemetry{Tracer: never.Tracer(scope), Meter: metricnoop.NewMeterProvider().Meter(scope),
		registry: prometheus.NewRegistry()}
}

// MetricsHandler serves the metrics in the formats of Prometheus and OpenMetrics.
func (t *Telemetry) MetricsHandler() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// Close sends what is left, for no longer than ctx.
func (t *Telemetry) Close(ctx context.Context) error {
	var errs []error
	for _, stop := range t.stop {
		errs = append(errs, stop(ctx))
	}
	return errors.Join(errs...)
}
