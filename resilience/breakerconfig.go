package resilience

import (
	"fmt"
	"time"
)

// State is what a breaker does with calls.
type State uint8

// The states. Disabled is that of a breaker whose configuration says Off.
const (
	Closed State = iota
	HalfOpen
	Open
	ForcedOpen
	ForcedClosed
	Disabled
)

// States returns all states, so that a metric can have a series for each from the start.
func States() []State { return []State{Closed, HalfOpen, Open, ForcedOpen, ForcedClosed, Disabled} }

// String returns the state in snake case.
func (s State) String() string {
	return name(s, "closed", "half_open", "open", "forced_open", "forced_closed", "disabled")
}

// Why a breaker changed its state, besides what an operator says.
const (
	WhyFailureRate = "failure rate"
	WhySlowRate    = "slow-call rate"
	WhyOpenOver    = "open time over"
	WhyProbesOK    = "probes succeeded"
	WhyProbeFailed = "a probe failed"
	WhyProbeSlow   = "a probe was slow"
	WhyConfig      = "configuration"
)

// maxWindow bounds a count window, which has a byte for each call.
const maxWindow = 1 << 20

// maxProbes bounds the probes, which are searched one by one.
const maxProbes = 1 << 10

// BreakerConfig sets a Breaker.
type BreakerConfig struct {
	// Off admits and counts nothing.
	Off bool `koanf:"off"`

	// WindowCalls makes a window over the last calls; WindowTime one over the last time, in WindowBuckets
	// steps (10 if zero). One of the two must be set.
	WindowCalls   int           `koanf:"window_calls"`
	WindowTime    time.Duration `koanf:"window_time"`
	WindowBuckets int           `koanf:"window_buckets"`

	// MinCalls is how many results must be in the window before it is judged.
	MinCalls int `koanf:"min_calls"`
	// FailureRate is the share of failures, in (0,1], at which the breaker opens; 0 does not look at it.
	FailureRate float64 `koanf:"failure_rate"`
	// SlowCall is the duration from which a call is slow, and SlowRate the share of slow calls, in (0,1],
	// at which the breaker opens; 0 does not look at it. A call is judged when it ends: those that never
	// do are cut by a timeout, and are failures then.
	SlowCall time.Duration `koanf:"slow_call"`
	SlowRate float64       `koanf:"slow_rate"`

	// OpenFor is how long the breaker stays open before it lets probes through. Each time that the probes
	// fail it doubles, up to OpenMax; it does not grow where OpenMax is zero. OpenJitter, in [0,1], adds up
	// to that share at random, so that the processes of a fleet do not probe at the same instant.
	OpenFor    time.Duration `koanf:"open_for"`
	OpenMax    time.Duration `koanf:"open_max"`
	OpenJitter float64       `koanf:"open_jitter"`

	// Probes is how many calls may be under way while half-open. ProbeSuccesses of them close the breaker,
	// and one failure opens it again.
	Probes         int `koanf:"probes"`
	ProbeSuccesses int `koanf:"probe_successes"`
	// ProbeLease is how long a probe counts as under way. Then another may take its place, and its own
	// result is stale. It should be longer than the timeout of an attempt, so that a slow success counts.
	ProbeLease time.Duration `koanf:"probe_lease"`
}

// BreakerDefaults returns a window of 10 s, judged from 10 calls on, that opens at half failures for 2 s.
// The slow-call rate is not looked at. Rates and minimum are those of most libraries (resilience4j: 50 %);
// the short time in the open state finds a recovery within seconds, at the price of 3 calls each time.
func BreakerDefaults() BreakerConfig {
	return BreakerConfig{WindowTime: 10 * time.Second, WindowBuckets: defaultBuckets, MinCalls: 10, FailureRate: 0.5,
		OpenFor: 2 * time.Second, OpenJitter: 0.1, Probes: 3, ProbeSuccesses: 3, ProbeLease: 15 * time.Second}
}

const defaultBuckets = 10

// Validate names the first field that makes no sense. A breaker that is off may have any values.
func (c BreakerConfig) Validate() error {
	switch {
	case c.Off:
		return nil
	case c.WindowCalls < 0 || c.WindowCalls > maxWindow:
		return fmt.Errorf("window_calls must be in [0,%d]", maxWindow)
	case c.WindowTime < 0 || c.WindowCalls > 0 == (c.WindowTime > 0):
		return fmt.Errorf("either window_calls or window_time must be positive, and not both")
	case c.WindowBuckets < 0 || c.WindowCalls == 0 && c.WindowTime < time.Duration(c.buckets()):
		return fmt.Errorf("window_buckets must be positive and not more than window_time has nanoseconds")
	case c.MinCalls < 1 || c.WindowCalls > 0 && c.MinCalls > c.WindowCalls:
		return fmt.Errorf("min_calls must be at least 1 and not more than window_calls")
	case !(c.FailureRate >= 0 && c.FailureRate <= 1):
		return fmt.Errorf("failure_rate must be in [0,1]")
	case !(c.SlowRate >= 0 && c.SlowRate <= 1):
		return fmt.Errorf("slow_rate must be in [0,1]")
	case c.FailureRate == 0 && c.SlowRate == 0:
		return fmt.Errorf("failure_rate or slow_rate must be positive")
	case c.SlowCall < 0 || c.SlowRate > 0 && c.SlowCall == 0:
		return fmt.Errorf("slow_call must be positive where slow_rate is")
	}
	return c.validateOpen()
}

func (c *BreakerConfig) validateOpen() error {
	switch {
	case c.OpenFor <= 0:
		return fmt.Errorf("open_for must be positive")
	case c.OpenMax != 0 && c.OpenMax < c.OpenFor:
		return fmt.Errorf("open_max must be zero or at least open_for")
	case !(c.OpenJitter >= 0 && c.OpenJitter <= 1):
		return fmt.Errorf("open_jitter must be in [0,1]")
	case c.Probes < 1 || c.Probes > maxProbes:
		return fmt.Errorf("probes must be in [1,%d]", maxProbes)
	case c.ProbeSuccesses < 1:
		return fmt.Errorf("probe_successes must be at least 1")
	case c.ProbeLease <= 0:
		return fmt.Errorf("probe_lease must be positive")
	}
	return nil
}

func (c *BreakerConfig) buckets() int {
	if c.WindowBuckets == 0 {
		return defaultBuckets
	}
	return c.WindowBuckets
}

// sameWindow tells whether both configurations have the same window.
func (c *BreakerConfig) sameWindow(d *BreakerConfig) bool {
	return c.WindowCalls == d.WindowCalls && c.WindowTime == d.WindowTime && c.buckets() == d.buckets()
}

// openFor returns the time in the open state after so many openings in a row whose probes failed.
func (c *BreakerConfig) openFor(failed int) time.Duration {
	d := c.OpenFor
	for range failed {
		if d >= c.OpenMax/2 {
			return max(c.OpenFor, c.OpenMax)
		}
		d *= 2
	}
	return d
}
