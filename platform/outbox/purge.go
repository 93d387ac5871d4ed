package outbox

import (
	"context"
	"errors"
	"time"

	"holdfast/platform/sqldb"
)

// purgePause lets others write between the batches of a purge.
const purgePause = 20 * time.Millisecond

func (o *Outbox) purgeLoop(ctx context.Context) {
	purgeLoop(ctx, o, "deleting old events failed", o.Purge)
}

func purgeLoop(ctx context.Context, o *Outbox, failed string, purge func(context.Context) (int64, error)) {
	for o.deps.Clock.Sleep(ctx, o.cfg.PurgeEvery) == nil {
		if _, err := purge(ctx); err != nil && ctx.Err() == nil {
			o.deps.Log.WarnContext(ctx, failed, "err", err)
		}
	}
}

// Purge deletes sent events older than Config.Keep, a batch per transaction, and returns how many. What
// is unsent stays, however old.
func (o *Outbox) Purge(ctx context.Context) (deleted int64, err error) {
	for after, more := int64(0), true; more; {
		var n int64
		err := o.parts.DB.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			n = 0
			now, err := tx.Now(ctx)
			if err != nil {
				return err
			}
			cutoff := sqldb.Micros(now.Add(-o.cfg.Keep))
			var last, at int64
			more = true
			err = tx.QueryRow(ctx, `SELECT pos, time FROM outbox WHERE pos > ? ORDER BY pos LIMIT 1 OFFSET ?`, after, o.cfg.PurgeBatch-1).Scan(&last, &at)
			if errors.Is(err, sqldb.ErrNoRows) { // fewer than a batch
				more = false
				err = tx.QueryRow(ctx, `SELECT COALESCE(max(pos), 0) FROM outbox`).Scan(&last)
			}
			if err != nil {
				return err
			}
			more = more && at < cutoff
			n, err = tx.Exec(ctx, `DELETE FROM outbox WHERE pos > ? AND pos <= ? AND time < ?
				AND NOT EXISTS (SELECT 1 FROM outbox_unsent u WHERE u.pos = outbox.pos)`, after, last, cutoff)
			after = last
			return err
		})
		deleted += n
		if err != nil {
			return deleted, err
		}
		if more && o.deps.Clock.Sleep(ctx, purgePause) != nil {
			return deleted, ctx.Err()
		}
	}
	return deleted, nil
}
