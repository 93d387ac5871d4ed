package saga

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"

	"holdfast/platform/telemetry"
	"holdfast/platform/temporal"
	"holdfast/shop"
)

// The local activities of the workflow. Their names are in histories: never change them.
const (
	activityDo   = "do"
	activityUndo = "undo"
)

// do asks a service for its step.
func (s *Service) do(ctx context.Context, id shop.OrderID, step string) (shop.StepOutcome, error) {
	return s.ask(ctx, activityDo, id, step, func(ctx context.Context, of shop.Step) (shop.StepOutcome, error) {
		brief, err := s.brief(ctx, id)
		if err != nil {
			return shop.StepOutcome{}, err
		}
		return of.Do(ctx, brief)
	})
}

// undo asks a service to undo its step.
func (s *Service) undo(ctx context.Context, id shop.OrderID, step string) (shop.StepOutcome, error) {
	return s.ask(ctx, activityUndo, id, step, func(ctx context.Context, of shop.Step) (shop.StepOutcome, error) {
		return of.Undo(ctx, id)
	})
}

// ask asks a service something within the time for it. Causes of errors stay in the log: they may tell more
// than Temporal should keep.
func (s *Service) ask(ctx context.Context, what string, id shop.OrderID, step string, fn func(context.Context, shop.Step) (shop.StepOutcome, error)) (shop.StepOutcome, error) {
	ctx, span := s.tel.Tracer.Start(telemetry.WithOrder(ctx, id), "saga "+step+" "+what)
	defer span.End()
	of := s.steps[step]
	if of == nil {
		return shop.StepOutcome{}, temporal.Failure(shop.E(shop.Internal, "saga.ask", "there is no step "+step))
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.AskFor)
	defer cancel()
	out, err := fn(ctx, of)
	if err != nil {
		span.SetStatus(codes.Error, "failed")
		if kind := shop.KindOf(err); kind != shop.NotFound && kind != shop.Conflict {
			s.deps.Log.WarnContext(ctx, "a step could not be asked for; it is asked for again", "step", step, "what", what, "err", err)
		}
		return out, temporal.Failure(err)
	}
	if span.IsRecording() {
		span.SetAttributes(attribute.String("state", string(out.State)))
	}
	return out, nil
}
