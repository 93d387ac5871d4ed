package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/embedded/sqlite"
	"holdfast/platform/sqldb"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// openFile opens and migrates a SQLite file.
func openFile(t testing.TB, path string, deps shop.Deps) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldb.Config{Driver: "sqlite", SQLite: sqlite.Connector, Path: path}, deps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Migrate(t.Context(), "test", schema()); err != nil {
		t.Fatal(err)
	}
	return db
}

// openStill opens a file under a clock that stands still, so that a commit waits for no time to pass.
func openStill(t *testing.T) *sqldb.DB {
	deps := fakes.Deps(t)
	deps.Clock = stillClock{Clock: fakes.NewClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
	return openFile(t, filepath.Join(t.TempDir(), "test.db"), deps)
}

// stillClock shows one time for ever, while its timers go off as real ones do.
type stillClock struct{ *fakes.Clock }

func (stillClock) Timer(d time.Duration) (<-chan time.Time, func()) {
	return fakes.RealClock{}.Timer(d)
}

// holdWriter keeps the writer busy until release is called, and returns when it is.
func holdWriter(t *testing.T, db *sqldb.DB, fn txFunc) (release func(), done <-chan error) {
	t.Helper()
	began, end, answer := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		answer <- db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			close(began)
			<-end
			return fn(ctx, tx)
		})
	}()
	<-began
	return sync.OnceFunc(func() { close(end) }), answer
}

// awaitQueued returns when n updates wait for the writer.
func awaitQueued(t *testing.T, db *sqldb.DB, n int) {
	t.Helper()
	limit := time.After(waitLong)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for db.Stats().Queued < n {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%d updates are queued, want %d", db.Stats().Queued, n)
		}
	}
}

func TestGroupCommit(t *testing.T) {
	t.Parallel()
	db := openStill(t)
	release, done := holdWriter(t, db, add("first", 1))
	defer release()
	before := db.Stats()

	const good, bad = 20, 5
	errs := make([]error, good+3*bad)
	panics := make([]any, len(errs))
	var after []int
	var wg sync.WaitGroup
	for i := range errs {
		do := add(fmt.Sprint("thing ", i), 1)
		wg.Go(func() {
			defer func() { panics[i] = recover() }()
			errs[i] = db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				tx.AfterCommit(func() { after = append(after, i) })
				if err := do(ctx, tx); err != nil {
					return err
				}
				switch {
				case i < good:
					return nil
				case i < good+bad:
					return errOwn
				case i < good+2*bad:
					return add("first", 1)(ctx, tx)
				default:
					panic(i)
				}
			})
		})
	}
	awaitQueued(t, db, len(errs))
	release()
	wg.Wait()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for i, err := range errs {
		switch {
		case i < good && err != nil,
			i >= good && i < good+bad && !errors.Is(err, errOwn),
			i >= good+bad && i < good+2*bad && !sqldb.IsUnique(err),
			i >= good+2*bad && panics[i] != i:
			t.Errorf("update %d: %v, panic %v", i, err, panics[i])
		}
	}
	if got := names(t, db); len(got) != good+1 || len(after) != good {
		t.Errorf("%d things and %d functions after the commit, want %d and %d", len(got), len(after), good+1, good)
	}
	s := db.Stats()
	if s.Groups != before.Groups+1 || s.LargestGroup != len(errs)+1 {
		t.Errorf("%d commits, the largest of %d; want 1 of %d", s.Groups-before.Groups, s.LargestGroup, len(errs)+1)
	}
}

// TestGroupIsBounded queues more than one commit takes.
func TestGroupIsBounded(t *testing.T) {
	t.Parallel()
	db := openStill(t)
	release, done := holdWriter(t, db, add("first", 1))
	defer release()
	const callers = 600
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			if err := db.Update(t.Context(), add(fmt.Sprint(i), 1)); err != nil {
				t.Error(err)
			}
		})
	}
	awaitQueued(t, db, callers)
	release()
	wg.Wait()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if s := db.Stats(); s.LargestGroup != 256 || s.Groups < 3 || s.Groups > 4 {
		t.Errorf("%+v: want groups of 256 at most", s)
	}
}

