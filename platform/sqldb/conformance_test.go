package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"holdfast/platform/sqldb"
	"holdfast/shop"
	"holdfast/test/stores"
)

// schema is what the tests work on.
func schema() fs.FS {
	return fstest.MapFS{"00001_things.sql": {Data: []byte(`-- +goose Up
CREATE TABLE things (
    id      {{.Serial}},
    name    {{.Text}} NOT NULL UNIQUE,
    amount  BIGINT    NOT NULL DEFAULT 0 CHECK (amount >= 0),
    at      BIGINT    NOT NULL DEFAULT {{.Now}},
    payload {{.Bytes}}
);
CREATE TABLE parts (
    thing TEXT NOT NULL REFERENCES things (name),
    number INTEGER NOT NULL,
    PRIMARY KEY (thing, number)
);

-- +goose Down
DROP TABLE parts;
DROP TABLE things;
`)}}
}

// conformance is what every database must do. Each case has a database of its own.
var conformance = []struct {
	name string
	run  func(t *testing.T, db *sqldb.DB)
}{
	{"a commit is seen by others, a rollback is not", testCommitAndRollback},
	{"panic and Goexit undo and reach the caller", testPanicAndGoexit},
	{"AfterCommit runs in order, after a commit only", testAfterCommit},
	{"a transaction reads its own writes", testOwnWrites},
	{"constraint errors are told apart", testConstraints},
	{"a failed statement ends the transaction", testFailedStatement},
	{"open rows forbid the next statement", testOpenRows},
	{"a transaction is not used after its end", testUseAfterEnd},
	{"transactions do not nest", testNesting},
	{"concurrent updates lose nothing", testConcurrent},
	{"a context that has ended", testEndedContext},
	{"RETURNING, ON CONFLICT and rows affected", testReturning},
	{"many rows in one statement", testManyRows},
	{"any number of rows", testBulk},
	{"commands that come together", testBatcher},
	{"locks are written once for both", testLocks},
	{"placeholders in literals and comments", testPlaceholders},
	{"the number of arguments is checked", testArguments},
	{"times, sums and missing rows", testValues},
	{"large and odd texts", testTexts},
	{"texts sort by their bytes", testOrder},
	{"a View is a snapshot", testSnapshot},
	{"a View refuses writes", testViewWrites},
	{"a Read", testRead},
	{"the shared clock", testNow},
	{"counts", testStats},
	{"a closed database is unavailable", testClosed},
}

func TestConformance(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		for _, c := range conformance {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, open(t, schema()))
			})
		}
	})
}

type txFunc = func(ctx context.Context, tx *sqldb.Tx) error

// add inserts a thing.
func add(name string, amount int64) txFunc {
	return func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO things (name, amount) VALUES (?, ?)", name, amount)
		return err
	}
}

func update(t *testing.T, db *sqldb.DB, fn txFunc) {
	t.Helper()
	if err := db.Update(t.Context(), fn); err != nil {
		t.Fatalf("update: %v", err)
	}
}

// names lists the things.
func names(t *testing.T, db *sqldb.DB) (all []string) {
	t.Helper()
	err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
		all, err = list[string](ctx, tx, "SELECT name FROM things ORDER BY id")
		return err
	})
	if err != nil {
		t.Fatalf("view: %v", err)
	}
	return all
}

func list[T any](ctx context.Context, tx *sqldb.Tx, query string, args ...any) (all []T, err error) {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

func wantNames(t *testing.T, db *sqldb.DB, want ...string) {
	t.Helper()
	if got := names(t, db); !slices.Equal(got, want) {
		t.Errorf("things are %q, want %q", got, want)
	}
}

var errOwn = errors.New("the caller's own")

func testCommitAndRollback(t *testing.T, db *sqldb.DB) {
	update(t, db, add("a", 1))
	err := db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		if err := add("b", 1)(ctx, tx); err != nil {
			return err
		}
		return errOwn
	})
	if !errors.Is(err, errOwn) {
		t.Errorf("got %v, want the function's own error", err)
	}
	wantNames(t, db, "a")
}

// endings are the ways in which a function may end other than by returning; open rows included.
var endings = map[string]struct {
	end  func()
	want any // what is recovered
}{
	"panic":  {func() { panic("no luck") }, "no luck"},
	"Goexit": {exit, nil}, // as a test does that fails
}

