// Package steps holds the contract of shop.Step as one suite that every service's step is put through.
package steps

import (
	"context"
	"testing"
	"time"

	"holdfast/shop"
)

// Subject is a service with a store of its own, and what its step needs at an outside party arranged so that
// it succeeds.
type Subject struct {
	shop.Step
	// Consume has the service take events as from the bus.
	Consume func(ctx context.Context, events ...shop.Event) error
	// Said counts the events that the service has said.
	Said func() int
	// Forward and Backward are events to which the service would react by doing and by undoing its step, of
	// an order of the given style.
	Forward, Backward func(id shop.OrderID, saga shop.SagaStyle) shop.Event
}

// Brief is a small order.
func Brief(id shop.OrderID, saga shop.SagaStyle) shop.Brief {
	return shop.Brief{OrderID: id, Caller: "c", Saga: saga, Currency: "EUR", Total: 1400, PaymentMethod: "tok_ok", Lines: []shop.ReservedLine{{Line: 1, SKU: "A", Quantity: 1}},
		ShipTo: shop.Address{Name: "A", Line1: "B", City: "C", PostalCode: "10115", Country: "DE"}}
}

const (
	id    = shop.OrderID("ord_06h0t55ikhqif3b4tu06m4e0p8")
	limit = 30 * time.Second
)

// Contract runs the suite; each test gets a subject of its own.
func Contract(t *testing.T, each func(t *testing.T, test func(t *testing.T, s Subject))) {
	t.Helper()
	tests := map[string]func(t *testing.T, s Subject){
		"done once": func(t *testing.T, s Subject) {
			s.do(t, shop.StepDone)
			said := s.Said()
			s.do(t, shop.StepDone)
			if s.Said() != said || said == 0 {
				t.Errorf("it said %d events, and %d after being asked again", said, s.Said())
			}
		},
		"undone once, and never done again": func(t *testing.T, s Subject) {
			s.do(t, shop.StepDone)
			s.undo(t, shop.StepUndone)
			said := s.Said()
			s.undo(t, shop.StepUndone)
			s.do(t, shop.StepUndone)
			if s.Said() != said {
				t.Errorf("it said %d events, and %d after being asked again", said, s.Said())
			}
		},
		"undone before it was begun": func(t *testing.T, s Subject) {
			s.undo(t, shop.StepUndone)
			if s.Said() != 1 {
				t.Errorf("it said %d events, want its tombstone", s.Said())
			}
			s.do(t, shop.StepUndone)
		},
		"an orchestrated order's events ask for nothing": func(t *testing.T, s Subject) {
			s.take(t, s.Forward(id, shop.Orchestrated), s.Backward(id, shop.Orchestrated))
			if s.Said() != 0 {
				t.Errorf("it reacted with %d events", s.Said())
			}
			s.do(t, shop.StepDone)
			said := s.Said()
			s.take(t, s.Backward(id, shop.Orchestrated))
			s.do(t, shop.StepDone)
			if s.Said() != said {
				t.Error("it was undone by an event")
			}
		},
		"a choreographed order's events ask for what they did": func(t *testing.T, s Subject) {
			s.take(t, s.Backward(id, ""))
			if s.Said() == 0 {
				t.Error("it did not react")
			}
			s.do(t, shop.StepUndone)
		},
		"nobody is waited for longer than asked": func(t *testing.T, s Subject) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if out, err := s.Do(ctx, Brief(id, shop.Orchestrated)); err != nil || out.State != shop.StepPending && out.State != shop.StepDone {
				t.Errorf("%+v %v", out, err)
			}
			s.do(t, shop.StepDone)
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { each(t, test) })
	}
}

func (s Subject) do(t *testing.T, want shop.StepState) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	out, err := s.Do(ctx, Brief(id, shop.Orchestrated))
	if err != nil || out.State != want {
		t.Fatalf("do: %+v %v, want %s", out, err, want)
	}
}

func (s Subject) undo(t *testing.T, want shop.StepState) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	out, err := s.Undo(ctx, id)
	if err != nil || out.State != want {
		t.Fatalf("undo: %+v %v, want %s", out, err, want)
	}
}

func (s Subject) take(t *testing.T, events ...shop.Event) {
	t.Helper()
	if err := s.Consume(t.Context(), events...); err != nil {
		t.Fatal(err)
	}
}
