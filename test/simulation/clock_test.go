package simulation

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestClock: what a clock shows jumps, and the time between two readings does not.
func TestClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &clock{wrong: new(atomic.Int64), host: NewNetwork(nil).host("holdfast")}
		before := c.Now()
		if !before.Equal(time.Now()) {
			t.Errorf("it shows %s, and it is %s", before, time.Now())
		}
		c.wrong.Store(int64(-24 * time.Hour))
		time.Sleep(1500 * time.Millisecond)
		after := c.Now()
		if passed := after.Sub(before); passed != 1500*time.Millisecond {
			t.Errorf("%s have passed", passed)
		}
		if shown := after.Round(0).Sub(before.Round(0)); shown != 1500*time.Millisecond-24*time.Hour {
			t.Errorf("it has moved by %s", shown)
		}
		if after.Location() != time.Now().Location() || after.Nanosecond() != time.Now().Nanosecond() {
			t.Errorf("it shows %s at %s", after, time.Now())
		}
	})
}

// TestHang: what reaches a process that hangs, what it sends and its timers wait until it goes on.
func TestHang(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(map[int]string{portPSP: "psp"})
		server, client := n.host("psp"), n.host("holdfast")
		l, err := server.Listen(t.Context(), "tcp", at(portPSP))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		mine, err := client.DialContext(t.Context(), "tcp", at(portPSP))
		if err != nil {
			t.Fatal(err)
		}
		defer mine.Close()
		theirs, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		began := time.Now()
		n.hang("psp", began.Add(time.Minute))
		if _, err := mine.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		alarm, stop := (&clock{wrong: new(atomic.Int64), host: server}).Timer(time.Second)
		defer stop()
		var b [1]byte
		if _, err := theirs.Read(b[:]); err != nil || time.Since(began) != time.Minute {
			t.Errorf("it read %q after %s: %v", b, time.Since(began), err)
		}
		if <-alarm; time.Since(began) != time.Minute {
			t.Errorf("its timer went off after %s", time.Since(began))
		}
		n.hang("psp", time.Now().Add(time.Minute))
		if _, err := theirs.Write([]byte("!")); err != nil {
			t.Fatal(err)
		}
		if _, err := mine.Read(b[:]); err != nil || time.Since(began) < 2*time.Minute {
			t.Errorf("%q arrived after %s: %v", b, time.Since(began), err)
		}
	})
}
