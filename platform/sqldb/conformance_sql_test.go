package sqldb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

func exit() { runtime.Goexit() }

func testReturning(t *testing.T, db *sqldb.DB) {
	update(t, db, func(ctx context.Context, tx *sqldb.Tx) error {
		const insert = "INSERT INTO things (name, amount) VALUES (?, ?) ON CONFLICT (name) DO NOTHING"
		var ids []int64
		for range 2 {
			id := int64(-1)
			err := tx.QueryRow(ctx, insert+" RETURNING id", "a", 5).Scan(&id)
			if err != nil && !errors.Is(err, sqldb.ErrNoRows) {
				return err
			}
			ids = append(ids, id)
		}
		if ids[0] <= 0 || ids[1] != -1 {
			return fmt.Errorf("ids %v: want one, then none", ids)
		}
		for _, step := range []struct {
			query string
			args  []any
			want  int64
		}{
			{insert, []any{"a", 6}, 0},
			{insert, []any{"b", 6}, 1},
			{"UPDATE things SET amount = amount + ? WHERE amount >= ?", []any{1, 5}, 2},
			{"UPDATE things SET amount = 0 WHERE name = ?", []any{"x"}, 0},
			{"INSERT INTO things (name) VALUES (?) ON CONFLICT (name) DO UPDATE SET amount = things.amount + 1", []any{"a"}, 1},
			{"DELETE FROM things WHERE name = ?", []any{"b"}, 1},
		} {
			if n, err := tx.Exec(ctx, step.query, step.args...); err != nil || n != step.want {
				return fmt.Errorf("%s: %d rows, %w; want %d", step.query, n, err, step.want)
			}
		}
		got, err := list[int64](ctx, tx, "UPDATE things SET amount = amount * 2 RETURNING amount")
		if err != nil || !slices.Equal(got, []int64{14}) {
			return fmt.Errorf("returned %v, %w", got, err)
		}
		return nil
	})
}

func testManyRows(t *testing.T, db *sqldb.DB) {
	for _, n := range []int{1, 2, 500, 5000} {
		update(t, db, func(ctx context.Context, tx *sqldb.Tx) error {
			var args, names []any
			for i := range n {
				name := fmt.Sprintf("%d-%d", n, i)
				args = append(args, name, i)
				names = append(names, name)
			}
			got, err := list[string](ctx, tx, "INSERT INTO things (name, amount) VALUES "+sqldb.Rows(n, 2)+
				" ON CONFLICT DO NOTHING RETURNING name", args...)
			if err != nil || len(got) != n {
				return fmt.Errorf("inserted %d of %d, %w", len(got), n, err)
			}
			changed, err := tx.Exec(ctx, "UPDATE things SET amount = amount + 1 WHERE name IN "+sqldb.In(n), names...)
			if err != nil || changed != int64(n) {
				return fmt.Errorf("changed %d of %d, %w", changed, n, err)
			}
			return nil
		})
	}
	update(t, db, func(ctx context.Context, tx *sqldb.Tx) error {
		for n := range 300 { // more texts than stay prepared
			var got int
			query := fmt.Sprintf("SELECT %d + count(*) FROM things WHERE name = ?", n)
			for range 2 {
				if err := tx.QueryRow(ctx, query, "1-0").Scan(&got); err != nil || got != n+1 {
					return fmt.Errorf("%s: %d, %w", query, got, err)
				}
			}
		}
		return nil
	})
	update(t, db, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE things SET amount = 0 WHERE name IN "+sqldb.In(0))
		if n != 0 {
			return fmt.Errorf("an empty list contains %d", n)
		}
		return err
	})
}

func testLocks(t *testing.T, db *sqldb.DB) {
	update(t, db, add("a", 1))
	update(t, db, add("for update", 1))
	update(t, db, func(ctx context.Context, tx *sqldb.Tx) error {
		for query, want := range map[string]int{
			"SELECT name FROM things ORDER BY id FOR UPDATE":                                                         2,
			"SELECT name FROM things ORDER BY id LIMIT 1\n\tfor update  skip locked\n":                               1,
			"SELECT name FROM things WHERE name = ' FOR UPDATE'":                                                     0,
			"SELECT name FROM things WHERE name = 'for update' FOR UPDATE":                                           1,
			"UPDATE things SET amount = 2 WHERE id IN (SELECT id FROM things FOR UPDATE SKIP LOCKED) RETURNING name": 2,
		} {
			got, err := list[string](ctx, tx, query)
			if err != nil || len(got) != want {
				return fmt.Errorf("%s: %q, %w", query, got, err)
			}
		}
		return nil
	})
}

