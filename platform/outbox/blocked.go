package outbox

import (
	"context"
	"fmt"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// retryAtOnce bounds how many blocked lanes are tried again in one round.
const retryAtOnce = 100

// errorBytes bounds what is stored of an error.
const errorBytes = 500

// block notes the lanes whose oldest event was not sent. Their later events wait; the other lanes go on.
// An event that the bus refuses for what it is (too large, say) parks its lane after Config.Attempts.
func (o *Outbox) block(ctx context.Context, tx *sqldb.Tx, failed []failure) error {
	if len(failed) == 0 {
		return nil
	}
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	for _, f := range failed {
		attempts, refused, parked := f.attempts+1, 0, 0
		if !shop.KindOf(f.err).Retryable() {
			refused = 1
			if attempts >= o.cfg.Attempts {
				parked = 1
			}
		}
		at := now.Add(o.retry.Delay(o.deps.Rand, attempts))
		_, err := tx.Exec(ctx, `INSERT INTO outbox_blocked (lane, slot, pos, attempts, refused, parked, retry_at, last_error)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (lane) DO UPDATE SET pos = excluded.pos, attempts = excluded.attempts,
			refused = excluded.refused, parked = excluded.parked, retry_at = excluded.retry_at, last_error = excluded.last_error`,
			laneOf(f.event.Topic, string(f.event.OrderID)), slotOf(f.event.OrderID), f.pos, attempts, refused, parked, sqldb.Micros(at), short(f.err.Error(), errorBytes))
		if err != nil {
			return err
		}
		if parked == 1 {
			tx.AfterCommit(func() {
				o.deps.Log.ErrorContext(ctx, "an event cannot be sent and holds up those behind it", "event", f.event.ID,
					"topic", f.event.Topic, "type", f.event.Type, "order_id", f.event.OrderID, "attempts", attempts, "err", f.err)
			})
		}
	}
	return nil
}

// lookAtBlocked counts the blocked lanes of held, and forgets what is blocked no more: a relay that lost its lease in the
// middle of a batch may have blocked what another has sent.
func lookAtBlocked(ctx context.Context, tx *sqldb.Tx, held []int) (n int64, err error) {
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM outbox_blocked`).Scan(&n); err != nil || n == 0 {
		return n, err
	}
	_, err = tx.Exec(ctx, `DELETE FROM outbox_blocked WHERE NOT EXISTS (SELECT 1 FROM outbox_unsent u WHERE u.pos = outbox_blocked.pos)`)
	if err != nil {
		return 0, err
	}
	return countBlocked(ctx, tx, held)
}

func countBlocked(ctx context.Context, tx *sqldb.Tx, held []int) (n int64, err error) {
	args := make([]any, len(held))
	for i, s := range held {
		args[i] = s
	}
	err = tx.QueryRow(ctx, `SELECT count(*) FROM outbox_blocked WHERE slot IN `+sqldb.In(len(held)), args...).Scan(&n)
	return n, err
}

// retryBlocked sends the oldest event of each blocked lane that is due. Those that were refused go out
// one by one: a whole batch may have been refused for one of them.
func (o *Outbox) retryBlocked(ctx context.Context) error {
	due, err := o.due(ctx)
	if err != nil || len(due) == 0 {
		return err
	}
	var together []row
	attempts := make(map[int64]int, len(due))
	var sent []int64
	var failed []failure
	add := func(s []int64, f []failure, err error) error {
		sent = append(sent, s...)
		for i := range f {
			f[i].attempts = attempts[f[i].pos]
		}
		failed = append(failed, f...)
		return err
	}
	for _, d := range due {
		attempts[d.pos] = d.attempts
		if !d.refused {
			together = append(together, d.row)
		} else if err = add(o.send(ctx, []row{d.row})); err != nil {
			break
		}
	}
	if err == nil {
		err = add(o.send(ctx, together))
	}
	if settled := o.settle(ctx, sent, failed); settled != nil {
		return settled
	}
	return err
}

type dueRow struct {
	row
	attempts int
	refused  bool
}

func (o *Outbox) due(ctx context.Context) (found []dueRow, err error) {
	err = o.parts.DB.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		found = nil
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		// What waits for longer than any lane does was put off by a clock that was ahead.
		args := []any{sqldb.Micros(now), sqldb.Micros(now.Add(o.cfg.RetryMax))}
		for _, s := range o.lease.held {
			args = append(args, s)
		}
		rows, err := tx.Query(ctx, `SELECT pos, attempts, refused FROM outbox_blocked
			WHERE parked = 0 AND (retry_at <= ? OR retry_at > ?) AND slot IN `+sqldb.In(len(o.lease.held))+` ORDER BY retry_at LIMIT ?`, append(args, retryAtOnce)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		known := make(map[int64]dueRow)
		var positions []any
		for rows.Next() {
			var d dueRow
			if err := rows.Scan(&d.pos, &d.attempts, &d.refused); err != nil {
				return err
			}
			known[d.pos] = d
			positions = append(positions, d.pos)
		}
		if err := rows.Err(); err != nil || len(positions) == 0 {
			return err
		}
		rows.Close()
		if rows, err = tx.Query(ctx, eventsOf+`outbox_unsent u JOIN outbox o ON o.pos = u.pos WHERE u.pos IN `+sqldb.In(len(positions))+` ORDER BY u.pos`, positions...); err != nil {
			return err
		}
		events, err := scanRows(rows)
		for _, r := range events {
			d := known[r.pos]
			d.row = r
			found = append(found, d)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read blocked lanes: %w", err)
	}
	return found, nil
}

// unblock lets the later events of the lanes go out whose blocked event has been sent, and returns how
// many lanes stay blocked.
func (o *Outbox) unblock(ctx context.Context, tx *sqldb.Tx, sent []any) (left int64, err error) {
	if len(sent) > 0 {
		if _, err := tx.Exec(ctx, `DELETE FROM outbox_blocked WHERE pos IN `+sqldb.In(len(sent)), sent...); err != nil {
			return 0, err
		}
	}
	return countBlocked(ctx, tx, o.lease.held)
}

// Unpark has the parked lanes tried again, after what their events were refused for was changed, and
// returns how many they are.
func (o *Outbox) Unpark(ctx context.Context) (lanes int64, err error) {
	err = o.parts.DB.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var first int64
		err := tx.QueryRow(ctx, `SELECT COALESCE(min(pos), 0) FROM outbox_blocked WHERE parked = 1`).Scan(&first)
		if err != nil || first == 0 {
			lanes = 0
			return err
		}
		// They are sent only now, while a checkpoint may have passed over them.
		if _, err := tx.Exec(ctx, `UPDATE outbox_checkpoint SET pos = ? WHERE pos >= ?`, first-1, first); err != nil {
			return err
		}
		lanes, err = tx.Exec(ctx, `UPDATE outbox_blocked SET parked = 0, attempts = 0, retry_at = 0 WHERE parked = 1`)
		return err
	})
	if err == nil && lanes > 0 {
		o.wake()
	}
	return lanes, err
}
