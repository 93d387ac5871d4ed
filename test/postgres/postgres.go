package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"holdfast/test/engines"
)

// BinVariable is the environment variable that names the directory of the binaries initdb and postgres, or
// is "none" for doing without.
const BinVariable = "HOLDFAST_TEST_POSTGRES_BIN"

const (
	minVersion = 15
	startLimit = 60 * time.Second // a machine that runs many tests at once is slow
	maxConns   = 300
)

// shared is the one server of the process. Tests share it, each with a database of its own.
var shared = sync.OnceValues(start)

// errMissing means that there is no PostgreSQL on this machine.
var errMissing = errors.New("PostgreSQL 15 or newer is not installed: apt-get install postgresql-15, or set " + BinVariable + " to the directory that holds initdb and postgres")

// DSN returns the address of a new, empty database, which is dropped at the end of the test. Without a
// PostgreSQL the test is skipped, or fails where the environment says CI=true.
func DSN(t testing.TB) string {
	t.Helper()
	engines.SkipIfEmbedded(t)
	s := get(t)
	name := fmt.Sprintf("t%d", s.names.Add(1))
	s.exec(t, "CREATE DATABASE "+name)
	t.Cleanup(func() { s.exec(t, "DROP DATABASE "+name+" WITH (FORCE)") })
	return s.dsn(name)
}

func get(t testing.TB) *server {
	t.Helper()
	s, err := shared()
	switch {
	case errors.Is(err, errMissing) && os.Getenv("CI") != "true":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	return s
}

// server is a running PostgreSQL.
type server struct {
	bin   string
	dir   string   // holds data, the socket and the log
	life  *os.File // the janitor comes when this is closed, which nobody does but the end of the process
	cmd   *exec.Cmd
	extra []string // more arguments
	names atomic.Int64
}

// start makes a cluster and starts it. The postmaster is told by the kernel when the thread that started
// it ends, and so that thread is kept for as long as the process lives.
func start() (*server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	who, err := account()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "holdfast-pg-")
	if err != nil {
		return nil, err
	}
	s := &server{bin: bin, dir: dir}
	if s.life, err = janitor(dir); err != nil {
		return nil, fmt.Errorf("start a PostgreSQL for tests: %w", err)
	}
	if err := s.create(who); err != nil {
		return nil, fmt.Errorf("start a PostgreSQL for tests: %w", err)
	}
	ready := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for ever: see above
		if err := s.run(who); err != nil {
			ready <- err
			return
		}
		ready <- nil
		_ = s.cmd.Wait()
	}()
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("start a PostgreSQL for tests: %w", err)
	}
	if err := s.wait(s.dsn("postgres"), nil); err != nil {
		return nil, fmt.Errorf("start a PostgreSQL for tests: %w", err)
	}
	return s, nil
}

// create makes the files of the cluster, with nothing synced: it does not outlive the process.
func (s *server) create(who *syscall.Credential) error {
	if who != nil {
		if err := os.Chown(s.dir, int(who.Uid), int(who.Gid)); err != nil {
			return err
		}
	}
	var err error
	for _, locale := range locales {
		args := append([]string{"--pgdata", filepath.Join(s.dir, "data"), "--username=holdfast", "--auth=trust",
			"--encoding=UTF8", "--no-sync", "--no-instructions"}, locale...)
		cmd := exec.Command(filepath.Join(s.bin, "initdb"), args...)
		cmd.Dir = s.dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
		var out []byte
		if out, err = cmd.CombinedOutput(); err == nil {
			return nil
		}
		err = fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return err
}

// locales are tried in this order. English is how most databases are set up, and it sorts otherwise than
// SQLite does, which a test should notice; some builds of PostgreSQL lack it.
var locales = [][]string{
	{"--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8"},
	{"--no-locale"},
}

func (s *server) run(who *syscall.Credential) error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"-D", filepath.Join(s.dir, "data"), "-k", s.dir,
		"-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=32MB",
		"-c", "max_connections=" + strconv.Itoa(maxConns), "-c", "max_wal_size=256MB", "-c", "autovacuum_max_workers=1"}
	s.cmd = exec.Command(filepath.Join(s.bin, "postgres"), append(args, s.extra...)...)
	s.cmd.Dir = s.dir
	s.cmd.Stdout, s.cmd.Stderr = log, log
	// SIGQUIT has the postmaster end its children at once, which SIGKILL does not.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who, Pdeathsig: syscall.SIGQUIT, Setpgid: true}
	return s.cmd.Start()
}

// wait returns when the server lets somebody in, or has ended.
func (s *server) wait(dsn string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, dsn)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-tick.C:
			continue
		case <-ended:
			err = errors.New("it ended by itself")
		case <-ctx.Done():
		}
		log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		return fmt.Errorf("it does not answer: %w\n%s", err, bytes.TrimSpace(log))
	}
}

func (s *server) dsn(database string) string {
	return fmt.Sprintf("host=%s port=5432 user=holdfast dbname=%s sslmode=disable", s.dir, database)
}

func (s *server) exec(t testing.TB, query string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.dsn("postgres"))
	if err != nil {
		t.Errorf("throwaway PostgreSQL: %v", err)
		return
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, query); err != nil {
		t.Errorf("throwaway PostgreSQL: %s: %v", query, err)
	}
}

// binaries returns the directory of the newest PostgreSQL.
func binaries() (string, error) {
	if dir := os.Getenv(BinVariable); dir == "none" {
		return "", errMissing
	} else if dir != "" {
		if v := version(dir); v < minVersion {
			return "", fmt.Errorf("%s=%s: no PostgreSQL of version %d or newer is there", BinVariable, dir, minVersion)
		}
		return dir, nil
	}
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	more, _ := filepath.Glob("/usr/pgsql-*/bin")
	dirs = append(dirs, more...)
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	best := slices.MaxFunc(append(dirs, ""), func(a, b string) int { return version(a) - version(b) })
	if version(best) < minVersion {
		return "", errMissing
	}
	return best, nil
}

// version returns the major version of the PostgreSQL in dir, 0 where there is none.
func version(dir string) int {
	if dir == "" {
		return 0
	}
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return 0
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0
	}
	major, _ := strconv.Atoi(string(digits.Find(out)))
	return major
}

var digits = regexp.MustCompile(`[0-9]+`)

// account returns whom to run as: PostgreSQL refuses to run as root.
func account() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is neither an account postgres nor nobody")
}
