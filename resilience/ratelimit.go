package resilience

import (
	"container/list"
	"fmt"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// RateLimitConfig sets a RateLimit.
type RateLimitConfig struct {
	// Off admits everything.
	Off bool `koanf:"off"`
	// Rate is how many calls each key may make in a second, in the long run.
	Rate float64 `koanf:"rate"`
	// Burst is how many it may make at once after a time of rest.
	Burst int `koanf:"burst"`
	// MaxKeys is how many keys are told apart.
	MaxKeys int `koanf:"max_keys"`
}

// RateLimitDefaults returns 100 calls a second, 200 at once, for 65,536 keys (9 MB where they are short).
func RateLimitDefaults() RateLimitConfig {
	return RateLimitConfig{Rate: 100, Burst: 200, MaxKeys: 1 << 16}
}

// Validate names the first field that makes no sense. A limit that is off may have any values.
func (c RateLimitConfig) Validate() error {
	switch {
	case c.Off:
		return nil
	case !(c.Rate > 1e-6 && c.Rate <= 1e9):
		return fmt.Errorf("rate must be in (0.000001,1e9]")
	case c.Burst < 1 || c.Burst > maxBurst || float64(c.Burst)/c.Rate > maxRest:
		return fmt.Errorf("burst must be in [1,%d] and refill within %d s", maxBurst, int64(maxRest))
	case c.MaxKeys < 1:
		return fmt.Errorf("max_keys must be at least 1")
	}
	return nil
}

// maxRest bounds how long a bucket takes to refill, in seconds, so that instants do not overflow.
const maxRest = 1e9

// shards divide the keys, so that their locks are not met by all callers.
const shards = 16

// RateLimit is a token bucket for each key, such as a caller's id. It is the generic cell rate algorithm
// (ITU-T I.371), which needs one instant for a key: the one at which the bucket is full again.
//
// The number of keys is bounded. A bucket that is full is like one that was never used, so the one that
// was not used for longest makes room as soon as it is full. Until then new keys share a bucket: whoever
// sends many keys gets no fresh bucket by it, and drops nobody else's.
type RateLimit struct {
	options Options
	seed    maphash.Seed
	set     atomic.Pointer[rateSet]
	refused atomic.Uint64
	shards  [shards]shard
}

type rateSet struct {
	config RateLimitConfig
	each   float64       // nanoseconds for a token
	depth  time.Duration // of a bucket: Burst tokens
	keys   int           // of a shard
}

func newRateSet(c RateLimitConfig) *rateSet {
	s := &rateSet{config: c}
	if !c.Off {
		s.each = 1e9 / c.Rate
		s.depth = time.Duration(math.Round(s.each * float64(c.Burst)))
		s.keys = (c.MaxKeys + shards - 1) / shards
	}
	return s
}

type shard struct {
	mu     sync.Mutex
	set    *rateSet
	byKey  map[string]*list.Element
	used   list.List // of *cell, the latest first
	shared cell
}

// cell is a bucket. It is full at that instant, and empty depth before it.
type cell struct {
	key  string
	full instant
}

// Decision is what a RateLimit says about a call, and what an HTTP server tells its caller.
type Decision struct {
	Allowed bool
	// Limit is the burst, and Remaining how many calls could follow at once.
	Limit, Remaining int
	// RetryAfter is when the refused call would be allowed; 0 for one that is.
	RetryAfter time.Duration
	// Reset is when the bucket is full again.
	Reset time.Duration
	label Label
}

// Err returns nil for an allowed call, and otherwise a *Rejection that is ErrRateLimited.
func (d Decision) Err() error {
	if d.Allowed {
		return nil
	}
	return &Rejection{Label: d.label, Reason: ReasonRateLimited, wait: d.RetryAfter}
}

// NewRateLimit makes a limit whose buckets are full.
func NewRateLimit(c RateLimitConfig, o Options) (*RateLimit, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	r := &RateLimit{options: o, seed: maphash.MakeSeed()}
	s := newRateSet(c)
	r.set.Store(s)
	for i := range r.shards {
		r.shards[i].set = s
		r.shards[i].byKey = map[string]*list.Element{}
	}
	return r, nil
}

// Allow takes a token of key's bucket, if there is one.
func (r *RateLimit) Allow(key string) Decision { return r.AllowN(key, 1) }

// AllowN takes n tokens of key's bucket, or none. More than Burst are never allowed.
func (r *RateLimit) AllowN(key string, n int) Decision {
	if r.set.Load().config.Off {
		return Decision{Allowed: true, Limit: math.MaxInt, Remaining: math.MaxInt}
	}
	t := now()
	s := &r.shards[maphash.String(r.seed, key)%shards]
	s.mu.Lock()
	d := s.take(key, n, t)
	s.mu.Unlock()
	d.label = r.options.Label
	if !d.Allowed {
		r.refused.Add(1)
		if r.options.Observer != nil {
			r.options.Observer.Rejected(RejectEvent{Label: d.label, Reason: ReasonRateLimited})
		}
	}
	return d
}

func (s *shard) take(key string, n int, t instant) Decision {
	set := s.set
	if set.config.Off {
		return Decision{Allowed: true, Limit: math.MaxInt, Remaining: math.MaxInt}
	}
	c := s.cell(key, t)
	full := max(c.full, t)
	// One more than the burst is refused as well as any more are, and does not overflow.
	want := full.add(time.Duration(math.Round(set.each * float64(min(max(n, 0), set.config.Burst+1)))))
	d := Decision{Limit: set.config.Burst}
	if over := want.sub(t) - set.depth; over > 0 {
		d.RetryAfter = over
	} else {
		d.Allowed = true
		full = want
		c.full = want
	}
	d.Reset = full.sub(t)
	d.Remaining = int(float64(set.depth-d.Reset)/set.each + 1e-6) // rounding must not take a token away
	return d
}

// cell finds or makes the bucket of key.
func (s *shard) cell(key string, t instant) *cell {
	if e, ok := s.byKey[key]; ok {
		s.used.MoveToFront(e)
		return e.Value.(*cell)
	}
	for s.used.Len() >= s.set.keys {
		if !s.drop(t) {
			return &s.shared
		}
	}
	c := &cell{key: key}
	s.byKey[key] = s.used.PushFront(c)
	return c
}

// drop forgets the bucket that was not used for longest, if it is full.
func (s *shard) drop(t instant) bool {
	e := s.used.Back()
	c := e.Value.(*cell)
	if c.full > t {
		return false
	}
	s.used.Remove(e)
	delete(s.byKey, c.key)
	return true
}

// Reconfigure changes the configuration. Each bucket is as full as before, in proportion. Where there may
// now be fewer keys, the ones too many go when their buckets are full.
func (r *RateLimit) Reconfigure(c RateLimitConfig) error {
	if err := c.Validate(); err != nil {
		return err
	}
	set := newRateSet(c)
	r.set.Store(set)
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		s.scale(set, now())
		s.mu.Unlock()
	}
	return nil
}

func (s *shard) scale(set *rateSet, t instant) {
	old := s.set
	s.set = set
	if old.config.Off || set.config.Off {
		return
	}
	ratio := float64(set.depth) / float64(old.depth)
	for e := s.used.Front(); e != nil; e = e.Next() {
		c := e.Value.(*cell)
		c.full = t.add(time.Duration(float64(max(0, c.full.sub(t))) * ratio))
	}
	s.shared.full = t.add(time.Duration(float64(max(0, s.shared.full.sub(t))) * ratio))
}

// RateLimitStats is a rate limit at one instant.
type RateLimitStats struct {
	Label    Label
	Keys     int // that are told apart now
	Rejected uint64
	Config   RateLimitConfig
}

// Stats returns the number of keys and the configuration in force.
func (r *RateLimit) Stats() RateLimitStats {
	out := RateLimitStats{Label: r.options.Label, Rejected: r.refused.Load(), Config: r.set.Load().config}
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		out.Keys += s.used.Len()
		s.mu.Unlock()
	}
	return out
}
