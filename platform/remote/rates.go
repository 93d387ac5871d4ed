package remote

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"holdfast/resilience"
	"holdfast/shop"
)

const (
	// ratesPatience is how long one question for the table may take.
	ratesPatience = 5 * time.Second
	// ratesAgain is the pause after a question that failed.
	ratesAgain = 2 * time.Second
)

// ServeRates serves the table of fees for parcels.
func ServeRates(s *Server, svc shop.RateTable) {
	handle(s, pathRates, resilience.Normal, func(context.Context, nothing) (ratesAnswer, error) { return ratesAnswer{svc.Table()}, nil })
}

type ratesAnswer struct {
	Rates map[string]int64 `json:"rates"`
}

// Rates is the shipping service's table as it was last known. It is asked for in the background, so that an
// order is priced without asking anybody, also while the shipping service is down.
type Rates struct {
	c     *Client
	every time.Duration
	table atomic.Pointer[map[string]int64]
}

// NewRates makes a Rates that begins with a table of its own and asks for the shipping service's each time
// that every has passed.
func NewRates(c *Client, first map[string]int64, every time.Duration) *Rates {
	r := &Rates{c: c, every: every}
	r.table.Store(&first)
	return r
}

// ShippingFee implements shop.Rates.
func (r *Rates) ShippingFee(country string) shop.Amount { return shop.FeeOf(*r.table.Load(), country) }

// Run keeps the table up to date until ctx ends. The table in use stays where that fails.
func (r *Rates) Run(ctx context.Context) error {
	for {
		pause := r.every
		table, err := r.ask(ctx)
		switch {
		case err == nil:
			r.table.Store(&table)
		case ctx.Err() == nil:
			pause = min(pause, ratesAgain) // it may be starting, as this process is
			r.c.deps.Log.WarnContext(ctx, "the shipping service's rates were not to be had; the last known stay in force", "err", err)
		}
		if r.c.deps.Clock.Sleep(ctx, pause) != nil {
			return nil
		}
	}
}

func (r *Rates) ask(ctx context.Context) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, ratesPatience)
	defer cancel()
	out, err := call[nothing, ratesAnswer](ctx, r.c, pathRates, nothing{})
	if err != nil {
		return nil, err
	}
	if _, ok := out.Rates[shop.RestOfWorld]; !ok {
		return nil, errors.New("the shipping service's table has no fee for the rest of the world")
	}
	return out.Rates, nil
}
