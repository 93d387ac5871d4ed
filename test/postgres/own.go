package postgres

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/test/engines"
)

// Server is a PostgreSQL of a test's own, which the test may end and start again, at the same address and
// on the same files. Its methods are for the test's goroutine.
type Server struct {
	s     *server
	who   *syscall.Credential
	port  int
	ended chan struct{}
}

// Start starts a server for one test. It costs a second or two; DSN costs less.
func Start(t testing.TB) *Server {
	t.Helper()
	engines.SkipIfEmbedded(t)
	bin, err := binaries()
	if errors.Is(err, errMissing) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	o := &Server{}
	if o.who, err = account(); err != nil {
		t.Fatal(err)
	}
	if o.port, err = freePort(); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "holdfast-pg-") // the other account cannot get into the test's own
	if err != nil {
		t.Fatal(err)
	}
	o.s = &server{bin: bin, dir: dir, extra: []string{"-c", "listen_addresses=127.0.0.1", "-c", "port=" + strconv.Itoa(o.port)}}
	life, err := janitor(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if o.ended != nil {
			o.end(t, syscall.SIGQUIT)
		}
		_ = life.Close()
	})
	if err := o.s.create(o.who); err != nil {
		t.Fatal(err)
	}
	o.Start(t)
	return o
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Addr returns where it listens.
func (o *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", o.port) }

// DSN returns the address of a database of the server, which is there without being made if it is "postgres".
func (o *Server) DSN(database string) string {
	return fmt.Sprintf("postgres://holdfast@%s/%s?sslmode=disable", o.Addr(), database)
}

// Start starts it again and waits until it lets somebody in. What a killed one has left behind may keep it
// from starting for a moment.
func (o *Server) Start(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(startLimit)
	for {
		err := o.start()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("throwaway PostgreSQL: %v", err)
		}
	}
}

func (o *Server) start() error {
	ready, ended := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread() // for good, as in start
		err := o.s.run(o.who)
		ready <- err
		if err == nil {
			_ = o.s.cmd.Wait()
		}
		close(ended)
	}()
	if err := <-ready; err != nil {
		return err
	}
	o.ended = ended
	return o.s.wait(o.DSN("postgres"), ended)
}

// Stop has it end in order; it does not wait for its clients to go.
func (o *Server) Stop(t testing.TB) { t.Helper(); o.end(t, syscall.SIGINT) }

// Kill ends it as a crash does: nothing is written that was not before. Its children are killed with it,
// since one that serves a client would go on.
func (o *Server) Kill(t testing.TB) {
	t.Helper()
	pid := o.s.cmd.Process.Pid
	if err := o.s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatalf("throwaway PostgreSQL: %v", err)
	}
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatalf("throwaway PostgreSQL: its children: %v", err)
	}
	for _, word := range strings.Fields(string(list)) {
		child, err := strconv.Atoi(word)
		if err != nil {
			t.Fatalf("throwaway PostgreSQL: its children: %v", err)
		}
		_ = syscall.Kill(child, syscall.SIGKILL) // it may have ended meanwhile
	}
	o.end(t, syscall.SIGKILL)
}

func (o *Server) end(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := o.s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("throwaway PostgreSQL: %v", err)
	}
	select {
	case <-o.ended:
	case <-time.After(startLimit):
		t.Fatalf("throwaway PostgreSQL: it did not end within %v of %v", startLimit, sig)
	}
}
