package history

import (
	"context"
	"time"
)

// pollEvery is how often what is waited for is asked about.
const pollEvery = 50 * time.Millisecond

// finish sees everything through that the session has begun, and reads it once more.
func (s *session) finish(ctx context.Context) {
	for _, r := range s.doubt {
		outcome, a := s.untilSure(ctx, r)
		if r.Do == Place {
			s.keep(r, true, outcome, a)
		}
	}
	for len(s.open) > 0 && ctx.Err() == nil {
		for i := len(s.open) - 1; i >= 0; i-- {
			s.follow(ctx, i)
		}
		s.pause(ctx, pollEvery)
	}
	for _, p := range s.placed {
		s.untilSure(ctx, Request{Client: s.client, Do: Read, Order: p.id})
	}
	for customer := range s.customers {
		s.untilSure(ctx, Request{Client: s.client, Do: List, Customer: customer})
	}
}

// lookAtItems reads the session's share of all items, once nothing moves any more.
func (s *session) lookAtItems(ctx context.Context) {
	for i, sku := range s.w.items {
		if i%s.w.cfg.Clients == s.client-1 {
			s.untilSure(ctx, Request{Client: s.client, Do: Look, SKU: sku})
		}
	}
}

// untilSure sends a request until it has an answer.
func (s *session) untilSure(ctx context.Context, r Request) (Kind, Answer) {
	for {
		outcome, a := s.w.do(ctx, r)
		if outcome != Unknown || ctx.Err() != nil {
			return outcome, a
		}
		s.pause(ctx, pollEvery)
	}
}