func testPanicAndGoexit(t *testing.T, db *sqldb.DB) {
	update(t, db, add("a", 1))
	update(t, db, add("b", 1))
	for name, ending := range endings {
		for _, do := range []func(context.Context, func(context.Context, *sqldb.Tx) error) error{db.Update, db.View} {
			returned, recovered := false, any(nil)
			var wg sync.WaitGroup
			wg.Go(func() {
				defer func() { recovered = recover() }()
				_ = do(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
					rows, err := tx.Query(ctx, "SELECT name FROM things")
					if err != nil || !rows.Next() {
						return fmt.Errorf("no rows: %w", err)
					}
					ending.end()
					return nil
				})
				returned = true
			})
			wg.Wait()
			if returned || recovered != ending.want {
				t.Errorf("%s: returned %v, recovered %v", name, returned, recovered)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() { _ = recover() }()
			_ = db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				if err := add("undone", 1)(ctx, tx); err != nil {
					return err
				}
				ending.end()
				return nil
			})
		})
		wg.Wait()
	}
	update(t, db, add("c", 1))
	wantNames(t, db, "a", "b", "c")
}

func testAfterCommit(t *testing.T, db *sqldb.DB) {
	var ran []int
	update(t, db, func(ctx context.Context, tx *sqldb.Tx) error {
		for i := range 3 {
			tx.AfterCommit(func() { ran = append(ran, i) })
		}
		tx.AfterCommit(func() { panic("the commit stands") })
		tx.AfterCommit(func() { ran = append(ran, 3) })
		return add("a", 1)(ctx, tx)
	})
	err := db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		tx.AfterCommit(func() { ran = append(ran, 99) })
		return errOwn
	})
	if !errors.Is(err, errOwn) || !slices.Equal(ran, []int{0, 1, 2, 3}) {
		t.Errorf("ran %v, %v", ran, err)
	}
	wantNames(t, db, "a")
}

func testOwnWrites(t *testing.T, db *sqldb.DB) {
	update(t, db, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := add("a", 7)(ctx, tx); err != nil {
			return err
		}
		var n int64
		if err := tx.QueryRow(ctx, "SELECT amount FROM things WHERE name = ?", "a").Scan(&n); err != nil || n != 7 {
			return fmt.Errorf("read %d, %w", n, err)
		}
		return nil
	})
}

func testConstraints(t *testing.T, db *sqldb.DB) {
	update(t, db, add("a", 1))
	update(t, db, run("INSERT INTO parts (thing, number) VALUES (?, ?)", "a", 1))
	tests := []struct {
		name          string
		do            txFunc
		unique, check bool
	}{
		{"unique", add("a", 1), true, false},
		{"primary key", run("INSERT INTO parts (thing, number) VALUES (?, ?)", "a", 1), true, false},
		{"check", add("b", -1), false, true},
		{"not null", run("INSERT INTO things (name) VALUES (?)", nil), false, false},
		{"foreign key", run("INSERT INTO parts (thing, number) VALUES (?, ?)", "x", 1), false, false},
		{"foreign key with RETURNING", func(ctx context.Context, tx *sqldb.Tx) error {
			return tx.QueryRow(ctx, "INSERT INTO parts (thing, number) VALUES (?, ?) RETURNING number", "x", 1).Scan(new(int))
		}, false, false},
	}
	for _, test := range tests {
		err := db.Update(t.Context(), test.do)
		if err == nil || sqldb.IsUnique(err) != test.unique || sqldb.IsCheck(err) != test.check {
			t.Errorf("%s: %v; unique %v, check %v", test.name, err, sqldb.IsUnique(err), sqldb.IsCheck(err))
		}
		if shop.KindOf(err) == shop.Unavailable {
			t.Errorf("%s: %v: it is not the database's fault", test.name, err)
		}
	}
	if sqldb.IsUnique(nil) || sqldb.IsCheck(nil) || sqldb.IsUnique(errOwn) || sqldb.IsCheck(errOwn) {
		t.Error("other errors are taken for breaches")
	}
	wantNames(t, db, "a")
}

func run(query string, args ...any) txFunc {
	return func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, query, args...)
		return err
	}
}

