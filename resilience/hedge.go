package resilience

import (
	"context"
	"fmt"
	"math/bits"
	"sync"
	"time"
)

// HedgeConfig sets the hedging of a Policy. The zero value sets none.
type HedgeConfig struct {
	// Quantile, in (0,1), is the share of calls that are expected to have ended when the second attempt
	// starts: with 0.95 one call in twenty is sent twice. Zero turns hedging off.
	Quantile float64 `koanf:"quantile"`
	// MinDelay and MaxDelay bound the wait for the first attempt. MaxDelay is used as long as fewer than
	// a hundred calls were seen.
	MinDelay time.Duration `koanf:"min_delay"`
	MaxDelay time.Duration `koanf:"max_delay"`
}

// HedgeDefaults returns the 95th percentile, between 5 ms and 1 s, after J. Dean and L. A. Barroso, "The
// Tail at Scale", CACM 56(2), 2013.
func HedgeDefaults() HedgeConfig {
	return HedgeConfig{Quantile: 0.95, MinDelay: 5 * time.Millisecond, MaxDelay: time.Second}
}

// Off tells whether there is no hedging.
func (c HedgeConfig) Off() bool { return c.Quantile == 0 }

// Validate names the first field that makes no sense. Hedging that is off may have any other values.
func (c HedgeConfig) Validate() error {
	switch {
	case c.Off():
		return nil
	case !(c.Quantile > 0 && c.Quantile < 1):
		return fmt.Errorf("quantile must be in (0,1), or 0 for none")
	case c.MinDelay < 0:
		return fmt.Errorf("min_delay must not be negative")
	case c.MaxDelay <= 0 || c.MaxDelay < c.MinDelay:
		return fmt.Errorf("max_delay must be positive and at least min_delay")
	}
	return nil
}

// A latency falls into one of 8 classes for each power of two: a quantile is right within an eighth.
const (
	perOctave     = 8
	octaveBits    = 3
	latencies     = 64 * perOctave
	minLatencies  = 100
	halveAt       = 2000
	minClassBits  = octaveBits + 1
	lowestClasses = 1 << minClassBits
)

// quantiles is a histogram of latencies in which old ones fade: at each halveAt of them all are halved.
type quantiles struct {
	mu    sync.Mutex
	total int
	count [latencies]int
}

// class returns the class of a latency: itself for the smallest, else its octave and three bits more.
func class(d time.Duration) int {
	u := uint64(max(d, 0))
	if u < lowestClasses {
		return int(u)
	}
	shift := bits.Len64(u) - minClassBits
	return shift*perOctave + int(u>>shift)
}

// upper returns the end of a class.
func upper(class int) time.Duration {
	if class < lowestClasses {
		return time.Duration(class)
	}
	shift := class/perOctave - 1
	return time.Duration((uint64(class%perOctave+perOctave)+1)<<shift - 1)
}

func (q *quantiles) observe(d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.count[class(d)]++
	if q.total++; q.total >= halveAt {
		q.total = 0
		for i := range q.count {
			q.count[i] /= 2
			q.total += q.count[i]
		}
	}
}

// delay returns the wait before a second attempt.
func (q *quantiles) delay(c *HedgeConfig) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.total < minLatencies {
		return c.MaxDelay
	}
	want, seen := c.Quantile*float64(q.total), 0
	for i, n := range q.count {
		if seen += n; float64(seen) >= want {
			return max(c.MinDelay, min(c.MaxDelay, upper(i)))
		}
	}
	return c.MaxDelay
}

// hedged makes an attempt, and a second one if the first takes long. The first success counts; the other
// attempt is cancelled, and is neutral unless it had already ended.
func hedged[T any](r *run, c Call[T]) (v T, verdict Verdict, err error) {
	p := r.policy
	delay := p.latency.delay(&r.set.config.Hedge)
	r.flight.cancellable()
	first := newTask(p.options, p.op.Classify, r.flight, c)
	go first.run()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-first.done:
		return landed(r, first)
	case <-r.flight.ctx.Done():
		return awaited(r, first)
	}
	var other flight
	if !r.second(&other) {
		p.hedged(HedgeRefused, delay)
		return awaited(r, first)
	}
	p.hedged(HedgeStarted, delay)
	second := newTask(p.options, p.op.Classify, other, c)
	go second.run()
	return race(r, first, second, delay)
}

// race waits for the first success of two attempts, or the second failure. The first attempt's flight is
// that of the run until the second one wins.
func race[T any](r *run, first, second *task[T], delay time.Duration) (v T, verdict Verdict, err error) {
	other := second.flight
	defer func() { abandon(r, second, &other) }() // unless it is empty by then
	select {
	case <-first.done:
		if !failed(r, first) || !endedBefore(second, other.ctx) {
			return landed(r, first)
		}
	case <-second.done:
		if failed(r, second) {
			abandon(r, second, &other)
			return awaited(r, first)
		}
	case <-other.ctx.Done(): // later than the first's
		return awaited(r, first)
	}
	if second.returned && !failed(r, second) {
		r.policy.hedged(HedgeWon, delay)
	}
	beaten := r.flight
	r.flight, other = other, flight{}
	abandon(r, first, &beaten)
	return landed(r, second)
}

// endedBefore waits for a task, and is false where ctx ends first.
func endedBefore[T any](t *task[T], ctx context.Context) bool {
	select {
	case <-t.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// failed tells whether a task that has ended is a failure. A panic is worse.
func failed[T any](r *run, t *task[T]) bool {
	return t.returned && judge(r, &t.call, t.value, t.err).Outcome == Failure
}

// abandon ends an attempt that the caller does not wait for, and settles it if it has ended by itself.
func abandon[T any](r *run, t *task[T], f *flight) {
	if f.ctx == nil {
		return
	}
	defer func() { *f = flight{} }()
	if t.state.CompareAndSwap(taskRuns, taskBeaten) {
		f.end()
		f.permit.done(Neutral, 0)
		return // the task has the slot
	}
	<-t.done
	outcome := Failure
	if t.returned {
		outcome = judge(r, &t.call, t.value, t.err).Outcome
	}
	f.end()
	f.permit.done(outcome, 0)
	f.slot.done(outcome, 0)
	if t.call.Discard != nil && t.returned && t.err == nil {
		t.call.Discard(t.value)
	}
}
