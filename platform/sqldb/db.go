package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"holdfast/shop"
)

// Dialect is the kind of a database.
type Dialect string

// The dialects; the values are those of Config.Driver.
const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
)

// Config says which database to open. The zero value of a limit means its default.
type Config struct {
	Driver   string `koanf:"driver"`    // "sqlite" or "postgres"
	Path     string `koanf:"path"`      // the file of a SQLite database
	DSN      string `koanf:"dsn"`       // the address of a PostgreSQL database; it may hold a secret
	Password string `koanf:"password"`  // of PostgreSQL, where it is not in the address
	MaxConns int    `koanf:"max_conns"` // SQLite: readers, 4 unless told; PostgreSQL: connections, 16 unless told

	SQLite Connector `koanf:"-"` // the driver of SQLite

	Guard Guard `koanf:"-"` // asked before each Update and View; nil lets all through
}

// Guard keeps transactions from a database that is down or has too many of them already.
type Guard interface {
	// Enter lets a transaction in, or refuses it with an error of kind Unavailable or Overloaded. done is
	// called once with what came of the transaction; an error that the transaction's own function
	// returned says nothing about the database.
	Enter(ctx context.Context, write bool) (done func(error), err error)
}

// Validate tells what is wrong with c.
func (c Config) Validate() error {
	switch {
	case c.Driver != string(SQLite) && c.Driver != string(Postgres):
		return fmt.Errorf("driver %q: it must be sqlite or postgres", c.Driver)
	case c.Driver == string(SQLite) && c.Path == "":
		return errors.New("path: a sqlite database needs a file")
	case c.Driver == string(SQLite) && c.SQLite == nil:
		return errors.New("driver: sqlite is not built into this program")
	case c.Driver == string(Postgres) && c.DSN == "":
		return errors.New("dsn: a postgres database needs an address")
	case c.MaxConns < 0 || c.MaxConns > maxConnsLimit:
		return fmt.Errorf("max_conns %d: it must be between 0 (the default) and %d", c.MaxConns, maxConnsLimit)
	}
	return nil
}

const (
	maxConnsLimit   = 1000
	sqliteReaders   = 4
	postgresConns   = 16
	openTimeLimit   = 15 * time.Second
	defaultPingTime = 5 * time.Second
)

// ErrNoRows is what Row.Scan returns where there was no row.
var ErrNoRows = sql.ErrNoRows

// DB is a database. Its methods are safe for concurrent use.
type DB struct {
	engine engine
	deps   shop.Deps
	guard  Guard
}

// engine is what differs between the dialects.
type engine interface {
	dialect() Dialect
	update(ctx context.Context, fn func(context.Context, *Tx) error) error
	view(ctx context.Context, fn func(context.Context, *Tx) error) error
	read(ctx context.Context, fn func(context.Context, *Tx) error) error
	migrate(ctx context.Context, service string, fsys fs.FS) error
	ping(ctx context.Context) error
	stats() Stats
	close() error
}

// Stats are counts since Open. Gauges are as of now.
type Stats struct {
	Queued       int   // updates waiting for the writer (SQLite), callers waiting for a connection (PostgreSQL: 0)
	Groups       int64 // commits
	Transactions int64 // updates that were carried out, whatever came of them
	LargestGroup int   // most transactions in one commit
	Retries      int64 // transactions that were run again (PostgreSQL)
	LogBytes     int64 // size of SQLite's write-ahead log when it was last looked at
}

// Open opens a database and checks that it can be used. The file of a SQLite database is made where it is
// missing. Errors say what to do; those that may pass by themselves are Unavailable.
func Open(ctx context.Context, cfg Config, deps shop.Deps) (*DB, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("database configuration: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeLimit)
	defer cancel()
	var e engine
	var err error
	if cfg.Driver == string(SQLite) {
		e, err = openSQLite(ctx, cfg, deps)
	} else {
		e, err = openPostgres(ctx, cfg, deps)
	}
	if err != nil {
		return nil, err
	}
	return &DB{engine: e, deps: deps, guard: cfg.Guard}, nil
}

// Dialect tells the kind of the database.
func (db *DB) Dialect() Dialect { return db.engine.dialect() }

// nested is the mark that Update and View leave in the context of their function.
type nested struct{ db *DB }

func (db *DB) enter(ctx context.Context) (context.Context, error) {
	if ctx.Value(nested{db}) != nil {
		return nil, shop.E(shop.Internal, "sqldb", "a transaction was begun inside a transaction on the same database: it would wait for itself")
	}
	return context.WithValue(ctx, nested{db}, true), nil
}

// Update runs fn in a write transaction and commits it when fn returns nil. When Update returns nil, the
// transaction is durable; when it returns an error, the transaction is undone, with one exception: an
// Unavailable error may mean that the answer to the commit was lost, and the outcome is unknown.
//
// On SQLite fn runs on the writer goroutine along with other transactions and must not block. On
// PostgreSQL fn may run several times. A caller whose context ends while it waits for its turn gets the
// context's error and fn is not run; once fn has begun, the answer is the outcome (SQLite).
// A panic of fn undoes the transaction and goes on in the caller.
func (db *DB) Update(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	return db.guarded(ctx, true, func(ctx context.Context) error { return db.engine.update(ctx, fn) })
}

// guarded runs a transaction where the guard lets it in.
func (db *DB) guarded(ctx context.Context, write bool, run func(context.Context) error) (err error) {
	if ctx, err = db.enter(ctx); err != nil {
		return err
	}
	if db.guard == nil {
		return run(ctx)
	}
	done, err := db.guard.Enter(ctx, write)
	if err != nil {
		return err
	}
	end := errUnfinished // unless run returns: it may panic
	defer func() { done(end) }()
	err = run(ctx)
	end = err
	return err
}

// errUnfinished is what a guard hears of a transaction whose function panicked.
var errUnfinished = errors.New("the transaction's function did not return")

// View runs fn on a snapshot of the database, which is that of its first query. A write in it is an error.
func (db *DB) View(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	return db.guarded(ctx, false, func(ctx context.Context) error { return db.engine.view(ctx, fn) })
}

// Read is View for a single query. On PostgreSQL that spares two of three round trips, and each query of an fn that
// makes several has a snapshot of its own; Now is one of them.
func (db *DB) Read(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	return db.guarded(ctx, false, func(ctx context.Context) error { return db.engine.read(ctx, fn) })
}

// Migrate brings the schema up to date with the *.sql files at the root of fsys, which are goose
// migrations and templates (see Types). It may be repeated and may run in many processes at once. A
// service has a database of its own: migrating another service's is refused, and so is a database that
// has migrations which this program does not know.
func (db *DB) Migrate(ctx context.Context, service string, fsys fs.FS) error {
	return db.engine.migrate(ctx, service, fsys)
}

// Ping tells whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, defaultPingTime)
	defer cancel()
	return db.engine.ping(ctx)
}

// Stats returns counts for metrics.
func (db *DB) Stats() Stats { return db.engine.stats() }

// Close ends the database's goroutines and connections. Updates that wait are refused as Unavailable; one
// that runs is finished first.
func (db *DB) Close() error { return db.engine.close() }
