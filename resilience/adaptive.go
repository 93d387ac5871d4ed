package resilience

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// AdaptiveConfig sets an AdaptiveLimit.
type AdaptiveConfig struct {
	// Floor and Ceiling bound the limit; a Ceiling of zero turns it off. Initial is where it starts, Floor
	// if zero.
	Floor   int `koanf:"floor"`
	Ceiling int `koanf:"ceiling"`
	Initial int `koanf:"initial"`
	// Window is how long latencies are gathered before the limit moves, and MinSamples how many there
	// must be.
	Window     time.Duration `koanf:"window"`
	MinSamples int           `koanf:"min_samples"`
	// Tolerance is how many times the latency without load is not yet a queue; at least 1.
	Tolerance float64 `koanf:"tolerance"`
	// Smoothing, in (0,1], is how far the limit moves at once towards where it should be.
	Smoothing float64 `koanf:"smoothing"`
	// Horizon is how long the latency without load is believed. Then the limit is halved for one window,
	// so that the queue drains and it can be measured again.
	Horizon time.Duration `koanf:"horizon"`
}

// AdaptiveDefaults returns a limit between 4 and 512, starting at 32. Tolerance and smoothing are those of
// the gradient limit in Netflix's concurrency-limits.
func AdaptiveDefaults() AdaptiveConfig {
	return AdaptiveConfig{Floor: 4, Ceiling: 512, Initial: 32, Window: 100 * time.Millisecond, MinSamples: 10,
		Tolerance: 1.5, Smoothing: 0.2, Horizon: 30 * time.Second}
}

// Off tells whether there is nothing to adapt.
func (c AdaptiveConfig) Off() bool { return c.Ceiling == 0 }

// Validate names the first field that makes no sense. A limit that is off may have any other values.
func (c AdaptiveConfig) Validate() error {
	switch {
	case c.Off():
		return nil
	case c.Floor < 1:
		return fmt.Errorf("floor must be at least 1")
	case c.Ceiling < c.Floor || c.Ceiling > maxLimit:
		return fmt.Errorf("ceiling must be in [floor,%d]", maxLimit)
	case c.Initial != 0 && (c.Initial < c.Floor || c.Initial > c.Ceiling):
		return fmt.Errorf("initial must be zero or in [floor,ceiling]")
	case c.Window <= 0:
		return fmt.Errorf("window must be positive")
	case c.MinSamples < 1:
		return fmt.Errorf("min_samples must be at least 1")
	case !(c.Tolerance >= 1 && c.Tolerance < math.MaxFloat64):
		return fmt.Errorf("tolerance must be at least 1")
	case !(c.Smoothing > 0 && c.Smoothing <= 1):
		return fmt.Errorf("smoothing must be in (0,1]")
	case c.Horizon < c.Window:
		return fmt.Errorf("horizon must be at least window")
	}
	return nil
}

// AdaptiveLimit finds how many calls at once are good for whoever serves them: more only wait. It
// compares the latency of now with that without load, as TCP Vegas does (Brakmo and Peterson, 1995), by
// the gradient of Netflix's concurrency-limits:
//
//	gradient = clamp(Tolerance * latency without load / latency, 1/2, 1)
//	limit    = (1-Smoothing)*limit + Smoothing*(limit*gradient + sqrt(limit))
//
// The limit does not grow while less than half of it is in use, because then the latencies say nothing
// about it. A Bulkhead or an Admission that is configured to adapt has one of its own; on its own it is
// for those who count their calls themselves.
type AdaptiveLimit struct {
	options Options
	limit   atomic.Int64 // what whole calls are compared with

	mu      sync.Mutex
	config  AdaptiveConfig
	exact   float64
	base    time.Duration // without load; 0 while unknown
	based   instant       // when base was last measured anew
	began   instant       // the window
	sum     time.Duration
	samples int
	failed  int
	busiest int
}

