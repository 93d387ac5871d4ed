// Package link is a proxy for connections of TCP that an experiment can make fail, each direction by itself. Faults
// act on open connections, too.
//
// Bytes that were swallowed never come later, so a connection that has lost some is reset when the fault ends:
// no receiver meets a hole in what it was sent.
package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/check/chaos"
)

const (
	dialTimeout = 5 * time.Second
	// reopenLimit bounds how long a door that was shut may take to be opened again, where somebody else has taken
	// its port meanwhile.
	reopenLimit = 10 * time.Second
)

// Link is a way from one part to another: a door before each address of the other. It is a chaos.Link. Who comes
// while nobody listens behind the door is let in and reset, where without the door they would be refused.
type Link struct {
	name  string
	bites atomic.Int64

	mu    sync.Mutex
	rules [2]rule // out, back
	since chan struct{}
	doors []*door
	conns map[*conn]bool
	ended bool
	err   error // of a door that could not be opened again
	all   sync.WaitGroup
}

// The directions.
const (
	out  = 0 // from who has connected
	back = 1 // to who has connected
)

// rule is the fault of a direction, and which connections it has met.
type rule struct {
	chaos.LinkFault
	latency time.Duration
	met     int // connections, in the order in which they sent something
	number  int // of the rule, by which a connection knows that it is another
}

// door is where one address is reached by the link.
type door struct {
	to, at   string
	listener net.Listener // nil while it is shut
}

// New makes a link without doors.
func New(name string) *Link {
	return &Link{name: name, since: make(chan struct{}), conns: map[*conn]bool{}}
}

// Open adds a door at an address, behind which is another address.
func (l *Link) Open(at, to string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := &door{to: to, at: at}
	if err := l.unlock(d); err != nil {
		return fmt.Errorf("link %s: %w", l.name, err)
	}
	l.doors = append(l.doors, d)
	return nil
}

// unlock has a door let connections in.
func (l *Link) unlock(d *door) (err error) {
	if d.listener, err = net.Listen("tcp", d.at); err != nil {
		d.listener = nil
		return err
	}
	listener := d.listener
	l.all.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // it was shut
			}
			l.all.Go(func() { l.let(c, d.to) })
		}
	})
	return nil
}

// let connects a connection to what is behind the door.
func (l *Link) let(c net.Conn, to string) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	there, err := new(net.Dialer).DialContext(ctx, "tcp", to)
	if err != nil {
		reset(c) // as a machine does on which nobody listens, a moment later
		return
	}
	l.join(c, there)
}

// Name returns its name.
func (l *Link) Name() string { return l.name }

// Bites returns how often the faults have done something: pieces that were delayed, dripped or swallowed, and
// connections that were reset or truncated. Who is refused is so by the kernel, and so a door that is shut counts
// once.
func (l *Link) Bites() int64 { return l.bites.Load() }

// Set replaces the faults of both directions; the zero value heals. It panics where a latency is no duration.
func (l *Link) Set(outFault, backFault chaos.LinkFault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, f := range []chaos.LinkFault{outFault, backFault} {
		l.rules[i] = rule{LinkFault: f, latency: duration(f.Latency), number: l.rules[i].number + 1}
	}
	close(l.since)
	l.since = make(chan struct{})
	for c := range l.conns {
		if c.holes[out] && !outFault.Drop || c.holes[back] && !backFault.Drop {
			c.reset()
		}
	}
	l.doorsFor(outFault.Refuse || backFault.Refuse)
}

// Cut resets the connections that are open.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.reset()
	}
}

func duration(s string) time.Duration {
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(fmt.Sprintf("the latency of a link: %v", err)) // a mistake of the experiment's
	}
	return d
}

// doorsFor shuts or opens the doors.
func (l *Link) doorsFor(refuse bool) {
	for _, d := range l.doors {
		switch {
		case refuse && d.listener != nil:
			_ = d.listener.Close()
			d.listener = nil
			l.bites.Add(1)
		case !refuse && d.listener == nil && !l.ended:
			end := time.Now().Add(reopenLimit)
			err := l.unlock(d)
			for err != nil && time.Now().Before(end) {
				time.Sleep(20 * time.Millisecond)
				err = l.unlock(d)
			}
			if err != nil {
				l.err = errors.Join(l.err, fmt.Errorf("link %s could not be opened again: %w", l.name, err))
			}
		}
	}
}

// Close shuts the doors and resets all connections.
func (l *Link) Close() error {
	l.mu.Lock()
	l.ended = true
	for _, d := range l.doors {
		if d.listener != nil {
			_ = d.listener.Close()
			d.listener = nil
		}
	}
	for c := range l.conns {
		c.reset()
	}
	l.mu.Unlock()
	l.all.Wait()
	return l.err
}
