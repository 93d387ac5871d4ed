package calls

import (
	"context"
	"math"
	"slices"
	"strings"

	"holdfast/platform/sqldb"
	"holdfast/resilience"
)

// kind is a kind of calls with the policy of its operation.
type kind struct {
	name   string
	policy *resilience.Policy
}

// allowance is how many more calls of the kind may be taken up now. An open breaker lets none through, so
// they stay in the store, where they cost nothing; one that may be probed lets through as many as it has
// places for probes.
func (k kind) allowance() int {
	ready := k.policy.Ready().Ready
	switch k.policy.Breaker().State() {
	case resilience.Open, resilience.HalfOpen:
		if !ready {
			return 0
		}
		return k.policy.Breaker().Stats().Config.Probes
	case resilience.ForcedOpen:
		return 0
	default:
		return math.MaxInt // a full bulkhead has a queue, and so have the workers
	}
}

// lane is a queue with workers of its own. What undoes something has one for itself: an outage that
// keeps all other workers busy must not keep money from being given back.
type lane struct {
	kinds   []kind
	queue   chan claimed
	workers int
}

// newLanes sorts the operations into the two lanes.
func newLanes(cfg Config, operations map[string]*resilience.Policy) []*lane {
	usual := &lane{queue: make(chan claimed, cfg.Queue), workers: cfg.Workers}
	undo := &lane{queue: make(chan claimed, cfg.Queue), workers: cfg.UndoWorkers}
	for name, p := range operations {
		l := usual
		if p.Operation().Criticality == resilience.Undo {
			l = undo
		}
		l.kinds = append(l.kinds, kind{name, p})
	}
	return []*lane{usual, undo}
}

// of returns the lane of a kind, and the kind.
func (r *Runner[B]) of(name string) (*lane, kind) {
	for _, l := range r.lanes {
		if i := slices.IndexFunc(l.kinds, func(k kind) bool { return k.name == name }); i >= 0 {
			return l, l.kinds[i]
		}
	}
	panic("no operation for calls of kind " + name) // a mistake in the service
}

// room is how many calls of a kind may be taken up now, beside others that are about to be queued. It is no more
// than the workers will soon need: what waits in memory is overtaken by nobody.
func (l *lane) room(k kind, others int) int {
	return min(k.allowance(), min(cap(l.queue), 2*l.workers)-len(l.queue)-others)
}

// claim takes due calls, as many as there is room for. It takes those that have waited longest and those of the
// youngest orders in turn: after an outage what waited is carried out, and nobody who comes new waits behind it.
func (r *Runner[B]) claim(ctx context.Context) error {
	if err := r.giveBack(ctx); err != nil {
		return err
	}
	if r.looks++; r.looks%looksPerHurry == 1 {
		if err := r.hurry(ctx); err != nil {
			return err
		}
	}
	due, err := r.due(ctx)
	pace := r.pace.next(len(due) > 0)
	if err != nil || len(due) == 0 {
		return err
	}
	from, order := held{r.life.Load(), r.deps.Clock.Now()}, oldest
	if r.young = !r.young; r.young {
		order = youngest
	}
	return r.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var taken []Call
		inLane := map[*lane]int{} // of those taken, which are not in the queue before the commit
		for _, name := range due {
			l, k := r.of(name)
			room := min(l.room(k, inLane[l]), pace)
			if room <= 0 {
				continue
			}
			more, err := r.take(ctx, tx, name, order, room)
			if err != nil {
				return err
			}
			taken = append(taken, more...)
			inLane[l] += len(more)
		}
		tx.AfterCommit(func() {
			for _, c := range taken {
				r.offer(c, from)
			}
		})
		return nil
	})
}

