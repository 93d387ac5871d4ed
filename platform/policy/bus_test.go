package policy_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"holdfast/platform/policy"
	"holdfast/resilience"
	"holdfast/shop"
)

// sender answers with the same errors each time, and counts.
type sender struct {
	errs  []error
	sends int
	panic bool
}

func (s *sender) Send(context.Context, []shop.Event) []error {
	s.sends++
	if s.panic {
		panic("send")
	}
	return s.errs
}

func (w *world) bus(t *testing.T, next policy.Sender) *policy.Bus {
	t.Helper()
	cfg := policy.BusDefaults()
	cfg.OpenJitter = 0
	b, err := w.Bus(cfg, next)
	return must(t, b, err)
}

func TestBusOpens(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, s, events := newWorld(t, nil), &sender{errs: []error{errDown, errDown}}, make([]shop.Event, 2)
		b := w.bus(t, s)
		for range 3 {
			for _, err := range b.Send(t.Context(), events) {
				is(t, "the bus's own error", err, error(errDown))
			}
		}
		refused := func() {
			t.Helper()
			start, sends := time.Now(), s.sends
			errs := b.Send(t.Context(), events)
			is(t, "errors", len(errs), len(events))
			for _, err := range errs {
				if shop.KindOf(err) != shop.Unavailable || !errors.Is(err, resilience.ErrOpen) {
					t.Errorf("got %v", err)
				}
			}
			is(t, "refused after", time.Since(start), 0)
			is(t, "sends", s.sends, sends)
		}
		refused()
		time.Sleep(500 * time.Millisecond)
		b.Send(t.Context(), events) // the probe
		is(t, "sends", s.sends, 4)
		refused()
		time.Sleep(500 * time.Millisecond)
		s.errs = []error{nil, nil}
		for range 10 {
			for _, err := range b.Send(t.Context(), events) {
				is(t, "error", err, nil)
			}
		}
		is(t, "state", w.state(t, "bus.send", "breaker").State, "closed")
	})
}

// TestBusStaysClosed sees which sends say nothing against the bus.
func TestBusStaysClosed(t *testing.T) {
	t.Parallel()
	tooLarge, invalid := shop.E(shop.TooLarge, "test", "large"), shop.E(shop.Invalid, "test", "invalid")
	cases := []struct {
		name  string
		errs  []error
		left  bool
		calls int
	}{
		{"success", []error{nil, nil}, false, 50},
		{"one of them", []error{errDown, nil}, false, 50},
		{"too large", []error{tooLarge, tooLarge}, false, 50},
		{"invalid", []error{invalid}, false, 50},
		{"too large, and others behind it", []error{tooLarge, errDown}, false, 50},
		{"a caller who left", []error{errDown, errDown}, true, 0},
		{"nothing to send", nil, false, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, ctx := newWorld(t, nil), t.Context()
			if c.left {
				ctx = cancelled(t)
			}
			b := w.bus(t, &sender{errs: c.errs})
			for range 50 {
				errs := b.Send(ctx, make([]shop.Event, len(c.errs)))
				is(t, "errors", len(errs), len(c.errs))
				for i, err := range errs {
					is(t, "error", err, c.errs[i])
				}
			}
			s := w.state(t, "bus.send", "breaker")
			is(t, "state", s.State, "closed")
			is(t, "failures", s.Failures, 0)
			is(t, "calls", s.Calls, c.calls)
		})
	}
}

// TestBusPanic has a probe panic: another may go.
func TestBusPanic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, s := newWorld(t, nil), &sender{errs: []error{errDown}}
		b, events := w.bus(t, s), make([]shop.Event, 1)
		for range 3 {
			b.Send(t.Context(), events)
		}
		time.Sleep(500 * time.Millisecond)
		s.panic = true
		func() {
			defer func() { is(t, "the panic", recover(), any("send")) }()
			b.Send(t.Context(), events)
		}()
		s.panic, s.errs = false, []error{nil}
		is(t, "error of the next probe", b.Send(t.Context(), events)[0], nil)
	})
}

func TestBusReconfigure(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t, nil), &sender{errs: []error{errDown}}
	b, events := w.bus(t, s), make([]shop.Event, 1)
	b.Send(t.Context(), events)
	cfg := policy.BusDefaults()
	cfg.MinCalls = 2
	if err := b.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	b.Send(t.Context(), events)
	is(t, "state after one failure before and one after", w.state(t, "bus.send", "breaker").State, "open")
}