func testPlaceholders(t *testing.T, db *sqldb.DB) {
	err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		got := make([]string, 4)
		err := tx.QueryRow(ctx, `SELECT 'is it? it''s ?', -- really?
			CAST(? AS TEXT) AS "what?", /* and ? */ CAST(? AS TEXT), '$1 -- ?'`, "one", "two?").Scan(&got[0], &got[1], &got[2], &got[3])
		want := []string{"is it? it's ?", "one", "two?", "$1 -- ?"}
		if err != nil || !slices.Equal(got, want) {
			return fmt.Errorf("got %q, %w", got, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func testArguments(t *testing.T, db *sqldb.DB) {
	for _, args := range [][]any{{}, {"a"}, {"a", 1, 2}} {
		for range 2 { // prepared, and prepared before
			if err := db.Update(t.Context(), run("INSERT INTO things (name, amount) VALUES (?, ?)", args...)); err == nil {
				t.Errorf("%d arguments for 2 were accepted", len(args))
			}
		}
	}
	if err := db.Update(t.Context(), run("SELECT nonsense FROM nowhere")); err == nil || shop.KindOf(err) == shop.Unavailable {
		t.Errorf("nonsense: %v", err)
	}
	wantNames(t, db)
}

func testValues(t *testing.T, db *sqldb.DB) {
	at := time.Date(2026, 2, 28, 23, 59, 59, 123456789, time.FixedZone("", 3600))
	update(t, db, func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO things (name, amount, at, payload) VALUES (?, ?, ?, ?), (?, ?, ?, ?)",
			"big", int64(math.MaxInt64), sqldb.Micros(at), []byte{0, 255}, "none", 0, sqldb.Micros(time.Time{}), nil)
		return err
	})
	err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		var amount, us, sum int64
		var payload []byte
		var is bool
		err := tx.QueryRow(ctx, "SELECT amount, at, payload, amount > 5 FROM things WHERE name = ?", "big").Scan(&amount, &us, &payload, &is)
		if err != nil || amount != math.MaxInt64 || !bytes.Equal(payload, []byte{0, 255}) || !is {
			return fmt.Errorf("amount %d, payload %v, %v, %w", amount, payload, is, err)
		}
		if got := sqldb.FromMicros(us); !got.Equal(at.Truncate(time.Microsecond)) || got.Location() != time.UTC {
			return fmt.Errorf("the time is %v", got)
		}
		if err := tx.QueryRow(ctx, "SELECT at, payload FROM things WHERE name = ?", "none").Scan(&us, &payload); err != nil || payload != nil || !sqldb.FromMicros(us).IsZero() {
			return fmt.Errorf("time %d, payload %v, %w", us, payload, err)
		}
		if err := tx.QueryRow(ctx, "SELECT COALESCE(sum(amount), 0) FROM things").Scan(&sum); err != nil || sum != math.MaxInt64 {
			return fmt.Errorf("sum %d, %w", sum, err)
		}
		if err := tx.QueryRow(ctx, "SELECT id FROM things WHERE name = ?", "x").Scan(&sum); !errors.Is(err, sqldb.ErrNoRows) {
			return fmt.Errorf("got %w, want no rows", err)
		}
		var name shop.SKU
		var price shop.Amount
		err = tx.QueryRow(ctx, "SELECT name, amount FROM things WHERE name = ? AND amount = ?", shop.SKU("big"), shop.Amount(math.MaxInt64)).Scan(&name, &price)
		if err != nil || name != "big" || price != math.MaxInt64 {
			return fmt.Errorf("%s, %d, %w", name, price, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func testTexts(t *testing.T, db *sqldb.DB) {
	for _, text := range []string{strings.Repeat("ä", 1<<20), "", "' OR 1=1 --", "日本\u200d🛒", "a\nb\tc\\d%_", `{"a":"\u0000"}`} {
		update(t, db, func(ctx context.Context, tx *sqldb.Tx) error {
			if _, err := tx.Exec(ctx, "INSERT INTO things (name, payload) VALUES (?, ?)", fmt.Sprint(len(text)), []byte(text)); err != nil {
				return err
			}
			var got string
			if err := tx.QueryRow(ctx, "SELECT CAST(? AS TEXT)", text).Scan(&got); err != nil || got != text {
				return fmt.Errorf("text of %d bytes became %d, %w", len(text), len(got), err)
			}
			var blob []byte
			if err := tx.QueryRow(ctx, "SELECT payload FROM things WHERE name = ?", fmt.Sprint(len(text))).Scan(&blob); err != nil || string(blob) != text {
				return fmt.Errorf("bytes of %d became %d, %w", len(text), len(blob), err)
			}
			return nil
		})
	}
}

func testOrder(t *testing.T, db *sqldb.DB) {
	want := []string{"A-1", "B", "Z", "a", "b.2", "b2", "ä"}
	for _, name := range []string{"b2", "ä", "Z", "A-1", "a", "b.2", "B"} {
		update(t, db, add(name, 0))
	}
	if err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		got, err := list[string](ctx, tx, "SELECT name FROM things ORDER BY name")
		if err != nil || !slices.Equal(got, want) {
			return fmt.Errorf("%q, %w; want %q", got, err, want)
		}
		got, err = list[string](ctx, tx, "SELECT name FROM things WHERE name > ? ORDER BY name LIMIT 2", "Z")
		if err != nil || !slices.Equal(got, want[3:5]) {
			return fmt.Errorf("%q, %w; want %q", got, err, want[3:5])
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func testSnapshot(t *testing.T, db *sqldb.DB) {
	update(t, db, add("a", 1))
	count := func(ctx context.Context, tx *sqldb.Tx) (n int, err error) {
		return n, tx.QueryRow(ctx, "SELECT count(*) FROM things").Scan(&n)
	}
	if err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		before, err := count(ctx, tx)
		if err != nil {
			return err
		}
		update(t, db, add("b", 1)) // by another, as its context shows
		after, err := count(ctx, tx)
		if before != 1 || after != 1 {
			return fmt.Errorf("saw %d, then %d", before, after)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	wantNames(t, db, "a", "b")
}

func testViewWrites(t *testing.T, db *sqldb.DB) {
	for range 6 { // more often than there are readers
		for _, look := range []func(context.Context, func(context.Context, *sqldb.Tx) error) error{db.View, db.Read} {
			err := look(t.Context(), add("a", 1))
			if err == nil || shop.KindOf(err) == shop.Unavailable {
				t.Errorf("got %v, want an error that no retry helps", err)
			}
		}
	}
	wantNames(t, db)
}

func testRead(t *testing.T, db *sqldb.DB) {
	update(t, db, add("a", 1))
	for range 6 { // more often than there are readers
		n := 0
		var now time.Time
		err := db.Read(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			rows, err := tx.QueryReplanned(ctx, "SELECT count(*) FROM things WHERE name = ?", "a")
			if err != nil {
				return err
			}
			for rows.Next() {
				if err := rows.Scan(&n); err != nil {
					return err
				}
			}
			if err := rows.Close(); err != nil {
				return err
			}
			now, err = tx.Now(ctx)
			return err
		})
		if n != 1 || now.IsZero() || err != nil {
			t.Errorf("%d rows at %v, %v", n, now, err)
		}
		if err := db.Read(t.Context(), func(context.Context, *sqldb.Tx) error { return errOwn }); !errors.Is(err, errOwn) {
			t.Errorf("got %v, want its own error", err)
		}
	}
}

func testNow(t *testing.T, db *sqldb.DB) {
	var first, second time.Time
	update(t, db, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		if first, err = tx.Now(ctx); err != nil {
			return err
		}
		if second, err = tx.Now(ctx); err != nil {
			return err
		}
		return add("a", 1)(ctx, tx)
	})
	if first.IsZero() || second.Before(first) || first.Location() != time.UTC || first.Nanosecond()%1000 != 0 {
		t.Errorf("%v, then %v", first, second)
	}
	var at int64
	if err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, "SELECT at FROM things").Scan(&at)
	}); err != nil {
		t.Fatal(err)
	}
	if d := sqldb.FromMicros(at).Sub(first); d < -time.Second || d > time.Minute {
		t.Errorf("the default of the column is %v away from the clock", d)
	}
}

func testStats(t *testing.T, db *sqldb.DB) {
	for i := range 3 {
		update(t, db, add(fmt.Sprint(i), 1))
	}
	_ = db.Update(t.Context(), func(context.Context, *sqldb.Tx) error { return errOwn })
	if s := db.Stats(); s.Transactions != 4 || s.Groups < 3 || s.LargestGroup < 1 || s.Queued != 0 {
		t.Errorf("%+v", s)
	}
	if err := db.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func testClosed(t *testing.T, db *sqldb.DB) {
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"update": db.Update(t.Context(), add("a", 1)),
		"view":   db.View(t.Context(), add("a", 1)),
		"ping":   db.Ping(t.Context()),
	} {
		if shop.KindOf(err) != shop.Unavailable {
			t.Errorf("%s: %v, want Unavailable", name, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}
