package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// PostgresBinVariable is the environment variable that names the directory of the binaries initdb and postgres, or
// is "none" for doing without.
const PostgresBinVariable = "HOLDFAST_TEST_POSTGRES_BIN"

const (
	minPostgres      = 15
	postgresMaxConns = 300
	wrongPassword    = "28P01" // or none where one is wanted; PostgreSQL's manual, appendix A
)

var errNoPostgres = fmt.Errorf("PostgreSQL 15 or newer is %w: apt-get install postgresql-15, or set %s to the directory that holds initdb and postgres", ErrMissing, PostgresBinVariable)

// PostgresConfig describes a server.
type PostgresConfig struct {
	// Dir is for its files, and exists. Where this process is root's another account runs the server and gets the
	// directory, which that account must be able to reach.
	Dir string
	// Addr is where it listens; without one it is a socket in Dir.
	Addr string
	// Settings are added to its own, and win.
	Settings map[string]string
	// From is a server that runs; this one begins with a backup of it, taken now.
	From *Postgres
}

// Postgres is a PostgreSQL. Anybody on this machine may use it, as user holdfast, without a password.
type Postgres struct {
	*Process
	cfg PostgresConfig
	bin string
}

// NewPostgres prepares the files of a server. They are not synced, which the server does with what it writes later.
func NewPostgres(cfg PostgresConfig) (*Postgres, error) {
	s := &Postgres{cfg: cfg}
	var err error
	if s.bin, err = postgresBinaries(); err != nil {
		return nil, err
	}
	who, err := account()
	if err != nil {
		return nil, err
	}
	if err := s.create(who); err != nil {
		return nil, fmt.Errorf("PostgreSQL: %w", err)
	}
	// SIGQUIT has the postmaster end its children at once, which SIGKILL does not. SIGINT is the stop that does not
	// wait for clients to go.
	s.Process = New(Spec{Name: "postgres", Log: filepath.Join(cfg.Dir, "log"), Ready: s.ready, Stop: syscall.SIGINT, Orphan: syscall.SIGQUIT, As: who, Again: true,
		Command: s.command})
	return s, nil
}

// create makes the files of the cluster.
func (s *Postgres) create(who *syscall.Credential) error {
	if who != nil {
		if err := os.Chown(s.cfg.Dir, int(who.Uid), int(who.Gid)); err != nil {
			return err
		}
	}
	if s.cfg.From != nil {
		return s.backUp(who)
	}
	var err error
	for _, locale := range locales {
		args := append([]string{"--pgdata", s.Data(), "--username=holdfast", "--auth=trust", "--encoding=UTF8", "--no-sync", "--no-instructions"}, locale...)
		cmd := exec.Command(filepath.Join(s.bin, "initdb"), args...)
		cmd.Dir = s.cfg.Dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
		var out []byte
		if out, err = cmd.CombinedOutput(); err == nil {
			return nil
		}
		err = fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return err
}

// backUp takes a copy of the other server's files as they are at its end, while that goes on.
func (s *Postgres) backUp(who *syscall.Credential) error {
	host, port, err := net.SplitHostPort(s.cfg.From.Addr())
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(s.bin, "pg_basebackup"), "--pgdata="+s.Data(), "--host="+host, "--port="+port, "--username=holdfast", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
	cmd.Dir = s.cfg.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	return nil
}

// locales are tried in this order. English is how most databases are set up, and it sorts otherwise than
// SQLite does, which a test should notice; some builds of PostgreSQL lack it.
var locales = [][]string{
	{"--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8"},
	{"--no-locale"},
}

func (s *Postgres) command() *exec.Cmd {
	settings := map[string]string{"listen_addresses": "", "unix_socket_directories": s.cfg.Dir, "max_connections": strconv.Itoa(postgresMaxConns)}
	if host, port, err := net.SplitHostPort(s.cfg.Addr); err == nil {
		settings["listen_addresses"], settings["port"], settings["unix_socket_directories"] = host, port, ""
	}
	for name, value := range s.cfg.Settings {
		settings[name] = value
	}
	args := []string{"-D", s.Data()}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), args...)
	cmd.Dir = s.cfg.Dir
	return cmd
}

// Data is the directory of the server's own files.
func (s *Postgres) Data() string { return filepath.Join(s.cfg.Dir, "data") }

// Addr is where it listens; "" where that is a socket.
func (s *Postgres) Addr() string { return s.cfg.Addr }

// DSN returns the address of a database, which is there without being made if it is "postgres".
func (s *Postgres) DSN(database string) string {
	if s.cfg.Addr == "" {
		return fmt.Sprintf("host=%s port=5432 user=holdfast dbname=%s sslmode=disable", s.cfg.Dir, database)
	}
	return PostgresDSN("holdfast", s.cfg.Addr, database)
}

// PostgresDSN is the address of a database. The login is a user, or with ":" a password as well.
func PostgresDSN(login, addr, database string) string {
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", login, addr, database)
}

// ready asks whether it lets somebody in; one that wants a password says so when it is.
func (s *Postgres) ready(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		var refusal *pgconn.PgError
		if errors.As(err, &refusal) && refusal.Code == wrongPassword {
			return nil
		}
		return err
	}
	return conn.Close(ctx)
}

// Exec carries out a statement.
func (s *Postgres) Exec(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return fmt.Errorf("PostgreSQL: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // its work is done or has failed
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("PostgreSQL: %s: %w", statement, err)
	}
	return nil
}

// CreateDatabases makes a database for each service and returns their address with {service} in it.
func (s *Postgres) CreateDatabases(ctx context.Context, services ...string) (string, error) {
	for _, service := range services {
		if err := s.Exec(ctx, fmt.Sprintf(`CREATE DATABASE "holdfast_%s"`, service)); err != nil {
			return "", err
		}
	}
	return s.DSN("holdfast_{service}"), nil
}

// postgresBinaries returns the directory of the newest PostgreSQL.
func postgresBinaries() (string, error) {
	if dir := os.Getenv(PostgresBinVariable); dir == "none" {
		return "", errNoPostgres
	} else if dir != "" {
		if v := postgresVersion(dir); v < minPostgres {
			return "", fmt.Errorf("%s=%s: no PostgreSQL of version %d or newer is there", PostgresBinVariable, dir, minPostgres)
		}
		return dir, nil
	}
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	more, _ := filepath.Glob("/usr/pgsql-*/bin")
	dirs = append(dirs, more...)
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	best := slices.MaxFunc(append(dirs, ""), func(a, b string) int { return postgresVersion(a) - postgresVersion(b) })
	if postgresVersion(best) < minPostgres {
		return "", errNoPostgres
	}
	return best, nil
}

// postgresVersion returns the major version of the PostgreSQL in dir, 0 where there is none.
func postgresVersion(dir string) int {
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
