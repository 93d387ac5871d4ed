package simulation

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// conn is one end of a connection. Its writes never block: what was written is on its way.
type conn struct {
	pair          *pair
	host          *host // whose end it is
	in, out       *half
	local, remote net.Addr
}

// pair is a connection.
type pair struct {
	link    string
	ordinal int
	net     *Network
	ends    [2]*host // who dialled, and who was dialled
	there   *half    // from the one who dialled
	back    *half
}

// half is one direction of a connection.
type half struct {
	pair *pair
	dir  direction

	mu       sync.Mutex
	segments []segment
	sent     int       // writes so far
	last     time.Time // when the latest segment arrives: nothing overtakes
	lost     bool      // what is written from now on arrives nowhere
	shut     bool      // the writer has closed
	closed   bool      // the reader has closed
	broken   error
	deadline time.Time
	changed  chan struct{} // has room for one
}

type segment struct {
	at   time.Time
	data []byte
	end  error // io.EOF, or what breaks the connection
}

func newHalf(p *pair, dir direction) *half {
	return &half{pair: p, dir: dir, changed: make(chan struct{}, 1)}
}

func (h *half) tell() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// reset breaks the direction at once, for both of its ends. What was on its way is lost.
func (h *half) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken == nil {
		h.broken, h.segments = syscall.ECONNRESET, nil
	}
	h.tell()
}

func (p *pair) reset() {
	p.there.reset()
	p.back.reset()
	p.net.forget(p)
}

// Read implements net.Conn. There is one reader at a time.
func (c *conn) Read(b []byte) (int, error) {
	h := c.in
	for {
		c.host.waitRunning()
		n, wait, err := h.take(b)
		if n > 0 || err != nil {
			return n, wrap("read", c, err)
		}
		if wait <= 0 {
			<-h.changed
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-h.changed:
		case <-t.C:
		}
		t.Stop()
	}
}

// take returns what has arrived, or how long to wait for it; 0 is for as long as nothing changes.
func (h *half) take(b []byte) (n int, wait time.Duration, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	switch {
	case h.closed:
		return 0, 0, net.ErrClosed
	case !h.deadline.IsZero() && !now.Before(h.deadline):
		return 0, 0, os.ErrDeadlineExceeded
	case h.broken != nil:
		return 0, 0, h.broken
	case len(b) == 0:
		return 0, 0, io.ErrNoProgress
	}
	for len(h.segments) > 0 && !now.Before(h.segments[0].at) {
		s := &h.segments[0]
		if s.end != nil {
			return n, 0, ending(n, s.end)
		}
		k := copy(b[n:], s.data)
		n += k
		if s.data = s.data[k:]; len(s.data) > 0 {
			return n, 0, nil
		}
		h.segments = h.segments[1:]
	}
	if n > 0 {
		return n, 0, nil
	}
	if len(h.segments) > 0 {
		wait = h.segments[0].at.Sub(now)
	}
	if !h.deadline.IsZero() {
		if left := h.deadline.Sub(now); wait == 0 || left < wait {
			wait = left
		}
	}
	return 0, wait, nil
}

// ending is the error of a read that found n bytes before the end.
func ending(n int, err error) error {
	if n > 0 {
		return nil
	}
	return err
}

// die is what becomes of a connection when the process at one of its ends has died: what that one has
// sent arrives, and then the other end learns of it, unless the connection has lost something before.
func (p *pair) die(h *host) {
	from, to := p.back, p.there
	if p.ends[0] == h {
		from, to = p.there, p.back
	}
	from.mu.Lock()
	from.put(segment{at: time.Now().Add(minLatency), end: syscall.ECONNRESET}, time.Time{})
	from.lost = true
	from.mu.Unlock()
	to.reset()
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	h := c.out
	h.mu.Lock()
	broken := h.broken
	switch {
	case h.shut:
		broken = net.ErrClosed
	case h.closed && broken == nil:
		broken = syscall.EPIPE
	}
	n := h.sent
	h.sent++
	h.mu.Unlock()
	if broken != nil {
		return 0, wrap("write", c, broken)
	}
	e := c.pair.net.effect(c.pair, h.dir, n)
	h.mu.Lock()
	if e.lose || e.drop {
		h.lost = true
	}
	h.put(segment{at: time.Now().Add(e.latency), data: append([]byte(nil), b...)}, c.heldUntil(e))
	h.mu.Unlock()
	if e.reset {
		c.pair.reset()
	}
	if e.trap != nil {
		e.trap.host.kill()
		close(e.trap.sprung)
	}
	if e.lose && e.noticed > 0 {
		time.AfterFunc(e.noticed, c.pair.reset)
	}
	return len(b), nil
}

// heldUntil is when what is written can leave: after the partition, and when the writer hangs no more.
func (c *conn) heldUntil(e effect) time.Time {
	if end := time.Now().Add(c.host.hanging()); end.After(e.heldUntil) {
		return end
	}
	return e.heldUntil
}

// put sends a segment on its way. The caller holds mu.
func (h *half) put(s segment, notBefore time.Time) {
	if h.lost || h.broken != nil {
		return
	}
	if s.at.Before(notBefore) {
		s.at = notBefore
	}
	if s.at.Before(h.last) {
		s.at = h.last
	}
	h.last = s.at
	h.segments = append(h.segments, s)
	h.tell()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.in.mu.Lock()
	before := c.in.closed
	c.in.closed, c.in.segments = true, nil
	c.in.tell()
	c.in.mu.Unlock()
	if before {
		return nil
	}
	e := c.pair.net.effect(c.pair, c.out.dir, -1)
	c.out.mu.Lock()
	c.out.shut = true
	c.out.put(segment{at: time.Now().Add(e.latency), end: io.EOF}, c.heldUntil(e))
	done := c.out.closed
	c.out.mu.Unlock()
	if done {
		c.pair.net.forget(c.pair)
	}
	return nil
}

// LocalAddr and the others implement net.Conn.
func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	if c.in.closed {
		return net.ErrClosed
	}
	c.in.deadline = t
	c.in.tell()
	return nil
}

// SetWriteDeadline does nothing: writes do not wait.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

func wrap(op string, c *conn, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}
