package fakes

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Clock stands still until it is advanced.
type Clock struct {
	mu      sync.Mutex
	now     time.Time
	timers  map[*timer]struct{}
	changed chan struct{} // closed and replaced when a timer comes or goes
}

type timer struct {
	at time.Time
	c  chan time.Time
}

// NewClock returns a clock that shows start.
func NewClock(start time.Time) *Clock {
	return &Clock{now: start, timers: make(map[*timer]struct{}), changed: make(chan struct{})}
}

// Now returns the time that the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock on and lets the timers go off that are due then, the earliest first.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := c.now.Add(d)
	for {
		var due *timer
		for t := range c.timers {
			if !t.at.After(end) && (due == nil || t.at.Before(due.at)) {
				due = t
			}
		}
		if due == nil {
			break
		}
		if due.at.After(c.now) {
			c.now = due.at
		}
		due.c <- due.at // there is room for one
		delete(c.timers, due)
	}
	c.now = end
	c.tell()
}

// Waiters returns when n timers, Sleep's included, are waiting, or when ctx ends, then with its error.
func (c *Clock) Waiters(ctx context.Context, n int) error {
	for {
		c.mu.Lock()
		have, changed := len(c.timers), c.changed
		c.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Sleep waits until the clock has been advanced by d, or for the end of ctx.
func (c *Clock) Sleep(ctx context.Context, d time.Duration) error {
	ch, stop := c.Timer(d)
	defer stop()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Timer sends once the clock has been advanced by d.
func (c *Clock) Timer(d time.Duration) (<-chan time.Time, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &timer{at: c.now.Add(d), c: make(chan time.Time, 1)}
	if d <= 0 {
		t.c <- c.now
		return t.c, func() {}
	}
	c.timers[t] = struct{}{}
	c.tell()
	return t.c, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.timers, t)
		c.tell()
	}
}

// tell wakes Waiters.
func (c *Clock) tell() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// SkewedClock is the real clock, ahead by what it was advanced: for what must wait in real time and yet be
// shown a later day.
type SkewedClock struct {
	RealClock
	ahead atomic.Int64
}

// Now is the time, and what it was advanced by.
func (c *SkewedClock) Now() time.Time { return c.RealClock.Now().Add(time.Duration(c.ahead.Load())) }

// Advance puts the clock further ahead.
func (c *SkewedClock) Advance(d time.Duration) { c.ahead.Add(int64(d)) }

// SetClock is a clock that a test advances, and sets wrong. As on a computer whose time is set, only what it shows
// jumps: the monotonic reading, by which the time between two readings is told, does not.
type SetClock struct {
	RealClock
	mu     sync.Mutex
	now    time.Time
	passed time.Duration
	wrong  time.Duration
}

// Now implements shop.Clock.
func (c *SetClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now.IsZero() {
		c.now = time.Now()
	}
	return Jumped(c.now.Add(c.passed), c.wrong)
}

// Advance has time pass.
func (c *SetClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passed += d
}

// Set has it be wrong by so much.
func (c *SetClock) Set(wrong time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = wrong
}

// Jumped is t with another wall time and the same monotonic reading, which the methods of time.Time move together.
func Jumped(t time.Time, by time.Duration) time.Time {
	t = t.Add(by)
	fields := (*struct {
		wall uint64
		ext  int64
	})(unsafe.Pointer(&t)) // of time.Time, whose layout other programs rely on as well
	const monotonic = 1 << 63
	if fields.wall&monotonic != 0 {
		fields.ext -= int64(by)
	}
	return t
}
