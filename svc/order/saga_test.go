package order_test

import (
	"strconv"
	"testing"

	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/svc/order"
	"holdfast/test/fakes"
	"holdfast/test/stores"
)

// TestStyle: a request has the style that it names, where there is a Temporal for it, and otherwise the share
// of orders that is configured is orchestrated; a repetition is answered with the order as it was placed.
func TestStyle(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		s := newOrdersWith(t, open, fakes.Deps(t), func(cfg *order.Config, parts *order.Parts) {
			cfg.Saga.OrchestratedPercent, parts.Orchestrates = 50, true
		})
		count := map[shop.SagaStyle]int{}
		for i := range 100 {
			o, _, err := s.Place(t.Context(), by(strconv.Itoa(i)), command())
			if err != nil {
				t.Fatal(err)
			}
			count[o.Saga]++
			again, replayed, err := s.Place(t.Context(), by(strconv.Itoa(i)), command())
			if err != nil || !replayed || again.ID != o.ID || again.Saga != o.Saga {
				t.Fatalf("%+v %t %v", again, replayed, err)
			}
		}
		if count[shop.Orchestrated] < 20 || count[shop.Choreographed] < 20 {
			t.Errorf("of 100 orders: %v", count)
		}
		for _, style := range []shop.SagaStyle{shop.Orchestrated, shop.Choreographed} {
			for i := range 10 {
				cmd := command()
				cmd.Saga = style
				if o, _, err := s.Place(t.Context(), by(string(style)+strconv.Itoa(i)), cmd); err != nil || o.Saga != style {
					t.Errorf("%s: %+v %v", style, o, err)
				}
			}
		}
	})
}

// TestNoTemporal: without one an orchestrated order is refused, and so is a share of them at the start.
func TestNoTemporal(t *testing.T) {
	each(t, func(t *testing.T, s *orders) {
		cmd := command()
		cmd.Saga = shop.Orchestrated
		if _, _, err := s.Place(t.Context(), by("1"), cmd); shop.KindOf(err) != shop.Invalid {
			t.Errorf("%v", err)
		}
	})
	cfg := order.Defaults()
	cfg.Saga.OrchestratedPercent = 1
	if _, err := order.New(cfg, order.Parts{Deps: fakes.Deps(t), Tel: telemetry.Nop()}); err == nil {
		t.Error("it starts")
	}
}
