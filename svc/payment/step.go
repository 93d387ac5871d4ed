package payment

import (
	"context"

	"holdfast/platform/calls"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

var _ shop.Step = (*Service)(nil)

// Do implements shop.Step: it has the money held.
func (s *Service) Do(ctx context.Context, brief shop.Brief) (shop.StepOutcome, error) {
	id := brief.OrderID
	begin := s.begin(id, func(ctx context.Context, tx *sqldb.Tx, b *batch) (shop.StepOutcome, error) {
		if b.payments[id] == nil {
			if err := b.authorise(shop.Event{OrderID: id, TraceParent: telemetry.TraceParent(ctx)}, &brief); err != nil {
				return shop.StepOutcome{}, err
			}
		}
		return doneOf(b.payments[id], false), nil
	})
	return s.waiters.Ask(ctx, id, begin, s.look(id, doneOf))
}

// Undo implements shop.Step: it gives back what is or will be held or taken.
func (s *Service) Undo(ctx context.Context, id shop.OrderID) (shop.StepOutcome, error) {
	begin := s.begin(id, func(ctx context.Context, tx *sqldb.Tx, b *batch) (shop.StepOutcome, error) {
		if p := b.payments[id]; p != nil && p.taken() {
			return shop.StepOutcome{}, shop.E(shop.Conflict, "payment.Undo", "the parcel has left and the money is being taken; the way back is a return")
		}
		if err := b.undo(b.payments[id], id, shop.Orchestrated, telemetry.TraceParent(ctx)); err != nil {
			return shop.StepOutcome{}, err
		}
		waits, err := calls.Parked(ctx, tx, id)
		return undoneOf(b.payments[id], waits), err
	})
	return s.waiters.Ask(ctx, id, begin, s.look(id, undoneOf))
}

// begin runs fn on the order's row in a transaction, and saves it.
func (s *Service) begin(id shop.OrderID, fn func(context.Context, *sqldb.Tx, *batch) (shop.StepOutcome, error)) func(context.Context) (shop.StepOutcome, error) {
	return func(ctx context.Context) (out shop.StepOutcome, err error) {
		err = s.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			b, err := s.load(ctx, tx, []shop.OrderID{id})
			if err != nil {
				return err
			}
			if out, err = fn(ctx, tx, b); err != nil {
				return err
			}
			return save(ctx, tx, b)
		})
		return out, err
	}
}

// look reads where the step stands.
func (s *Service) look(id shop.OrderID, of func(p *payment, parked bool) shop.StepOutcome) func(context.Context) (shop.StepOutcome, error) {
	return func(ctx context.Context) (out shop.StepOutcome, err error) {
		err = s.db.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			found, err := paymentsOf(ctx, tx, []shop.OrderID{id}, noLock)
			if err != nil || found[id] == nil {
				out = shop.StepOutcome{State: shop.StepPending}
				return err
			}
			parked, err := calls.Parked(ctx, tx, id)
			out = of(found[id], parked)
			return err
		})
		return out, err
	}
}

// taken tells whether the parcel has left, so that the money is being taken or has been.
func (p *payment) taken() bool {
	return p.Status == capturing || p.Status == shop.PaymentCaptured || p.Status == shop.PaymentNeedsAttention && p.Reason == shop.ReasonCaptureFailed
}

// doneOf tells where the authorisation of a row stands. One that is being undone will never be done.
func doneOf(p *payment, _ bool) shop.StepOutcome {
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
