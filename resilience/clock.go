package resilience

import (
	"context"
	"math"
	"math/rand/v2"
	"time"
)

// epoch is the origin of this package's instants. It is read once, and time.Since of it costs one
// reading of the monotonic clock, where time.Now costs two. It is in the past, so that instants are
// positive in a bubble of testing/synctest as well, where it is the year 2000.
var epoch = time.Now().Add(-50 * 365 * 24 * time.Hour)

// instant is a point on the monotonic clock, in nanoseconds since epoch. Zero stands for "not read", and
// for "long ago".
type instant int64

const never instant = math.MaxInt64

func now() instant { return instant(time.Since(epoch)) }

// add is t+d, and never where that is further away than an instant can tell.
func (t instant) add(d time.Duration) instant {
	if d > 0 && t > never-instant(d) {
		return never
	}
	return t + instant(d)
}

func (t instant) sub(u instant) time.Duration { return time.Duration(t - u) }

// deadlineOf returns when ctx ends by itself, and never if it does not.
func deadlineOf(ctx context.Context) instant {
	d, ok := ctx.Deadline()
	switch {
	case !ok:
		return never
	case d == d.Round(0): //nolint:staticcheck // QF1009: Equal does not compare what is asked here, the monotonic reading. There is no monotonic reading: it was made of a wall time
		return now().add(time.Until(d))
	default:
		return instant(d.Sub(epoch))
	}
}

// sleep waits for d, and returns ctx's error where ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Options say who a policy is, who watches it, and where it takes its dice from. The zero value is of
// use: nobody watches, and the dice are those of math/rand/v2.
type Options struct {
	Label    Label
	Observer Observer
	// Random returns numbers in [0,1). It must be safe for concurrent use.
	Random func() float64
}

func (o Options) random() float64 {
	if o.Random != nil {
		return o.Random()
	}
	return rand.Float64()
}
