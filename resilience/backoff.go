package resilience

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Jitter is how a backoff uses chance, so that clients that failed together do not come back together.
type Jitter string

// The jitters, after M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. The
// empty string is FullJitter.
const (
	// FullJitter waits between 0 and the exponential ceiling. It makes the least work.
	FullJitter Jitter = "full"
	// DecorrelatedJitter waits between Base and three times the wait before.
	DecorrelatedJitter Jitter = "decorrelated"
	// NoJitter waits for the exponential ceiling. It is for a single client, and for tests.
	NoJitter Jitter = "none"
)

// Backoff is how long to wait before a further attempt. It is a configuration and a policy at once, and
// has no state: whoever keeps attempts in a database can use it as it is.
type Backoff struct {
	// Base is the ceiling of the first wait, and Max that of all.
	Base time.Duration `koanf:"base"`
	Max  time.Duration `koanf:"max"`
	// Factor is by how much the ceiling grows each time; 2 if zero.
	Factor float64 `koanf:"factor"`
	Jitter Jitter  `koanf:"jitter"`
	// Floor is the least wait; it may be zero.
	Floor time.Duration `koanf:"floor"`
}

// BackoffDefaults returns waits of up to 100 ms, 200 ms, 400 ms and so on to 10 s, with full jitter.
func BackoffDefaults() Backoff {
	return Backoff{Base: 100 * time.Millisecond, Max: 10 * time.Second, Factor: 2, Jitter: FullJitter}
}

// Validate names the first field that makes no sense.
func (b Backoff) Validate() error {
	switch {
	case b.Base <= 0:
		return fmt.Errorf("base must be positive")
	case b.Max < b.Base:
		return fmt.Errorf("max must be at least base")
	case b.Factor != 0 && !(b.Factor >= 1 && !math.IsInf(b.Factor, 1)):
		return fmt.Errorf("factor must be zero or at least 1")
	case b.Jitter != "" && b.Jitter != FullJitter && b.Jitter != DecorrelatedJitter && b.Jitter != NoJitter:
		return fmt.Errorf("jitter must be full, decorrelated or none")
	case b.Floor < 0 || b.Floor > b.Max:
		return fmt.Errorf("floor must be in [0,max]")
	}
	return nil
}

// Delay returns the wait before retry number n, from 1. Previous is the wait before the retry that came
// before, for DecorrelatedJitter; 0 stands for Base. Random returns numbers in [0,1); nil is math/rand/v2.
//
//	full:         random * min(Max, Base*Factor^(n-1))
//	decorrelated: min(Max, Base + random*(3*previous - Base))
//	none:         min(Max, Base*Factor^(n-1))
func (b Backoff) Delay(n int, previous time.Duration, random func() float64) time.Duration {
	if random == nil {
		random = rand.Float64
	}
	var d float64
	if b.Jitter == DecorrelatedJitter {
		base := float64(b.Base)
		d = base + random()*(3*max(base, float64(previous))-base)
	} else {
		factor := b.Factor
		if factor == 0 {
			factor = 2
		}
		d = min(float64(b.Max), float64(b.Base)*math.Pow(factor, float64(max(n, 1)-1)))
		if b.Jitter != NoJitter {
			d *= random()
		}
	}
	if d >= float64(b.Max) { // which a float64 may not tell exactly
		return b.Max
	}
	return max(b.Floor, time.Duration(d))
}
