package sqldb_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"holdfast/embedded/sqlite"
	"holdfast/platform/sqldb"
	"holdfast/test/fakes"
	"holdfast/test/postgres"
)

// eachBench runs bench on both dialects with callers at once.
func eachBench(b *testing.B, bench func(b *testing.B, db *sqldb.DB)) {
	open := func(b *testing.B, cfg sqldb.Config) *sqldb.DB {
		deps := fakes.Deps(b)
		deps.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
		db, err := sqldb.Open(b.Context(), cfg, deps)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = db.Close() })
		if err := db.Migrate(b.Context(), "test", schema()); err != nil {
			b.Fatal(err)
		}
		return db
	}
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("sqlite/%d", callers), func(b *testing.B) {
			b.SetParallelism(callers)
			bench(b, open(b, sqldb.Config{Driver: "sqlite", SQLite: sqlite.Connector, Path: filepath.Join(b.TempDir(), "test.db")}))
		})
		b.Run(fmt.Sprintf("postgres/%d", callers), func(b *testing.B) {
			b.SetParallelism(callers)
			bench(b, open(b, sqldb.Config{Driver: "postgres", DSN: postgres.DSN(b), MaxConns: 64}))
		})
	}
}

// BenchmarkUpdateGroup commits what an order commits, about: four rows in three statements, durable on
// SQLite and, since the tests' PostgreSQL does not sync, not there.
func BenchmarkUpdateGroup(b *testing.B) {
	body := strings.Repeat("x", 600)
	eachBench(b, func(b *testing.B, db *sqldb.DB) {
		var n atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				name := fmt.Sprint("order ", n.Add(1))
				err := db.Update(b.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
					if err := execute(ctx, tx, "INSERT INTO things (name, amount, at, payload) VALUES (?, ?, ?, ?)", name, 1, 2, body); err != nil {
						return err
					}
					var id int64
					if err := tx.QueryRow(ctx, "SELECT id FROM things WHERE name = ?", name).Scan(&id); err != nil {
						return err
					}
					return execute(ctx, tx, "INSERT INTO parts (thing, number) VALUES "+sqldb.Rows(3, 2), name, 1, name, 2, name, 3)
				})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
		s := db.Stats()
		b.ReportMetric(float64(s.Transactions)/float64(max(s.Groups, 1)), "tx/commit")
	})
}

// BenchmarkView reads one row.
func BenchmarkView(b *testing.B) {
	eachBench(b, func(b *testing.B, db *sqldb.DB) {
		if err := db.Update(b.Context(), add("a", 1)); err != nil {
			b.Fatal(err)
		}
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				var n int
				err := db.View(b.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
					return tx.QueryRow(ctx, "SELECT amount FROM things WHERE name = ?", "a").Scan(&n)
				})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}
