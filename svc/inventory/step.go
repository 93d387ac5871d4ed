package inventory

import (
	"context"

	"holdfast/platform/sqldb"
	"holdfast/platform/steps"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

var _ shop.Step = (*Service)(nil)

// ask is for the step of an order or its undo.
type ask struct {
	cause shop.Event  // the order and the trace
	brief *shop.Brief // nil: undo
}

// Do implements shop.Step: it reserves the stock. Its outcome is known at once.
func (s *Service) Do(ctx context.Context, brief shop.Brief) (shop.StepOutcome, error) {
	return s.ask(ctx, ask{s.cause(ctx, brief.OrderID), &brief})
}

// Undo implements shop.Step: it releases the stock.
func (s *Service) Undo(ctx context.Context, id shop.OrderID) (shop.StepOutcome, error) {
	return s.ask(ctx, ask{s.cause(ctx, id), nil})
}

func (s *Service) cause(ctx context.Context, id shop.OrderID) shop.Event {
	return shop.Event{OrderID: id, TraceParent: telemetry.TraceParent(ctx)}
}

func (s *Service) ask(ctx context.Context, a ask) (shop.StepOutcome, error) {
	answer, err := s.asking.Do(ctx, a)
	return steps.Told(ctx, answer, err)
}

// answerAll does what is asked in one transaction: of those who want the same item each locks it for all.
func (s *Service) answerAll(ctx context.Context, tx *sqldb.Tx, asks []ask) ([]steps.Answer, error) {
	causes := make([]shop.Event, len(asks))
	var briefs []*shop.Brief
	for i, a := range asks {
		causes[i] = a.cause
		if a.brief != nil {
			briefs = append(briefs, a.brief)
		}
	}
	b, err := s.load(ctx, tx, causes, briefs)
	if err != nil {
		return nil, err
	}
	answers := make([]steps.Answer, len(asks))
	for i, a := range asks {
		if answers[i], err = b.answer(a); err != nil {
			return nil, err
		}
	}
	return answers, b.save(ctx, tx)
}

// answer does what one asks for.
func (b *batch) answer(a ask) (steps.Answer, error) {
	id := a.cause.OrderID
	r := b.reservations[id]
	switch {
	case a.brief != nil && r == nil:
		err := b.reserve(a.cause, a.brief)
		return steps.Answer{Outcome: doneOf(b.reservations[id])}, err
	case a.brief != nil:
		return steps.Answer{Outcome: doneOf(r)}, nil
	case r != nil && r.Status == shop.StockShipped:
		return steps.Answer{Err: shop.E(shop.Conflict, "inventory.Undo", "the goods have left; there is nothing to release")}, nil
	}
	if err := b.release(r, a.cause); err != nil {
		return steps.Answer{}, err
	}
	if r = b.reservations[id]; r.Status == shop.StockRejected {
		return steps.Answer{Outcome: doneOf(r)}, nil
	}
	return steps.Answer{Outcome: shop.StepOutcome{State: shop.StepUndone}}, nil
}

// doneOf tells where the reservation of a row stands.
func doneOf(r *reservation) shop.StepOutcome {
	switch r.Status {
	case shop.StockRejected:
		return shop.StepOutcome{State: shop.StepRefused, Reason: r.Reason}
	case shop.StockReleased:
		return shop.StepOutcome{State: shop.StepUndone}
	default:
		return shop.StepOutcome{State: shop.StepDone}
	}
}
