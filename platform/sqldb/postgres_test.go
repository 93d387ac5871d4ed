package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/platform/sqldb"
	"holdfast/shop"
	"holdfast/test/fakes"
	"holdfast/test/postgres"
)

func openPostgres(t *testing.T, dsn string, deps shop.Deps) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldb.Config{Driver: "postgres", DSN: dsn, MaxConns: 8}, deps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	migrate(t, db, schema())
	return db
}

// raise makes PostgreSQL report a condition.
func raise(code string) txFunc {
	return run("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '" + code + "', MESSAGE = 'as told'; END $$")
}

func TestPostgresRetries(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		code     string
		failures int
		hide     bool // the function returns an error of its own
		calls    int
		kind     shop.Kind
		ok       bool
	}{
		{"serialisation", "40001", 3, false, 4, 0, true},
		{"deadlock", "40P01", 1, false, 2, 0, true},
		{"hidden by the function", "40001", 1, true, 2, 0, true},
		{"for ever", "40001", 1000, false, 8, shop.Unavailable, false},
		{"another error", "22012", 1000, false, 1, shop.Internal, false},
		{"out of disk", "53100", 1000, false, 1, shop.Unavailable, false},
		{"shutting down", "57P01", 1000, false, 1, shop.Unavailable, false},
		{"read-only", "25006", 1000, false, 1, shop.Unavailable, false},
		{"idle in a transaction", "25P03", 1000, false, 1, shop.Unavailable, false},
		{"too many connections", "53300", 1000, false, 1, shop.Unavailable, false},
	}
	db := openPostgres(t, postgres.DSN(t), fakes.Deps(t))
	for _, test := range tests {
		calls, after := 0, 0
		err := db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			calls++
			tx.AfterCommit(func() { after++ })
			if err := add(test.name, 1)(ctx, tx); err != nil {
				return err
			}
			if calls > test.failures {
				return nil
			}
			err := raise(test.code)(ctx, tx)
			if test.hide && err != nil {
				return errOwn
			}
			return err
		})
		if (err == nil) != test.ok || calls != test.calls || !test.ok && shop.KindOf(err) != test.kind {
			t.Errorf("%s: %v (%v) after %d calls, want %d", test.name, err, shop.KindOf(err), calls, test.calls)
		}
		if want := map[bool]int{true: 1}[test.ok]; after != want {
			t.Errorf("%s: %d functions ran after the commit, want %d", test.name, after, want)
		}
	}
	wantNames(t, db, "serialisation", "deadlock", "hidden by the function")
	if s := db.Stats(); s.Retries != 3+1+1+7 {
		t.Errorf("%+v: want 12 retries", s)
	}
}

// TestPostgresIdleLimit: a session that is left in the middle of a transaction does not keep its locks for ever.
func TestPostgresIdleLimit(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, postgres.DSN(t), fakes.Deps(t))
	limit := ""
	if err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, "SELECT current_setting('idle_in_transaction_session_timeout')").Scan(&limit)
	}); err != nil || limit != "5s" {
		t.Errorf("a session may be idle in a transaction for %q, %v", limit, err)
	}
}

// TestPostgresUsesIndexes: rows are found by their index also in a table that was empty when the server looked last,
// which is how it is planned for a minute or more in a new database. Read through from end to end, such tables were what
// load of more than some seconds waited for.
func TestPostgresUsesIndexes(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, postgres.DSN(t), fakes.Deps(t))
	names := make([]string, 64)
	for i := range names {
		names[i] = fmt.Sprint("n", i)
	}
	plan := func(condition func(*sqldb.Tx) (string, []any)) (plan string) {
		t.Helper()
		err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			where, args := condition(tx)
			rows, err := tx.Query(ctx, "EXPLAIN SELECT * FROM things WHERE "+where, args...)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var line string
				if err := rows.Scan(&line); err != nil {
					return err
				}
				plan += line + "\n"
			}
			return rows.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
		return plan
	}
	if p := plan(func(tx *sqldb.Tx) (string, []any) { return sqldb.Among(tx, "name", names) }); !strings.Contains(p, "Index") {
		t.Errorf("rows that have an index are looked for so:\n%s", p)
	}
	if p := plan(func(*sqldb.Tx) (string, []any) { return "amount > ?", []any{1} }); strings.Contains(p, "JIT") {
		t.Errorf("what has to be read through is compiled:\n%s", p)
	}
}

