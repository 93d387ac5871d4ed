package resilience

import (
	"container/list"
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// maxLimit bounds limits and queues: they share a word.
const maxLimit = math.MaxInt32

// BulkheadConfig sets a Bulkhead.
type BulkheadConfig struct {
	// Off admits everything; calls under way are still counted.
	Off bool `koanf:"off"`
	// Limit is how many calls may be under way. It is not looked at where Adaptive is on.
	Limit int `koanf:"limit"`
	// Queue is how many more may wait for a slot, first come, first served, and MaxWait how long.
	Queue   int           `koanf:"queue"`
	MaxWait time.Duration `koanf:"max_wait"`
	// Adaptive moves the limit by the latencies seen, where its Ceiling is positive.
	Adaptive AdaptiveConfig `koanf:"adaptive"`
}

// BulkheadDefaults returns 64 slots and 64 places to wait in for up to 100 ms.
func BulkheadDefaults() BulkheadConfig {
	return BulkheadConfig{Limit: 64, Queue: 64, MaxWait: 100 * time.Millisecond}
}

// Validate names the first field that makes no sense. A bulkhead that is off may have any values.
func (c BulkheadConfig) Validate() error {
	switch {
	case c.Off:
		return nil
	case c.Adaptive.Off() && (c.Limit < 1 || c.Limit > maxLimit):
		return fmt.Errorf("limit must be in [1,%d]", maxLimit)
	case c.Queue < 0 || c.Queue > maxLimit:
		return fmt.Errorf("queue must be in [0,%d]", maxLimit)
	case c.Queue > 0 && c.MaxWait <= 0:
		return fmt.Errorf("max_wait must be positive where queue is")
	}
	return under("adaptive", c.Adaptive.Validate())
}

// Bulkhead bounds how many calls to a dependency are under way at once, so that one that hangs takes
// its own slots and not all of the program. It is shared by the operations of the dependency: one made
// for each call would bound nothing.
//
// A slot is held for as long as the call really runs. A call that was given up at its deadline and still
// runs keeps its slot, or the dependency would see more calls at once than the limit.
type Bulkhead struct {
	options Options
	set     atomic.Pointer[bulkheadSet]
	word    atomic.Uint64 // calls under way in the lower half, waiting ones in the upper; see parts
	full    *Rejection
	slow    *Rejection // waited in vain
	refused atomic.Uint64

	mu      sync.Mutex
	waiters list.List // of *waiter
}

type bulkheadSet struct {
	config   BulkheadConfig
	limit    int
	adaptive *AdaptiveLimit
}

func (s *bulkheadSet) most() int {
	if s.adaptive != nil {
		return s.adaptive.Limit()
	}
	return s.limit
}

// waiter is a call in the queue. Granted is written under the bulkhead's mutex.
type waiter struct {
	ready   chan struct{}
	granted bool
}

const oneWaiter = 1 << 32

func parts(word uint64) (inUse, queued int) { return int(uint32(word)), int(word >> 32) }

// Slot is the place of one call. Release or Done must be called once, on one copy of it; the zero value
// is the slot of no bulkhead, and may be released as well.
type Slot struct {
	bulkhead *Bulkhead
	start    instant // 0 where nothing adapts
}

// NewBulkhead makes an empty bulkhead.
func NewBulkhead(c BulkheadConfig, o Options) (*Bulkhead, error) {
	b := &Bulkhead{options: o, full: &Rejection{Label: o.Label, Reason: ReasonFull}, slow: &Rejection{Label: o.Label, Reason: ReasonQueueTimeout}}
	return b, b.Reconfigure(c)
}

// Acquire takes a slot, and waits for one as the configuration allows. It returns a *Rejection that is
// ErrFull, or the error of ctx where that ends first.
func (b *Bulkhead) Acquire(ctx context.Context) (Slot, error) {
	s, _, err := b.acquire(ctx, 0, false)
	return s, err
}

// TryAcquire takes a slot if one is free, and never waits.
func (b *Bulkhead) TryAcquire() (Slot, bool) { return b.tryAcquire(b.set.Load(), 0) }

// acquire is Acquire at t, which it reads if it is 0 and matters. It tells whether the call has waited,
// and refuses where it would have to and must not.
func (b *Bulkhead) acquire(ctx context.Context, t instant, atOnce bool) (slot Slot, waited bool, err error) {
	s := b.set.Load()
	slot, ok := b.tryAcquire(s, t)
	switch {
	case ok:
		return slot, false, nil
	case atOnce || s.config.Queue == 0:
		return slot, false, b.refuse(b.full)
	}
	slot, err = b.wait(ctx, s)
	return slot, true, err
}

func (b *Bulkhead) tryAcquire(s *bulkheadSet, t instant) (Slot, bool) {
	for {
		w := b.word.Load()
		if inUse, queued := parts(w); queued > 0 || inUse >= s.most() {
			return Slot{}, false // a newcomer does not overtake those who wait
		}
		if b.word.CompareAndSwap(w, w+1) {
			return b.slot(s, t), true
		}
	}
}

func (b *Bulkhead) slot(s *bulkheadSet, t instant) Slot {
	if s.adaptive == nil {
		return Slot{bulkhead: b}
	}
	if t == 0 {
		t = now()
	}
	return Slot{bulkhead: b, start: t}
}

func (b *Bulkhead) refuse(r *Rejection) error {
	b.refused.Add(1)
	if b.options.Observer != nil {
		b.options.Observer.Rejected(RejectEvent{Label: r.Label, Reason: r.Reason})
	}
	return r
}

// wait queues for a slot.
func (b *Bulkhead) wait(ctx context.Context, s *bulkheadSet) (Slot, error) {
	w, e, taken := b.enqueue(s)
	if taken {
		return b.slot(s, 0), nil
	}
	if e == nil {
		return Slot{}, b.refuse(b.full)
	}
	began := now()
	b.tellQueue(false, false, 0)
	timer := time.NewTimer(s.config.MaxWait)
	defer timer.Stop()
	var err error
	select {
	case <-w.ready:
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = b.slow
	}
	if err != nil && b.leave(w, e) {
		// A slot came at the last moment. Whoever waits for its time still wants it, and whoever left does not.
		if ctx.Err() == nil {
			err = nil
		} else {
			b.release()
		}
	}
	b.tellQueue(true, err == nil, now().sub(began))
	switch {
	case err == nil:
		return b.slot(b.set.Load(), 0), nil
	case ctx.Err() != nil:
		return Slot{}, ctx.Err()
	default:
		return Slot{}, b.refuse(b.slow)
	}
}

// enqueue takes a slot after all, or a place in the queue, or neither: then e is nil.
func (b *Bulkhead) enqueue(s *bulkheadSet) (w *waiter, e *list.Element, taken bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		word := b.word.Load()
		inUse, queued := parts(word)
		switch {
		case queued == 0 && inUse < s.most():
			if b.word.CompareAndSwap(word, word+1) {
				return nil, nil, true
			}
		case queued >= s.config.Queue:
			return nil, nil, false
		case b.word.CompareAndSwap(word, word+oneWaiter):
			w = &waiter{ready: make(chan struct{})}
			return w, b.waiters.PushBack(w), false
		}
	}
}