// NewAdaptiveLimit makes a limit, which must not be off.
func NewAdaptiveLimit(c AdaptiveConfig, o Options) (*AdaptiveLimit, error) {
	if c.Off() {
		return nil, fmt.Errorf("ceiling must be positive")
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	l := &AdaptiveLimit{options: o, config: c, exact: float64(max(c.Initial, c.Floor))}
	l.limit.Store(int64(l.exact))
	return l, nil
}

// Limit returns how many calls there should be at once.
func (l *AdaptiveLimit) Limit() int { return int(l.limit.Load()) }

// Observe takes the latency of a call that just ended, with the number of calls under way before it did,
// itself included. A neutral call tells nothing. A failure counts where it took long: one that came at
// once says nothing about load.
func (l *AdaptiveLimit) Observe(o Outcome, latency time.Duration, inUse int) {
	l.observe(o, latency, inUse, now())
}

// observe is Observe at t. It tells whether the limit moved.
func (l *AdaptiveLimit) observe(o Outcome, latency time.Duration, inUse int, t instant) bool {
	if o == Neutral || latency < 0 {
		return false
	}
	l.mu.Lock()
	if o == Failure && latency <= l.base {
		l.mu.Unlock()
		return false
	}
	if l.began == 0 {
		l.began = t
	}
	l.sum += latency
	l.samples++
	l.busiest = max(l.busiest, inUse)
	if o == Failure {
		l.failed++
	}
	moved := false
	from := int(l.limit.Load())
	if t.sub(l.began) >= l.config.Window && l.samples >= l.config.MinSamples {
		l.adjust(t)
		moved = int(l.limit.Load()) != from
	}
	to := int(l.limit.Load())
	l.mu.Unlock()
	if moved && l.options.Observer != nil {
		l.options.Observer.Limited(LimitEvent{Label: l.options.Label, From: from, To: to})
	}
	return moved
}

// adjust ends a window. The caller holds mu.
func (l *AdaptiveLimit) adjust(t instant) {
	c := &l.config
	mean := max(1, l.sum/time.Duration(l.samples))
	if l.failed == 0 && (l.base == 0 || mean < l.base) {
		l.base = mean
		l.based = t
	}
	busy := 2*l.busiest >= int(l.limit.Load())
	l.began, l.sum, l.samples, l.failed, l.busiest = t, 0, 0, 0, 0
	switch {
	case l.base == 0: // only failures so far
		l.set(l.exact / 2)
		return
	case t.sub(l.based) >= c.Horizon:
		l.base, l.based = 0, t // the next window measures it
		l.set(l.exact / 2)
		return
	}
	gradient := max(0.5, min(1, c.Tolerance*float64(l.base)/float64(mean)))
	if gradient == 1 && !busy {
		return
	}
	l.set((1-c.Smoothing)*l.exact + c.Smoothing*(l.exact*gradient+math.Sqrt(l.exact)))
}

func (l *AdaptiveLimit) set(limit float64) {
	l.exact = max(float64(l.config.Floor), min(float64(l.config.Ceiling), limit))
	l.limit.Store(int64(l.exact))
}

// Reconfigure changes the configuration. The limit stays where it is, within the new bounds.
func (l *AdaptiveLimit) Reconfigure(c AdaptiveConfig) error {
	if c.Off() {
		return fmt.Errorf("ceiling must be positive")
	}
	if err := c.Validate(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.config = c
	l.set(l.exact)
	return nil
}

// AdaptiveStats is an adaptive limit at one instant.
type AdaptiveStats struct {
	Label  Label
	Limit  int
	Base   time.Duration // the latency without load, 0 while unknown
	Config AdaptiveConfig
}

// Stats returns the limit and what it is made of.
func (l *AdaptiveLimit) Stats() AdaptiveStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return AdaptiveStats{Label: l.options.Label, Limit: int(l.limit.Load()), Base: l.base, Config: l.config}
}
