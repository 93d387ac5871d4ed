package sqldb_test

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"holdfast/embedded/sqlite"
	"holdfast/platform/sqldb"
	"holdfast/test/fakes"
	"holdfast/test/postgres"
)

// eachDatabase runs test on both dialects with an open that opens one and the same new database each time.
func eachDatabase(t *testing.T, test func(t *testing.T, open func() *sqldb.DB)) {
	t.Helper()
	run := func(name string, config func(t *testing.T) sqldb.Config) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			test(t, func() *sqldb.DB {
				db, err := sqldb.Open(t.Context(), cfg, fakes.Deps(t))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = db.Close() })
				return db
			})
		})
	}
	run("sqlite", func(t *testing.T) sqldb.Config {
		return sqldb.Config{Driver: "sqlite", SQLite: sqlite.Connector, Path: filepath.Join(t.TempDir(), "test.db")}
	})
	run("postgres", func(t *testing.T) sqldb.Config {
		return sqldb.Config{Driver: "postgres", DSN: postgres.DSN(t)}
	})
}

// files makes migrations; each names its statements.
func files(statements map[string]string) fstest.MapFS {
	m := make(fstest.MapFS)
	for name, s := range statements {
		m[name] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + s)}
	}
	return m
}

// has lists which of the tables t1 to t9 there are.
func has(t *testing.T, db *sqldb.DB) (tables []string) {
	t.Helper()
	query := "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 't_' ORDER BY name"
	if db.Dialect() == sqldb.Postgres {
		query = "SELECT tablename FROM pg_tables WHERE tablename LIKE 't_' ORDER BY tablename"
	}
	if err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
		tables, err = list[string](ctx, tx, query)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return tables
}

func migrate(t *testing.T, db *sqldb.DB, fsys fs.FS) {
	t.Helper()
	if err := db.Migrate(t.Context(), "test", fsys); err != nil {
		t.Fatal(err)
	}
}

func TestMigrateTwiceAndFurther(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, open func() *sqldb.DB) {
		db := open()
		statements := map[string]string{"01000_a.sql": "CREATE TABLE t1 (id {{.Serial}}, b {{.Bytes}}, at BIGINT DEFAULT {{.Now}}, s {{.Text}});"}
		migrate(t, db, files(statements))
		migrate(t, db, files(statements))
		// One that was lent by another package comes later with a lower number.
		statements["00002_b.sql"] = "CREATE TABLE t2 (a TEXT);"
		statements["01001_c.sql"] = "CREATE TABLE t3 (a TEXT);"
		migrate(t, open(), files(statements))
		if got := has(t, db); !slices.Equal(got, []string{"t1", "t2", "t3"}) {
			t.Errorf("tables %q", got)
		}
	})
}

func TestMigrateConcurrently(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, open func() *sqldb.DB) {
		statements := make(map[string]string)
		for _, n := range []string{"1", "2", "3", "4", "5"} {
			statements["0000"+n+"_t.sql"] = "CREATE TABLE t" + n + " (a TEXT);\nINSERT INTO t" + n + " VALUES ('once');"
		}
		var wg sync.WaitGroup
		for range 8 {
			db := open()
			wg.Go(func() {
				if err := db.Migrate(t.Context(), "test", files(statements)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		db := open()
		if got := has(t, db); len(got) != 5 {
			t.Errorf("tables %q", got)
		}
		var n int
		if err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			return tx.QueryRow(ctx, "SELECT count(*) FROM t3").Scan(&n)
		}); err != nil || n != 1 {
			t.Errorf("a migration ran %d times, %v", n, err)
		}
	})
}

// TestMigrateWhileInUse migrates a database that others write to.
// TestMigrateWhileInUse: the writers end by themselves, since SQLite's lock goes to whoever finds it free,
// and writers who never pause would keep it from a newcomer until that one's time is up.
func TestMigrateWhileInUse(t *testing.T) {
	t.Parallel()
	const most = 100
	eachDatabase(t, func(t *testing.T, open func() *sqldb.DB) {
		db := open()
		statements := map[string]string{"00001_t.sql": "CREATE TABLE t1 (a BIGINT NOT NULL);"}
		migrate(t, db, files(statements))
		ctx, cancel := context.WithCancel(t.Context())
		wrote := make(chan struct{}, 1)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for range most {
					if ctx.Err() != nil {
						return
					}
					if err := db.Update(t.Context(), run("INSERT INTO t1 (a) VALUES (?)", i)); err != nil {
						t.Error(err)
						return
					}
					select {
					case wrote <- struct{}{}:
					default:
					}
				}
			})
		}
		<-wrote
		statements["00002_t.sql"] = "ALTER TABLE t1 ADD COLUMN b BIGINT NOT NULL DEFAULT 7;\nUPDATE t1 SET b = 8;"
		migrate(t, open(), files(statements))
		cancel()
		wg.Wait()
		update(t, db, run("INSERT INTO t1 (a, b) VALUES (?, ?)", 1, 2))
	})
}

