package resilience_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/resilience"
)

// steps of the model tests; HOLDFAST_TEST_SEED replays one.
const (
	breakerSteps  = 1_000_000
	bulkheadSteps = 100_000
)

// modelled is the reference model of a breaker: as short as can be, and as slow.
type modelled struct {
	c          resilience.BreakerConfig
	state      resilience.State
	generation uint64
	until      time.Duration
	results    []modelResult // since the window was last emptied, oldest first
	probes     []*modelPermit
	ok         int
	reopened   int
	stale      uint64
}

type modelResult struct {
	at            time.Duration
	failure, slow bool
}

type modelPermit struct {
	generation uint64
	start      time.Duration
	lease      time.Duration // 0 where it is no probe
}

func (m *modelled) move(to resilience.State, at time.Duration) {
	from := m.state
	m.state = to
	m.generation++
	switch to {
	case resilience.Open:
		if m.reopened++; from != resilience.HalfOpen {
			m.reopened = 0
		}
		open := m.c.OpenFor << m.reopened
		m.until = at + max(m.c.OpenFor, min(m.c.OpenMax, open))
	case resilience.HalfOpen:
		m.probes, m.ok = nil, 0
	case resilience.Closed:
		m.reopened = 0
		if from != resilience.ForcedClosed {
			m.results = nil
		}
	}
}

func (m *modelled) acquire(at time.Duration) *modelPermit {
	if m.state == resilience.Open && at >= m.until {
		m.move(resilience.HalfOpen, at)
	}
	p := &modelPermit{generation: m.generation, start: at}
	switch m.state {
	case resilience.Open, resilience.ForcedOpen:
		return nil
	case resilience.HalfOpen:
		m.probes = slices.DeleteFunc(m.probes, func(p *modelPermit) bool { return at >= p.lease })
		if len(m.probes) >= m.c.Probes {
			return nil
		}
		p.lease = at + m.c.ProbeLease
		m.probes = append(m.probes, p)
	}
	return p
}

func (m *modelled) done(p *modelPermit, o resilience.Outcome, at time.Duration) {
	if p.generation != m.generation || p.lease != 0 && at >= p.lease {
		m.stale++
		return
	}
	m.probes = slices.DeleteFunc(m.probes, func(q *modelPermit) bool { return q == p })
	if o == resilience.Neutral {
		return
	}
	slow := m.c.SlowRate > 0 && at-p.start >= m.c.SlowCall
	if m.state == resilience.HalfOpen {
		if o == resilience.Failure || slow {
			m.move(resilience.Open, at)
		} else if m.ok++; m.ok == m.c.ProbeSuccesses {
			m.move(resilience.Closed, at)
		}
		return
	}
	m.results = append(m.results, modelResult{at, o == resilience.Failure, slow})
	n := m.counts(at)
	if m.state == resilience.Closed && n.Calls >= m.c.MinCalls && (n.FailureRate() >= m.c.FailureRate || m.c.SlowRate > 0 && n.SlowRate() >= m.c.SlowRate) {
		m.move(resilience.Open, at)
	}
}

func (m *modelled) counts(at time.Duration) (n resilience.Counts) {
	if m.c.WindowCalls > 0 {
		m.results = m.results[max(0, len(m.results)-m.c.WindowCalls):]
	} else {
		width := m.c.WindowTime / time.Duration(m.c.WindowBuckets)
		m.results = slices.DeleteFunc(m.results, func(r modelResult) bool { return r.at/width <= at/width-time.Duration(m.c.WindowBuckets) })
	}
	for _, r := range m.results {
		n.Calls++
		if r.failure {
			n.Failures++
		}
		if r.slow {
			n.Slow++
		}
	}
	return n
}

// pair is a permit with its model.
type pair struct {
	real  resilience.Permit
	model *modelPermit
}

// TestModelBreaker does operations at random, to a breaker and to the model, and compares them after
// each.
func TestModelBreaker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := dice(t)
		count := resilience.BreakerConfig{WindowCalls: 20, MinCalls: 5, FailureRate: 0.5, OpenFor: 50 * time.Millisecond, OpenMax: 150 * time.Millisecond,
			Probes: 2, ProbeSuccesses: 3, ProbeLease: 30 * time.Millisecond}
		timed := count
		timed.WindowCalls, timed.WindowTime, timed.WindowBuckets = 0, 200*time.Millisecond, 7
		slow := timed
		slow.SlowCall, slow.SlowRate, slow.OpenMax, slow.FailureRate = 5*time.Millisecond, 0.6, 0, 0.7
		const share = 2000 // of the steps, for a breaker
		entered := map[resilience.State]int{}
		for n := range breakerSteps / share {
			var seen recorder
			c := []resilience.BreakerConfig{count, timed, slow}[n%3]
			b := newBreaker(c, &seen)
			if step := walk(r, b, &modelled{c: c}, share); step != "" {
				t.Fatalf("breaker %d: %s", n, step)
			}
			for _, e := range seen.transitions {
				entered[e.To]++
			}
		}
		for _, s := range []resilience.State{resilience.Closed, resilience.Open, resilience.HalfOpen, resilience.ForcedClosed, resilience.ForcedOpen} {
			if entered[s] < 1000 {
				t.Errorf("%s was entered %d times: the walk does not go everywhere", s, entered[s])
			}
		}
	})
}

