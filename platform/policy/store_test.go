package policy_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/embedded/sqlite"
	"holdfast/platform/policy"
	"holdfast/platform/sqldb"
	"holdfast/resilience"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// storeConfig has breakers without chance, and room for as many transactions as a test wants.
func storeConfig() policy.StoreConfig {
	return policy.StoreConfig{Read: quiet(), Write: quiet(), Admission: resilience.AdmissionConfig{Limit: 100, SheddableShare: 0.5, NormalShare: 0.9, UndoLane: 1, RetryAfter: time.Second}}
}

// guard is that of the store of a service called order.
func (w *world) guard(t *testing.T, c policy.StoreConfig) *policy.Store {
	t.Helper()
	g, err := w.Store("order", c)
	return must(t, g, err)
}

// transact has a transaction end with err.
func transact(ctx context.Context, t *testing.T, g *policy.Store, write bool, err error) {
	t.Helper()
	done, refused := g.Enter(ctx, write)
	if refused != nil {
		t.Fatal(refused)
	}
	done(err)
}

// unavailable asserts that a transaction is refused because the store is down.
func unavailable(t *testing.T, g *policy.Store, write bool) {
	t.Helper()
	start := time.Now()
	_, err := g.Enter(t.Context(), write)
	if shop.KindOf(err) != shop.Unavailable || !errors.Is(err, resilience.ErrOpen) {
		t.Errorf("got %v, want Unavailable", err)
	}
	is(t, "refused after", time.Since(start), 0)
}

func TestStoreOpens(t *testing.T) {
	for _, write := range []bool{true, false} {
		t.Run(fmt.Sprintf("write=%v", write), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, nil)
				g := w.guard(t, storeConfig())
				for range 4 {
					transact(t.Context(), t, g, write, errDown)
				}
				unavailable(t, g, write)
				for range 10 {
					transact(t.Context(), t, g, !write, nil) // the other breaker is closed
				}
				time.Sleep(time.Second - time.Nanosecond)
				unavailable(t, g, write)
				time.Sleep(time.Nanosecond)
				probe, err := g.Enter(t.Context(), write)
				if err != nil {
					t.Fatal(err)
				}
				unavailable(t, g, write) // there is one probe at a time
				probe(nil)
				for range 10 {
					transact(t.Context(), t, g, write, nil)
				}
				is(t, "under way in the end", w.state(t, "order-store", "admission").InUse, 0)
			})
		})
	}
}

// TestStoreStaysClosed sees what tells nothing against a store.
func TestStoreStaysClosed(t *testing.T) {
	short := func(t *testing.T) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 0)
		t.Cleanup(cancel)
		return ctx
	}
	here := func(t *testing.T) context.Context { return t.Context() }
	cases := []struct {
		name    string
		ctx     func(*testing.T) context.Context
		err     error
		after   time.Duration
		counted resilience.Counts
	}{
		{"success", here, nil, 0, resilience.Counts{Calls: 10}},
		{"not found", here, shop.E(shop.NotFound, "test", "no"), 0, resilience.Counts{Calls: 10}},
		{"conflict", here, shop.E(shop.VersionConflict, "test", "no"), 0, resilience.Counts{Calls: 10}},
		{"an error of the function's own", here, errors.New("own"), 0, resilience.Counts{Calls: 10}},
		{"no rows", here, sqldb.ErrNoRows, 0, resilience.Counts{Calls: 10}},
		{"a caller who left", cancelled, context.Canceled, 0, resilience.Counts{}},
		{"a failure after its caller left", cancelled, errDown, 0, resilience.Counts{}},
		{"a success after its caller left", cancelled, nil, 0, resilience.Counts{Calls: 10}},
		{"callers in a hurry", short, context.DeadlineExceeded, 500 * time.Millisecond, resilience.Counts{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, nil)
				g, ctx := w.guard(t, storeConfig()), c.ctx(t)
				for range 100 {
					done, err := g.Enter(ctx, true)
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(c.after)
					done(c.err)
				}
				s := w.state(t, "order-store.write", "breaker")
				is(t, "state", s.State, "closed")
				is(t, "calls", s.Calls, int(c.counted.Calls))
				is(t, "failures", s.Failures, 0)
				is(t, "under way", w.state(t, "order-store", "admission").InUse, 0)
			})
		})
	}
}

// TestStoreHangs has transactions end at deadlines that left the store time enough.
func TestStoreHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		g := w.guard(t, storeConfig())
		for range 4 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			done, err := g.Enter(ctx, false)
			if err != nil {
				t.Fatal(err)
			}
			<-ctx.Done()
			done(fmt.Errorf("begin: %w", ctx.Err()))
			cancel()
		}
		unavailable(t, g, false)
	})
}