func TestMigrateErrors(t *testing.T) {
	t.Parallel()
	good := map[string]string{"00001_good.sql": "CREATE TABLE t1 (a TEXT);"}
	with := func(name, content string) fstest.MapFS {
		m := files(good)
		m[name] = &fstest.MapFile{Data: []byte(content)}
		return m
	}
	tests := []struct {
		name  string
		files fs.FS
		says  []string
	}{
		{"bad SQL", with("00002_bad.sql", "-- +goose Up\nCREATE TABLE t2 (a TEXT);\nCREATE TABEL t3 (a TEXT);"), []string{"00002_bad.sql", "TABEL"}},
		{"no annotation", with("00002_bad.sql", "CREATE TABLE t2 (a TEXT);"), []string{"00002_bad.sql"}},
		{"a statement without an end", with("00002_bad.sql", "-- +goose Up\nCREATE TABLE t2 (a TEXT)"), []string{"00002_bad.sql"}},
		{"bad template", with("00002_bad.sql", "-- +goose Up\nCREATE TABLE t2 (a {{.Serial);"), []string{"00002_bad.sql"}},
		{"unknown type", with("00002_bad.sql", "-- +goose Up\nCREATE TABLE t2 (a {{.Real}});"), []string{"00002_bad.sql", "Real"}},
		{"empty", with("00002_bad.sql", " \n"), []string{"00002_bad.sql", "empty"}},
		{"no version", with("bad.sql", "-- +goose Up\nCREATE TABLE t2 (a TEXT);"), []string{"bad.sql", "version"}},
		{"one version twice", with("1_bad.sql", "-- +goose Up\nCREATE TABLE t2 (a TEXT);"), []string{"1_bad.sql", "00001_good.sql"}},
		{"none", fstest.MapFS{"readme.txt": {Data: []byte("x")}}, []string{"no *.sql file"}},
	}
	eachDatabase(t, func(t *testing.T, open func() *sqldb.DB) {
		db := open()
		migrate(t, db, files(good))
		for _, test := range tests {
			err := db.Migrate(t.Context(), "test", test.files)
			if err == nil {
				t.Errorf("%s: accepted", test.name)
				continue
			}
			for _, s := range test.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%s: %v; it does not say %q", test.name, err, s)
				}
			}
			if got := has(t, db); !slices.Equal(got, []string{"t1"}) {
				t.Errorf("%s: it left tables %q", test.name, got)
			}
		}
		migrate(t, db, files(good)) // and no error left a mark
	})
}

func TestMigrateRefuses(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, open func() *sqldb.DB) {
		db := open()
		one := map[string]string{"00001_t.sql": "CREATE TABLE t1 (a TEXT);"}
		two := map[string]string{"00001_t.sql": one["00001_t.sql"], "00002_t.sql": "CREATE TABLE t2 (a TEXT);"}
		migrate(t, db, files(two))
		if err := db.Migrate(t.Context(), "test", files(one)); !errors.Is(err, sqldb.ErrNewer) || !strings.Contains(err.Error(), "migration 2") {
			t.Errorf("a newer database: %v", err)
		}
		if err := db.Migrate(t.Context(), "other", files(two)); err == nil || !strings.Contains(err.Error(), "belongs to service test") {
			t.Errorf("another's database: %v", err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := db.Migrate(ended, "test", files(two)); !errors.Is(err, context.Canceled) {
			t.Errorf("an ended context: %v", err)
		}
	})
}

func TestMerge(t *testing.T) {
	t.Parallel()
	a := files(map[string]string{"00001_a.sql": "CREATE TABLE t1 (a TEXT);"})
	b := files(map[string]string{"01000_b.sql": "CREATE TABLE t2 (a TEXT);", "01001_b.sql": "CREATE TABLE t3 (a TEXT);"})
	merged, err := sqldb.Merge(a, b)
	if err != nil {
		t.Fatal(err)
	}
	got, err := fs.Glob(merged, "*")
	if want := []string{"00001_a.sql", "01000_b.sql", "01001_b.sql"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	for name, folders := range map[string][]fs.FS{
		"one file twice":    {a, a},
		"one version twice": {a, files(map[string]string{"1_other.sql": "CREATE TABLE t2 (a TEXT);"})},
		"an empty folder":   {a, fstest.MapFS{}},
	} {
		if _, err := sqldb.Merge(folders...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
