package temporal

import (
	"context"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"holdfast/platform/telemetry"
)

// header is the field in which the trace context of W3C travels: with a start to the workflow, and from
// there to each of its activities, whose spans and events then continue the trace of the request.
const header = "traceparent"

type traceKey struct{}

// traces is a workflow.ContextPropagator.
type traces struct{}

var _ workflow.ContextPropagator = traces{}

func (traces) Inject(ctx context.Context, w workflow.HeaderWriter) error {
	return write(telemetry.TraceParent(ctx), w)
}

func (traces) InjectFromWorkflow(ctx workflow.Context, w workflow.HeaderWriter) error {
	parent, _ := ctx.Value(traceKey{}).(string)
	return write(parent, w)
}

func (traces) Extract(ctx context.Context, r workflow.HeaderReader) (context.Context, error) {
	return telemetry.WithTraceParent(ctx, read(r)), nil
}

func (traces) ExtractToWorkflow(ctx workflow.Context, r workflow.HeaderReader) (workflow.Context, error) {
	if parent := read(r); parent != "" {
		return workflow.WithValue(ctx, traceKey{}, parent), nil
	}
	return ctx, nil
}

func write(parent string, w workflow.HeaderWriter) error {
	if parent == "" {
		return nil
	}
	payload, err := converter.GetDefaultDataConverter().ToPayload(parent)
	if err == nil {
		w.Set(header, payload)
	}
	return err
}

// read returns the trace context, or "". A malformed one must not keep a workflow from running.
func read(r workflow.HeaderReader) (parent string) {
	var payload *commonpb.Payload
	if payload, _ = r.Get(header); payload == nil {
		return ""
	}
	if err := converter.GetDefaultDataConverter().FromPayload(payload, &parent); err != nil {
		return ""
	}
	return parent
}
