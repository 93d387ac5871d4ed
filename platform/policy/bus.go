package policy

import (
	"context"
	"errors"

	"holdfast/resilience"
	"holdfast/shop"
)

// Sender is what an outbox sends through; see bus.Producer.
type Sender interface {
	Send(ctx context.Context, events []shop.Event) []error
}

// Bus is a Sender with a breaker before it: while the bus is down, relays learn it at once instead of
// holding their events for the length of a timeout each.
type Bus struct {
	next    Sender
	breaker *resilience.Breaker
}

// BusDefaults returns a breaker that opens after a few failures, since there are few sends: each takes
// hundreds of events.
func BusDefaults() resilience.BreakerConfig {
	b := resilience.BreakerDefaults()
	b.MinCalls, b.OpenFor, b.Probes, b.ProbeSuccesses = 3, storeOpenFor, 1, 1
	return b
}

// Bus adds the breaker of the event bus.
func (s *Set) Bus(cfg resilience.BreakerConfig, next Sender) (*Bus, error) {
	b, err := s.breaker("bus", "send", cfg)
	return &Bus{next: next, breaker: b}, err
}

// Reconfigure changes the breaker without losing its state.
func (b *Bus) Reconfigure(cfg resilience.BreakerConfig) error { return b.breaker.Reconfigure(cfg) }

// Send sends events where the bus is up; see bus.Producer.
func (b *Bus) Send(ctx context.Context, events []shop.Event) []error {
	if len(events) == 0 {
		return nil
	}
	permit, err := b.breaker.Acquire()
	if err != nil {
		errs := make([]error, len(events))
		for i := range errs {
			errs[i] = shop.Wrap(shop.Unavailable, "policy.Bus", "the event bus does not answer at present", err)
		}
		return errs
	}
	defer permit.Done(resilience.Neutral) // where Send panics; otherwise it is done below
	errs := b.next.Send(ctx, events)
	permit.Done(busOutcome(ctx, errs))
	return errs
}

// busOutcome is what a send tells about the bus: it is down where it took no event at all, and that for
// no fault of the events.
func busOutcome(ctx context.Context, errs []error) resilience.Outcome {
	if errors.Is(ctx.Err(), context.Canceled) {
		return resilience.Neutral
	}
	for _, err := range errs {
		if err == nil || !shop.KindOf(err).Retryable() {
			return resilience.Success
		}
	}
	return resilience.Failure
}
