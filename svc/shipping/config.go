package shipping

import (
	"fmt"
	"net/url"
	"time"

	"holdfast/platform/calls"
)

// Config sets the carrier and the service's limits.
type Config struct {
	CarrierURL  string        `koanf:"carrier_url"`
	CallTimeout time.Duration `koanf:"call_timeout"` // for one request to the carrier
	// ScheduleFailures is how often the carrier may answer with a failure of its own before the order
	// is given up. Answers that do not come at all are asked for, and no limit.
	ScheduleFailures int           `koanf:"schedule_failures"`
	CancelFailures   int           `koanf:"cancel_failures"` // the same for a cancel; after it an operator must act
	RetryMin         time.Duration `koanf:"retry_min"`
	RetryMax         time.Duration `koanf:"retry_max"`
	Calls            calls.Config  `koanf:"calls"`
}

// Defaults returns the limits used where nothing is configured; CarrierURL has none.
func Defaults() Config {
	return Config{CallTimeout: 4 * time.Second, ScheduleFailures: 7, CancelFailures: 15,
		RetryMin: 100 * time.Millisecond, RetryMax: 3 * time.Second, Calls: calls.Defaults()}
}

// Validate tells what is wrong with c.
func (c Config) Validate() error {
	if u, err := url.Parse(c.CarrierURL); err != nil || u.Scheme == "" || u.Host == "" {
		return fmt.Errorf("shipping.carrier_url %q is not an absolute URL", c.CarrierURL)
	}
	if c.CallTimeout <= 0 || 2*c.CallTimeout > c.Calls.Timeout {
		return fmt.Errorf("shipping.call_timeout must be positive and at most half of shipping.calls.timeout: an attempt may take two requests")
	}
	if c.ScheduleFailures < 1 || c.CancelFailures < 1 {
		return fmt.Errorf("shipping.schedule_failures and shipping.cancel_failures must be at least 1")
	}
	if c.RetryMin <= 0 || c.RetryMax < c.RetryMin {
		return fmt.Errorf("shipping.retry_min must be positive and retry_max not smaller")
	}
	return c.Calls.Validate()
}
