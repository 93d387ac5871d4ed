package inventory_test

import (
	"context"
	"testing"

	"holdfast/shop"
	"holdfast/test/flow"
	"holdfast/test/steps"
)

func TestStep(t *testing.T) {
	steps.Contract(t, func(t *testing.T, test func(*testing.T, steps.Subject)) {
		each(t, func(t *testing.T, s *inv) {
			s.stock("A", 10)
			test(t, steps.Subject{Step: s.Service, Consume: s.Consume,
				Said: func() int { return len(flow.Events(t, s.db, shop.TopicInventory)) },
				Forward: func(id shop.OrderID, saga shop.SagaStyle) shop.Event {
					b := steps.Brief(id, saga)
					return flow.Event(t, shop.EventOrderPlaced, shop.TopicOrders, id, 1, shop.OrderData{Brief: &b})
				},
				Backward: func(id shop.OrderID, saga shop.SagaStyle) shop.Event {
					return flow.Event(t, shop.EventPaymentVoided, shop.TopicPayments, id, 1, shop.PaymentData{OrderID: id, Saga: saga})
				}})
		})
	})
}

// TestStepOutcomes: what is short is refused with its reason, and what has left is not undone.
func TestStepOutcomes(t *testing.T) {
	each(t, func(t *testing.T, s *inv) {
		s.stock("A", 0)
		b := steps.Brief("o1", shop.Orchestrated)
		want := shop.StepOutcome{State: shop.StepRefused, Reason: shop.ReasonOutOfStock}
		if out, err := s.Do(t.Context(), b); err != nil || out != want {
			t.Errorf("do: %+v %v", out, err)
		}
		if out, err := s.Undo(t.Context(), "o1"); err != nil || out != want {
			t.Errorf("undo: %+v %v", out, err)
		}
		s.stock("B", 1)
		b.OrderID, b.Lines[0].SKU = "o2", "B"
		if out, err := s.Do(context.Background(), b); err != nil || out.State != shop.StepDone {
			t.Errorf("do: %+v %v", out, err)
		}
		s.take(of(t, shop.EventShipmentDispatched, "o2")) // in both styles
		if _, err := s.Undo(t.Context(), "o2"); shop.KindOf(err) != shop.Conflict {
			t.Errorf("undo of what has left: %v", err)
		}
		s.has("B", 0, 0)
	})
}