// TestStoreAdmission fills a store, and undoes something beside it.
func TestStoreAdmission(t *testing.T) {
	t.Parallel()
	as := func(c resilience.Criticality) context.Context { return resilience.WithCriticality(t.Context(), c) }
	cfg := storeConfig()
	cfg.Admission.Limit, cfg.Admission.SheddableShare, cfg.Admission.NormalShare = 4, 0.25, 0.5
	w := newWorld(t, nil)
	g := w.guard(t, cfg)
	var ends []func(error)
	enter := func(ctx context.Context, admitted bool) {
		t.Helper()
		done, err := g.Enter(ctx, true)
		if admitted && err == nil {
			ends = append(ends, done)
			return
		}
		wait, _ := resilience.RetryAfter(err)
		if admitted || shop.KindOf(err) != shop.Overloaded || !errors.Is(err, resilience.ErrShed) || wait != time.Second {
			t.Errorf("got %v to try again in %s, want it admitted: %v", err, wait, admitted)
		}
	}
	enter(as(resilience.Sheddable), true)
	enter(as(resilience.Sheddable), false)
	enter(as(resilience.Normal), true)
	enter(as(resilience.Normal), false)
	enter(t.Context(), true) // work behind the requests is critical
	enter(as(resilience.Critical), true)
	enter(as(resilience.Critical), false)
	enter(as(resilience.Undo), true)
	enter(as(resilience.Undo), false) // its lane has one place
	s := w.state(t, "order-store", "admission")
	is(t, "under way", s.InUse, 4)
	is(t, "undoing", s.Undo, 1)
	is(t, "refused", s.Rejected, 4)
	for _, end := range ends {
		end(nil)
		end(nil) // twice gives back once
	}
	s = w.state(t, "order-store", "admission")
	is(t, "under way in the end", s.InUse+s.Undo, 0)
	enter(as(resilience.Normal), true)
}

// TestStoreSaysWhy sees that who is refused learns what the failures before said.
func TestStoreSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	g := w.guard(t, storeConfig())
	says := func(want string) {
		t.Helper()
		_, err := g.Enter(t.Context(), true)
		var e *shop.Error
		if !errors.As(err, &e) || e.Msg != "The store is not used at present: "+want+". Try again shortly." {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	force := func(how string) {
		t.Helper()
		if _, err := w.Force("order-store.write", how, "test"); err != nil {
			t.Fatal(err)
		}
	}
	force(policy.ForceOpen)
	says("an operator has closed it")
	force(policy.ForceClose)
	force(policy.Auto)
	transact(t.Context(), t, g, true, shop.E(shop.NotFound, "test", "not there"))
	for range 3 {
		transact(t.Context(), t, g, true, fmt.Errorf("commit: %w", shop.E(shop.Unavailable, "test", "the disk is full")))
	}
	says("the disk is full")
	force(policy.ForceOpen)
	says("an operator has closed it")
}

// TestStoreRefusedGivesBack sees that an open breaker keeps no place of the admission.
func TestStoreRefusedGivesBack(t *testing.T) {
	t.Parallel()
	w, cfg := newWorld(t, nil), storeConfig()
	cfg.Admission.Limit = 2
	g := w.guard(t, cfg)
	for _, how := range []string{policy.ForceOpen, policy.ForceClose} {
		if _, err := w.Force("order-store.write", how, "test"); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if done, err := g.Enter(t.Context(), true); how == policy.ForceOpen && shop.KindOf(err) != shop.Unavailable {
				t.Fatal(err)
			} else if how == policy.ForceClose && err != nil {
				t.Fatal(err)
			} else if err == nil {
				done(nil)
			}
		}
	}
}

// TestStoreOfSQLite puts the guard before a real store: its disk is full for a while, and then a
// transaction panics.
func TestStoreOfSQLite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		db, err := sqldb.Open(t.Context(), sqldb.Config{Driver: "sqlite", SQLite: sqlite.Connector, Path: filepath.Join(t.TempDir(), "test.db"), Guard: w.guard(t, storeConfig())}, fakes.Deps(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		do := func(statements ...string) error {
			return db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				for _, s := range statements {
					if _, err := tx.Exec(ctx, s); err != nil {
						return err
					}
				}
				return nil
			})
		}
		large := "INSERT INTO t VALUES ('" + strings.Repeat("large", 10000) + "')"
		const full = "PRAGMA max_page_count = 1" // which sets it to what there is
		if err := do("CREATE TABLE t (a TEXT NOT NULL)"); err != nil {
			t.Fatal(err)
		}
		failed := 0
		for w.state(t, "order-store.write", "breaker").State == "closed" && failed < 20 {
			if err := do(full, large); shop.KindOf(err) != shop.Unavailable || errors.Is(err, resilience.ErrOpen) {
				t.Fatal(err)
			}
			failed++
		}
		if err := do(large); !errors.Is(err, resilience.ErrOpen) {
			t.Errorf("after %d failures: %v", failed, err)
		}
		rows := -1
		err = db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			return tx.QueryRow(ctx, "SELECT count(*) FROM t").Scan(&rows)
		})
		if err != nil || rows != 0 {
			t.Errorf("reading beside it: %d rows, %v", rows, err)
		}
		time.Sleep(time.Second)
		func() {
			defer func() { is(t, "the panic", recover(), any("probe")) }()
			_ = db.Update(t.Context(), func(context.Context, *sqldb.Tx) error { panic("probe") })
		}()
		if s := w.state(t, "order-store", "admission"); s.InUse != 0 {
			t.Errorf("a panic kept %d places", s.InUse)
		}
		for range 2 { // the panic was of the function and not of the store: it was a probe that succeeded
			if err := do("PRAGMA max_page_count = 1000000", large); err != nil {
				t.Error(err)
			}
		}
	})
}
