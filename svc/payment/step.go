package payment

import (
	"context"

	"holdfast/platform/steps"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

var _ shop.Step = (*Service)(nil)

// rows are how a step reads and changes the row of its order.
func (s *Service) rows() steps.Rows[*batch, payment] {
	return steps.Rows[*batch, payment]{Store: s.store(), Row: func(b *batch, id shop.OrderID) *payment { return b.payments[id] }, Find: paymentsOf}
}

// Do implements shop.Step: it has the money held.
func (s *Service) Do(ctx context.Context, brief shop.Brief) (shop.StepOutcome, error) {
	cause := shop.Event{OrderID: brief.OrderID, TraceParent: telemetry.TraceParent(ctx)}
	return s.steps.Do(ctx, brief.OrderID, func(b *batch) error {
		if b.payments[brief.OrderID] != nil {
			return nil
		}
		return b.authorise(cause, &brief)
	}, doneOf)
}

// Undo implements shop.Step: it gives back what is or will be held or taken.
func (s *Service) Undo(ctx context.Context, id shop.OrderID) (shop.StepOutcome, error) {
	traceParent := telemetry.TraceParent(ctx)
	return s.steps.Undo(ctx, id, func(b *batch) error {
		if p := b.payments[id]; p != nil && p.taken() {
			return shop.E(shop.Conflict, "payment.Undo", "the parcel has left and the money is being taken; the way back is a return")
		}
		return b.undo(b.payments[id], id, shop.Orchestrated, traceParent)
	}, undoneOf)
}

// taken tells whether the parcel has left, so that the money is being taken or has been.
func (p *payment) taken() bool {
	return p.Status == capturing || p.Status == shop.PaymentCaptured || p.Status == shop.PaymentNeedsAttention && p.Reason == shop.ReasonCaptureFailed
}

// doneOf tells where the authorisation of a row stands. One that is being undone will never be done.
func doneOf(p *payment) shop.StepOutcome {
	switch {
	case p.Status == shop.PaymentDeclined:
		return shop.StepOutcome{State: shop.StepRefused, Reason: p.Reason}
	case p.taken():
		return shop.StepOutcome{State: shop.StepDone}
	case p.Status == shop.PaymentNeedsAttention:
		return shop.StepOutcome{State: shop.StepParked, Reason: p.Reason}
	case p.undo:
		return shop.StepOutcome{State: shop.StepUndone}
	case p.Status == authorising:
		return shop.StepOutcome{State: shop.StepPending}
	default:
		return shop.StepOutcome{State: shop.StepDone}
	}
}

// undoneOf tells where the undo stands; parked is whether a call of it waits for an operator.
func undoneOf(p *payment, parked bool) shop.StepOutcome {
	switch {
	case p.Status == shop.PaymentDeclined:
		return shop.StepOutcome{State: shop.StepRefused, Reason: p.Reason}
	case p.Status.Closed():
		return shop.StepOutcome{State: shop.StepUndone}
	case p.Status == shop.PaymentNeedsAttention && parked:
		return shop.StepOutcome{State: shop.StepParked, Reason: p.Reason}
	default:
		return shop.StepOutcome{State: shop.StepPending}
	}
}
