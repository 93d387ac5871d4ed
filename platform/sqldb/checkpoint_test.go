package sqldb_test

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"holdfast/platform/sqldb"
	"holdfast/test/fakes"
)

const mega = 1 << 20

// openPages opens a database with rows of about a page each, a megabyte together.
func openPages(t *testing.T) (db *sqldb.DB, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "test.db")
	db = openFile(t, path, fakes.Deps(t))
	update(t, db, run(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 256)
		INSERT INTO things (name, payload) SELECT 'n' || i, zeroblob(3500) FROM n`))
	return db, path
}

// churn writes about n megabytes through the log.
func churn(t *testing.T, db *sqldb.DB, n int) {
	t.Helper()
	for range n {
		update(t, db, run("UPDATE things SET amount = amount + 1"))
	}
}

func logSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestLogStaysSmall writes more than the log may hold with no reader in the way.
func TestLogStaysSmall(t *testing.T) {
	t.Parallel()
	db, path := openPages(t)
	churn(t, db, 60)
	if size := logSize(t, path); size > 40*mega {
		t.Errorf("the log has %d MB", size/mega)
	}
}

// TestLogWithOverlappingReaders has readers that overlap, so that there is hardly a moment at which SQLite
// by itself could begin the log anew.
func TestLogWithOverlappingReaders(t *testing.T) {
	t.Parallel()
	db, path := openPages(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			busy := make([]byte, 8*mega)
			for ctx.Err() == nil {
				end := holdSnapshot(t, db)
				sha256.Sum256(busy) // for as long as a few commits take
				end()
			}
		})
	}
	largest := int64(0)
	for range 120 {
		churn(t, db, 1)
		largest = max(largest, logSize(t, path))
	}
	cancel()
	wg.Wait()
	if largest > 90*mega {
		t.Errorf("the log has had %d MB", largest/mega)
	}
}

// holdSnapshot begins a View and returns when it has its snapshot; end ends it.
func holdSnapshot(t *testing.T, db *sqldb.DB) (end func()) {
	t.Helper()
	began, over, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			var n int
			err := tx.QueryRow(ctx, "SELECT sum(amount) FROM things").Scan(&n)
			close(began)
			<-over
			return err
		})
	}()
	<-began
	return func() {
		close(over)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestLogAfterALongReader holds one snapshot for long: the log grows for as long, and is cut back after.
func TestLogAfterALongReader(t *testing.T) {
	t.Parallel()
	db, path := openPages(t)
	if err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		var n, again int
		if err := tx.QueryRow(ctx, "SELECT sum(amount) FROM things").Scan(&n); err != nil {
			return err
		}
		churn(t, db, 70) // by another: its own context
		if size := logSize(t, path); size < 65*mega {
			t.Errorf("the log has %d MB: the test does not do what it says", size/mega)
		}
		err := tx.QueryRow(ctx, "SELECT sum(amount) FROM things").Scan(&again)
		if n != 0 || again != 0 {
			t.Errorf("the snapshot had a sum of %d, then %d", n, again)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	churn(t, db, 40)
	if size := logSize(t, path); size > 50*mega {
		t.Errorf("the log still has %d MB", size/mega)
	}
	if got := db.Stats().LogBytes; got <= 0 {
		t.Errorf("the log's size was never looked at: %d", got)
	}
}
