package link

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/check/chaos"
)

// patience bounds every wait.
const patience = 20 * time.Second

var healthy chaos.LinkFault // nothing is wrong

// echo is a server that sends back what it gets. It returns its address.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

// open makes a link before an echo, and tells where its door is.
func open(t *testing.T) (*Link, string) {
	t.Helper()
	l := New("a>b")
	if err := l.Open("127.0.0.1:0", echo(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	at := l.doors[0].listener.Addr().String()
	l.doors[0].at = at // so that it is opened again at the same port
	return l, at
}

func dial(t *testing.T, at string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// say sends a text and returns what comes back, until it is as long or the connection ends.
func say(t *testing.T, c net.Conn, text string) (string, error) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		return "", err
	}
	b := make([]byte, len(text))
	n, err := io.ReadFull(c, b)
	return string(b[:n]), err
}

func wantSaid(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if got, err := say(t, c, text); err != nil || got != text {
		t.Fatalf("got %q, %v, want %q", got, err, text)
	}
}

func TestWhole(t *testing.T) {
	t.Parallel()
	l, at := open(t)
	c := dial(t, at)
	wantSaid(t, c, "hello")
	big := strings.Repeat("0123456789abcdef", 100_000)
	got := make(chan string)
	go func() {
		b, _ := io.ReadAll(c)
		got <- string(b)
	}()
	if _, err := c.Write([]byte(big)); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil { // the end goes through as well, and what is under way comes back
		t.Fatal(err)
	}
	if back := <-got; back != big {
		t.Errorf("%d bytes came back of %d", len(back), len(big))
	}
	if n := l.Bites(); n != 0 {
		t.Errorf("%d bites without a fault", n)
	}
}

// TestCut: a connection is reset or closed in the middle of what comes next, in either direction, and it is the share
// that was asked for.
func TestCut(t *testing.T) {
	t.Parallel()
	const text = "0123456789"
	reset, truncate := chaos.LinkFault{ResetAt: 1}, chaos.LinkFault{Truncate: 1}
	for name, test := range map[string]struct {
		out, back chaos.LinkFault
		got       string // "" or half of what was said
		ends      error
	}{
		"reset out":     {out: reset, ends: syscall.ECONNRESET},
		"reset back":    {back: reset, ends: syscall.ECONNRESET},
		"truncate out":  {out: truncate, ends: io.EOF},
		"truncate back": {back: truncate, got: text[:5], ends: io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, at := open(t)
			c := dial(t, at)
			wantSaid(t, c, text)
			l.Set(test.out, test.back)
			got, err := say(t, c, text)
			if !errors.Is(err, test.ends) || test.got != "" && got != test.got {
				t.Errorf("got %q and %v, want %q and %v", got, err, test.got, test.ends)
			}
			if n := l.Bites(); n != 1 {
				t.Errorf("%d bites, want 1", n)
			}
			l.Set(healthy, healthy)
			wantSaid(t, dial(t, at), text)
		})
	}
}

func TestShare(t *testing.T) {
	t.Parallel()
	l, at := open(t)
	l.Set(chaos.LinkFault{ResetAt: 0.25}, healthy)
	var cut []int
	for i := range 12 {
		c := dial(t, at)
		if _, err := say(t, c, "one"); err != nil {
			cut = append(cut, i)
			continue
		}
		wantSaid(t, c, "two") // one that was spared stays so
	}
	if !slices.Equal(cut, []int{3, 7, 11}) || l.Bites() != 3 {
		t.Errorf("cut were %v with %d bites, want each fourth", cut, l.Bites())
	}
}

