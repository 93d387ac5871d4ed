package shipping

import (
	"fmt"
	"net/url"
	"time"

	"holdfast/platform/calls"
	"holdfast/platform/policy"
	"holdfast/resilience"
	"holdfast/shop"
)

// Config sets the carrier and the service's limits.
type Config struct {
	CarrierURL string  `koanf:"carrier_url"`
	Carrier    Carrier `koanf:"carrier"` // the policies in front of it
	// ScheduleFailures is how often the carrier may answer with a failure of its own before the order is given up. What
	// gets no answer is asked for. Once such a question was answered with "not known" an attempt that gets none counts
	// too, and before giving up the carrier is asked twice more, RetryMax apart.
	ScheduleFailures int `koanf:"schedule_failures"`

	// Rates are the fees for a parcel by country, in minor units, with "*" for all others, as long as the
	// carrier has not told its own; it is asked for them each RatesEvery.
	Rates      map[string]int64 `koanf:"rates"`
	RatesEvery time.Duration    `koanf:"rates_every"`

	CancelFailures int           `koanf:"cancel_failures"` // the same for a cancel; after it an operator must act
	RetryMin       time.Duration `koanf:"retry_min"`
	RetryMax       time.Duration `koanf:"retry_max"`
	Calls          calls.Config  `koanf:"calls"`
}

// Carrier sets the policies in front of the carrier: a breaker for each operation, and what they share.
type Carrier struct {
	policy.Outside `koanf:",squash"`

	Schedule resilience.BreakerConfig `koanf:"schedule"`
	Cancel   resilience.BreakerConfig `koanf:"cancel"`
	Query    resilience.BreakerConfig `koanf:"query"`
	Rates    resilience.PolicyConfig  `koanf:"rates"`
}

// Policies returns the configuration of the policies in front of the carrier.
func (c Config) Policies() policy.Config {
	p := c.Carrier
	all := p.Config(map[string]resilience.BreakerConfig{opSchedule: p.Schedule, opCancel: p.Cancel, opQuery: p.Query})
	all.Operations[opRates] = p.Rates
	return all
}

// Defaults returns the limits used where nothing is configured; CarrierURL has none.
func Defaults() Config {
	return Config{ScheduleFailures: 7, CancelFailures: 15,
		Carrier: Carrier{Outside: policy.OutsideDefaults(), Schedule: policy.OutsideBreaker(), Cancel: policy.OutsideBreaker(), Query: policy.OutsideBreaker(),
			Rates: resilience.PolicyDefaults()},
		RatesEvery: time.Minute, Rates: map[string]int64{shop.RestOfWorld: 500},
		RetryMin: 100 * time.Millisecond, RetryMax: 3 * time.Second, Calls: calls.Defaults()}
}

// Validate tells what is wrong with c.
func (c Config) Validate() error {
	if u, err := url.Parse(c.CarrierURL); err != nil || u.Scheme == "" || u.Host == "" {
		return fmt.Errorf("shipping.carrier_url %q is not an absolute URL", c.CarrierURL)
	}
	if c.Carrier.CallTimeout <= 0 || 2*c.Carrier.CallTimeout > c.Calls.Timeout {
		return fmt.Errorf("shipping.carrier.call_timeout must be positive and at most half of shipping.calls.timeout: an attempt may take two requests")
	}
	if err := c.Policies().Validate(); err != nil {
		return fmt.Errorf("shipping.carrier.%w", err)
	}
	if _, ok := c.Rates[shop.RestOfWorld]; !ok || c.RatesEvery <= 0 {
		return fmt.Errorf("shipping.rates must have a fee for %q, and shipping.rates_every must be positive", shop.RestOfWorld)
	}
	if c.ScheduleFailures < 1 || c.CancelFailures < 1 {
		return fmt.Errorf("shipping.schedule_failures and shipping.cancel_failures must be at least 1")
	}
	if c.RetryMin <= 0 || c.RetryMax < c.RetryMin {
		return fmt.Errorf("shipping.retry_min must be positive and retry_max not smaller")
	}
	return c.Calls.Validate()
}