// giveBack makes the calls due again that were taken up and found no worker. Nothing was begun of them,
// so what was known of them before still is.
func (r *Runner[B]) giveBack(ctx context.Context) error {
	r.mu.Lock()
	returned := r.returned
	r.returned = nil
	r.mu.Unlock()
	for chunk := range slices.Chunk(returned, enqueueRows) {
		err := r.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			for _, c := range chunk {
				begun := 0
				if c.Unknown {
					begun = 1
				}
				if _, err := tx.Exec(ctx, `UPDATE calls SET begun = ?, lease_until = 0 WHERE key = ? AND owner = ? AND lease_until = ?`, begun, c.Key, r.cfg.Owner, c.lease); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err // their leases run out
		}
	}
	return nil
}

// looksPerHurry is how many looks for due calls there are for each one for calls that wait too long.
const looksPerHurry = 10

// hurry makes the calls due that wait for longer than any is put off, and shortens the leases of ours that are longer
// than any: the clock was ahead when they were written, and has been put right since.
func (r *Runner[B]) hurry(ctx context.Context) error {
	var late []string
	var leases int
	err := r.db.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		late = late[:0] // it may run again
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		for _, l := range r.lanes {
			for _, k := range l.kinds {
				var n int
				if err := tx.QueryRow(ctx, `SELECT count(*) FROM (SELECT 1`+lateWhere+` LIMIT 1) one`, k.name, sqldb.Micros(now.Add(maxRetryIn))).Scan(&n); err != nil {
					return err
				}
				if n > 0 {
					late = append(late, k.name)
				}
			}
		}
		return tx.QueryRow(ctx, `SELECT count(*) FROM (SELECT 1 FROM calls`+longLease+` LIMIT 1) one`, r.cfg.Owner, sqldb.Micros(now.Add(2*r.cfg.Lease))).Scan(&leases)
	})
	if err != nil || len(late)+leases == 0 {
		return err
	}
	return r.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		for _, name := range late {
			if _, err := tx.Exec(ctx, `UPDATE calls SET next_at = ? WHERE key IN (SELECT key`+lateWhere+`)`, sqldb.Micros(now), name, sqldb.Micros(now.Add(maxRetryIn))); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `UPDATE calls SET lease_until = ?`+longLease, sqldb.Micros(now.Add(r.cfg.Lease)), r.cfg.Owner, sqldb.Micros(now.Add(2*r.cfg.Lease)))
		return err
	})
}

// longLease are the calls of an owner with leases that are longer than it takes any. The margin is for a clock that is
// put right in small steps. The calls of others are theirs for as long as they give signs of life.
const longLease = ` WHERE owner = ? AND lease_until > 0 AND lease_until > ?`

const lateWhere = ` FROM calls WHERE kind = ? AND parked = 0 AND next_at > ?`

// due returns the kinds that have due calls and room for them.
func (r *Runner[B]) due(ctx context.Context) (kinds []string, err error) {
	var asked []string
	for _, l := range r.lanes {
		for _, k := range l.kinds {
			if l.room(k, 0) > 0 {
				asked = append(asked, k.name)
			}
		}
	}
	if len(asked) == 0 {
		return nil, nil
	}
	err = r.db.Read(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		var args []any
		for i, name := range asked {
			args = append(args, i, name, sqldb.Micros(now), sqldb.Micros(now))
		}
		query := strings.TrimSuffix(strings.Repeat(`SELECT CAST(? AS INTEGER) WHERE EXISTS (SELECT 1`+dueWhere+`) UNION ALL `, len(asked)), ` UNION ALL `)
		rows, err := tx.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		kinds = kinds[:0] // it may run again
		for rows.Next() {
			var i int
			if err := rows.Scan(&i); err != nil {
				return err
			}
			kinds = append(kinds, asked[i])
		}
		return rows.Err()
	})
	return kinds, err
}

// The ways to choose among due calls. Orders' ids sort by time.
const (
	oldest   = ` ORDER BY next_at`
	youngest = ` ORDER BY order_id DESC`
)

const dueWhere = ` FROM calls WHERE kind = ? AND parked = 0 AND next_at <= ? AND lease_until <= ?`
