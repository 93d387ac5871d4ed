package outbox

import (
	"context"
	"errors"
	"fmt"

	"holdfast/platform/sqldb"
)

// replayRows bounds how many positions one transaction of a replay covers.
const replayRows = 5000

// mark is the stored checkpoint: the broker's log, and the position up to which every event is on its
// disk. replaying is set while a replay from there is under way.
type mark struct {
	log       string
	pos       int64
	replaying bool
}

// Replay has every event sent again that the broker may have lost: those after the checkpoint where
// its last stop was not orderly, and all that are kept where it began an empty log. It returns how
// many those are, which is 0 after an orderly stop. It must not run beside the relay; Run calls it.
func (o *Outbox) Replay(ctx context.Context) (events int64, err error) {
	broker := o.parts.Broker
	if broker == nil {
		return 0, nil
	}
	var from, last int64
	needed := false
	err = o.parts.DB.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		m, err := readMark(ctx, tx)
		if err != nil {
			return err
		}
		needed = m.log != broker.Incarnation() || !broker.Clean() || m.replaying
		if !needed {
			return nil
		}
		if m.log != broker.Incarnation() {
			m.pos = 0
		}
		from = m.pos
		err = tx.QueryRow(ctx, `SELECT COALESCE(max(pos), 0), COALESCE(min(pos), 0) FROM outbox WHERE pos > ?`, from).Scan(&last, &m.pos)
		if err != nil {
			return err
		}
		if last > 0 {
			from = max(from, m.pos-1)
		}
		return writeMark(ctx, tx, mark{log: broker.Incarnation(), pos: from, replaying: true})
	})
	if err != nil || !needed {
		return 0, err
	}
	for at := from; at < last; at += replayRows {
		if err := o.parts.DB.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			n, err := tx.Exec(ctx, `INSERT INTO outbox_unsent (pos, slot, lane) SELECT pos, slot, topic || '/' || key FROM outbox
				WHERE pos > ? AND pos <= ? ON CONFLICT (pos) DO NOTHING`, at, at+replayRows)
			if err == nil {
				tx.AfterCommit(func() { events += n })
			}
			return err
		}); err != nil {
			return events, fmt.Errorf("replay events: %w", err)
		}
	}
	if events > 0 {
		o.deps.Log.InfoContext(ctx, "the bus was not stopped in order: sending events again", "service", o.parts.Source, "events", events)
	}
	return events, o.parts.DB.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return writeMark(ctx, tx, mark{log: broker.Incarnation(), pos: from})
	})
}

func (o *Outbox) checkpointLoop(ctx context.Context) {
	var before int64
	for o.deps.Clock.Sleep(ctx, o.cfg.Checkpoint) == nil {
		sent, err := o.checkpoint(ctx, before)
		if err != nil && ctx.Err() == nil {
			o.deps.Log.WarnContext(ctx, "noting what the bus has on its disk failed", "err", err)
		}
		before = sent
	}
}

// checkpoint notes that everything up to a position is on the broker's disk, and returns the position
// up to which everything has been sent now, for the next time. What is noted is the lower of the two:
// on PostgreSQL an event may be committed after one of a higher position, and an interval is far longer
// than a transaction.
func (o *Outbox) checkpoint(ctx context.Context, before int64) (sent int64, err error) {
	var m mark
	err = o.parts.DB.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if m, err = readMark(ctx, tx); err != nil {
			return err
		}
		sent, err = sentUpTo(ctx, tx)
		return err
	})
	if err != nil || min(before, sent) <= m.pos {
		return sent, err
	}
	if err := o.parts.Broker.Sync(); err != nil {
		return sent, err
	}
	return sent, o.parts.DB.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		// Once more: a parked lane may have been released meanwhile.
		now, err := sentUpTo(ctx, tx)
		if err != nil {
			return err
		}
		return writeMark(ctx, tx, mark{log: o.parts.Broker.Incarnation(), pos: min(before, sent, now)})
	})
}

// sentUpTo returns the position up to which every event has been sent, those of parked lanes aside.
func sentUpTo(ctx context.Context, tx *sqldb.Tx) (pos int64, err error) {
	err = tx.QueryRow(ctx, `SELECT u.pos - 1 FROM outbox_unsent u
		WHERE NOT EXISTS (SELECT 1 FROM outbox_blocked b WHERE b.lane = u.lane AND b.parked = 1) ORDER BY u.pos LIMIT 1`).Scan(&pos)
	if errors.Is(err, sqldb.ErrNoRows) {
		err = tx.QueryRow(ctx, `SELECT COALESCE(max(pos), 0) FROM outbox`).Scan(&pos)
	}
	return pos, err
}

func readMark(ctx context.Context, tx *sqldb.Tx) (m mark, err error) {
	var replaying int
	err = tx.QueryRow(ctx, `SELECT log, pos, replaying FROM outbox_checkpoint WHERE id = 1`).Scan(&m.log, &m.pos, &replaying)
	if errors.Is(err, sqldb.ErrNoRows) {
		return mark{}, nil
	}
	m.replaying = replaying == 1
	return m, err
}

func writeMark(ctx context.Context, tx *sqldb.Tx, m mark) error {
	replaying := 0
	if m.replaying {
		replaying = 1
	}
	_, err := tx.Exec(ctx, `INSERT INTO outbox_checkpoint (id, log, pos, replaying) VALUES (1, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET log = excluded.log, pos = excluded.pos, replaying = excluded.replaying`, m.log, m.pos, replaying)
	return err
}
