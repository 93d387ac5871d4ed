package payment

import (
	"fmt"
	"net/url"
	"time"

	"holdfast/platform/calls"
	"holdfast/platform/policy"
	"holdfast/resilience"
)

// Capture policies.
const (
	CaptureAtDispatch = "dispatch"  // authorise in the saga, capture when the parcel leaves
	CaptureImmediate  = "immediate" // charge in the saga; the compensation is a refund
)

// Config sets the provider and the service's limits.
type Config struct {
	ProviderURL string   `koanf:"provider_url"`
	Capture     string   `koanf:"capture"`
	Provider    Provider `koanf:"provider"` // the policies in front of it
	// AuthoriseFailures is how often the provider may answer an authorisation with a failure of its own before the order
	// is given up. What gets no answer is asked for. Once such a question was answered with "not known" an attempt that
	// gets none counts too, and before giving up the provider is asked twice more, RetryMax apart.
	AuthoriseFailures int `koanf:"authorise_failures"`
	// UndoFailures is the same for void, refund and capture; after it an operator must act.
	UndoFailures int           `koanf:"undo_failures"`
	RetryMin     time.Duration `koanf:"retry_min"`
	RetryMax     time.Duration `koanf:"retry_max"`
	Calls        calls.Config  `koanf:"calls"`
}

// Provider sets the policies in front of the provider: a breaker for each operation, and what they share.
type Provider struct {
	policy.Outside `koanf:",squash"`

	Authorise resilience.BreakerConfig `koanf:"authorise"`
	Capture   resilience.BreakerConfig `koanf:"capture"`
	Void      resilience.BreakerConfig `koanf:"void"`
	Refund    resilience.BreakerConfig `koanf:"refund"`
	Query     resilience.BreakerConfig `koanf:"query"`
}

// Policies returns the configuration of the policies in front of the provider.
func (c Config) Policies() policy.Config {
	p := c.Provider
	return p.Config(map[string]resilience.BreakerConfig{opAuthorise: p.Authorise, opCapture: p.Capture, opVoid: p.Void, opRefund: p.Refund, opQuery: p.Query})
}

// Defaults returns the limits used where nothing is configured; ProviderURL has none.
func Defaults() Config {
	return Config{
		Capture: CaptureAtDispatch, AuthoriseFailures: 7, UndoFailures: 15,
		Provider: Provider{Outside: policy.OutsideDefaults(), Authorise: policy.OutsideBreaker(), Capture: policy.OutsideBreaker(),
			Void: policy.OutsideBreaker(), Refund: policy.OutsideBreaker(), Query: policy.OutsideBreaker()},
		RetryMin: 100 * time.Millisecond, RetryMax: 3 * time.Second, Calls: calls.Defaults(),
	}
}

// Validate tells what is wrong with c.
func (c Config) Validate() error {
	if u, err := url.Parse(c.ProviderURL); err != nil || u.Scheme == "" || u.Host == "" {
		return fmt.Errorf("payment.provider_url %q is not an absolute URL", c.ProviderURL)
	}
	if c.Capture != CaptureAtDispatch && c.Capture != CaptureImmediate {
		return fmt.Errorf("payment.capture is %q; it must be %q or %q", c.Capture, CaptureAtDispatch, CaptureImmediate)
	}
	if c.Provider.CallTimeout <= 0 || 2*c.Provider.CallTimeout > c.Calls.Timeout {
		return fmt.Errorf("payment.provider.call_timeout must be positive and at most half of payment.calls.timeout: an attempt may take two requests")
	}
	if err := c.Policies().Validate(); err != nil {
		return fmt.Errorf("payment.provider.%w", err)
	}
	if c.AuthoriseFailures < 1 || c.UndoFailures < 1 {
		return fmt.Errorf("payment.authorise_failures and payment.undo_failures must be at least 1")
	}
	if c.RetryMin <= 0 || c.RetryMax < c.RetryMin {
		return fmt.Errorf("payment.retry_min must be positive and retry_max not smaller")
	}
	return c.Calls.Validate()
}
