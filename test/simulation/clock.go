package simulation

import (
	"context"
	"sync/atomic"
	"time"
	"unsafe"

	"holdfast/test/fakes"
)

// clock is that of a process. It shows the bubble's time and what it was set wrong by. As on a computer whose
// time is set, only what it shows jumps: timers go on, and so does the monotonic reading, by which the
// time between two readings is told. While its process hangs no timer goes off.
type clock struct {
	wrong *atomic.Int64 // nanoseconds; of the machine, and so of each life of the process
	host  *host
}

// Now implements shop.Clock.
func (c *clock) Now() time.Time {
	now := time.Now()
	return withMonotonic(now.Add(time.Duration(c.wrong.Load())), now.Sub(bubbleStart))
}

// Sleep implements shop.Clock.
func (c *clock) Sleep(ctx context.Context, d time.Duration) error {
	defer c.host.waitRunning()
	return fakes.RealClock{}.Sleep(ctx, d)
}

// Timer implements shop.Clock.
func (c *clock) Timer(d time.Duration) (<-chan time.Time, func()) {
	ch := make(chan time.Time, 1)
	t := time.AfterFunc(d, func() {
		c.host.waitRunning()
		ch <- c.Now()
	})
	return ch, func() { t.Stop() }
}

// bubbleStart is when each bubble begins.
var bubbleStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// withMonotonic gives a time a monotonic reading. A bubble's times have none, and nothing but time.Now makes
// one that is not as far from the wall's time as it is outside. TestClock sees that this holds.
func withMonotonic(t time.Time, reading time.Duration) time.Time {
	const (
		flag  = 1 << 63
		shift = 30 // bits of the nanoseconds
	)
	first := time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC) // of the seconds that there are 33 bits for
	fields := (*struct {
		wall uint64
		ext  int64
	})(unsafe.Pointer(&t)) // of time.Time, whose layout other programs rely on as well
	fields.wall = flag | uint64(t.Unix()-first.Unix())<<shift | uint64(t.Nanosecond())
	fields.ext = int64(reading) + 1 // 0 is none
	return t
}

// Jump is a process's clock that is set wrong, and put right a while later.
type Jump struct {
	At, For time.Duration
	By      time.Duration
	Stays   bool // it is never put right
}

var jumps = []time.Duration{time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour, -5 * time.Second}

func (d dice) jump() Jump {
	j := Jump{At: d.upTo(busyTime), For: d.between(100*time.Millisecond, 30*time.Second), By: pick(d, jumps)}
	j.For = min(j.For, faultTime-j.At)
	j.Stays = j.By == -5*time.Second && d.one(2)
	return j
}

// jump carries out a jump of Holdfast's clock.
func (w *World) jump(j Jump) {
	w.until(j.At)
	w.wrong.Add(int64(j.By))
	w.note("the clock is set by %s", j.By)
	w.mu.Lock()
	w.seen.jumps++
	w.mu.Unlock()
	if j.Stays {
		return
	}
	time.Sleep(j.For)
	w.wrong.Add(-int64(j.By))
	w.note("the clock is put right by %s", -j.By)
}

// Hang is a process that does nothing for a while, and then goes on as if no time had passed.
type Hang struct {
	Process string // holdfast, psp, carrier
	At, For time.Duration
}

// hangEnd is when every hang has ended.
const hangEnd = faultTime + 20*time.Second

func (d dice) hang() Hang {
	h := Hang{Process: pick(d, []string{"holdfast", "holdfast", "psp", "carrier"}), At: d.upTo(busyTime), For: d.between(2*time.Second, time.Minute)}
	h.For = min(h.For, hangEnd-h.At)
	return h
}

// hang carries out a hang, of the process's present life.
func (w *World) hang(h Hang) {
	w.until(h.At)
	end := time.Now().Add(h.For)
	w.net.hang(h.Process, end)
	w.note("%s hangs for %s", h.Process, h.For)
	w.mu.Lock()
	w.seen.hangs++
	w.mu.Unlock()
	time.Sleep(h.For)
}

// hang has the latest host of a name do nothing until end.
func (n *Network) hang(name string, end time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.hosts[name]; h != nil {
		h.hangs.Store(max(h.hangs.Load(), end.UnixNano()))
	}
}

// hanging is how long the host still hangs.
func (h *host) hanging() time.Duration {
	end := h.hangs.Load()
	if end == 0 || h.dead.Load() {
		return 0
	}
	return time.Until(time.Unix(0, end))
}

// waitRunning returns when the host does not hang.
func (h *host) waitRunning() {
	for wait := h.hanging(); wait > 0; wait = h.hanging() {
		time.Sleep(wait)
	}
}

// hungSince tells whether the host did nothing for some time after t.
func (h *host) hungSince(t time.Time) bool { return h.hangs.Load() > t.UnixNano() }