func testFailedStatement(t *testing.T, db *sqldb.DB) {
	update(t, db, add("a", 1))
	var second error
	err := db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		if err := add("b", 1)(ctx, tx); err != nil {
			return err
		}
		if err := add("a", 1)(ctx, tx); !sqldb.IsUnique(err) {
			return fmt.Errorf("got %w, want a breach", err)
		}
		second = add("c", 1)(ctx, tx)
		return nil
	})
	if !sqldb.IsUnique(err) || !sqldb.IsUnique(second) {
		t.Errorf("got %v, and %v for the next statement; want the breach for both", err, second)
	}
	wantNames(t, db, "a")
}

func testOpenRows(t *testing.T, db *sqldb.DB) {
	update(t, db, add("a", 1))
	update(t, db, add("b", 1))
	const query = "SELECT name FROM things"
	err := db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		rows, err := tx.Query(ctx, query)
		if err != nil || !rows.Next() {
			return fmt.Errorf("no rows: %w", err)
		}
		defer rows.Close()
		_, err = tx.Query(ctx, query)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "before the rows of the one before it were closed") {
		t.Errorf("got %v", err)
	}
	// Rows that were forgotten do no harm to whom comes next.
	for range 40 {
		update(t, db, func(ctx context.Context, tx *sqldb.Tx) error {
			rows, err := tx.Query(ctx, query)
			rows.Next()
			return err
		})
		if err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			rows, err := tx.Query(ctx, query)
			rows.Next()
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	wantNames(t, db, "a", "b")
}

func testUseAfterEnd(t *testing.T, db *sqldb.DB) {
	var kept *sqldb.Tx
	update(t, db, func(ctx context.Context, tx *sqldb.Tx) error {
		kept = tx
		return nil
	})
	if err := add("a", 1)(t.Context(), kept); err == nil {
		t.Error("a transaction was used after its end")
	}
	wantNames(t, db)
}

func testNesting(t *testing.T, db *sqldb.DB) {
	update(t, db, func(ctx context.Context, tx *sqldb.Tx) error {
		nothing := func(context.Context, *sqldb.Tx) error { return nil }
		if db.Update(ctx, nothing) == nil || db.View(ctx, nothing) == nil {
			return errors.New("a transaction was begun inside a transaction")
		}
		return nil
	})
}

func testConcurrent(t *testing.T, db *sqldb.DB) {
	update(t, db, add("counter", 0))
	const callers, each = 64, 5
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				err := db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
					var n int64
					if err := tx.QueryRow(ctx, "SELECT amount FROM things WHERE name = ? FOR UPDATE", "counter").Scan(&n); err != nil {
						return err
					}
					if _, err := tx.Exec(ctx, "UPDATE things SET amount = ? WHERE name = ?", n+1, "counter"); err != nil {
						return err
					}
					if i == 0 && c%2 == 0 {
						return errOwn // and it counts for nothing
					}
					return nil
				})
				if err != nil && !errors.Is(err, errOwn) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var n int
	if err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, "SELECT amount FROM things").Scan(&n)
	}); err != nil || n != callers*each-callers/2 {
		t.Errorf("counted %d, %v; want %d", n, err, callers*each-callers/2)
	}
}

func testEndedContext(t *testing.T, db *sqldb.DB) {
	ctx, cancel := context.WithCancel(t.Context())
	err := db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := add("a", 1)(ctx, tx); err != nil {
			return err
		}
		cancel()
		return nil
	})
	if err != nil {
		t.Errorf("%v: a transaction that has run is committed, whatever its caller waits for", err)
	}
	ran := false
	mark := func(context.Context, *sqldb.Tx) error { ran = true; return nil }
	if err := db.Update(ctx, mark); !errors.Is(err, context.Canceled) || ran {
		t.Errorf("update: %v, ran %v", err, ran)
	}
	if err := db.View(ctx, mark); !errors.Is(err, context.Canceled) || ran {
		t.Errorf("view: %v, ran %v", err, ran)
	}
	again, cancelAgain := context.WithCancel(t.Context())
	err = db.Update(again, func(ctx context.Context, tx *sqldb.Tx) error {
		cancelAgain()
		return add("b", 1)(ctx, tx)
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a statement after the end: %v", err)
	}
	wantNames(t, db, "a")
}

// waitLong bounds what should take no time.
const waitLong = 30 * time.Second
