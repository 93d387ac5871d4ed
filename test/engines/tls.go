package engines

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// farewell is how long a client that was not let in may take to hear of it.
const farewell = 5 * time.Second

// BehindTLS puts a server that speaks no TLS itself behind a door that does, and lets nobody in whose certificate is
// not of the same authority as the door's own. It returns the door's address, at which it is until the test ends.
func BehindTLS(t testing.TB, to string, c Certificates) string {
	t.Helper()
	own, err := tls.LoadX509KeyPair(c.server, c.server)
	must(t, err)
	pem, err := os.ReadFile(c.Authority)
	must(t, err)
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(pem)
	config := &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, NextProtos: []string{"h2"}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	d := &door{to: to, config: config, open: map[net.Conn]bool{}}
	d.all.Go(func() { d.accept(listener) })
	t.Cleanup(func() {
		_ = listener.Close() // it ends accept
		d.close()
		d.all.Wait()
	})
	return listener.Addr().String()
}

// door copies what comes to it by TLS to a server, and back.
type door struct {
	to     string
	config *tls.Config
	all    sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
}

func (d *door) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		d.all.Go(func() { d.serve(conn) })
	}
}

// serve carries one connection until either side ends it.
func (d *door) serve(conn net.Conn) {
	if !d.keep(conn) {
		return
	}
	defer d.drop(conn)
	outer := tls.Server(conn, d.config)
	if outer.Handshake() != nil {
		// Closed with something unread it would be reset, and the client might not hear why.
		_ = conn.(*net.TCPConn).CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(farewell))
		_, _ = io.Copy(io.Discard, conn)
		return
	}
	inner, err := net.Dial("tcp", d.to)
	if err != nil || !d.keep(inner) {
		return
	}
	defer d.drop(inner)
	d.all.Go(func() {
		_, _ = io.Copy(inner, outer)
		_ = inner.Close()
	})
	_, _ = io.Copy(outer, inner)
}

// keep notes a connection for close; it is closed at once where that has been.
func (d *door) keep(c net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		_ = c.Close()
		return false
	}
	d.open[c] = true
	return true
}

func (d *door) drop(c net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = c.Close()
	delete(d.open, c)
}

func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for c := range d.open {
		_ = c.Close()
	}
}
