package gateway

import (
	"fmt"
	"time"

	"holdfast/platform/httpx"
)

// Config sets the limits of the edge.
type Config struct {
	MaxBody     int64         `koanf:"max_body"`      // of a request, in bytes
	Timeout     time.Duration `koanf:"timeout"`       // of a request, and the most that Request-Timeout may ask for
	MaxInFlight int64         `koanf:"max_in_flight"` // requests at once; more are answered 503 overloaded
	MaxWaiting  int64         `koanf:"max_waiting"`   // held answers and event streams at once, counted apart
}

// Defaults returns the limits used where nothing is configured.
func Defaults() Config {
	return Config{MaxBody: httpx.DefaultMaxBody, Timeout: httpx.DefaultTimeout, MaxInFlight: 4096, MaxWaiting: 8192}
}

// Validate tells what is wrong with c.
func (c Config) Validate() error {
	if c.MaxBody < 1024 || c.MaxBody > 16<<20 {
		return fmt.Errorf("gateway.max_body must be 1 KiB to 16 MiB")
	}
	if c.Timeout <= httpx.MaxWait || c.Timeout > httpx.DefaultTimeout {
		return fmt.Errorf("gateway.timeout must be above %v, the longest wait, and at most %v", httpx.MaxWait, httpx.DefaultTimeout)
	}
	if c.MaxInFlight < 1 || c.MaxWaiting < 1 {
		return fmt.Errorf("gateway.max_in_flight and gateway.max_waiting must be at least 1")
	}
	return nil
}
