package calls

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"holdfast/platform/sqldb"
)

// A process that makes calls gives signs of life in the store. Where they stay away another process takes its
// calls over, long before their leases run out. A process that could give none in time, for whatever reason,
// begins no call that it had taken up, and ends the attempts that are under way: their outcome is unknown.

const (
	// signsPerAlive is how many signs of life are given in Config.Alive.
	signsPerAlive = 4
	// signPause is the wait after a sign that could not be given.
	signPause = 100 * time.Millisecond
)

// life is a time in which this process is known to live. What was taken up in one is not begun in another.
type life struct {
	ctx   context.Context // ends with it
	end   context.CancelFunc
	until atomic.Pointer[time.Time] // by our own clock, and earlier than in the store
}

// begin begins a life with a sign that was given at a time, or later.
func (r *Runner[B]) begin(sign time.Time) {
	l := &life{}
	l.ctx, l.end = context.WithCancel(context.Background())
	r.prolong(l, sign)
	r.life.Store(l)
	go r.watch(l)
}

// watch ends a life that no sign has prolonged in time, whatever keeps the next from being given: a commit whose
// answer does not come is waited for.
func (r *Runner[B]) watch(l *life) {
	for left := l.until.Load().Sub(r.deps.Clock.Now()); left > 0; left = l.until.Load().Sub(r.deps.Clock.Now()) {
		over, stop := r.deps.Clock.Timer(left)
		select {
		case <-over:
		case <-l.ctx.Done():
			stop()
			return
		}
	}
	l.end()
}

// prolong has a life go on from a sign. Another process takes over after Config.Alive, and a fifth of that is
// for ending what is under way.
func (r *Runner[B]) prolong(l *life, sign time.Time) {
	until := sign.Add(r.cfg.Alive * 4 / 5)
	l.until.Store(&until)
}

// lives tells whether what was taken up in a life may be begun.
func (r *Runner[B]) lives(l *life) bool {
	return l == r.life.Load() && l.ctx.Err() == nil && r.deps.Clock.Now().Before(*l.until.Load())
}

// live gives signs of life until ctx ends.
func (r *Runner[B]) live(ctx context.Context) {
	defer func() { r.life.Load().end() }()
	for next := r.cfg.Alive / signsPerAlive; ; next = r.sign(ctx) {
		wait, stop := r.deps.Clock.Timer(next)
		select {
		case <-wait:
		case <-ctx.Done():
			stop()
			return
		}
	}
}

// sign gives the next sign of life and takes over what is left by those who gave none. It returns the wait
// before the one after it.
func (r *Runner[B]) sign(ctx context.Context) time.Duration {
	l, begun := r.life.Load(), r.deps.Clock.Now()
	left := l.until.Load().Sub(begun)
	if left <= 0 {
		l.end()
		left = r.cfg.Alive
	}
	bounded, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	known, err := r.register(bounded)
	switch {
	case err != nil:
		if ctx.Err() == nil && !r.lives(l) {
			l.end()
			r.deps.Log.WarnContext(ctx, "no sign of life could be given: other processes take the calls over", "err", err)
		}
		return signPause
	case !known || !r.lives(l): // or it was given too late
		l.end()
		r.begin(begun)
	default:
		r.prolong(l, begun)
	}
	brief, cancel := context.WithTimeout(ctx, r.cfg.Alive/signsPerAlive) // the next sign does not wait for it
	defer cancel()
	next, err := r.inherit(brief)
	if err != nil && ctx.Err() == nil {
		r.deps.Log.WarnContext(ctx, "looking for calls that are left by other processes failed", "err", err)
	}
	return max(0, min(next, r.cfg.Alive/signsPerAlive))
}

// register gives a sign of life, and tells whether this process was known. Each touches its own row alone, so
// that nobody waits for another.
func (r *Runner[B]) register(ctx context.Context) (known bool, err error) {
	err = r.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		until := sqldb.Micros(now.Add(r.cfg.Alive))
		n, err := tx.Exec(ctx, `UPDATE call_owners SET until = ? WHERE owner = ?`, until, r.cfg.Owner)
		if known = n > 0; known || err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO call_owners (owner, until) VALUES (?, ?)`, r.cfg.Owner, until)
		return err
	})
	return known, err
}

// inherit makes the calls due again that were taken up by those who give no sign of life any more, and returns
// when the next of the others is due to give one.
func (r *Runner[B]) inherit(ctx context.Context) (next time.Duration, err error) {
	var dead, far int
	look := func(ctx context.Context, tx *sqldb.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		var first int64
		err = tx.QueryRow(ctx, `SELECT count(CASE WHEN until <= ? THEN 1 END), count(CASE WHEN until > ? THEN 1 END), COALESCE(min(CASE WHEN until > ? THEN until END), ?)
			FROM call_owners WHERE owner <> ?`, sqldb.Micros(now), sqldb.Micros(now.Add(maxAlive)), sqldb.Micros(now), sqldb.Micros(now.Add(r.cfg.Alive)), r.cfg.Owner).Scan(&dead, &far, &first)
		next = sqldb.FromMicros(first).Sub(now)
		return err
	}
	if err := r.db.Read(ctx, look); err != nil || dead+far == 0 {
		return next, err
	}
	return next, r.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		// What is longer than any is of a clock that was ahead. Who is alive gives its next sign before the end.
		latest := sqldb.Micros(now.Add(maxAlive))
		if _, err := tx.Exec(ctx, `UPDATE call_owners SET until = ? WHERE until > ?`, latest, latest); err != nil {
			return err
		}
		owners, err := lock(ctx, tx, now, r.cfg.Owner)
		if err != nil {
			return err
		}
		for _, owner := range owners {
			if err := bury(ctx, tx, owner); err != nil {
				return err
			}
		}
		return nil
	})
}

// lock locks those who gave no sign of life in time. One that is giving one at this moment is passed over.
func lock(ctx context.Context, tx *sqldb.Tx, now time.Time, but string) (owners []string, err error) {
	rows, err := tx.Query(ctx, `SELECT owner FROM call_owners WHERE until <= ? AND owner <> ? ORDER BY owner FOR UPDATE SKIP LOCKED`, sqldb.Micros(now), but)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var owner string
		if err := rows.Scan(&owner); err != nil {
			return nil, err
		}
		owners = append(owners, owner)
	}
	return owners, errors.Join(rows.Err(), rows.Close())
}

// bury makes the calls of an owner due again and forgets it.
func bury(ctx context.Context, tx *sqldb.Tx, owner string) error {
	if _, err := tx.Exec(ctx, `UPDATE calls SET lease_until = 0 WHERE owner = ? AND lease_until > 0`, owner); err != nil {
		return fmt.Errorf("give up the calls of %s: %w", owner, err)
	}
	_, err := tx.Exec(ctx, `DELETE FROM call_owners WHERE owner = ?`, owner)
	return err
}
