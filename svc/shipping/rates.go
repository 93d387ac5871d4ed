package shipping

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/platform/policy"
	"holdfast/resilience"
	"holdfast/shop"
)

// maxRates bounds what is read of the carrier's table.
const maxRates = 1 << 20

// rates is the carrier's table of fees as it was last known. Orders are priced by it without asking
// anybody, so a carrier that is down, or one that answers nonsense, does not keep orders from being placed.
type rates struct {
	url   string
	every time.Duration
	http  *http.Client
	deps  shop.Deps
	table atomic.Pointer[map[string]int64]
}

func newRates(cfg Config, p *resilience.Policy, deps shop.Deps) *rates {
	r := &rates{url: strings.TrimRight(cfg.CarrierURL, "/") + "/v1/rates", every: cfg.RatesEvery, deps: deps,
		http: &http.Client{Transport: &policy.Transport{
			Clock:  deps.Clock,
			Next:   &http.Transport{DialContext: deps.Net.DialContext, DisableCompression: true},
			Policy: func(*http.Request) *resilience.Policy { return p },
		}}}
	r.table.Store(&cfg.Rates)
	return r
}

// ShippingFee implements shop.Rates.
func (s *Service) ShippingFee(country string) shop.Amount { return shop.FeeOf(s.Table(), country) }

// Table implements shop.RateTable.
func (s *Service) Table() map[string]int64 { return *s.rates.table.Load() }

// run asks the carrier for its table until ctx ends. The table in use stays where it fails.
func (r *rates) run(ctx context.Context) error {
	for {
		table, err := r.ask(ctx)
		switch {
		case err == nil:
			r.table.Store(&table)
		case ctx.Err() == nil:
			r.deps.Log.WarnContext(ctx, "the carrier's rates were not to be had; the last known stay in force", "err", err)
		}
		if r.deps.Clock.Sleep(ctx, r.every) != nil {
			return nil
		}
	}
}

func (r *rates) ask(ctx context.Context) (map[string]int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the carrier answers %s", resp.Status)
	}
	var answer struct {
		Rates []struct {
			Country string `json:"country"`
			Amount  *int64 `json:"amount"`
		} `json:"rates"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxRates)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("the carrier's table cannot be read: %w", err)
	}
	table := make(map[string]int64, len(answer.Rates))
	for _, rate := range answer.Rates {
		if rate.Country == "" || rate.Amount == nil || *rate.Amount < 0 {
			return nil, fmt.Errorf("the carrier's table has a line without a country or a fee")
		}
		table[rate.Country] = *rate.Amount
	}
	if _, ok := table[shop.RestOfWorld]; !ok {
		return nil, fmt.Errorf("the carrier's table has no fee for %q", shop.RestOfWorld)
	}
	return table, nil
}