// leave takes a waiter out of the queue. It tells whether a slot was granted before.
func (b *Bulkhead) leave(w *waiter, e *list.Element) (granted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.granted {
		return true
	}
	b.waiters.Remove(e)
	b.word.Add(^uint64(oneWaiter - 1))
	return false
}

// Release gives the slot back. Only the first call counts.
func (s *Slot) Release() { s.done(Neutral, 0) }

// Done gives the slot back, and lets an adaptive limit learn from the call.
func (s *Slot) Done(o Outcome) { s.done(o, 0) }

// done is Done of a call that ended at t, which it reads if it is 0 and matters.
func (s *Slot) done(o Outcome, t instant) {
	b := s.bulkhead
	if b == nil {
		return
	}
	s.bulkhead = nil
	if s.start != 0 && o != Neutral {
		b.learn(o, s.start, t)
	}
	b.release()
}

func (b *Bulkhead) learn(o Outcome, start, t instant) {
	a := b.set.Load().adaptive
	if a == nil {
		return
	}
	if t == 0 {
		t = now()
	}
	inUse, _ := parts(b.word.Load())
	if a.observe(o, t.sub(start), inUse, t) {
		b.grant()
	}
}

// release takes one call off, or hands its slot to the first who waits.
func (b *Bulkhead) release() {
	for {
		w := b.word.Load()
		inUse, queued := parts(w)
		if queued > 0 {
			break
		}
		if inUse == 0 || b.word.CompareAndSwap(w, w-1) { // never below nothing, whoever released twice
			return
		}
	}
	b.mu.Lock()
	for {
		w := b.word.Load()
		if inUse, _ := parts(w); inUse == 0 || b.word.CompareAndSwap(w, w-1) {
			break
		}
	}
	b.grantLocked()
	b.mu.Unlock()
}

// grant hands free slots to those who wait.
func (b *Bulkhead) grant() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.grantLocked()
}

func (b *Bulkhead) grantLocked() {
	most := b.set.Load().most()
	for {
		w := b.word.Load()
		inUse, queued := parts(w)
		if queued == 0 || inUse >= most {
			return
		}
		if !b.word.CompareAndSwap(w, w+1-oneWaiter) {
			continue
		}
		first := b.waiters.Remove(b.waiters.Front()).(*waiter)
		first.granted = true
		close(first.ready)
	}
}

func (b *Bulkhead) tellQueue(done, admitted bool, waited time.Duration) {
	if b.options.Observer != nil {
		inUse, queued := parts(b.word.Load())
		b.options.Observer.Queued(QueueEvent{Label: b.options.Label, InUse: inUse, Queued: queued, Done: done, Admitted: admitted, Waited: waited})
	}
}
