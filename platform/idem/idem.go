// Package idem makes commands idempotent: the key, a hash of the command and its answer are stored
// in the transaction that carries the command out, so that a crash leaves all of them or none.
// Errors are not stored: a refused command leaves its key free.
package idem

import (
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations returns the table's migrations, numbered 100 to 199.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the folder is embedded
	}
	return sub
}

// Retention is how long an answer is kept at least.
const Retention = 7 * 24 * time.Hour

// purgeBatch bounds the rows that one Purge looks at, so that it never holds the writer for long.
const purgeBatch = 1000

// Scope is where a key counts: the same key of another caller or on another route is another command.
type Scope struct {
	Caller shop.Caller
	Route  string // "POST /v1/orders", with the real path where it names a thing
	Key    string
}

// Do carries out a command once. The first time it runs do in a transaction and stores its answer
// there; later it returns that answer and replayed, or KeyReused where cmd differs. cmd and T go
// through encoding/json. do may run more than once, with only one of the runs committed.
func Do[T any](ctx context.Context, db *sqldb.DB, s Scope, cmd any, do func(context.Context, *sqldb.Tx) (T, error)) (answer T, replayed bool, err error) {
	hash, err := digest(cmd)
	if err != nil {
		return answer, false, err
	}
	run := func(ctx context.Context, tx *sqldb.Tx) error {
		var zero T
		answer, replayed = zero, false
		found, err := find(ctx, tx, s, hash, &answer)
		if err != nil || found {
			replayed = found
			return err
		}
		if answer, err = do(ctx, tx); err != nil {
			return err
		}
		return save(ctx, tx, s, hash, answer)
	}
	err = db.Update(ctx, run)
	if errors.Is(err, errTaken) {
		// Another transaction with this key committed between our look and our insert.
		err = db.Update(ctx, run)
	}
	if errors.Is(err, errTaken) {
		err = shop.E(shop.KeyInProgress, "idem.Do", "a request with this Idempotency-Key is still running; send it again")
	}
	return answer, replayed, err
}

// Find looks for the stored answer to a command without running it.
func Find[T any](ctx context.Context, db *sqldb.DB, s Scope, cmd any) (answer T, found bool, err error) {
	hash, err := digest(cmd)
	if err != nil {
		return answer, false, err
	}
	err = db.Read(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		found, err = find(ctx, tx, s, hash, &answer)
		return err
	})
	return answer, found, err
}

// Command is one of several that are carried out in one transaction. Its answer, of type T, has to be known before
// anything is written.
type Command[T any] struct {
	Scope
	Cmd    any
	Answer T // that of the first time

	// What Claim found.
	Replayed bool  // Answer is the stored one: the command was carried out before
	Err      error // KeyReused, or why the stored answer cannot be read
}

// Fresh tells whether the command is to be carried out.
func (c *Command[T]) Fresh() bool { return !c.Replayed && c.Err == nil }

// Claim stores the keys and answers of commands in tx, which has to carry out those that are Fresh then. Cmd and T go
// through encoding/json. Where another transaction claims the same key it waits for the outcome of that.
func Claim[T any](ctx context.Context, tx *sqldb.Tx, commands []*Command[T]) error {
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	// In one order, as all do who wait for each other here. The first of a key is the one that is carried out.
	sorted := slices.Clone(commands)
	slices.SortStableFunc(sorted, func(a, b *Command[T]) int { return compare(a.Scope, b.Scope) })
	firsts := slices.CompactFunc(slices.Clone(sorted), func(a, b *Command[T]) bool { return a.Scope == b.Scope })
	claimed := make(map[Scope]*Command[T], len(firsts))
	for from, to := range tx.Pieces(len(firsts)) {
		if err := claim(ctx, tx, sqldb.Micros(now), firsts[from:to], claimed); err != nil {
			return err
		}
	}
	for _, c := range sorted {
		if claimed[c.Scope] == c {
			continue
		}
		hash, err := digest(c.Cmd)
		if err != nil {
			return err
		}
		var stored T // not what this command would have been answered: absent members would stay
		c.Replayed, c.Err = find(ctx, tx, c.Scope, hash, &stored)
		c.Answer = stored
		switch {
		case c.Err != nil && shop.KindOf(c.Err) != shop.KeyReused:
			return c.Err
		case c.Err == nil && !c.Replayed:
			return shop.Wrap(shop.KeyInProgress, "idem.Claim", "a request with this Idempotency-Key was still running; send it again", errTaken)
		}
	}
	return nil
}

