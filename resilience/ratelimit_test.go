package resilience_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"holdfast/resilience"
)

// TestRateLimitAgainstABucket compares with a bucket of tokens as one would write it.
func TestRateLimitAgainstABucket(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := dice(t)
		for range 50 {
			c := resilience.RateLimitConfig{Rate: 0.5 + 20*r.Float64(), Burst: 1 + r.IntN(30), MaxKeys: 1000}
			l := must(resilience.NewRateLimit(c, resilience.Options{}))
			tokens, last := float64(c.Burst), time.Now()
			for range 400 {
				time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
				tokens = min(float64(c.Burst), tokens+time.Since(last).Seconds()*c.Rate)
				last = time.Now()
				n := r.IntN(4)
				d := l.AllowN("key", n)
				if math.Abs(tokens-float64(n)) < 1e-4 {
					break // too close to tell with numbers such as these
				}
				allowed := tokens >= float64(n)
				if allowed {
					tokens -= float64(n)
				}
				if d.Allowed != allowed || math.Abs(float64(d.Remaining)-math.Floor(tokens)) > 1 {
					t.Fatalf("%+v: AllowN(%d) = %+v with %.5f tokens left", c, n, d, tokens)
				}
				if !d.Allowed && n <= c.Burst {
					time.Sleep(d.RetryAfter - time.Microsecond)
					is(t, "allowed before the wait is over", l.AllowN("key", n).Allowed, false)
					time.Sleep(2 * time.Microsecond)
					is(t, "allowed after the wait", l.AllowN("key", n).Allowed, true)
					break
				}
			}
		}
	})
}

// TestRateLimitKeysAreBounded sends more keys than there may be. Nobody gets a fresh bucket by it.
func TestRateLimitKeysAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const keys = 160
		l := must(resilience.NewRateLimit(resilience.RateLimitConfig{Rate: 1, Burst: 2, MaxKeys: keys}, resilience.Options{}))
		is(t, "first", l.Allow("greedy").Allowed, true)
		is(t, "second", l.Allow("greedy").Allowed, true)
		is(t, "third", l.Allow("greedy").Allowed, false)
		allowed := 0
		for i := range 100 * keys {
			if l.Allow(fmt.Sprint("flood", i)).Allowed {
				allowed++
			}
		}
		is(t, "the same key after a flood", l.Allow("greedy").Allowed, false)
		if s := l.Stats(); s.Keys > keys || allowed > keys+2*16 {
			t.Errorf("%d keys, and %d calls allowed to %d keys", s.Keys, allowed, 100*keys)
		}
		time.Sleep(2 * time.Second)
		for i := range 10 * keys { // all buckets are full by now, and make room
			l.Allow(fmt.Sprint("later", i))
		}
		time.Sleep(2 * time.Second)
		is(t, "the key after a rest", l.Allow("greedy").Allowed, true)
	})
}

func TestRateLimitAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := must(resilience.NewRateLimit(resilience.RateLimitConfig{Rate: 2, Burst: 4, MaxKeys: 10}, resilience.Options{}))
		d := l.Allow("a")
		is(t, "decision", d, resilience.Decision{Allowed: true, Limit: 4, Remaining: 3, Reset: 500 * time.Millisecond})
		isErr(t, d.Err(), nil)
		d = l.AllowN("a", 4)
		is(t, "decision", d, resilience.Decision{Limit: 4, Remaining: 3, RetryAfter: 500 * time.Millisecond, Reset: 500 * time.Millisecond})
		isErr(t, d.Err(), resilience.ErrRateLimited)
		after, ok := resilience.RetryAfter(d.Err())
		is(t, "retry after", after, 500*time.Millisecond)
		is(t, "known", ok, true)
		is(t, "more than there ever will be", l.AllowN("a", math.MaxInt).Allowed, false)
		isErr(t, l.Reconfigure(resilience.RateLimitConfig{Rate: 100, Burst: 40, MaxKeys: 10}), nil)
		is(t, "tokens in proportion", l.AllowN("a", 0).Remaining, 30)
		isErr(t, l.Reconfigure(resilience.RateLimitConfig{Off: true}), nil)
		is(t, "off", l.AllowN("a", 1000).Allowed, true)
	})
}
