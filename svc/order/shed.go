package order

import (
	"context"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/shop"
)

// shedder refuses new orders where more come than are carried out. It refuses a share of them: refusing all
// or nothing would let in bursts, whose acceptance takes away what would carry out the others. Two things
// tell that there are too many:
//
//   - events of the service wait to be sent; the share grows with how long they do
//   - goroutines of this process have waited long for a processor for some time: as in CoDel, what counts is
//     a wait that stands, not a burst. The share of orders let in is then cut by a tenth each time, and
//     grows back when the wait has ended.
type shedder struct {
	cfg     Config
	backlog func() time.Duration // how long events of the service wait to be sent
	wait    func() time.Duration // for a processor
	float64 func() float64
	recent  *recent

	strained int           // looks in a row at which the wait was too long
	admitted atomic.Uint64 // the bits of the share that is let in as for the wait
}

const (
	lookEvery = 100 * time.Millisecond
	standing  = 5 // looks after which a wait is not a burst any more
	cut       = 0.9
	regrowth  = 1.05
	leastStep = 0.005
)

// watch looks at how busy the process is until ctx ends.
func (s *shedder) watch(ctx context.Context, clock shop.Clock) error {
	for clock.Sleep(ctx, lookEvery) == nil {
		s.look()
	}
	return nil
}

func (s *shedder) look() {
	admitted := math.Float64frombits(s.admitted.Load())
	if s.wait() <= s.cfg.StrainMax || s.cfg.StrainMax == 0 {
		s.strained = 0
		admitted = min(1, admitted*regrowth+leastStep)
	} else if s.strained++; s.strained >= standing {
		admitted *= cut
	}
	s.admitted.Store(math.Float64bits(admitted))
}

func newShedder(cfg Config, backlog, wait func() time.Duration, random func() float64) *shedder {
	s := &shedder{cfg: cfg, backlog: backlog, wait: wait, float64: random, recent: newRecent()}
	s.admitted.Store(math.Float64bits(1))
	return s
}

// admit refuses an order with an idempotency key, or does not. A repetition of an order that is stored is
// let through: it costs little, and its sender does not know that it is.
func (s *shedder) admit(caller shop.Caller, key string) error {
	share := max(s.share(s.backlog()), 1-math.Float64frombits(s.admitted.Load()))
	if share == 0 || s.float64() >= share || s.recent.has(caller, key) {
		return nil
	}
	return shop.E(shop.Overloaded, "order.admit", "More orders come than are carried out. Try again shortly, and more slowly each time.")
}

// share is the share of new orders that is refused while others wait for so long.
func (s *shedder) share(wait time.Duration) float64 {
	return min(1, max(0, float64(wait-s.cfg.BacklogFrom)/float64(s.cfg.BacklogMax-s.cfg.BacklogFrom)))
}

// recentKeys is how many idempotency keys are known to belong to stored orders.
const recentKeys = 1 << 16

// recent knows the idempotency keys of the last orders that this process stored. It knows hashes of them,
// and may take a key for another one.
type recent struct {
	seed maphash.Seed

	mu    sync.Mutex
	known map[uint64]struct{}
	ring  []uint64 // the oldest is at next once it is full
	next  int
}

func newRecent() *recent {
	return &recent{seed: maphash.MakeSeed(), known: map[uint64]struct{}{}}
}

func (r *recent) hash(caller shop.Caller, key string) uint64 {
	return maphash.Comparable(r.seed, shop.Request{Caller: caller, Key: key})
}

func (r *recent) has(caller shop.Caller, key string) bool {
	h := r.hash(caller, key)
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.known[h]
	return ok
}

func (r *recent) add(caller shop.Caller, key string) {
	h := r.hash(caller, key)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.known[h]; ok {
		return
	}
	r.known[h] = struct{}{}
	if len(r.ring) < recentKeys {
		r.ring = append(r.ring, h)
		return
	}
	delete(r.known, r.ring[r.next])
	r.ring[r.next] = h
	r.next = (r.next + 1) % recentKeys
}