// claim inserts the keys that are not there, and notes whose they are.
func claim[T any](ctx context.Context, tx *sqldb.Tx, now int64, commands []*Command[T], claimed map[Scope]*Command[T]) error {
	const columns = 6
	args := make([]any, 0, columns*len(commands))
	byScope := make(map[Scope]*Command[T], len(commands))
	for _, c := range commands {
		hash, err := digest(c.Cmd)
		if err != nil {
			return err
		}
		answer, err := json.Marshal(c.Answer)
		if err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		args = append(args, string(c.Caller), c.Route, c.Key, hash, string(answer), now)
		byScope[c.Scope] = c
	}
	values, args := tx.Values(columns, args)
	rows, err := tx.Query(ctx, `INSERT INTO idempotency (caller, route, key, hash, answer, created_at) `+values+`
		ON CONFLICT (caller, route, key) DO NOTHING RETURNING caller, route, key`, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var s Scope
		if err := rows.Scan(&s.Caller, &s.Route, &s.Key); err != nil {
			return err
		}
		claimed[s] = byScope[s]
	}
	return rows.Err()
}

func compare(a, b Scope) int {
	return cmp.Or(cmp.Compare(a.Caller, b.Caller), cmp.Compare(a.Route, b.Route), cmp.Compare(a.Key, b.Key))
}

// Purge deletes answers that are older than Retention, a batch at a time, and returns how many.
func Purge(ctx context.Context, db *sqldb.DB) (deleted int64, err error) {
	err = db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		deleted, err = tx.Exec(ctx, `DELETE FROM idempotency WHERE created_at < ? AND pos IN
			(SELECT pos FROM idempotency ORDER BY pos LIMIT ?)`, sqldb.Micros(now.Add(-Retention)), purgeBatch)
		return err
	})
	return deleted, err
}

// purgeEvery is the pause between two looks for old answers.
const purgeEvery = time.Minute

// Purger returns a component that purges until its ctx ends.
func Purger(db *sqldb.DB, deps shop.Deps) func(context.Context) error {
	return func(ctx context.Context) error {
		for deps.Clock.Sleep(ctx, purgeEvery) == nil {
			for n := int64(purgeBatch); n == purgeBatch && ctx.Err() == nil; {
				var err error
				if n, err = Purge(ctx, db); err != nil && ctx.Err() == nil {
					deps.Log.WarnContext(ctx, "purging idempotency keys failed", "err", err)
				}
			}
		}
		return nil
	}
}

// errTaken is a lost race for a key.
var errTaken = errors.New("idempotency key taken")

func digest(cmd any) (string, error) {
	b, err := json.Marshal(cmd)
	if err != nil {
		return "", fmt.Errorf("encode command: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

func find(ctx context.Context, tx *sqldb.Tx, s Scope, hash string, answer any) (bool, error) {
	var storedHash, stored string
	err := tx.QueryRow(ctx, `SELECT hash, answer FROM idempotency WHERE caller = ? AND route = ? AND key = ?`,
		string(s.Caller), s.Route, s.Key).Scan(&storedHash, &stored)
	if errors.Is(err, sqldb.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if storedHash != hash {
		return false, shop.E(shop.KeyReused, "idem.Do", "this Idempotency-Key was used for another request; use a new key")
	}
	return true, json.Unmarshal([]byte(stored), answer)
}

func save(ctx context.Context, tx *sqldb.Tx, s Scope, hash string, answer any) error {
	b, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	n, err := tx.Exec(ctx, `INSERT INTO idempotency (caller, route, key, hash, answer, created_at)
		VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (caller, route, key) DO NOTHING`,
		string(s.Caller), s.Route, s.Key, hash, string(b), sqldb.Micros(now))
	if err != nil {
		return err
	}
	if n == 0 {
		return errTaken
	}
	return nil
}
