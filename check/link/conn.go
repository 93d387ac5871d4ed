package link

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"time"
)

const (
	pieceSize = 32 << 10
	queueSize = 64 // pieces of a direction that wait; further ones wait at their sender
	// dripsPerSecond is how often a dripping direction gives some bytes, if it has that many.
	dripsPerSecond = 20
)

// conn is a connection through a link.
type conn struct {
	link  *Link
	ends  [2]net.Conn // who has connected, and to whom
	ended chan struct{}
	once  sync.Once

	// Of each direction; guarded by the link's mutex.
	holes [2]bool // bytes were swallowed
	met   [2]int  // the number of the rule that has been met last
	cut   [2]cut  // what that rule does with it
}

// cut is what becomes of a connection in the middle of what comes next.
type cut int

const (
	whole cut = iota
	resetIt
	truncateIt
)

// piece is some bytes on their way.
type piece struct {
	data []byte
	due  time.Time
	then func() // after the bytes; nil for nothing
}

// join pumps bytes between two ends until both directions have ended.
func (l *Link) join(here, there net.Conn) {
	c := &conn{link: l, ends: [2]net.Conn{here, there}, ended: make(chan struct{})}
	l.mu.Lock()
	if l.ended {
		c.reset()
	}
	l.conns[c] = true
	l.mu.Unlock()
	var pumps sync.WaitGroup
	for direction := range c.ends {
		queue := make(chan piece, queueSize)
		pumps.Go(func() { c.read(direction, queue) })
		pumps.Go(func() { c.write(direction, queue) })
	}
	pumps.Wait()
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	c.close()
}

// reset ends both ends as a machine does that has forgotten the connection.
func (c *conn) reset() {
	c.once.Do(func() {
		close(c.ended)
		reset(c.ends[0])
		reset(c.ends[1])
	})
}

// close ends both ends in order.
func (c *conn) close() {
	c.once.Do(func() {
		close(c.ended)
		_ = c.ends[0].Close()
		_ = c.ends[1].Close()
	})
}

// reset closes a connection so that the other side is told that it is gone.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// read takes what one end sends, and decides what becomes of it.
func (c *conn) read(direction int, queue chan<- piece) {
	defer close(queue)
	buf := make([]byte, pieceSize)
	for {
		n, err := c.ends[direction].Read(buf)
		if n > 0 && !c.take(direction, bytes.Clone(buf[:n]), queue) {
			return
		}
		if err == nil {
			continue
		}
		if c.swallows(direction) {
			<-c.ended // the other end does not hear of the end either
			return
		}
		if !errors.Is(err, io.EOF) {
			c.reset() // one end has gone, and so the other is told
			return
		}
		c.put(queue, piece{due: time.Now(), then: func() { c.finish(direction) }})
		return
	}
}

// take decides what becomes of a piece. It returns false where the direction ends with it.
func (c *conn) take(direction int, data []byte, queue chan<- piece) bool {
	if c.swallows(direction) {
		return true
	}
	r, cut := c.meet(direction)
	p := piece{data: data, due: time.Now().Add(r.latency)}
	if r.latency > 0 {
		c.link.bites.Add(1)
	}
	switch cut {
	case whole:
		return c.put(queue, p)
	case resetIt:
		p.then = c.reset
	case truncateIt:
		p.then = c.close
	}
	c.link.bites.Add(1)
	p.data = data[:len(data)/2]
	c.put(queue, p)
	return false
}

// swallows tells whether the direction does, and if so notes that the connection has a hole.
func (c *conn) swallows(direction int) bool {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if !c.link.rules[direction].Drop {
		return false
	}
	c.holes[direction] = true
	c.link.bites.Add(1)
	return true
}

// meet returns the rule of a direction, and what it does with this connection. Of the connections that meet it,
// each share is chosen as evenly as can be.
func (c *conn) meet(direction int) (rule, cut) {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	r := &c.link.rules[direction]
	if c.met[direction] != r.number {
		c.met[direction], c.cut[direction] = r.number, whole
		switch r.met++; {
		case chosen(r.met, r.ResetAt):
			c.cut[direction] = resetIt
		case chosen(r.met, r.Truncate):
			c.cut[direction] = truncateIt
		}
	}
	return *r, c.cut[direction]
}

// chosen tells whether the n-th is among a share.
func chosen(n int, share float64) bool {
	return math.Floor(float64(n)*share) > math.Floor(float64(n-1)*share)
}

// put queues a piece; it returns false where the connection has ended.
func (c *conn) put(queue chan<- piece, p piece) bool {
	select {
	case queue <- p:
		return true
	case <-c.ended:
		return false
	}
}

// write gives the other end what is due.
func (c *conn) write(direction int, queue <-chan piece) {
	for p := range queue {
		if !c.await(direction, p.due) || !c.give(direction, p.data) {
			c.reset()
			continue // until the reader has seen it and closes the queue
		}
		if p.then != nil {
			p.then()
		}
	}
}

// await waits until a piece is due, or its latency has been taken away. It returns false where the connection has
// ended.
func (c *conn) await(direction int, due time.Time) bool {
	for {
		r, changed := c.rule(direction)
		left := time.Until(due)
		if left <= 0 || r.latency == 0 {
			return true
		}
		if !c.sleep(left, changed) && c.over() {
			return false
		}
	}
}

// give writes bytes, in drips where they are to.
func (c *conn) give(direction int, data []byte) bool {
	to := c.ends[1-direction]
	for len(data) > 0 {
		r, changed := c.rule(direction)
		n := len(data)
		if r.Drip > 0 {
			n = min(n, max(1, r.Drip/dripsPerSecond))
			if !c.sleep(time.Duration(n)*time.Second/time.Duration(r.Drip), changed) {
				if c.over() {
					return false
				}
				continue // by another rule
			}
			c.link.bites.Add(1)
		}
		if _, err := to.Write(data[:n]); err != nil {
			return false
		}
		data = data[n:]
	}
	return true
}

func (c *conn) rule(direction int) (rule, <-chan struct{}) {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	return c.link.rules[direction], c.link.since
}

// sleep waits for a time; it returns false where the faults have changed or the connection has ended before.
func (c *conn) sleep(d time.Duration, changed <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-changed:
	case <-c.ended:
	}
	return false
}

// over tells whether the connection has ended.
func (c *conn) over() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// finish tells the other end that nothing more comes.
func (c *conn) finish(direction int) {
	if half, ok := c.ends[1-direction].(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // it may have gone
		return
	}
	c.close() // it knows only the end of both
}
