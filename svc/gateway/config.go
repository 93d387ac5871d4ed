package gateway

import (
	"fmt"
	"time"

	"holdfast/platform/httpx"
	"holdfast/resilience"
)

// Name is the module's name everywhere.
const Name = "gateway"

// Config sets the limits of the edge.
type Config struct {
	MaxBody    int64         `koanf:"max_body"`    // of a request, in bytes
	Timeout    time.Duration `koanf:"timeout"`     // of a request, and the most that Request-Timeout may ask for
	MaxWaiting int           `koanf:"max_waiting"` // held answers and event streams at once, counted apart

	// Upstreams are the public addresses of the services that are in other processes, by name; each may have
	// several replicas.
	Upstreams map[string][]string `koanf:"upstreams"`

	// Admission bounds the requests at once; beyond it they are answered 503 overloaded, the least critical
	// first: lists before reads and new orders, those before webhooks, and cancels last.
	Admission resilience.AdmissionConfig `koanf:"admission"`
	// RateLimit bounds what each caller may send; beyond it requests are answered 429 rate_limited.
	RateLimit resilience.RateLimitConfig `koanf:"rate_limit"`
}

// Defaults returns the limits used where nothing is configured.
func Defaults() Config {
	return Config{MaxBody: httpx.DefaultMaxBody, Timeout: httpx.DefaultTimeout, MaxWaiting: 8192,
		Admission: resilience.AdmissionConfig{Limit: 2048, SheddableShare: 0.5, NormalShare: 0.9, UndoLane: 256, RetryAfter: time.Second},
		RateLimit: resilience.RateLimitConfig{Rate: 5000, Burst: 10000, MaxKeys: 1 << 16}}
}

// waiting is the admission of those that wait.
func (c Config) waiting() resilience.AdmissionConfig {
	return resilience.AdmissionConfig{Limit: c.MaxWaiting, SheddableShare: 1, NormalShare: 1, RetryAfter: time.Second}
}

// Validate tells what is wrong with c.
func (c Config) Validate() error {
	if c.MaxBody < 1024 || c.MaxBody > 16<<20 {
		return fmt.Errorf("gateway.max_body must be 1 KiB to 16 MiB")
	}
	if c.Timeout <= httpx.MaxWait || c.Timeout > httpx.DefaultTimeout {
		return fmt.Errorf("gateway.timeout must be above %v, the longest wait, and at most %v", httpx.MaxWait, httpx.DefaultTimeout)
	}
	if err := c.waiting().Validate(); err != nil {
		return fmt.Errorf("gateway.max_waiting: %w", err)
	}
	if err := c.Admission.Validate(); err != nil {
		return fmt.Errorf("gateway.admission.%w", err)
	}
	if err := c.RateLimit.Validate(); err != nil {
		return fmt.Errorf("gateway.rate_limit.%w", err)
	}
	return nil
}