func TestContextEndsInTheQueue(t *testing.T) {
	t.Parallel()
	db := openStill(t)
	release, done := holdWriter(t, db, add("first", 1))
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	answers := make(chan error, 2)
	var ran atomic.Bool
	for range 2 {
		go func() {
			answers <- db.Update(ctx, func(context.Context, *sqldb.Tx) error { ran.Store(true); return nil })
		}()
	}
	awaitQueued(t, db, 2)
	cancel()
	for range 2 { // while the writer is still held
		if err := <-answers; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	update(t, db, add("last", 1))
	wantNames(t, db, "first", "last")
	if ran.Load() {
		t.Error("it was run for a caller who had left")
	}
}

func TestCloseAnswersTheQueue(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	db := openFile(t, path, fakes.Deps(t))
	release, done := holdWriter(t, db, add("first", 1))
	defer release()
	answers := make(chan error, 50)
	for i := range cap(answers) {
		go func() { answers <- db.Update(t.Context(), add(fmt.Sprint(i), 1)) }()
	}
	awaitQueued(t, db, cap(answers))
	closed := make(chan error)
	go func() { closed <- db.Close() }()
	release()
	if err := <-done; err != nil {
		t.Errorf("the update that ran: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	committed := 1
	for range cap(answers) {
		if err := <-answers; err == nil {
			committed++
		} else if shop.KindOf(err) != shop.Unavailable {
			t.Errorf("one that waited: %v", err)
		}
	}
	if got := names(t, openFile(t, path, fakes.Deps(t))); len(got) != committed {
		t.Errorf("%d things, %d answers", len(got), committed)
	}
}

// TestGoexitSparesTheNext has a transaction end the writer goroutine with others in its group.
func TestGoexitSparesTheNext(t *testing.T) {
	t.Parallel()
	db := openStill(t)
	release, done := holdWriter(t, db, func(context.Context, *sqldb.Tx) error { exit(); return nil })
	defer release()
	answers := make(chan error, 10)
	for i := range cap(answers) {
		go func() { answers <- db.Update(t.Context(), add(fmt.Sprint(i), 1)) }()
	}
	awaitQueued(t, db, cap(answers))
	release()
	for range cap(answers) {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if got := names(t, db); len(got) != cap(answers) {
		t.Errorf("%d things", len(got))
	}
	select {
	case err := <-done:
		t.Errorf("the update that ended its goroutine has returned: %v", err)
	default:
	}
}

func TestReadersWaitForOneAnother(t *testing.T) {
	t.Parallel()
	db := openFile(t, filepath.Join(t.TempDir(), "test.db"), fakes.Deps(t))
	in, out := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_ = db.View(t.Context(), func(context.Context, *sqldb.Tx) error {
				in <- struct{}{}
				<-out
				return nil
			})
		})
	}
	for range 4 {
		<-in
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := db.View(ctx, func(context.Context, *sqldb.Tx) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a fifth reader: %v", err)
	}
	close(out)
	wg.Wait()
	wantNames(t, db)
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, content string) string {
		path := filepath.Join(t.TempDir(), "test.db")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tests := []struct {
		name string
		path func(t *testing.T) string
		says string
	}{
		{"not a database", func(t *testing.T) string { return write(t, strings.Repeat("no database ", 1000)) }, "damaged or not a database"},
		{"a damaged schema", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "test.db")
			if err := openFile(t, path, fakes.Deps(t)).Close(); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := 100; i < 4096; i++ {
				b[i] = 0xff
			}
			return write(t, string(b))
		}, "damaged or not a database"},
		{"cut short", func(t *testing.T) string { return write(t, "SQLite format 3\x00\x10\x00") }, "damaged or not a database"},
		{"a directory", func(t *testing.T) string { return t.TempDir() }, "cannot be written"},
		{"below a file", func(t *testing.T) string { return filepath.Join(write(t, ""), "test.db") }, "cannot be opened"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := test.path(t)
			before, _ := os.ReadFile(path)
			_, err := sqldb.Open(t.Context(), sqldb.Config{Driver: "sqlite", SQLite: sqlite.Connector, Path: path}, fakes.Deps(t))
			if err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v; want the path and %q", err, test.says)
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("the file was changed")
			}
		})
	}
}

