package resilience

import (
	"context"
	"time"
)

// Run calls f, if the breaker admits it, and classifies its error with Classify. It returns the error of
// f or a *Rejection. A panic of f is a failure, and goes on.
func (b *Breaker) Run(ctx context.Context, f func(context.Context) error) error {
	p, err := b.Acquire()
	if err != nil {
		return err
	}
	defer p.Done(Failure) // of a panic or runtime.Goexit: only the first Done counts
	err = f(ctx)
	if left(ctx, err) {
		p.Done(Neutral)
	} else {
		p.Done(Classify(err).Outcome)
	}
	return err
}

// Ready tells whether Acquire would admit a call now and, where it would not, how long that will be so:
// exactly while open, at most while all probes are under way, and unknown (OpenFor is returned) while
// forced open. It changes nothing, so it promises nothing to two callers at once.
func (b *Breaker) Ready() (ready bool, wait time.Duration) { return b.readyAt(0) }

func (b *Breaker) readyAt(t instant) (ready bool, wait time.Duration) {
	ph := b.phase.Load()
	switch ph.state {
	case ForcedOpen:
		return false, ph.config.OpenFor
	case Open, HalfOpen:
	default:
		return true, 0
	}
	if t == 0 {
		t = now()
	}
	if ph.state == Open {
		return t >= ph.until, max(0, ph.until.sub(t))
	}
	if r := ph.full.Load(); r != nil && t < r.until {
		return false, r.until.sub(t)
	}
	return true, 0
}

// ForceOpen refuses all calls until ForceClose or Auto. Why is shown in Stats and in the transition.
func (b *Breaker) ForceOpen(why string) { b.force(ForcedOpen, why) }

// ForceClose admits all calls until ForceOpen or Auto. Results are counted and not acted upon.
func (b *Breaker) ForceClose(why string) { b.force(ForcedClosed, why) }

// Auto ends ForceOpen, with probes first, and ForceClose, with the window as it has become.
func (b *Breaker) Auto(why string) { b.force(Closed, why) }

func (b *Breaker) force(to State, why string) {
	b.mu.Lock()
	b.forced = to
	var moved TransitionEvent
	switch s := b.phase.Load().state; {
	case s == Disabled, s == to: // what is off remembers it for later
	case to != Closed:
		moved = b.move(to, why, 0)
	case s == ForcedOpen:
		moved = b.move(HalfOpen, why, 0)
	case s == ForcedClosed:
		moved = b.move(Closed, why, 0)
	}
	b.mu.Unlock()
	b.tell(moved)
}

// Reconfigure changes the configuration. State, generation, probes under way, and the results in the
// window stay: of a smaller window the newest, see also BreakerConfig. Results that are in the window
// are judged by the new thresholds when the next one comes. A changed OpenFor counts from when the
// breaker opened.
func (b *Breaker) Reconfigure(c BreakerConfig) error {
	if err := c.Validate(); err != nil {
		return err
	}
	b.mu.Lock()
	t := now()
	old := b.phase.Load()
	var moved TransitionEvent
	switch {
	case c.Off && old.state == Disabled:
		b.phase.Store(b.newPhase(&c, Disabled, old.generation, old.since, old.why))
	case c.Off:
		moved = b.move(Disabled, WhyConfig, t)
		b.phase.Store(b.newPhase(&c, Disabled, moved.Generation, t, WhyConfig))
	case old.state == Disabled:
		b.window = newWindow(&c, b.born)
		moved = b.move(b.forced, WhyConfig, t)
		b.phase.Store(b.newPhase(&c, b.forced, moved.Generation, t, WhyConfig))
	default:
		if !c.sameWindow(old.config) {
			b.window = b.window.reshape(&c, t)
		}
		b.phase.Store(b.newPhase(&c, old.state, old.generation, old.since, old.why))
	}
	b.mu.Unlock()
	b.tell(moved)
	return nil
}

// BreakerStats is a breaker at one instant. Rejections are not counted: that would cost a fifth of one.
// Observer.Rejected is told them.
type BreakerStats struct {
	Label      Label
	State      State
	Generation uint64
	Since      time.Duration // since when it is in this state
	Why        string        // it is in this state; empty at the start
	Counts     Counts        // in the window
	RetryAfter time.Duration // until a call may be admitted; see Ready
	Probes     int           // under way
	ProbesOK   int           // that succeeded
	Stale      uint64        // since the start
	Config     BreakerConfig // in force
}

// Stats returns the state, the counts in the window, and the configuration in force.
func (b *Breaker) Stats() BreakerStats {
	_, wait := b.Ready()
	b.mu.Lock()
	defer b.mu.Unlock()
	t := now()
	ph := b.phase.Load()
	s := BreakerStats{Label: b.options.Label, State: ph.state, Generation: ph.generation, Since: t.sub(ph.since), Why: ph.why,
		RetryAfter: wait, Stale: b.stale.Load(), Config: *ph.config}
	if ph.state != Disabled {
		b.window.roll(t)
		s.Counts = b.window.sum
	}
	if ph.state == HalfOpen {
		s.Probes, _, _ = b.leases(t)
		s.ProbesOK = b.probesOK
	}
	return s
}

// State returns what the breaker does with calls. An open breaker whose time is over stays open until
// the next call comes, which is the probe.
func (b *Breaker) State() State { return b.phase.Load().state }
