package resilience

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Breaker stops calls to a dependency that fails, and finds out by itself when it no longer does. There
// should be one for each operation of each dependency: an outage of one says little about another.
//
//	                      failure or slow-call rate reached
//	            +--------+ ------------------------------> +------+ <-------------+
//	    ------> | Closed |                                 | Open |               |
//	            +--------+ <----------+        +---------- +------+               |
//	                                  |        | OpenFor is over, and a call      |
//	                  ProbeSuccesses  |        v comes: it is the first probe     |
//	                  are reached     +- +----------+                             |
//	                                     | HalfOpen | ----------------------------+
//	                                     +----------+   a probe fails or is slow
//
//	ForceOpen and ForceClose lead from every state to ForcedOpen and ForcedClosed,
//	Auto from these to HalfOpen and Closed.
//
// Each state has a generation. A call carries that of its admission, and its result counts only as long
// as the generation is the same: what was admitted before the breaker opened can neither close nor open
// it later. Such results are stale, and are counted as such. A probe has a lease, besides: when it is
// over, another call may be the probe, so that a call that never ends wedges nothing.
//
// All is derived from the monotonic clock when a call comes; there are no timers and no goroutines.
type Breaker struct {
	options Options
	born    instant
	phase   atomic.Pointer[phase] // replaced under mu
	dice    atomic.Uint64         // for the jitter of the next opening: a float64's bits
	stale   atomic.Uint64

	mu       sync.Mutex
	window   window
	probes   []lease
	probesOK int
	reopened int     // openings in a row whose probes failed
	luck     float64 // the dice of the latest opening
	forced   State
}

// phase is a generation of a breaker. Apart from full it does not change, so that admission needs no lock.
type phase struct {
	config     *BreakerConfig
	state      State
	generation uint64
	since      instant
	until      instant // of the open state
	why        string
	rejection  *Rejection
	full       atomic.Pointer[Rejection] // while half-open with all probes under way: until the first lease ends
	measures   bool                      // durations of calls
	dates      bool                      // ends of calls
}

// lease is the place of a probe. It is taken until its time.
type lease struct {
	number uint32 // of the probes that have had this place
	until  instant
}

// Permit is the admission of one call by a breaker. Done must be called once, on one copy of it; the
// zero value is the permit of no breaker, and may be done as well.
type Permit struct {
	breaker    *Breaker
	generation uint64
	start      instant // 0 where the duration does not matter
	place      int32   // of a probe, from 1
	number     uint32
}

// NewBreaker makes a closed breaker.
func NewBreaker(c BreakerConfig, o Options) (*Breaker, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	b := &Breaker{options: o, born: now(), forced: Closed}
	b.roll()
	first := Closed
	if c.Off {
		first = Disabled
	} else {
		b.window = newWindow(&c, b.born)
	}
	b.phase.Store(b.newPhase(&c, first, 0, b.born, ""))
	return b, nil
}

// Acquire admits a call, or refuses it with a *Rejection that is ErrOpen. The caller must call the
// permit's Done whatever happens to the call, and best with defer: a panic must not leave it out.
func (b *Breaker) Acquire() (Permit, error) { return b.acquire(0) }

// acquire is Acquire at t, which it reads if it is 0.
func (b *Breaker) acquire(t instant) (Permit, error) {
	ph := b.phase.Load()
	switch ph.state {
	case Closed, ForcedClosed:
		if ph.measures && t == 0 {
			t = now()
		}
		return Permit{breaker: b, generation: ph.generation, start: t}, nil
	case Disabled:
		return Permit{}, nil
	case ForcedOpen:
		return Permit{}, b.refuse(ph.rejection)
	}
	if t == 0 {
		t = now()
	}
	if ph.state == Open && t < ph.until {
		return Permit{}, b.refuse(ph.rejection)
	}
	if r := ph.full.Load(); r != nil && t < r.until {
		return Permit{}, b.refuse(r)
	}
	return b.acquireProbe(t)
}

