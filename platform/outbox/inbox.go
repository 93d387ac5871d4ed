package outbox

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"

	"holdfast/platform/bus"
	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// note writes the ids of items to the inbox and returns those that were not there, in their order.
func (c *Consumer) note(ctx context.Context, tx *sqldb.Tx, items []item) ([]item, error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return nil, err
	}
	fresh := make(map[string]bool, len(items))
	const columns = 3
	for from, to := range tx.Pieces(len(items)) {
		args := make([]any, 0, columns*(to-from))
		for i := from; i < to; i++ {
			args = append(args, c.cfg.Name, items[i].id, sqldb.Micros(now))
		}
		values, args := tx.Values(columns, args)
		rows, err := tx.Query(ctx, `INSERT INTO inbox (consumer, event_id, at) `+values+`
			ON CONFLICT (consumer, event_id) DO NOTHING RETURNING event_id`, args...)
		if err != nil {
			return nil, fmt.Errorf("inbox: %w", err)
		}
		if err := addIDs(fresh, rows); err != nil {
			return nil, fmt.Errorf("inbox: %w", err)
		}
	}
	if len(fresh) == len(items) {
		return items, nil
	}
	todo := make([]item, 0, len(fresh))
	for i := range items {
		if fresh[items[i].id] {
			delete(fresh, items[i].id) // one id twice in a batch is one event
			todo = append(todo, items[i])
		}
	}
	return todo, nil
}

func addIDs(ids map[string]bool, rows *sql.Rows) error {
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		ids[id] = true
	}
	return errors.Join(rows.Err(), rows.Close())
}

// sort divides items into events to handle and dead letters: what is no event, and what comes behind
// a dead letter of the same key.
func (c *Consumer) sort(ctx context.Context, tx *sqldb.Tx, items []item) (events, letters []shop.Event, err error) {
	var parked map[shop.OrderID]string
	if c.parked.Load() > 0 {
		if parked, err = c.parkedKeys(ctx, tx, items); err != nil {
			return nil, nil, err
		}
	}
	events = make([]shop.Event, 0, len(items))
	for i := range items {
		it := &items[i]
		first, behind := parked[it.event.OrderID]
		switch {
		case it.cause != "":
			letters = append(letters, c.letter(it, it.cause))
		case behind:
			letters = append(letters, c.letter(it, "behind "+first))
		default:
			events = append(events, it.event)
		}
	}
	return events, letters, nil
}

// Purge deletes inbox rows older than the outbox's KeepInbox, a batch per transaction, and returns how
// many. The ids of events sort by time, so the oldest come first; those of what is no event do not, and
// are few.
func (c *Consumer) Purge(ctx context.Context) (deleted int64, err error) {
	cfg := c.parts.Outbox.cfg
	for more := true; more; {
		var n int64
		err := c.parts.DB.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			now, err := tx.Now(ctx)
			if err != nil {
				return err
			}
			cutoff := sqldb.Micros(now.Add(-cfg.KeepInbox))
			n, err = tx.Exec(ctx, `DELETE FROM inbox WHERE consumer = ? AND at < ? AND event_id IN
				(SELECT event_id FROM inbox WHERE consumer = ? ORDER BY event_id LIMIT ?)`, c.cfg.Name, cutoff, c.cfg.Name, cfg.PurgeBatch)
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `DELETE FROM inbox WHERE consumer = ? AND at < ? AND event_id >= ? AND event_id < ?`,
				c.cfg.Name, cutoff, rawPrefix, rawPrefix+"~")
			return err
		})
		deleted += n
		if err != nil {
			return deleted, err
		}
		more = n == int64(cfg.PurgeBatch)
		if more && c.deps.Clock.Sleep(ctx, purgePause) != nil {
			return deleted, ctx.Err()
		}
	}
	return deleted, nil
}

// rawPrefix begins the ids of what is no event.
const rawPrefix = "raw_"

// rawID is the id in the inbox of a record that is no event. An offset alone may come again after the
// bus has lost its end.
func rawID(r *bus.Record) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d/%d/%s", r.Event.Topic, r.Partition, r.Offset, r.Event.Data))
	return rawPrefix + hex.EncodeToString(sum[:16])
}
