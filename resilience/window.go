package resilience

import "time"

// Counts are the results in a breaker's window.
type Counts struct {
	Calls, Failures, Slow int
}

// FailureRate is the share of failures, 0 where there were no calls.
func (c Counts) FailureRate() float64 { return share(c.Failures, c.Calls) }

// SlowRate is the share of slow calls, 0 where there were no calls.
func (c Counts) SlowRate() float64 { return share(c.Slow, c.Calls) }

func share(n, of int) float64 {
	if of == 0 {
		return 0
	}
	// A quotient, not a product with the threshold: 55/100 is the same float64 as the literal 0.55, and
	// 0.55*100 is more than 55.
	return float64(n) / float64(of)
}

func (c *Counts) add(d Counts, sign int) {
	c.Calls += sign * d.Calls
	c.Failures += sign * d.Failures
	c.Slow += sign * d.Slow
}

// Entries of a count window.
const (
	entryCall uint8 = 1 << iota // set in each entry that is in use
	entryFailure
	entrySlow
)

func countsOf(entry uint8) Counts {
	return Counts{Calls: int(entry & 1), Failures: int(entry >> 1 & 1), Slow: int(entry >> 2 & 1)}
}

// window is a sliding window over the last calls (ring) or the last time (buckets). Its sums are exact,
// because whoever uses it holds the breaker's mutex: a critical section this short costs 7 ns, and up
// to 17 with 64 goroutines on 2 cores, where atomics with inexact sums cost 9.
type window struct {
	sum Counts

	ring []uint8
	next int

	buckets []Counts
	width   time.Duration
	origin  instant // of the first bucket
	tick    int64   // of the newest bucket: how many came before it
}

func newWindow(c *BreakerConfig, origin instant) window {
	if c.WindowCalls > 0 {
		return window{ring: make([]uint8, c.WindowCalls), origin: origin}
	}
	n := c.buckets()
	return window{buckets: make([]Counts, n), width: c.WindowTime / time.Duration(n), origin: origin}
}

// add counts a result at t.
func (w *window) add(entry uint8, t instant) {
	d := countsOf(entry)
	if w.ring != nil {
		w.sum.add(countsOf(w.ring[w.next]), -1)
		w.sum.add(d, 1)
		w.ring[w.next] = entry
		if w.next++; w.next == len(w.ring) {
			w.next = 0
		}
		return
	}
	w.roll(t)
	// A result whose clock was read before the newest bucket began is counted there: its goroutine was
	// off the processor in between, and the clock of the window does not go back for it.
	w.buckets[w.tick%int64(len(w.buckets))].add(d, 1)
	w.sum.add(d, 1)
}

// roll empties the buckets that have gone out of the window by t.
func (w *window) roll(t instant) {
	if w.ring != nil {
		return
	}
	tick := int64(t-w.origin) / int64(w.width)
	n := int64(len(w.buckets))
	if tick >= w.tick+n { // everything is old, however long ago
		clear(w.buckets)
		w.sum = Counts{}
		w.tick = tick
		return
	}
	for w.tick < tick {
		w.tick++
		old := &w.buckets[w.tick%n]
		w.sum.add(*old, -1)
		*old = Counts{}
	}
}

// empty forgets all results.
func (w *window) empty() {
	clear(w.ring)
	clear(w.buckets)
	w.sum, w.next = Counts{}, 0
}

// reshape returns a window for c with what it can take over of w at t. Between two windows of the same
// sort that is exact for the results that the new one reaches back to, give or take the width of a
// bucket. A count window made of a time window keeps the rates, as it cannot know the order; a time
// window made of a count window takes all its results to be of now.
func (w *window) reshape(c *BreakerConfig, t instant) window {
	w.roll(t)
	n := newWindow(c, w.origin)
	n.roll(t)
	switch {
	case w.ring != nil && n.ring != nil:
		for i := range w.ring {
			if e := w.ring[(w.next+i)%len(w.ring)]; e != 0 {
				n.add(e, t)
			}
		}
	case w.ring != nil:
		n.buckets[n.tick%int64(len(n.buckets))] = w.sum
		n.sum = w.sum
	case n.ring != nil:
		n.spread(w.sum, t)
	default:
		size := int64(len(w.buckets))
		for tick := max(0, w.tick-size+1); tick <= w.tick; tick++ {
			d := w.buckets[tick%size]
			end := min(int64(t-w.origin), (tick+1)*int64(w.width)-1) / int64(n.width)
			if end <= n.tick-int64(len(n.buckets)) {
				continue
			}
			n.buckets[end%int64(len(n.buckets))].add(d, 1)
			n.sum.add(d, 1)
		}
	}
	return n
}

// spread fills a ring with results of the same rates as those of d, as many as it holds.
func (w *window) spread(d Counts, t instant) {
	calls := min(d.Calls, len(w.ring))
	failures, slow := 0, 0
	for i := 1; i <= calls; i++ {
		e := entryCall
		if f := d.Failures * i / d.Calls; f > failures {
			failures = f
			e |= entryFailure
		}
		if s := d.Slow * i / d.Calls; s > slow {
			slow = s
			e |= entrySlow
		}
		w.add(e, t)
	}
}
