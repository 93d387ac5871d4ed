// Package calls makes calls to outside parties that survive a crash. A call is a row, written in the
// transaction that decides on it and before the first attempt; its outcome is applied in the
// transaction that removes the row. What was begun and never finished is unknown: its next attempt is
// marked so, and must ask the other party before it does anything.
package calls

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"time"

	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations returns the tables' migrations, numbered 200 to 299.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the folder is embedded
	}
	return sub
}

// Call is a call to be made. Key is the idempotency key that the other party gets: made of order and
// operation, and the same for each attempt, worker and restart.
type Call struct {
	Key         string
	OrderID     shop.OrderID
	Kind        string // "authorise"
	Request     json.RawMessage
	TraceParent string

	// Unknown is true where an earlier attempt may have had its effect.
	Unknown bool
	// Attempts counts the attempts before this one, and Failures those of them whose Result was Failed.
	Attempts int
	Failures int
	FirstAt  time.Time

	lease int64 // the end of the lease under which it was taken up; another value: it was taken up again
}

// Result is what came of an attempt. B is what the service works on in a transaction, see Store.
type Result[B any] struct {
	// Settle applies the outcome, in the transaction that removes the call. It must be safe to run
	// where another path (a webhook) has applied the same outcome before. Nil means: try again.
	Settle func(B) error
	// WhileHeld applies Settle only where the call is still this process's: the end says that the operation has had no
	// effect, which who has taken the call over may have changed since.
	WhileHeld bool
	// Park keeps the call after Settle, for Unpark.
	Park bool
	// RetryIn is the wait before the next attempt where Settle is nil, 10 minutes at most.
	RetryIn time.Duration
	// Failed counts this attempt into Failures.
	Failed bool
	// Rejected says that a policy of ours kept the attempt from being made. It counts as none, and what
	// was unknown before still is, where Unknown says so.
	Rejected bool
	// Unknown marks that this attempt may have had its effect although no answer tells.
	Unknown bool
	// Attempts are recorded for the order's story.
	Attempts []shop.Attempt
}

// Performer makes one attempt. Its ctx ends after Config.Timeout or when the runner stops.
type Performer[B any] func(ctx context.Context, c Call) Result[B]

// Store is how a service's rows are loaded, locked, and saved, for many orders in one transaction.
type Store[B any] struct {
	Load func(ctx context.Context, tx *sqldb.Tx, ids []shop.OrderID) (B, error)
	Save func(ctx context.Context, tx *sqldb.Tx, b B) error
}

// Config sets the runner's limits.
type Config struct {
	Owner   string        `koanf:"owner"`   // names this process; the same after a restart of the same process
	Workers int           `koanf:"workers"` // attempts at once, beside those that undo something
	Queue   int           `koanf:"queue"`   // calls waiting in memory, in each lane; more wait in the store
	Timeout time.Duration `koanf:"timeout"` // for one attempt, its queries included
	Lease   time.Duration `koanf:"lease"`   // after it another process may take a call over; > 2 * Timeout
	Poll    time.Duration `koanf:"poll"`    // how often due calls are looked for
	// Alive is how long the other processes wait for a sign of life of this one before they take its calls over,
	// however long the leases last. It gives one each quarter of that, and where it can give none in time it ends
	// what it has under way. 0: 2 s; on SQLite, which has one process, 1 min, which is also the most.
	Alive time.Duration `koanf:"alive"`

	UndoWorkers int `koanf:"undo_workers"` // attempts at once of the operations that undo something
}

// Defaults returns the limits for one process.
func Defaults() Config {
	return Config{Owner: "holdfast", Workers: 64, Queue: 1024, Timeout: 10 * time.Second, Lease: 30 * time.Second, Poll: 100 * time.Millisecond, UndoWorkers: 16}
}

// Validate tells what is wrong with c.
func (c Config) Validate() error {
	switch {
	case c.Owner == "":
		return fmt.Errorf("calls.owner is empty")
	case c.Workers < 1 || c.UndoWorkers < 1 || c.Queue < max(c.Workers, c.UndoWorkers):
		return fmt.Errorf("calls.workers and calls.undo_workers must be at least 1 and calls.queue not less than either")
	case c.Timeout <= 0 || c.Lease <= 2*c.Timeout:
		return fmt.Errorf("calls.timeout must be positive and calls.lease more than twice as long")
	case c.Poll <= 0:
		return fmt.Errorf("calls.poll must be positive")
	case c.Alive != 0 && c.Alive < leastAlive || c.Alive > min(c.Lease, maxAlive):
		return fmt.Errorf("calls.alive must be at least %s, and not above %s nor calls.lease", leastAlive, maxAlive)
	}
	return nil
}

// The least and the most of Config.Alive.
const (
	leastAlive = 100 * time.Millisecond
	maxAlive   = time.Minute
)

// enqueueRows bounds one INSERT.
const enqueueRows = 50

// Enqueue writes calls. Where a key is there already nothing changes. After the commit they are handed
// to workers of this process where some are likely to be free, and wait in the store otherwise.
func (r *Runner[B]) Enqueue(ctx context.Context, tx *sqldb.Tx, calls ...Call) error {
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(calls, enqueueRows) {
		if err := r.insert(ctx, tx, now, chunk); err != nil {
			return err
		}
	}
	return nil
}

