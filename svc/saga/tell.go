package saga

import (
	"context"
	"encoding/json"
	"errors"

	"holdfast/platform/calls"
	"holdfast/platform/temporal"
	"holdfast/resilience"
	"holdfast/shop"
)

// The operations at Temporal, which are also the kinds of calls.
const (
	opStart   = "start"
	opUndo    = "undo"
	opRedrive = "redrive"
)

// operations are what the policies have to know of them. All are safe to repeat, and an undo has a lane of
// its own.
func operations() []resilience.Operation {
	op := func(name string, criticality resilience.Criticality) resilience.Operation {
		return resilience.Operation{Name: name, Kind: resilience.IdempotentCommand, Criticality: criticality, RespectsContext: true}
	}
	return []resilience.Operation{op(opStart, resilience.Normal), op(opUndo, resilience.Undo), op(opRedrive, resilience.Normal)}
}

// none is what the calls of this service change in its store: nothing.
type none struct{}

// WorkflowID is by which Temporal knows the saga of an order.
func WorkflowID(id shop.OrderID) string { return "order/" + string(id) }

// tell tells Temporal one thing, until it has taken it.
func (s *Service) tell(ctx context.Context, c calls.Call) calls.Result[none] {
	run := temporal.Run{ID: WorkflowID(c.OrderID), Queue: s.cfg.Queue, Workflow: WorkflowName, Input: Input{OrderID: c.OrderID}}
	err := s.policies.Policy(c.Kind).Run(ctx, func(ctx context.Context) error {
		switch {
		case c.Kind == opStart && !c.Unknown && c.Attempts == 0:
			return s.temporal.Start(ctx, run)
		case c.Kind == opStart: // it may have been told before, and a run that has ended since does nothing more by itself
			return s.temporal.Signal(ctx, run, SignalRedrive, Redrive{})
		case c.Kind == opUndo:
			return s.temporal.Signal(ctx, run, SignalUndo, nil)
		default:
			var r Redrive
			if err := json.Unmarshal(c.Request, &r); err != nil {
				return err
			}
			return s.temporal.Signal(ctx, run, SignalRedrive, r)
		}
	})
	if err == nil {
		return calls.Result[none]{Settle: func(none) error { return nil }}
	}
	rejected := errors.Is(err, resilience.ErrRejected)
	if !rejected && c.Attempts == 0 {
		s.deps.Log.WarnContext(ctx, "Temporal did not take this; it is told again until it does", "operation", c.Kind, "order_id", c.OrderID, "err", err)
	}
	wait := resilience.Backoff{Base: s.cfg.RetryMin, Max: s.cfg.RetryMax, Floor: s.cfg.RetryMin / 10}
	return calls.Result[none]{Rejected: rejected, RetryIn: wait.Delay(c.Attempts+1, 0, s.deps.Rand.Float64)}
}
