package payment_test

import (
	"context"
	"testing"
	"time"

	"holdfast/shop"
	"holdfast/test/flow"
	"holdfast/test/steps"
)

func TestStep(t *testing.T) {
	steps.Contract(t, func(t *testing.T, test func(*testing.T, steps.Subject)) {
		each(t, nil, func(t *testing.T, s *pay) {
			s.run()
			test(t, steps.Subject{Step: s.Service, Consume: s.Consume,
				Said: func() int { return len(flow.Events(t, s.db, shop.TopicPayments)) },
				Forward: func(id shop.OrderID, saga shop.SagaStyle) shop.Event {
					b := steps.Brief(id, saga)
					return flow.Event(t, shop.EventStockReserved, shop.TopicInventory, id, 1, shop.StockData{Brief: &b})
				},
				Backward: func(id shop.OrderID, saga shop.SagaStyle) shop.Event {
					return flow.Event(t, shop.EventShipmentCancelled, shop.TopicShipping, id, 1, shop.ShipmentData{OrderID: id, Saga: saga})
				}})
		})
	})
}

// TestStepUnknown: a payment whose outcome is not known is pending until it is, and an undo meanwhile gives
// the late success back.
func TestStepUnknown(t *testing.T) {
	each(t, nil, func(t *testing.T, s *pay) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if out, err := s.Do(ctx, steps.Brief(id, shop.Orchestrated)); err != nil || out.State != shop.StepPending {
			t.Fatalf("do: %+v %v", out, err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if out, err := s.Undo(ctx, id); err != nil || out.State != shop.StepPending {
			t.Fatalf("undo: %+v %v", out, err)
		}
		if out, err := s.Do(t.Context(), steps.Brief(id, shop.Orchestrated)); err != nil || out.State != shop.StepUndone {
			t.Fatalf("do after undo: %+v %v", out, err)
		}
		s.run() // from now on calls are made
		ctx, cancel = context.WithTimeout(t.Context(), limit)
		defer cancel()
		if out, err := s.Undo(ctx, id); err != nil || out.State != shop.StepUndone {
			t.Fatalf("undo: %+v %v", out, err)
		}
		events := flow.Events(t, s.db, shop.TopicPayments)
		if len(events) != 1 {
			t.Errorf("it said %v", flow.Types(events))
		}
	})
}

// TestStepParked: a void that keeps failing is parked, and pending again once it is tried again.
func TestStepParked(t *testing.T) {
	each(t, func(kind string, n int) (bool, int) {
		if kind == "void" && n <= 3 {
			return false, 500
		}
		return true, 201
	}, func(t *testing.T, s *pay) {
		s.run()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		brief := steps.Brief(id, shop.Orchestrated)
		if out, err := s.Do(ctx, brief); err != nil || out.State != shop.StepDone {
			t.Fatalf("do: %+v %v", out, err)
		}
		want := shop.StepOutcome{State: shop.StepParked, Reason: shop.ReasonVoidFailed}
		if out, err := s.Undo(ctx, id); err != nil || out != want {
			t.Fatalf("undo: %+v %v", out, err)
		}
		if out, err := s.Do(ctx, brief); err != nil || out.State != shop.StepParked {
			t.Fatalf("do: %+v %v", out, err)
		}
		redriven := flow.Event(t, shop.EventOrderRedriven, shop.TopicOrders, id, 5, shop.OrderData{Brief: &brief})
		if err := s.Consume(ctx, redriven); err != nil {
			t.Fatal(err)
		}
		if out, err := s.Undo(ctx, id); err != nil || out.State != shop.StepUndone {
			t.Fatalf("undo after a redrive: %+v %v", out, err)
		}
	})
}
