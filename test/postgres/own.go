package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"holdfast/check/engine"
	"holdfast/test/engines"
)

// Server is a PostgreSQL of a test's own, which the test may end and start again, at the same address and
// on the same files. Its methods are for the test's goroutine.
type Server struct {
	engines.Process
	s     *engine.Postgres
	login string // user, and password where it wants one
}

// Start starts a server for one test. It costs a second or two; DSN costs less.
func Start(t testing.TB) *Server {
	t.Helper()
	engines.SkipIfEmbedded(t)
	o := newServer(t, nil)
	o.Start(t)
	return o
}

func newServer(t testing.TB, from *engine.Postgres) *Server {
	t.Helper()
	s, life, err := prepare(engines.Address(t), from)
	engines.Need(t, err)
	t.Cleanup(func() { _ = life.Close() })
	return &Server{Process: engines.Own(t, s.Process), s: s, login: "holdfast"}
}

// Backup takes a backup of all databases, as of one instant, while others write to them. It is a server that has not
// been started.
func (o *Server) Backup(t testing.TB) *Server {
	t.Helper()
	return newServer(t, o.s)
}

// Addr returns where it listens.
func (o *Server) Addr() string { return o.s.Addr() }

// DSN returns the address of a database of the server, which is there without being made if it is "postgres".
func (o *Server) DSN(database string) string {
	return engine.PostgresDSN(o.login, o.Addr(), database)
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
	if err := os.WriteFile(filepath.Join(o.s.Data(), "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	o.exec(t, `SELECT pg_reload_conf()`)
	o.login += ":" + password
	for deadline := time.Now().Add(patience); o.lets(t, "holdfast") && time.Now().Before(deadline); { // it reads the rules a moment later
	}
}

// lets tells whether it lets somebody in.
func (o *Server) lets(t testing.TB, login string) bool {
	conn, err := pgx.Connect(t.Context(), engine.PostgresDSN(login, o.Addr(), "postgres"))
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
