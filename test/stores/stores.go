// Package stores runs a store's test on every database that Holdfast supports.
package stores

import (
	"io/fs"
	"path/filepath"
	"testing"

	"holdfast/embedded/sqlite"
	"holdfast/platform/sqldb"
	"holdfast/shop"
	"holdfast/test/fakes"
	"holdfast/test/postgres"
)

// Open opens a new database and migrates it; nil means that there is nothing to migrate. It is closed at
// the end of the test that is given.
type Open func(t *testing.T, migrations fs.FS) *sqldb.DB

// Each runs test as the parallel subtests sqlite and postgres.
func Each(t *testing.T, test func(t *testing.T, open Open)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, SQLite)
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, Postgres)
	})
}

// SQLite is an Open.
func SQLite(t *testing.T, migrations fs.FS) *sqldb.DB {
	t.Helper()
	return SQLiteAt(fakes.Deps(t))(t, migrations)
}

// SQLiteAt is an Open with dependencies of the test's choice: SQLite's clock is theirs.
func SQLiteAt(deps shop.Deps) Open {
	return func(t *testing.T, migrations fs.FS) *sqldb.DB {
		t.Helper()
		return open(t, sqldb.Config{Driver: "sqlite", SQLite: sqlite.Connector, Path: filepath.Join(t.TempDir(), "test.db")}, migrations, deps)
	}
}

// Postgres is an Open.
func Postgres(t *testing.T, migrations fs.FS) *sqldb.DB {
	t.Helper()
	return open(t, sqldb.Config{Driver: "postgres", DSN: postgres.DSN(t)}, migrations, fakes.Deps(t))
}

func open(t *testing.T, cfg sqldb.Config, migrations fs.FS, deps shop.Deps) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if migrations != nil {
		if err := db.Migrate(t.Context(), "test", migrations); err != nil {
			t.Fatal(err)
		}
	}
	return db
}
