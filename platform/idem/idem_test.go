package idem_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"holdfast/platform/idem"
	"holdfast/platform/sqldb"
	"holdfast/shop"
	"holdfast/test/fakes"
	"holdfast/test/stores"
)

var scope = idem.Scope{Caller: "c", Route: "POST /x", Key: "k"}

// counter is a command that counts how often it was committed.
type counter struct{ db *sqldb.DB }

func newCounter(t *testing.T, open stores.Open) counter {
	t.Helper()
	migrations, err := sqldb.Merge(idem.Migrations(), fstest.MapFS{"01000_effects.sql": {Data: []byte("-- +goose Up\nCREATE TABLE effects (n BIGINT NOT NULL);\n")}})
	if err != nil {
		t.Fatal(err)
	}
	return counter{open(t, migrations)}
}

func (c counter) do(ctx context.Context, s idem.Scope, cmd any, fail error) (int, bool, error) {
	return idem.Do(ctx, c.db, s, cmd, func(ctx context.Context, tx *sqldb.Tx) (n int, err error) {
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM effects`).Scan(&n); err != nil {
			return 0, err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO effects (n) VALUES (?)`, n); err != nil {
			return 0, err
		}
		return n + 1, fail
	})
}

func (c counter) effects(t *testing.T) (n int) {
	t.Helper()
	if err := c.db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM effects`).Scan(&n)
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDo(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		c := newCounter(t, open)
		refused := errors.New("refused")
		other := func(change func(*idem.Scope)) idem.Scope {
			s := scope
			change(&s)
			return s
		}
		steps := []struct {
			name     string
			scope    idem.Scope
			cmd      any
			fail     error
			answer   int
			replayed bool
			kind     shop.Kind
			effects  int
		}{
			{name: "a refusal leaves nothing", scope: scope, cmd: "a", fail: refused, effects: 0},
			{name: "the first time", scope: scope, cmd: "a", answer: 1, effects: 1},
			{name: "again", scope: scope, cmd: "a", answer: 1, replayed: true, effects: 1},
			{name: "again, where it would be refused now", scope: scope, cmd: "a", fail: refused, answer: 1, replayed: true, effects: 1},
			{name: "another command", scope: scope, cmd: "b", kind: shop.KeyReused, effects: 1},
			{name: "another caller", scope: other(func(s *idem.Scope) { s.Caller = "d" }), cmd: "b", answer: 2, effects: 2},
			{name: "another route", scope: other(func(s *idem.Scope) { s.Route = "POST /y" }), cmd: "b", answer: 3, effects: 3},
			{name: "another key", scope: other(func(s *idem.Scope) { s.Key = "K" }), cmd: "b", answer: 4, effects: 4},
		}
		for _, step := range steps {
			answer, replayed, err := c.do(t.Context(), step.scope, step.cmd, step.fail)
			switch {
			case step.kind != 0:
				if shop.KindOf(err) != step.kind {
					t.Errorf("%s: %v, want the kind %d", step.name, err, step.kind)
				}
			case step.fail != nil && step.answer == 0:
				if !errors.Is(err, refused) {
					t.Errorf("%s: %v", step.name, err)
				}
			case err != nil || answer != step.answer || replayed != step.replayed:
				t.Errorf("%s: %d, replayed %v, %v", step.name, answer, replayed, err)
			}
			if n := c.effects(t); n != step.effects {
				t.Errorf("%s: %d effects, want %d", step.name, n, step.effects)
			}
		}
	})
}

// TestAtOnce: of many requests with one key at the same time one has an effect, and all have its answer
// or are told to ask again.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		c := newCounter(t, open)
		var wg sync.WaitGroup
		var first atomic.Int64
		for range 50 {
			wg.Go(func() {
				answer, replayed, err := c.do(t.Context(), scope, "a", nil)
				if shop.KindOf(err) == shop.KeyInProgress && err != nil {
					return
				}
				if err != nil || answer != 1 {
					t.Errorf("%d %v", answer, err)
				}
				if !replayed {
					first.Add(1)
				}
			})
		}
		wg.Wait()
		if n := c.effects(t); n != 1 || first.Load() != 1 {
			t.Errorf("%d effects, and %d were told that theirs was it", n, first.Load())
		}
	})
}

// TestClaim: of commands in one transaction each is judged as Do would, also beside others with its key.
func TestClaim(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		c := newCounter(t, open)
		if _, _, err := c.do(t.Context(), scope, "a", nil); err != nil {
			t.Fatal(err)
		}
		key := func(key string) idem.Scope { return idem.Scope{Caller: scope.Caller, Route: scope.Route, Key: key} }
		commands := []*idem.Command[int]{
			{Scope: key("new"), Cmd: "x", Answer: 10},
			{Scope: scope, Cmd: "a", Answer: 11},      // carried out before
			{Scope: scope, Cmd: "b", Answer: 12},      // another command under its key
			{Scope: key("new"), Cmd: "x", Answer: 13}, // beside the first
			{Scope: key("new"), Cmd: "y", Answer: 14},
			{Scope: key("newer"), Cmd: "x", Answer: 15},
		}
		if err := c.db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return idem.Claim(ctx, tx, commands) }); err != nil {
			t.Fatal(err)
		}
		for i, want := range []struct {
			answer   int
			replayed bool
			kind     shop.Kind
		}{{answer: 10}, {answer: 1, replayed: true}, {kind: shop.KeyReused}, {answer: 10, replayed: true}, {kind: shop.KeyReused}, {answer: 15}} {
			got := commands[i]
			switch {
			case want.kind != 0:
				if shop.KindOf(got.Err) != want.kind || got.Fresh() {
					t.Errorf("command %d: %v, want the kind %d", i, got.Err, want.kind)
				}
			case got.Err != nil || got.Answer != want.answer || got.Replayed != want.replayed || got.Fresh() == want.replayed:
				t.Errorf("command %d: %d, replayed %v, %v; want %d, %v", i, got.Answer, got.Replayed, got.Err, want.answer, want.replayed)
			}
		}
		if answer, found, err := idem.Find[int](t.Context(), c.db, key("newer"), "x"); answer != 15 || !found || err != nil {
			t.Errorf("what was claimed is stored as %d, %v, %v", answer, found, err)
		}
	})
}

// TestClaimReplaysTheFirstAnswer: a repetition is answered as the first time, with nothing of what it would be today.
func TestClaimReplaysTheFirstAnswer(t *testing.T) {
	t.Parallel()
	type answer struct {
		Fee  int            `json:"fee,omitempty"`
		Tags map[string]int `json:"tags,omitempty"`
	}
	stores.Each(t, func(t *testing.T, open stores.Open) {
		c := newCounter(t, open)
		claim := func(would answer) *idem.Command[answer] {
			t.Helper()
			cmd := &idem.Command[answer]{Scope: scope, Cmd: "a", Answer: would}
			if err := c.db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				return idem.Claim(ctx, tx, []*idem.Command[answer]{cmd})
			}); err != nil {
				t.Fatal(err)
			}
			return cmd
		}
		claim(answer{Tags: map[string]int{"a": 1}})
		if got := claim(answer{Fee: 500, Tags: map[string]int{"b": 2}}); !got.Replayed || got.Answer.Fee != 0 || len(got.Answer.Tags) != 1 {
			t.Errorf("a repetition is answered with %+v, replayed %v", got.Answer, got.Replayed)
		}
	})
}

// TestClaimAtOnce: transactions that claim the same keys in other orders wait for each other, and one of them gets each.
func TestClaimAtOnce(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		c := newCounter(t, open)
		var wg sync.WaitGroup
		var fresh atomic.Int64
		for g := range 20 {
			wg.Go(func() {
				n := int64(0)
				err := c.db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
					n = 0
					var commands []*idem.Command[int]
					for i := range 10 {
						commands = append(commands, &idem.Command[int]{Scope: idem.Scope{Caller: "c", Route: "r", Key: fmt.Sprint((i*(g%3+1) + g) % 10)}, Cmd: "x", Answer: g})
					}
					if err := idem.Claim(ctx, tx, commands); err != nil {
						return err
					}
					for _, c := range commands {
						if c.Fresh() {
							n++
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				fresh.Add(n)
			})
		}
		wg.Wait()
		if fresh.Load() != 10 {
			t.Errorf("10 keys were claimed %d times", fresh.Load())
		}
	})
}

func TestPurge(t *testing.T) {
	t.Parallel()
	clock := new(fakes.SkewedClock)
	deps := fakes.Deps(t)
	deps.Clock = clock
	c := newCounter(t, stores.SQLiteAt(deps))
	place := func(key string) (replayed bool) {
		t.Helper()
		s := scope
		s.Key = key
		_, replayed, err := c.do(t.Context(), s, "a", nil)
		if err != nil {
			t.Fatal(err)
		}
		return replayed
	}
	for i := range 5 {
		place(fmt.Sprint("old", i))
	}
	clock.Advance(idem.Retention - time.Minute)
	place("new")
	if n, err := idem.Purge(t.Context(), c.db); n != 0 || err != nil {
		t.Errorf("%d purged before their time, %v", n, err)
	}
	clock.Advance(2 * time.Minute)
	if n, err := idem.Purge(t.Context(), c.db); n != 5 || err != nil {
		t.Errorf("%d purged, want 5; %v", n, err)
	}
	if place("old0") || !place("new") {
		t.Error("the wrong ones were purged")
	}
}