func (r *Runner[B]) insert(ctx context.Context, tx *sqldb.Tx, now time.Time, chunk []Call) error {
	const columns = 10
	from := held{r.life.Load(), tx.Begun()} // of before the call is anybody's
	byKey := make(map[string]Call, len(chunk))
	args := make([]any, 0, columns*len(chunk))
	for _, c := range chunk {
		if c.TraceParent == "" {
			c.TraceParent = telemetry.TraceParent(ctx)
		}
		c.FirstAt = now
		begun, owner, lease := 0, "", time.Time{}
		if r.direct(c.Kind, len(chunk)) {
			begun, owner, lease = 1, r.cfg.Owner, now.Add(r.cfg.Lease)
			c.lease = sqldb.Micros(lease)
			byKey[c.Key] = c
		}
		args = append(args, c.Key, string(c.OrderID), c.Kind, string(c.Request), c.TraceParent, begun, owner,
			sqldb.Micros(lease), sqldb.Micros(now), sqldb.Micros(now))
	}
	values, args := tx.Values(columns, args)
	rows, err := tx.Query(ctx, `INSERT INTO calls (key, order_id, kind, request, traceparent, begun, owner, lease_until, next_at, first_at)
		`+values+` ON CONFLICT (key) DO NOTHING RETURNING key`, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return err
		}
		if c, direct := byKey[key]; direct {
			tx.AfterCommit(func() { r.offer(c, from) })
		}
	}
	return rows.Err()
}

// direct tells whether n new calls of a kind go to workers of this process as soon as they are committed:
// where workers are likely to be free soon, and the policy lets any number through. What waits in the queue
// of an outside party that is slow comes at once when it is not any more, whatever the pace: so few may.
func (r *Runner[B]) direct(name string, n int) bool {
	l, k := r.of(name)
	return r.running.Load() && len(l.queue)+n < min(cap(l.queue)/2, 2*l.workers) && k.allowance() == math.MaxInt
}

// Done removes a call whose outcome came another way, with a webhook.
func Done(ctx context.Context, tx *sqldb.Tx, key string) error {
	_, err := tx.Exec(ctx, `DELETE FROM calls WHERE key = ?`, key)
	return err
}

// Unpark makes an order's parked calls due again and returns how many there were.
func Unpark(ctx context.Context, tx *sqldb.Tx, id shop.OrderID) (int64, error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return 0, err
	}
	return tx.Exec(ctx, `UPDATE calls SET parked = 0, failures = 0, lease_until = 0, next_at = ? WHERE order_id = ? AND parked = 1`,
		sqldb.Micros(now), string(id))
}

// Parked tells which of the orders have a call that waits for an operator.
func Parked(ctx context.Context, tx *sqldb.Tx, ids []shop.OrderID) (map[shop.OrderID]bool, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	where, args := sqldb.Among(tx, "order_id", ids)
	rows, err := tx.Query(ctx, `SELECT order_id FROM calls WHERE parked = 1 AND `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	parked := map[shop.OrderID]bool{}
	for rows.Next() {
		var id shop.OrderID
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		parked[id] = true
	}
	return parked, rows.Err()
}

// Attempts returns the recorded attempts of an order, oldest first.
func Attempts(ctx context.Context, tx *sqldb.Tx, id shop.OrderID) ([]shop.Attempt, error) {
	rows, err := tx.Query(ctx, `SELECT at, operation, number, outcome, code, reference, trace_id
		FROM call_attempts WHERE order_id = ? ORDER BY pos`, string(id))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	attempts := []shop.Attempt{}
	for rows.Next() {
		var a shop.Attempt
		var at int64
		if err := rows.Scan(&at, &a.Operation, &a.Number, &a.Outcome, &a.Code, &a.Reference, &a.TraceID); err != nil {
			return nil, err
		}
		a.At = sqldb.FromMicros(at)
		attempts = append(attempts, a)
	}
	return attempts, rows.Err()
}

// Timeline tells attempts as items of an order's timeline.
func Timeline(service string, attempts []shop.Attempt) []shop.TimelineItem {
	items := make([]shop.TimelineItem, 0, len(attempts))
	for _, a := range attempts {
		detail := a.Outcome
		if a.Code != "" {
			detail += " " + a.Code
		}
		items = append(items, shop.TimelineItem{At: a.At, Kind: "attempt", Service: service,
			What: fmt.Sprintf("%s #%d", a.Operation, a.Number), Detail: detail, TraceID: a.TraceID})
	}
	return items
}

// Find returns a call that is not settled yet.
func Find(ctx context.Context, tx *sqldb.Tx, key string) (c Call, found bool, err error) {
	var request string
	err = tx.QueryRow(ctx, `SELECT key, order_id, kind, request, traceparent FROM calls WHERE key = ?`, key).
		Scan(&c.Key, &c.OrderID, &c.Kind, &request, &c.TraceParent)
	if errors.Is(err, sqldb.ErrNoRows) {
		return c, false, nil
	}
	c.Request = []byte(request)
	return c, err == nil, err
}