func (b *Breaker) refuse(r *Rejection) error {
	if b.options.Observer != nil {
		b.options.Observer.Rejected(RejectEvent{Label: r.Label, Reason: r.Reason})
	}
	return r
}

// refusal returns the rejection of a breaker that is open and will be for a while, and nil otherwise.
// Nobody is told.
func (b *Breaker) refusal() *Rejection {
	if ph := b.phase.Load(); ph.state == Open && now() < ph.until {
		return ph.rejection
	}
	return nil
}

// acquireProbe admits a probe, and makes the breaker half-open where it is not yet.
func (b *Breaker) acquireProbe(t instant) (Permit, error) {
	b.mu.Lock()
	ph := b.phase.Load()
	var moved TransitionEvent
	if ph.state == Open && t >= ph.until {
		moved = b.move(HalfOpen, WhyOpenOver, t)
		ph = b.phase.Load()
	}
	if ph.state != HalfOpen {
		b.mu.Unlock()
		return b.acquire(t) // another goroutine moved it
	}
	p, admitted := b.lend(ph, t)
	full := ph.full.Load()
	b.mu.Unlock()
	b.tell(moved)
	if !admitted {
		return Permit{}, b.refuse(full)
	}
	return p, nil
}

// lend gives a place to a probe, if one is free.
func (b *Breaker) lend(ph *phase, t instant) (p Permit, admitted bool) {
	used, free, first := b.leases(t)
	if used < ph.config.Probes {
		if free < 0 {
			free = len(b.probes)
			b.probes = append(b.probes, lease{})
		}
		l := &b.probes[free]
		l.number++
		l.until = t.add(ph.config.ProbeLease)
		p = Permit{breaker: b, generation: ph.generation, start: t, place: int32(free) + 1, number: l.number}
		admitted = true
		used++
		first = min(first, l.until)
	}
	if used >= ph.config.Probes {
		ph.full.Store(&Rejection{Label: b.options.Label, Reason: ReasonProbing, until: first})
	}
	return p, admitted
}

// leases returns how many places are taken at t, one that is free or -1, and when the first lease ends.
func (b *Breaker) leases(t instant) (used, free int, first instant) {
	free, first = -1, never
	for i := range b.probes {
		if u := b.probes[i].until; u > t {
			used++
			first = min(first, u)
		} else if free < 0 {
			free = i
		}
	}
	return used, free, first
}

// Done records what came of the call. Only the first call of it counts.
func (p *Permit) Done(o Outcome) { p.done(o, 0) }

// done is Done of a call that ended at t, which it reads if it is 0 and matters.
func (p *Permit) done(o Outcome, t instant) {
	if b := p.breaker; b != nil {
		b.record(p, o, t)
		p.breaker = nil
	}
}

func (b *Breaker) record(p *Permit, o Outcome, t instant) {
	ph := b.phase.Load()
	if o == Neutral && p.place == 0 && ph.generation == p.generation {
		return
	}
	if t == 0 && (ph.dates || ph.measures) {
		t = now()
	}
	b.mu.Lock()
	ph = b.phase.Load()
	if ph.generation != p.generation || p.place != 0 && !b.giveBack(ph, p, &t) {
		b.mu.Unlock()
		b.stale.Add(1)
		if b.options.Observer != nil {
			b.options.Observer.Stale(StaleEvent{Label: b.options.Label, Outcome: o, Generation: p.generation, Current: ph.generation})
		}
		return
	}
	var moved TransitionEvent
	if o != Neutral {
		slow := ph.measures && p.start != 0 && t.sub(p.start) >= ph.config.SlowCall
		if ph.state == HalfOpen {
			moved = b.judgeProbe(ph, o, slow, t)
		} else {
			moved = b.judge(ph, o, slow, t)
		}
	}
	b.mu.Unlock()
	b.tell(moved)
}

