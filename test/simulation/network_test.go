package simulation

import (
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestPlanIsPure: a seed is one plan, and two seeds are two.
func TestPlanIsPure(t *testing.T) {
	t.Parallel()
	if !reflect.DeepEqual(NewPlan(7), NewPlan(7)) {
		t.Error("one seed, two plans")
	}
	if a, b := NewPlan(7), NewPlan(8); reflect.DeepEqual(a.Orders, b.Orders) {
		t.Error("two seeds, one plan")
	}
}

// TestChanceIsEven: what hits a share of the writes hits that share.
func TestChanceIsEven(t *testing.T) {
	t.Parallel()
	hit := 0
	for n := range 10_000 {
		if chance(1, &pair{link: "a>b", ordinal: 3}, back, n, "lose") < 0.25 {
			hit++
		}
	}
	if hit < 2300 || hit > 2700 {
		t.Errorf("%d of 10000 hit at a rate of a quarter", hit)
	}
}

// connected returns both ends of a connection, and the process that dialled.
func connected(t *testing.T, n *Network) (from, to net.Conn, h *host) {
	t.Helper()
	l, err := n.host("server").Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h = n.host("client")
	from, err = h.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	to, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return from, to, h
}

// TestConnection: what is written arrives after its latency, and what comes to an end or breaks is seen
// as TCP shows it.
func TestConnection(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		effect effect
		then   func(net.Conn, *host) // after the write; nil: close it
		want   string
		err    error // of the read after that
		took   time.Duration
	}{
		"the end":          {want: "word", err: io.EOF},
		"slow":             {effect: effect{latency: time.Second}, want: "word", err: io.EOF, took: time.Second},
		"lost":             {effect: effect{lose: true}, err: os.ErrDeadlineExceeded, took: time.Hour},
		"lost and noticed": {effect: effect{lose: true, noticed: time.Minute}, err: syscall.ECONNRESET, took: time.Minute},
		"reset":            {effect: effect{reset: true, drop: true}, err: syscall.ECONNRESET},
		"death":            {then: func(_ net.Conn, h *host) { h.kill() }, want: "word", err: syscall.ECONNRESET, took: minLatency},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := NewNetwork(nil)
				from, to, h := connected(t, n)
				n.setFaults(func(_ *pair, _ direction, write int, _ time.Time) effect {
					if write < 0 {
						return effect{}
					}
					return test.effect
				})
				began := time.Now()
				if err := to.SetReadDeadline(began.Add(time.Hour)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(from, "word"); err != nil {
					t.Fatal(err)
				}
				if test.then != nil {
					test.then(from, h)
				} else {
					_ = from.Close()
				}
				got, err := io.ReadAll(to)
				if err == nil {
					err = io.EOF
				}
				if string(got) != test.want || !errors.Is(err, test.err) || time.Since(began) != test.took {
					t.Errorf("read %q and %v after %s, want %q and %v after %s", got, err, time.Since(began), test.want, test.err, test.took)
				}
			})
		})
	}
}

// TestDeadHost: nobody reaches a process that is dead, and it reaches nobody.
func TestDeadHost(t *testing.T) {
	t.Parallel()
	n := NewNetwork(nil)
	from, to, h := connected(t, n)
	h.kill()
	for name, c := range map[string]net.Conn{"the dialled": to, "the dialling": from} {
		if _, err := io.WriteString(c, "word"); err == nil {
			if _, err = c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if _, err := h.DialContext(t.Context(), "tcp", to.LocalAddr().String()); !errors.Is(err, errDead) {
		t.Errorf("dial: %v", err)
	}
}