// readOnlyFiles are those of a directory in which this user may not write.
type readOnlyFiles struct{ fakes.Files }

func (readOnlyFiles) Append(name string, _ fs.FileMode) (shop.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

func TestOpenWithoutPermission(t *testing.T) {
	t.Parallel()
	deps := fakes.Deps(t)
	deps.Files = readOnlyFiles{}
	path := filepath.Join(t.TempDir(), "test.db")
	_, err := sqldb.Open(t.Context(), sqldb.Config{Driver: "sqlite", SQLite: sqlite.Connector, Path: path}, deps)
	if err == nil || !strings.Contains(err.Error(), "give this user write access") || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
}

func TestOpenOddPathAndMode(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "a dir? with #1 100% & ü")
	path := filepath.Join(dir, "it's a;test.db")
	db := openFile(t, path, fakes.Deps(t))
	update(t, db, add("a", 1))
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Fatalf("%v, %v; want the file, its log and its index", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want it to be its owner's only", e.Name(), info.Mode(), err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	wantNames(t, openFile(t, path, fakes.Deps(t)), "a")
}

func TestPragmas(t *testing.T) {
	t.Parallel()
	db := openFile(t, filepath.Join(t.TempDir(), "test.db"), fakes.Deps(t))
	check := func(want map[string]string) txFunc {
		return func(ctx context.Context, tx *sqldb.Tx) error {
			for name, value := range want {
				var got string
				if err := tx.QueryRow(ctx, "PRAGMA "+name).Scan(&got); err != nil || got != value {
					t.Errorf("%s is %s, %v; want %s", name, got, err, value)
				}
			}
			return nil
		}
	}
	update(t, db, check(map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"}))
	if err := db.View(t.Context(), check(map[string]string{"journal_mode": "wal", "query_only": "1"})); err != nil {
		t.Error(err)
	}
}

// TestBusy has another process, as it were, keep the file locked.
func TestBusy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	db, other := openFile(t, path, fakes.Deps(t)), openFile(t, path, fakes.Deps(t))
	update(t, db, run("PRAGMA busy_timeout = 10"))
	release, done := holdWriter(t, other, add("other", 1))
	defer release()
	if err := db.Update(t.Context(), add("a", 1)); shop.KindOf(err) != shop.Unavailable || !strings.Contains(err.Error(), "busy") {
		t.Errorf("got %v, want Unavailable", err)
	}
	wantNames(t, db) // reading goes on
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	update(t, db, add("a", 1))
	wantNames(t, db, "other", "a")
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	db := openStill(t)
	update(t, db, run("PRAGMA query_only = 1"))
	if err := db.Update(t.Context(), add("a", 1)); shop.KindOf(err) != shop.Unavailable || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("got %v, want Unavailable", err)
	}
	update(t, db, run("PRAGMA query_only = 0"))
	update(t, db, add("a", 1))
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []sqldb.Config{
		{}, {Driver: "mysql"}, {Driver: "sqlite", SQLite: sqlite.Connector}, {Driver: "sqlite", Path: "x"}, {Driver: "postgres"},
		{Driver: "sqlite", SQLite: sqlite.Connector, Path: "x", MaxConns: -1}, {Driver: "sqlite", SQLite: sqlite.Connector, Path: "x", MaxConns: 1001},
	} {
		if _, err := sqldb.Open(t.Context(), c, fakes.Deps(t)); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}