// giveBack ends the lease of a probe. It is false where that was over. A half-open breaker may have been
// closed when t was to be read, so it may still be missing.
func (b *Breaker) giveBack(ph *phase, p *Permit, t *instant) bool {
	if *t == 0 {
		*t = now()
	}
	l := &b.probes[p.place-1]
	if l.number != p.number || l.until <= *t {
		return false
	}
	l.until = 0
	ph.full.Store(nil)
	return true
}

// judge counts a result of a closed breaker, and opens it where a rate is reached.
func (b *Breaker) judge(ph *phase, o Outcome, slow bool, t instant) (moved TransitionEvent) {
	entry := entryCall
	if o == Failure {
		entry |= entryFailure
	}
	if slow {
		entry |= entrySlow
	}
	b.window.add(entry, t)
	c, sum := ph.config, &b.window.sum
	if ph.state != Closed || sum.Failures|sum.Slow == 0 || sum.Calls < c.MinCalls {
		return moved
	}
	switch {
	case c.FailureRate > 0 && sum.FailureRate() >= c.FailureRate:
		return b.move(Open, WhyFailureRate, t)
	case c.SlowRate > 0 && sum.SlowRate() >= c.SlowRate:
		return b.move(Open, WhySlowRate, t)
	}
	return moved
}

// judgeProbe counts a result of a half-open breaker.
func (b *Breaker) judgeProbe(ph *phase, o Outcome, slow bool, t instant) (moved TransitionEvent) {
	switch {
	case o == Failure:
		return b.move(Open, WhyProbeFailed, t)
	case slow:
		return b.move(Open, WhyProbeSlow, t)
	}
	if b.probesOK++; b.probesOK >= ph.config.ProbeSuccesses {
		return b.move(Closed, WhyProbesOK, t)
	}
	return moved
}

// move begins a new generation. The caller holds mu, and tells the event after it has unlocked.
func (b *Breaker) move(to State, why string, t instant) TransitionEvent {
	if t == 0 {
		t = now()
	}
	old := b.phase.Load()
	event := TransitionEvent{Label: b.options.Label, From: old.state, To: to, Generation: old.generation + 1, Why: why, Counts: b.window.sum}
	switch to {
	case HalfOpen:
		b.probes, b.probesOK = nil, 0
	case Open:
		b.luck = math.Float64frombits(b.dice.Load())
		b.reopened++
		if old.state != HalfOpen {
			b.reopened = 0
		}
	case Closed:
		b.reopened = 0
		if old.state != ForcedClosed {
			b.window.empty()
		}
	}
	b.phase.Store(b.newPhase(old.config, to, old.generation+1, t, why))
	return event
}

func (b *Breaker) newPhase(c *BreakerConfig, s State, generation uint64, since instant, why string) *phase {
	ph := &phase{config: c, state: s, generation: generation, since: since, why: why}
	ph.measures = c.SlowRate > 0 && c.SlowCall > 0
	ph.dates = c.WindowTime > 0 || s == HalfOpen
	switch s {
	case Open:
		ph.until = since.add(b.jittered(c))
		ph.rejection = &Rejection{Label: b.options.Label, Reason: ReasonOpen, until: ph.until}
	case ForcedOpen:
		ph.rejection = &Rejection{Label: b.options.Label, Reason: ReasonForcedOpen, wait: c.OpenFor}
	}
	return ph
}

func (b *Breaker) jittered(c *BreakerConfig) time.Duration {
	d := c.openFor(b.reopened)
	return d + time.Duration(c.OpenJitter*b.luck*float64(d))
}

// roll rolls the dice for the next opening, because nothing may be called when it comes: mu is held then.
func (b *Breaker) roll() { b.dice.Store(math.Float64bits(b.options.random())) }

// tell tells a transition, if there was one.
func (b *Breaker) tell(e TransitionEvent) {
	if e.Generation == 0 {
		return
	}
	b.roll()
	if b.options.Observer != nil {
		b.options.Observer.Transitioned(e)
	}
}
