package simulation

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// firstPort is the first one that is given to those who ask for any.
const firstPort = 40000

// Network connects the hosts of a world. Links are named by who dials and by what listens: "holdfast>psp".
type Network struct {
	faults func(p *pair, dir direction, n int, now time.Time) effect

	mu        sync.Mutex
	names     map[int]string // of ports
	listeners map[int]*listener
	pairs     map[*pair]struct{}
	ordinals  map[string]int // connections so far, by link
	port      int
	trap      *trap
	hosts     map[string]*host // the latest life of each process
}

// direction is that of what is sent.
type direction int

const (
	there direction = iota // from the one who dialled: requests
	back                   // answers
)

// effect is what becomes of one write.
type effect struct {
	latency   time.Duration
	heldUntil time.Time     // by a partition
	lose      bool          // it and all that follows it
	noticed   time.Duration // after that time the loss breaks the connection; 0: it does not
	reset     bool
	drop      bool  // what is sent is lost in a reset, or with the trap
	trap      *trap // its process dies now
	refuse    bool  // a dial
}

// NewNetwork returns a network without faults. names are those of the ports that are known beforehand.
func NewNetwork(names map[int]string) *Network {
	return &Network{names: names, listeners: map[int]*listener{}, pairs: map[*pair]struct{}{}, ordinals: map[string]int{}, port: firstPort, hosts: map[string]*host{}}
}

func (n *Network) effect(p *pair, dir direction, write int) (e effect) {
	n.mu.Lock()
	faults, t := n.faults, n.trap
	if t != nil && write >= 0 && t.link == p.link && t.dir == dir {
		if t.left--; t.left < 0 {
			n.trap = nil
		} else {
			t = nil
		}
	} else {
		t = nil
	}
	n.mu.Unlock()
	if faults != nil {
		e = faults(p, dir, write, time.Now())
	}
	if t != nil {
		e.trap, e.drop = t, e.drop || t.drop
	}
	return e
}

// trap has a process die at a write on a link.
type trap struct {
	link   string
	dir    direction
	left   int // writes to let pass
	drop   bool
	host   *host
	sprung chan struct{} // closed when it happens
}

func (n *Network) setTrap(t *trap) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trap = t
}

func (n *Network) forget(p *pair) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.pairs, p)
}

// setFaults replaces what goes wrong; nil is nothing. It ends partitions for what is sent from now on.
func (n *Network) setFaults(f func(p *pair, dir direction, n int, now time.Time) effect) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = f
}

// those returns the connections for which is holds.
func (n *Network) those(is func(*pair) bool) (hit []*pair) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p := range n.pairs {
		if is(p) {
			hit = append(hit, p)
		}
	}
	return hit
}

// resetAll breaks every connection.
func (n *Network) resetAll() {
	for _, p := range n.those(func(*pair) bool { return true }) {
		p.reset()
	}
}

// resetLost breaks the connections that have lost something and do not know it yet.
func (n *Network) resetLost() {
	for _, p := range n.those(func(*pair) bool { return true }) {
		if p.there.hasLost() || p.back.hasLost() {
			p.reset()
		}
	}
}

func (h *half) hasLost() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost
}

// host is a process on the network, from its start to its death. It implements shop.Net.
type host struct {
	net   *Network
	name  string
	dead  atomic.Bool
	hangs atomic.Int64 // until when, in nanoseconds since 1970
}

func (n *Network) host(name string) *host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := &host{net: n, name: name}
	n.hosts[name] = h
	return h
}

// kill takes the host off the network at once.
func (h *host) kill() {
	h.dead.Store(true)
	h.net.mu.Lock()
	for port, l := range h.net.listeners {
		if l.host == h {
			delete(h.net.listeners, port)
			l.once.Do(func() { close(l.closed) })
		}
	}
	h.net.mu.Unlock()
	for _, p := range h.net.those(func(p *pair) bool { return p.ends[0] == h || p.ends[1] == h }) {
		p.die(h)
	}
}

var errDead = errors.New("this process is dead")

// DialContext implements shop.Net.
func (h *host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) { return nil, &net.OpError{Op: "dial", Net: network, Err: err} }
	if h.dead.Load() {
		return fail(errDead)
	}
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return fail(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return fail(err)
	}
	p := h.net.pair(h, port)
	e := h.net.effect(p, there, -1)
	if wait := max(e.latency, time.Until(e.heldUntil), h.hanging()); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return fail(ctx.Err())
		}
	}
	if e.refuse {
		return fail(syscall.ECONNREFUSED)
	}
	return h.net.connect(ctx, h, port, p)
}

// pair prepares a connection.
func (n *Network) pair(h *host, port int) *pair {
	n.mu.Lock()
	defer n.mu.Unlock()
	name := n.names[port]
	if name == "" {
		name = strconv.Itoa(port)
	}
	link := h.name + ">" + name
	n.ordinals[link]++
	p := &pair{link: link, ordinal: n.ordinals[link], net: n}
	p.there, p.back = newHalf(p, there), newHalf(p, back)
	return p
}

func (n *Network) connect(ctx context.Context, h *host, port int, p *pair) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[port]
	n.port++
	from, to := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: n.port}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
	if l == nil || h.dead.Load() {
		n.mu.Unlock()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: to, Err: syscall.ECONNREFUSED}
	}
	p.ends = [2]*host{h, l.host}
	n.pairs[p] = struct{}{}
	n.mu.Unlock()
	mine := &conn{pair: p, host: h, in: p.back, out: p.there, local: from, remote: to}
	theirs := &conn{pair: p, host: l.host, in: p.there, out: p.back, local: to, remote: from}
	select {
	case l.queue <- theirs:
		return mine, nil
	case <-l.closed:
		n.forget(p)
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: to, Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		n.forget(p)
		return nil, ctx.Err()
	}
}

// backlog is how many connections wait to be accepted.
const backlog = 128

type listener struct {
	host   *host
	addr   *net.TCPAddr
	queue  chan *conn
	closed chan struct{}
	once   sync.Once
}

// Listen implements shop.Net.
func (h *host) Listen(_ context.Context, network, address string) (net.Listener, error) {
	fail := func(err error) (net.Listener, error) { return nil, &net.OpError{Op: "listen", Net: network, Err: err} }
	if h.dead.Load() {
		return fail(errDead)
	}
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return fail(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return fail(err)
	}
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if port == 0 {
		n.port++
		port = n.port
	}
	if n.listeners[port] != nil {
		return fail(syscall.EADDRINUSE)
	}
	l := &listener{host: h, addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}, queue: make(chan *conn, backlog), closed: make(chan struct{})}
	n.listeners[port] = l
	return l, nil
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
	default:
	}
	select {
	case c := <-l.queue:
		l.host.waitRunning()
		return c, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	l.host.net.mu.Lock()
	if l.host.net.listeners[l.addr.Port] == l {
		delete(l.host.net.listeners, l.addr.Port)
	}
	l.host.net.mu.Unlock()
	for {
		select {
		case c := <-l.queue:
			c.pair.reset()
		default:
			return nil
		}
	}
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.addr }
