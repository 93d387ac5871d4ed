package postgres

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"holdfast/test/engines"
)

// Server is a PostgreSQL of a test's own, which the test may end and start again, at the same address and
// on the same files. Its methods are for the test's goroutine.
type Server struct {
	s     *server
	who   *syscall.Credential
	port  int
	login string // user, and password where it wants one
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
	o := &Server{login: "holdfast"}
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
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", o.login, o.Addr(), database)
}

// Databases makes a database for each service and returns their address with {service} in it.
func (o *Server) Databases(t testing.TB, services ...string) string {
	t.Helper()
	for _, service := range services {
		o.exec(t, fmt.Sprintf(`CREATE DATABASE "holdfast_%s"`, service))
	}
	return o.DSN("holdfast_{service}")
}

// WantPassword has it let nobody in by the network without a password, as one in production does (SCRAM).
func (o *Server) WantPassword(t testing.TB, password string) {
	t.Helper()
	o.exec(t, fmt.Sprintf(`ALTER USER holdfast PASSWORD '%s'`, password))
	rules := "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(o.s.dir, "data", "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	o.exec(t, `SELECT pg_reload_conf()`)
	o.login += ":" + password
	for deadline := time.Now().Add(startLimit); o.lets(t, "holdfast") && time.Now().Before(deadline); { // it reads the rules a moment later
	}
}

// lets tells whether it lets somebody in.
func (o *Server) lets(t testing.TB, login string) bool {
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://%s@%s/postgres?sslmode=disable", login, o.Addr()))
	if err != nil {
		return false
	}
	_ = conn.Close(t.Context())
	return true
}

func (o *Server) exec(t testing.TB, query string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), o.DSN("postgres"))
	if err != nil {
		t.Fatalf("throwaway PostgreSQL: %v", err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), query); err != nil {
		t.Fatalf("throwaway PostgreSQL: %s: %v", query, err)
	}
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
