package points

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"

	"holdfast/shop"
	"holdfast/test/fakes"
)

// network is the machine's, with the writes of connections counted.
type network struct {
	fakes.Net
	trap  *trap
	links map[string]string // by address: api, bus, psp, carrier
	bus   exchanges
}

// DialContext dials.
func (w *network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := w.Net.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	switch link := w.links[address]; link {
	case "bus":
		return &busClient{Conn: c, w: w}, nil
	case "psp", "carrier":
		return &requests{Conn: c, trap: w.trap, party: link}, nil
	default:
		return c, nil
	}
}

// Listen listens.
func (w *network) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	l, err := w.Net.Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &listener{l, w, w.links[address]}, nil
}

var _ shop.Net = (*network)(nil)

// listener wraps what it accepts.
type listener struct {
	net.Listener
	w    *network
	link string
}

// Accept waits for a connection.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	switch l.link {
	case "bus":
		return &busServer{Conn: c, w: l.w}, nil
	case "api":
		return &answers{Conn: c, trap: l.w.trap}, nil
	default:
		return c, nil
	}
}

// requests is a connection to an outside party.
type requests struct {
	net.Conn
	trap  *trap
	party string
}

// Write sends a request. What only asks is no effect.
func (c *requests) Write(p []byte) (int, error) {
	what, ok := operation(p)
	if !ok {
		return c.Conn.Write(p)
	}
	return c.trap.write("request:"+c.party+"."+what, p, c.Conn.Write)
}

// operation names a request that changes something by the end of its path.
func operation(p []byte) (string, bool) {
	line, _, _ := bytes.Cut(p, []byte("\r\n"))
	path, ok := bytes.CutPrefix(line, []byte("POST "))
	if !ok {
		return "", false
	}
	path, _, _ = bytes.Cut(path, []byte(" "))
	parts := strings.Split(strings.Trim(string(path), "/"), "/")
	return parts[len(parts)-1], true
}

// answers is a connection of a client of ours.
type answers struct {
	net.Conn
	trap *trap

	mu   sync.Mutex
	head []byte // the first line of the request, as far as it was read
}

// maxHead is more than a first line has.
const maxHead = 1 << 10

// Read reads of a request.
func (c *answers) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.head = append(c.head, p[:min(n, maxHead-len(c.head))]...)
	return n, err
}

// Write sends an answer. One to what only asks is no effect.
func (c *answers) Write(p []byte) (int, error) {
	c.mu.Lock()
	what, ok := operation(c.head)
	c.head = c.head[:0]
	c.mu.Unlock()
	if !ok {
		return c.Conn.Write(p)
	}
	return c.trap.write("answer:"+what, p, c.Conn.Write)
}

// exchanges are the requests to the bus that wait for their answers.
type exchanges struct {
	mu   sync.Mutex
	open map[string]exchange
}

type exchange struct {
	effect string
	n      int
}

func (x *exchanges) put(key string, e exchange) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.open[key] = e
}

func (x *exchanges) take(key string) (exchange, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e, ok := x.open[key]
	delete(x.open, key)
	return e, ok
}

func exchangeKey(client net.Addr, correlation int32) string {
	return fmt.Sprintf("%s %d", client, correlation)
}

// busClient is a connection to the bus, which is in this process, too: what counts is what the bus has
// written when both of them die. Before an exchange that is nothing. In the half of it the bus has written,
// and its client does not know. After it the answer has been sent.
type busClient struct {
	net.Conn
	w *network
}

// Write sends a request.
func (c *busClient) Write(p []byte) (int, error) {
	if effect, correlation, ok := busEffect(p); ok {
		if n := c.w.trap.begin(effect); n > 0 {
			c.w.bus.put(exchangeKey(c.LocalAddr(), correlation), exchange{effect, n})
		}
	}
	return c.Conn.Write(p)
}

// busServer is a connection that the bus has accepted.
type busServer struct {
	net.Conn
	w *network
}

// Write sends an answer.
func (c *busServer) Write(p []byte) (int, error) {
	e, ok := c.w.bus.take(exchangeKey(c.RemoteAddr(), correlationOf(p)))
	if !ok {
		return c.Conn.Write(p)
	}
	c.w.trap.meet(e.effect, e.n, Half)
	n, err := c.Conn.Write(p)
	c.w.trap.meet(e.effect, e.n, After)
	return n, err
}
