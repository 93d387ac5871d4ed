package outbox

import (
	"context"
	"errors"
	"slices"
	"time"

	"holdfast/platform/sqldb"
)

// lease is what this relay knows of its slots; only the relay's goroutine touches it.
type lease struct {
	held   []int
	relays int       // alive, this one included
	until  time.Time // by our own clock, and earlier than in the database: from then on nothing is sent
	renew  time.Time
}

// holdLease renews the lease when a quarter of it has passed, and takes its share of the slots; sooner where
// another relay's lease runs out before. Expiry is by the database's clock, so that the clocks of replicas need
// not agree.
func (o *Outbox) holdLease(ctx context.Context) error {
	begun := o.deps.Clock.Now()
	if begun.Before(o.lease.renew) {
		return nil
	}
	var held []int
	var relays others
	var blocked int64
	err := o.parts.DB.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var err error
		if held, relays, err = o.takeSlots(ctx, tx); err != nil || len(held) == 0 {
			return err
		}
		blocked, err = lookAtBlocked(ctx, tx, held)
		return err
	})
	if err != nil {
		return err
	}
	if !slices.Equal(held, o.lease.held) {
		o.lookAtAll = time.Time{} // there may be slots of another
	}
	o.lease = lease{held: held, relays: relays.alive + 1, until: begun.Add(o.cfg.Lease * 4 / 5), renew: begun.Add(min(o.cfg.Lease/4, relays.first))}
	o.blocked = blocked
	return nil
}

// others are the other relays that are alive.
type others struct {
	alive int
	first time.Duration // until the first of their leases runs out, unless it is renewed
}

// takeSlots keeps, takes and gives up slots so that the living relays have about the same number. A
// slot is taken only when its owner gave it up or let its lease run out, or is this very process
// before its restart.
func (o *Outbox) takeSlots(ctx context.Context, tx *sqldb.Tx) (mine []int, relays others, err error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return nil, relays, err
	}
	// First of all, since it is also what lets one relay at a time do this.
	mine, free, err := o.lookAtSlots(ctx, tx, now)
	if err != nil {
		return nil, relays, err
	}
	until := sqldb.Micros(now.Add(o.cfg.Lease))
	if relays, err = o.register(ctx, tx, now, until); err != nil {
		return nil, relays, err
	}
	share := (slots + relays.alive) / (relays.alive + 1)
	var surplus []int
	if len(mine) > share {
		mine, surplus = mine[:share], mine[share:]
	}
	mine = append(slices.Clone(mine), free[:min(len(free), share-len(mine))]...)
	if err := setSlots(ctx, tx, surplus, "", 0); err != nil {
		return nil, relays, err
	}
	return mine, relays, setSlots(ctx, tx, mine, o.cfg.Owner, until)
}

// clamp shortens the leases in a table that are longer than any may be: the clock was ahead when they were written, and
// has been put right since. A relay that is alive renews its own before the end all the same.
func clamp(ctx context.Context, tx *sqldb.Tx, table string, now time.Time) error {
	latest := sqldb.Micros(now.Add(maxLease))
	_, err := tx.Exec(ctx, `UPDATE `+table+` SET until = ? WHERE until > ?`, latest, latest)
	return err
}

// register gives a sign of life, forgets the relays that gave none in time, and tells which others there are.
func (o *Outbox) register(ctx context.Context, tx *sqldb.Tx, now time.Time, until int64) (found others, err error) {
	_, err = tx.Exec(ctx, `INSERT INTO outbox_relays (owner, until) VALUES (?, ?)
		ON CONFLICT (owner) DO UPDATE SET until = excluded.until`, o.cfg.Owner, until)
	if err != nil {
		return found, err
	}
	rows, err := tx.Query(ctx, `SELECT until FROM outbox_relays WHERE owner <> ?`, o.cfg.Owner)
	if err != nil {
		return found, err
	}
	defer rows.Close()
	first, latest, gone, far := until, sqldb.Micros(now.Add(maxLease)), false, false
	for rows.Next() {
		var other int64
		if err := rows.Scan(&other); err != nil {
			return found, err
		}
		if other <= sqldb.Micros(now) {
			gone = true
			continue
		}
		found.alive++
		far = far || other > latest
		first = min(first, other)
	}
	found.first = sqldb.FromMicros(first).Sub(now)
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return found, err
	}
	if far {
		if err := clamp(ctx, tx, "outbox_relays", now); err != nil {
			return found, err
		}
	}
	if gone {
		_, err = tx.Exec(ctx, `DELETE FROM outbox_relays WHERE until <= ?`, sqldb.Micros(now))
	}
	return found, err
}

// lookAtSlots tells which slots are this relay's and which are nobody's.
func (o *Outbox) lookAtSlots(ctx context.Context, tx *sqldb.Tx, now time.Time) (mine, free []int, err error) {
	rows, err := tx.Query(ctx, `SELECT slot, owner, until FROM outbox_slots ORDER BY slot FOR UPDATE`)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	latest, far := sqldb.Micros(now.Add(maxLease)), false
	for rows.Next() {
		var slot int
		var owner string
		var until int64
		if err := rows.Scan(&slot, &owner, &until); err != nil {
			return nil, nil, err
		}
		far = far || until > latest
		switch {
		case owner == o.cfg.Owner:
			mine = append(mine, slot)
		case until <= sqldb.Micros(now):
			free = append(free, slot)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || !far {
		return mine, free, err
	}
	return mine, free, clamp(ctx, tx, "outbox_slots", now)
}

func setSlots(ctx context.Context, tx *sqldb.Tx, which []int, owner string, until int64) error {
	if len(which) == 0 {
		return nil
	}
	args := []any{owner, until}
	for _, s := range which {
		args = append(args, s)
	}
	_, err := tx.Exec(ctx, `UPDATE outbox_slots SET owner = ?, until = ? WHERE slot IN `+sqldb.In(len(which)), args...)
	return err
}

// release gives the slots up, so that another relay need not wait for the lease to run out.
func (o *Outbox) release(ctx context.Context) error {
	o.lease = lease{}
	return o.parts.DB.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM outbox_relays WHERE owner = ?`, o.cfg.Owner); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE outbox_slots SET owner = '', until = 0 WHERE owner = ?`, o.cfg.Owner)
		return err
	})
}
