package shipping_test

import (
	"testing"

	"holdfast/shop"
	"holdfast/test/flow"
	"holdfast/test/steps"
)

func TestStep(t *testing.T) {
	steps.Contract(t, func(t *testing.T, test func(*testing.T, steps.Subject)) {
		each(t, nil, func(t *testing.T, s *ship) {
			s.run()
			test(t, steps.Subject{Step: s.Service, Consume: s.Consume,
				Said: func() int { return len(flow.Events(t, s.db, shop.TopicShipping)) },
				Forward: func(id shop.OrderID, saga shop.SagaStyle) shop.Event {
					b := steps.Brief(id, saga)
					return flow.Event(t, shop.EventPaymentAuthorised, shop.TopicPayments, id, 1, shop.PaymentData{Brief: &b})
				},
				Backward: func(id shop.OrderID, saga shop.SagaStyle) shop.Event {
					return flow.Event(t, shop.EventOrderUndoRequested, shop.TopicOrders, id, 1, shop.OrderData{Order: shop.Order{ID: id, Saga: saga}, Undo: true})
				}})
		})
	})
}

// TestStepRefused: what the carrier does not take is refused with its reason, and so is its undo.
func TestStepRefused(t *testing.T) {
	each(t, func(string, int) (bool, int) { return false, 422 }, func(t *testing.T, s *ship) {
		s.run()
		want := shop.StepOutcome{State: shop.StepRefused, Reason: shop.ReasonNotShippable}
		if out, err := s.Do(t.Context(), steps.Brief(id, shop.Orchestrated)); err != nil || out != want {
			t.Errorf("do: %+v %v", out, err)
		}
		if out, err := s.Undo(t.Context(), id); err != nil || out != want {
			t.Errorf("undo: %+v %v", out, err)
		}
	})
}
