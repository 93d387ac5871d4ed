package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

const (
	versionTable     = "schema_versions"
	migrateTimeLimit = 10 * time.Minute
	migrationLock    = 0x686f6c64_66617374 // "holdfast", a PostgreSQL advisory lock
)

// ErrNewer is the error of Migrate for a database that a newer program has migrated.
var ErrNewer = errors.New("the database is newer than this program: use the newer program, or restore the backup made before it ran")

// migrate lets one process at a time in, and makes the others wait.
func (db *postgresDB) migrate(ctx context.Context, service string, fsys fs.FS) error {
	ctx, cancel := context.WithTimeout(ctx, migrateTimeLimit)
	defer cancel()
	pool := stdlib.OpenDB(*db.config) // beside the pool, whose connections others may be holding
	defer pool.Close()
	err := func() error {
		lock, err := pool.Conn(ctx)
		if err != nil {
			return err
		}
		defer lock.Close()
		if _, err := lock.ExecContext(ctx, "SELECT pg_advisory_lock($1)", int64(migrationLock)); err != nil {
			return err
		}
		return migration{dialect: Postgres, db: pool, service: service, log: db.deps.Log}.run(ctx, fsys)
	}() // the lock ends with the pool
	if err != nil {
		return fmt.Errorf("migrate database %s of %s: %w", db.config.Database, service, classify(err, postgresUnavailable, false))
	}
	return nil
}

// migrate tries again as long as somebody else is getting on with the same work: SQLite has no lock that
// spans transactions, but each migration is a transaction that happens once.
func (db *sqliteDB) migrate(ctx context.Context, service string, fsys fs.FS) error {
	ctx, cancel := context.WithTimeout(ctx, migrateTimeLimit)
	defer cancel()
	pool, err := openFile(db.driver, db.path, writerPragmas())
	if err != nil {
		return openError(db.path, err)
	}
	defer pool.Close()
	m := migration{dialect: SQLite, db: pool, service: service, log: db.deps.Log}
	for before := 0; ; {
		err := m.run(ctx, fsys)
		if err == nil {
			return nil
		}
		after, e := m.applied(ctx)
		if e != nil || len(after) == before {
			return fmt.Errorf("migrate database file %s of %s: %w", db.path, service, classify(err, sqliteUnavailable, false))
		}
		before = len(after)
	}
}

// migration is one run of goose.
type migration struct {
	dialect Dialect
	db      *sql.DB
	service string
	log     *slog.Logger
}

func (m migration) run(ctx context.Context, fsys fs.FS) error {
	fsys, err := render(fsys, m.dialect)
	if err != nil {
		return err
	}
	if err := m.own(ctx); err != nil {
		return err
	}
	dialect := goose.DialectSQLite3
	if m.dialect == Postgres {
		dialect = goose.DialectPostgres
	}
	// Out of order: the packages that lend a service their tables number theirs below the service's own.
	p, err := goose.NewProvider(dialect, m.db, fsys, goose.WithTableName(versionTable),
		goose.WithAllowOutofOrder(true), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	if err := m.checkNewer(ctx, p.ListSources()); err != nil {
		return err
	}
	done, err := p.Up(ctx)
	for _, r := range done {
		m.log.Info("migration applied", "service", m.service, "file", r.Source.Path)
	}
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		return fmt.Errorf("migration %s: %w", partial.Failed.Source.Path, partial.Err)
	}
	return err
}

// own writes down whose database this is, and refuses another's: the versions of two services say nothing
// of one another.
func (m migration) own(ctx context.Context) error {
	_, err := m.db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS schema_owner (one INTEGER PRIMARY KEY CHECK (one = 1), service TEXT NOT NULL)")
	if err != nil {
		return err
	}
	insert := "INSERT INTO schema_owner (one, service) VALUES (1, ?) ON CONFLICT DO NOTHING"
	if m.dialect == Postgres {
		insert = rebind(insert)
	}
	if _, err := m.db.ExecContext(ctx, insert, m.service); err != nil {
		return err
	}
	owner := ""
	if err := m.db.QueryRowContext(ctx, "SELECT service FROM schema_owner").Scan(&owner); err != nil {
		return err
	}
	if owner != m.service {
		return fmt.Errorf("it belongs to service %s: give each service a database of its own", owner)
	}
	return nil
}

func (m migration) checkNewer(ctx context.Context, sources []*goose.Source) error {
	applied, err := m.applied(ctx)
	if err != nil {
		return err
	}
	for _, v := range applied {
		known := slices.ContainsFunc(sources, func(s *goose.Source) bool { return s.Version == v })
		if !known && v != 0 { // goose begins its table with a row 0
			return fmt.Errorf("%w (it has had migration %d)", ErrNewer, v)
		}
	}
	return nil
}

// applied lists the versions that the database has had.
func (m migration) applied(ctx context.Context) (versions []int64, err error) {
	exists := "SELECT count(*) FROM sqlite_schema WHERE name = '" + versionTable + "'"
	if m.dialect == Postgres {
		exists = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = '" + versionTable + "'"
	}
	n := 0
	if err := m.db.QueryRowContext(ctx, exists).Scan(&n); err != nil || n == 0 {
		return nil, err
	}
	rows, err := m.db.QueryContext(ctx, "SELECT version_id FROM "+versionTable+" ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v int64
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		versions = append(versions, v)
	}
	return versions, rows.Err()
}