// walk makes steps, and returns the first difference.
func walk(r *rand.Rand, b *resilience.Breaker, m *modelled, steps int) string {
	began := time.Now()
	var held []pair
	sick := 0
	for step := range steps {
		at := time.Since(began)
		what := r.IntN(100)
		if step%100 == 0 {
			sick = r.IntN(100) // per cent of failures, for a while
		}
		switch {
		case what < 40:
			p, err := b.Acquire()
			q := m.acquire(at)
			if (err == nil) != (q != nil) {
				return fmt.Sprintf("step %d: admitted %v (%v), model %v", step, err == nil, err, q != nil)
			}
			if q != nil {
				held = append(held, pair{p, q})
			}
		case what < 80 && len(held) > 0:
			i := r.IntN(len(held))
			o := resilience.Success
			if k := r.IntN(100); k < 5 {
				o = resilience.Neutral
			} else if r.IntN(100) < sick {
				o = resilience.Failure
			}
			held[i].real.Done(o)
			m.done(held[i].model, o, at)
			held = slices.Delete(held, i, i+1)
		case what < 97:
			d := time.Duration(r.IntN(6)) * time.Millisecond
			if r.IntN(50) == 0 {
				d *= 100
			}
			time.Sleep(d)
		case r.IntN(4) == 0:
			control(r, b, m, at)
		}
		if diff := compare(b.Stats(), m, time.Since(began)); diff != "" {
			return fmt.Sprintf("step %d (%d): %s", step, what, diff)
		}
	}
	return ""
}

// control does what an operator does.
func control(r *rand.Rand, b *resilience.Breaker, m *modelled, at time.Duration) {
	switch r.IntN(5) {
	case 0:
		b.ForceOpen("model")
		if m.state != resilience.ForcedOpen {
			m.move(resilience.ForcedOpen, at)
		}
	case 1:
		b.ForceClose("model")
		if m.state != resilience.ForcedClosed {
			m.move(resilience.ForcedClosed, at)
		}
	default:
		b.Auto("model")
		switch m.state {
		case resilience.ForcedOpen:
			m.move(resilience.HalfOpen, at)
		case resilience.ForcedClosed:
			m.move(resilience.Closed, at)
		}
	}
}

func compare(s resilience.BreakerStats, m *modelled, at time.Duration) string {
	want := m.counts(at)
	if s.State != m.state || s.Generation != m.generation || s.Counts != want || s.Stale != m.stale {
		return fmt.Sprintf("got %v %d %+v stale %d, model %v %d %+v stale %d", s.State, s.Generation, s.Counts, s.Stale, m.state, m.generation, want, m.stale)
	}
	if m.state != resilience.HalfOpen {
		return ""
	}
	live := 0
	for _, p := range m.probes {
		if at < p.lease {
			live++
		}
	}
	if s.Probes != live || s.ProbesOK != m.ok || live > m.c.Probes {
		return fmt.Sprintf("got %d probes, %d succeeded, model %d and %d", s.Probes, s.ProbesOK, live, m.ok)
	}
	return ""
}

// TestModelBulkhead compares a bulkhead whose callers wait with a model: a number and a queue.
func TestModelBulkhead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := dice(t)
		c := resilience.BulkheadConfig{Limit: 3, Queue: 4, MaxWait: 10 * time.Millisecond}
		b := newBulkhead(c.Limit, c.Queue, c.MaxWait, nil)
		type caller struct {
			number int
			since  time.Time
		}
		granted := make(chan int, 100)
		refused := make(chan int, 100)
		var mu sync.Mutex
		slots := map[int]*resilience.Slot{}
		var waiting []caller
		inUse := map[int]bool{}
		for n := range bulkheadSteps {
			switch k := r.IntN(100); {
			case k < 45:
				go func() {
					s, err := b.Acquire(t.Context())
					if err != nil {
						refused <- n
						return
					}
					mu.Lock()
					slots[n] = &s
					mu.Unlock()
					granted <- n
				}()
				switch {
				case len(inUse) < c.Limit && len(waiting) == 0:
					inUse[n] = true
				case len(waiting) < c.Queue:
					waiting = append(waiting, caller{n, time.Now()})
				}
			case k < 85:
				for i := range inUse {
					slots[i].Release()
					delete(inUse, i)
					break
				}
			case k < 97:
				time.Sleep(time.Duration(r.IntN(8)) * time.Millisecond)
			default:
				c.Limit, c.Queue = 1+r.IntN(5), r.IntN(5)
				isErr(t, b.Reconfigure(c), nil)
			}
			waiting = slices.DeleteFunc(waiting, func(w caller) bool { return time.Since(w.since) >= c.MaxWait })
			for len(waiting) > 0 && len(inUse) < c.Limit {
				inUse[waiting[0].number] = true
				waiting = waiting[1:]
			}
			synctest.Wait()
			for ; len(granted) > 0; <-granted {
			}
			for ; len(refused) > 0; <-refused {
			}
			if s := b.Stats(); s.InUse != len(inUse) || s.Queued != len(waiting) {
				t.Fatalf("step %d: %d in use and %d queued, model %d and %d", n, s.InUse, s.Queued, len(inUse), len(waiting))
			}
			for i := range inUse {
				if slots[i] == nil {
					t.Fatalf("step %d: call %d has no slot, and is the first in the model's queue", n, i)
				}
			}
		}
	})
}