// TestPostgresDeadlock has two transactions lock two rows crosswise.
func TestPostgresDeadlock(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, postgres.DSN(t), fakes.Deps(t))
	rows := []string{"a", "b"}
	for _, name := range rows {
		update(t, db, add(name, 0))
	}
	locked := make(chan struct{}, 2)
	both := sync.OnceFunc(func() { <-locked; <-locked })
	var wg sync.WaitGroup
	for i := range rows {
		wg.Go(func() {
			first := true
			err := db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				const bump = "UPDATE things SET amount = amount + 1 WHERE name = ?"
				if err := execute(ctx, tx, bump, rows[i]); err != nil {
					return err
				}
				if first {
					first = false
					locked <- struct{}{}
					both()
				}
				return execute(ctx, tx, bump, rows[1-i])
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var sum int
	if err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, "SELECT sum(amount) FROM things").Scan(&sum)
	}); err != nil || sum != 4 || db.Stats().Retries == 0 {
		t.Errorf("sum %d, %v, %d retries", sum, err, db.Stats().Retries)
	}
}

const pid = "SELECT pg_backend_pid()"

func TestPostgresLosesAConnection(t *testing.T) {
	t.Parallel()
	dsn := postgres.DSN(t)
	db, admin := openPostgres(t, dsn, fakes.Deps(t)), openPostgres(t, dsn, fakes.Deps(t))
	kill := func(pid int) {
		update(t, admin, func(ctx context.Context, tx *sqldb.Tx) error {
			return tx.QueryRow(ctx, "SELECT pg_terminate_backend(?, 10000)", pid).Scan(new(bool))
		})
	}
	tests := []struct {
		name string
		do   func(ctx context.Context, tx *sqldb.Tx, me int) error
	}{
		{"before a statement", func(ctx context.Context, tx *sqldb.Tx, me int) error {
			kill(me)
			return add("lost", 1)(ctx, tx)
		}},
		{"before the commit", func(ctx context.Context, tx *sqldb.Tx, me int) error {
			kill(me)
			return nil
		}},
		{"in a statement", func(ctx context.Context, tx *sqldb.Tx, me int) error {
			return execute(ctx, tx, "SELECT pg_terminate_backend(pg_backend_pid())")
		}},
	}
	for _, test := range tests {
		err := db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			var me int
			if err := tx.QueryRow(ctx, pid).Scan(&me); err != nil {
				return err
			}
			if err := add(test.name, 1)(ctx, tx); err != nil {
				return err
			}
			return test.do(ctx, tx, me)
		})
		if shop.KindOf(err) != shop.Unavailable {
			t.Errorf("%s: %v, want Unavailable", test.name, err)
		}
		update(t, db, add("after "+test.name, 1))
	}
	// Those that wait in the pool are replaced before anybody notices.
	useAll(t, db)
	update(t, admin, run("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"))
	for i := range 20 {
		update(t, db, add(fmt.Sprint(i), 1))
	}
	if got := names(t, db); len(got) != 23 {
		t.Errorf("things are %q", got)
	}
}

