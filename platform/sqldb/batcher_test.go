package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/platform/sqldb"
	"holdfast/shop"
	"holdfast/test/stores"
)

// adder adds things together, and notes what was added by each transaction.
type adder struct {
	*sqldb.Batcher[string, string]
	hold chan struct{} // closed: transactions end

	mu      sync.Mutex
	batches [][]string
}

func newAdder(db *sqldb.DB) *adder {
	a := &adder{hold: make(chan struct{})}
	close(a.hold)
	a.Batcher = sqldb.NewBatcher(db, func(ctx context.Context, tx *sqldb.Tx, names []string) ([]string, error) {
		a.mu.Lock()
		a.batches = append(a.batches, slices.Clone(names))
		hold := a.hold
		a.mu.Unlock()
		<-hold
		answers := make([]string, len(names))
		for i, name := range names {
			switch name {
			case "refused":
				return nil, shop.E(shop.Conflict, "test", name)
			case "panics":
				panic(name)
			}
			if err := add(name, 1)(ctx, tx); err != nil {
				return nil, err
			}
			answers[i] = "added " + name
		}
		return answers, nil
	})
	return a
}

// testBatcher: whatever comes together, each command has its own outcome.
func testBatcher(t *testing.T, db *sqldb.DB) {
	a := newAdder(db)
	names := []string{"refused", "panics", "twice", "twice"}
	for i := range 200 {
		names = append(names, fmt.Sprintf("thing %03d", i))
	}
	outcomes := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			answer, err := a.Do(t.Context(), name)
			if err == nil && answer != "added "+name {
				t.Errorf("%s: the answer is %q", name, answer)
			}
			outcomes[i] = err
		})
	}
	wg.Wait()
	if shop.KindOf(outcomes[0]) != shop.Conflict || shop.KindOf(outcomes[1]) != shop.Internal {
		t.Errorf("a refused command got %v, one that panics %v", outcomes[0], outcomes[1])
	}
	if first, second := outcomes[2], outcomes[3]; (first == nil) == (second == nil) || !sqldb.IsUnique(errors.Join(first, second)) {
		t.Errorf("what can be added once: %v and %v", first, second)
	}
	for i, err := range outcomes[4:] {
		if err != nil {
			t.Errorf("%s failed because of others: %v", names[4+i], err)
		}
	}
	wantCount(t, db, 201)
}

func wantCount(t *testing.T, db *sqldb.DB, want int) {
	t.Helper()
	if got := len(names(t, db)); got != want {
		t.Errorf("there are %d things, want %d", got, want)
	}
}

// testBulk: any number of rows is inserted in its order, by one way for both.
func testBulk(t *testing.T, db *sqldb.DB) {
	next := 0
	for _, n := range []int{0, 1, 2, 3, 63, 64, 65, 200} {
		var want []string
		update(t, db, func(ctx context.Context, tx *sqldb.Tx) error {
			covered := 0
			for from, to := range tx.Pieces(n) {
				if from != covered || to <= from {
					return fmt.Errorf("of %d rows a piece is %d to %d after %d", n, from, to, covered)
				}
				covered = to
				var args []any
				for range to - from {
					name := fmt.Sprintf("it's %03d {\"a,b\"} \\ ?", next)
					args = append(args, name, int64(next), []byte{0, byte(next)})
					want = append(want, name)
					next++
				}
				values, args := tx.Values(3, args)
				added, err := tx.Exec(ctx, `INSERT INTO things (name, amount, payload) `+values+` ON CONFLICT (name) DO NOTHING`, args...)
				if err != nil || added != int64(to-from) {
					return fmt.Errorf("%d of %d rows were added: %w", added, to-from, err)
				}
			}
			if covered != n {
				return fmt.Errorf("the pieces of %d rows are %d", n, covered)
			}
			return nil
		})
		var got []string
		if err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
			where, args := sqldb.Among(tx, "name", want)
			got, err = list[string](ctx, tx, `SELECT name FROM things WHERE `+where+` ORDER BY id`, args...)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("of %d rows there are %d in another order or with other values", len(want), len(got))
		}
	}
	var sum int64
	if err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, `SELECT sum(amount) FROM things WHERE payload <> ?`, []byte{0, 1}).Scan(&sum)
	}); err != nil {
		t.Fatal(err)
	}
	if want := int64(next*(next-1)/2) - 1 - 257; sum != want {
		t.Errorf("the numbers add up to %d, want %d", sum, want)
	}
}

// TestBatcherGoesOn: a command does not wait for long for one that hangs. SQLite has one writer, for which all wait.
func TestBatcherGoesOn(t *testing.T) {
	t.Parallel()
	db := stores.Postgres(t, schema())
	a := newAdder(db)
	a.hold = make(chan struct{})
	hangs := a.hold
	first := make(chan error, 1)
	go func() {
		_, err := a.Do(t.Context(), "first")
		first <- err
	}()
	for a.begun() == 0 {
		runtime.Gosched()
	}
	a.mu.Lock()
	a.hold = make(chan struct{})
	close(a.hold)
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := a.Do(ctx, "second"); err != nil {
		t.Errorf("beside one that hangs: %v", err)
	}
	close(hangs)
	if err := <-first; err != nil {
		t.Error(err)
	}
	wantCount(t, db, 2)
}

func (a *adder) begun() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.batches)
}

// TestBatcherJoins: a command that comes alone does not wait, those that come meanwhile become one transaction, and
// who leaves in time leaves nothing behind.
func TestBatcherJoins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := stores.SQLite(t, schema())
		a := newAdder(db)
		a.hold = make(chan struct{})
		var wg sync.WaitGroup
		do := func(ctx context.Context, name string, want error) {
			wg.Go(func() {
				if _, err := a.Do(ctx, name); !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", name, err, want)
				}
			})
			synctest.Wait()
		}
		do(t.Context(), "first", nil)
		leaving, leave := context.WithCancel(t.Context())
		do(t.Context(), "second", nil)
		do(leaving, "gone", context.Canceled)
		do(t.Context(), "third", nil)
		leave()
		synctest.Wait()
		close(a.hold)
		wg.Wait()
		if want := [][]string{{"first"}, {"second", "third"}}; !slices.EqualFunc(a.batches, want, slices.Equal) {
			t.Errorf("the transactions were %v, want %v", a.batches, want)
		}
		wantNames(t, db, "first", "second", "third")
	})
}