// TestDrop: what is sent is swallowed without a word, and the connection, which has a hole, is reset when it is over.
func TestDrop(t *testing.T) {
	t.Parallel()
	drop := chaos.LinkFault{Drop: true}
	for name, faults := range map[string][2]chaos.LinkFault{"out": {drop, healthy}, "back": {healthy, drop}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, at := open(t)
			c, idle := dial(t, at), dial(t, at)
			wantSaid(t, c, "before")
			wantSaid(t, idle, "before")
			l.Set(faults[0], faults[1])
			if _, err := c.Write([]byte("lost")); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(patience); l.Bites() == 0 && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			if l.Bites() != 1 {
				t.Fatalf("%d bites, want 1", l.Bites())
			}
			if err := c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("something came: %d bytes, %v", n, err)
			}
			if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			l.Set(healthy, healthy)
			if n, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("with a hole in it the connection goes on: %d bytes, %v", n, err)
			}
			wantSaid(t, idle, "after")
		})
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	l, at := open(t)
	c := dial(t, at)
	wantSaid(t, c, "before")
	l.Set(chaos.LinkFault{Refuse: true}, healthy)
	if _, err := net.Dial("tcp", at); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection ends with %v", err)
	}
	wantSaid(t, c, "meanwhile")
	if l.Bites() != 1 {
		t.Errorf("%d bites, want 1", l.Bites())
	}
	l.Set(healthy, healthy)
	wantSaid(t, dial(t, at), "after")
}

// TestNobody: who comes while nobody is behind the door is reset.
func TestNobody(t *testing.T) {
	t.Parallel()
	l := New("a>b")
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(nobody.Close(), l.Open("127.0.0.1:0", nobody.Addr().String())); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.doors[0].listener.Addr().String())
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("it ends with %v", err)
	}
}

// piped runs test in virtual time with both ends of a connection through a link.
func piped(t *testing.T, test func(t *testing.T, l *Link, client, server net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := New("a>b")
		client, here := net.Pipe()
		there, server := net.Pipe()
		l.all.Go(func() { l.join(here, there) })
		synctest.Wait()
		test(t, l, client, server)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// arrivals reads pieces until the connection ends, and tells when each came.
func arrivals(c net.Conn) <-chan arrival {
	all := make(chan arrival, 1000)
	began := time.Now()
	go func() {
		defer close(all)
		b := make([]byte, pieceSize)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			all <- arrival{string(b[:n]), time.Since(began)}
		}
	}()
	return all
}

type arrival struct {
	text string
	at   time.Duration
}

// TestLatency: pieces come later, in their order, and do not wait for one another.
func TestLatency(t *testing.T) {
	t.Parallel()
	piped(t, func(t *testing.T, l *Link, client, server net.Conn) {
		l.Set(chaos.LinkFault{Latency: "2s"}, healthy)
		got := arrivals(server)
		for _, text := range []string{"one", "two", "three"} {
			if _, err := client.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(500 * time.Millisecond)
		}
		for i, want := range []arrival{{"one", 2 * time.Second}, {"two", 2500 * time.Millisecond}, {"three", 3 * time.Second}} {
			if a := <-got; a != want {
				t.Errorf("piece %d: %v, want %v", i, a, want)
			}
		}
		if l.Bites() != 3 {
			t.Errorf("%d bites, want 3", l.Bites())
		}
		if _, err := client.Write([]byte("four")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		healed := time.Now()
		l.Set(healthy, healthy)
		if a := <-got; a.text != "four" || time.Since(healed) != 0 {
			t.Errorf("healed, %q comes after %s", a.text, time.Since(healed))
		}
	})
}

// TestDrip: bytes come at a rate, and what is left comes at once when it is over.
func TestDrip(t *testing.T) {
	t.Parallel()
	piped(t, func(t *testing.T, l *Link, client, server net.Conn) {
		l.Set(healthy, chaos.LinkFault{Drip: 100})
		began := time.Now()
		got := arrivals(client)
		text := bytes.Repeat([]byte("x"), 1000)
		if _, err := server.Write(text); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		n := 0
		for len(got) > 0 {
			a := <-got
			n += len(a.text)
			if most := int(a.at.Seconds()*100 + 0.5); n > most {
				t.Errorf("%d bytes after %s, want %d at most", n, a.at, most)
			}
		}
		if n != 500 {
			t.Errorf("%d bytes after %s, want 500", n, time.Since(began))
		}
		l.Set(healthy, healthy)
		if a := <-got; len(a.text) != 500 || a.at != 5*time.Second {
			t.Errorf("healed, %d bytes come at %s", len(a.text), a.at)
		}
	})
}

func TestBadLatency(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("a latency that is none was taken")
		}
	}()
	New("a>b").Set(chaos.LinkFault{Latency: "soon"}, healthy)
}