// useAll fills the pool.
func useAll(t *testing.T, db *sqldb.DB) {
	t.Helper()
	var wg sync.WaitGroup
	in, out := make(chan struct{}), make(chan struct{})
	for range 8 {
		wg.Go(func() {
			if err := db.View(t.Context(), func(context.Context, *sqldb.Tx) error {
				in <- struct{}{}
				<-out
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	for range 8 {
		<-in
	}
	close(out)
	wg.Wait()
}

// cuttableNet is a network that can fail.
type cuttableNet struct {
	fakes.Net
	down  atomic.Bool
	mu    sync.Mutex
	conns []net.Conn
}

func (n *cuttableNet) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if n.down.Load() {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("no route to host")}
	}
	c, err := n.Net.DialContext(ctx, network, address)
	if err == nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.conns = append(n.conns, c)
	}
	return c, err
}

func (n *cuttableNet) cut() {
	n.down.Store(true)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		_ = c.Close()
	}
	n.conns = nil
}

func TestPostgresUnreachable(t *testing.T) {
	t.Parallel()
	deps := fakes.Deps(t)
	network := &cuttableNet{}
	deps.Net = network
	db := openPostgres(t, postgres.DSN(t), deps)
	useAll(t, db)
	update(t, db, add("a", 1))
	network.cut()
	for name, err := range map[string]error{
		"update": db.Update(t.Context(), add("b", 1)),
		"view":   db.View(t.Context(), func(context.Context, *sqldb.Tx) error { return nil }),
		"ping":   db.Ping(t.Context()),
	} {
		if shop.KindOf(err) != shop.Unavailable {
			t.Errorf("%s: %v, want Unavailable", name, err)
		}
	}
	network.down.Store(false)
	update(t, db, add("c", 1))
	wantNames(t, db, "a", "c")
}

func TestPostgresDeadline(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, postgres.DSN(t), fakes.Deps(t))
	for range 10 { // more often than there are connections
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err := db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			if err := add("a", 1)(ctx, tx); err != nil {
				return err
			}
			return execute(ctx, tx, "SELECT pg_sleep(100)")
		})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
	wantNames(t, db)
}

func TestPostgresOpenErrors(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, dsn, says string
		kind            shop.Kind
	}{
		{"nonsense", "postgres://shop:" + secret + "@[::1/x?port=x", "not valid", shop.Internal},
		{"nothing listens", "postgres://shop:" + secret + "@" + closed + "/shop?sslmode=disable", closed, shop.Unavailable},
		{"no such database", strings.Replace(postgres.DSN(t), "dbname=", "dbname=no", 1) + " password=" + secret, "create it", shop.Internal},
	}
	for _, test := range tests {
		_, err := sqldb.Open(t.Context(), sqldb.Config{Driver: "postgres", DSN: test.dsn}, fakes.Deps(t))
		if err == nil || !strings.Contains(err.Error(), test.says) || shop.KindOf(err) != test.kind {
			t.Errorf("%s: %v (%v); want %q", test.name, err, shop.KindOf(err), test.says)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error tells the password: %v", test.name, err)
		}
	}
}

// TestPostgresSkipLocked has two transactions claim different rows.
func TestPostgresSkipLocked(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, postgres.DSN(t), fakes.Deps(t))
	for i := range 2 {
		update(t, db, add(fmt.Sprint(i), 0))
	}
	claim := func(ctx context.Context, tx *sqldb.Tx) (name string, err error) {
		return name, tx.QueryRow(ctx, "SELECT name FROM things ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED").Scan(&name)
	}
	update(t, db, func(ctx context.Context, tx *sqldb.Tx) error {
		first, err := claim(ctx, tx)
		if err != nil {
			return err
		}
		var second string
		update(t, db, func(ctx context.Context, tx *sqldb.Tx) (err error) { // by another: its own context
			second, err = claim(ctx, tx)
			return err
		})
		if first != "0" || second != "1" {
			t.Errorf("claimed %s and %s", first, second)
		}
		return nil
	})
}

// TestPostgresLookupIsBounded: who waits for the server's name is bounded as who waits for the server.
func TestPostgresLookupIsBounded(t *testing.T) { //nolint:paralleltest // it is about the resolver of the whole process
	before := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = before })
	asked := make(chan time.Duration, 10)
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		left := time.Hour
		if at, ok := ctx.Deadline(); ok {
			left = time.Until(at)
		}
		asked <- left
		return nil, errors.New("there is no server of names")
	}}
	_, err := sqldb.Open(t.Context(), sqldb.Config{Driver: "postgres", DSN: "postgres://holdfast@postgres.example:5432/holdfast?connect_timeout=1"}, fakes.Deps(t))
	if shop.KindOf(err) != shop.Unavailable {
		t.Errorf("%v", err)
	}
	if left := <-asked; left > time.Second {
		t.Errorf("its name may be waited for for %s", left)
	}
}
