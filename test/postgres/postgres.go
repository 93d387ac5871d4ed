package postgres

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/check/engine"
	"holdfast/test/engines"
)

// BinVariable is the environment variable that names the directory of the binaries initdb and postgres, or
// is "none" for doing without.
const BinVariable = engine.PostgresBinVariable

const patience = 60 * time.Second // a machine that runs many tests at once is slow

// throwaway is how a server is set that does not outlive the process: nothing is synced, and it is small.
var throwaway = map[string]string{"fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB", "max_wal_size": "256MB", "autovacuum_max_workers": "1"}

// shared is the one server of the process. Tests share it, each with a database of its own.
var shared = sync.OnceValues(func() (server, error) {
	s, life, err := prepare("", nil)
	if err != nil {
		return server{}, err
	}
	return server{s, life}, s.Start(context.Background())
})

// server is the shared one. Its directory is removed when life is closed, which nobody does but the end of the process.
type server struct {
	*engine.Postgres
	life *os.File
}

var names atomic.Int64

// prepare makes a server in a directory that is removed when life is closed, which the test's own could not be: the
// account of the server cannot get into that.
func prepare(addr string, from *engine.Postgres) (s *engine.Postgres, life *os.File, err error) {
	dir, err := os.MkdirTemp("", "holdfast-pg-")
	if err != nil {
		return nil, nil, err
	}
	if life, err = engine.Sweep(dir); err != nil {
		return nil, nil, err
	}
	if s, err = engine.NewPostgres(engine.PostgresConfig{Dir: dir, Addr: addr, Settings: throwaway, From: from}); err != nil {
		_ = life.Close()
		return nil, nil, err
	}
	return s, life, nil
}

// DSN returns the address of a new, empty database, which is dropped at the end of the test. Without a
// PostgreSQL the test is skipped, or fails where the environment says CI=true.
func DSN(t testing.TB) string {
	t.Helper()
	engines.SkipIfEmbedded(t)
	s, err := shared()
	engines.Need(t, err)
	name := fmt.Sprintf("t%d", names.Add(1))
	execute(t, s.Postgres, "CREATE DATABASE "+name)
	t.Cleanup(func() { execute(t, s.Postgres, "DROP DATABASE "+name+" WITH (FORCE)") })
	return s.DSN(name)
}

func execute(t testing.TB, s *engine.Postgres, statement string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Exec(ctx, statement); err != nil {
		t.Errorf("throwaway %v", err)
	}
}
