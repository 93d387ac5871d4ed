package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// Run sends what is in the outbox until ctx ends, and deletes what is old. After a stop of the
// embedded bus that was not orderly it first sends again what that may have lost.
func (o *Outbox) Run(ctx context.Context) error {
	if err := o.untilDone(ctx, "replaying events failed", func(ctx context.Context) error {
		_, err := o.Replay(ctx)
		return err
	}); err != nil {
		return nil // ctx ended
	}
	var others sync.WaitGroup
	others.Go(func() { o.purgeLoop(ctx) })
	if o.parts.Broker != nil {
		others.Go(func() { o.checkpointLoop(ctx) })
	}
	o.ready.Store(true)
	o.relay(ctx)
	o.ready.Store(false)
	o.drain(ctx)
	others.Wait()
	return nil
}

// Ready returns nil while events are being sent, or would be if there were any.
func (o *Outbox) Ready(context.Context) error {
	if !o.ready.Load() {
		return shop.E(shop.Unavailable, "outbox", "the relay does not run")
	}
	return nil
}

// untilDone repeats do until it succeeds or ctx ends.
func (o *Outbox) untilDone(ctx context.Context, failed string, do func(context.Context) error) error {
	for failures := 1; ; failures++ {
		err := do(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		o.deps.Log.WarnContext(ctx, failed, "failures", failures, "err", err)
		if err := o.deps.Clock.Sleep(ctx, o.retry.Delay(o.deps.Rand, failures)); err != nil {
			return err
		}
	}
}

func (o *Outbox) relay(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		more, err := o.round(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			failures++
			o.deps.Log.WarnContext(ctx, "sending events failed", "failures", failures, "err", err)
			_ = o.deps.Clock.Sleep(ctx, o.retry.Delay(o.deps.Rand, failures)) // the loop ends with ctx
		case more:
			failures = 0
		default:
			failures = 0
			o.idle(ctx)
		}
	}
}

// idle waits until there may be something to do.
func (o *Outbox) idle(ctx context.Context) {
	poll := o.cfg.Poll
	if o.lease.relays > 1 {
		poll = min(poll, o.cfg.PollShared)
	}
	wait, stop := o.deps.Clock.Timer(min(poll, o.lease.renew.Sub(o.deps.Clock.Now())))
	defer stop()
	select {
	case <-ctx.Done():
	case <-o.wakeup:
	case <-wait:
	}
}

// drain sends what is left at a stop, as far as it goes, and hands the keys over.
func (o *Outbox) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.cfg.Drain)
	defer cancel()
	for {
		if more, err := o.round(ctx); err != nil || !more {
			break
		}
	}
	if err := o.release(ctx); err != nil {
		o.deps.Log.WarnContext(ctx, "handing over the outbox failed", "err", err)
	}
}

// row is an unsent event.
type row struct {
	pos   int64
	event shop.Event
}

// lane is what is sent in order, see laneOf.
type lane struct {
	topic string
	key   shop.OrderID
}

func (r *row) lane() lane { return lane{r.event.Topic, r.event.OrderID} }

// failure is an event that was not sent.
type failure struct {
	row
	attempts int // before this one
	err      error
}

// round sends one batch. more tells that another may be waiting.
//
// An event is sent only when all earlier ones of its lane have been acknowledged: a batch goes out in
// waves, of which each has one event of a lane. So neither a failed event nor a lost answer can be
// overtaken, whatever the bus makes of the rest.
func (o *Outbox) round(ctx context.Context) (more bool, err error) {
	if err := o.holdLease(ctx); err != nil {
		return false, fmt.Errorf("lease: %w", err)
	}
	if len(o.lease.held) == 0 {
		o.lag.Store(0)
		return false, nil
	}
	if o.blocked > 0 {
		if err := o.retryBlocked(ctx); err != nil {
			return false, err
		}
	}
	rows, now, err := o.unsent(ctx)
	if err != nil {
		return false, fmt.Errorf("read: %w", err)
	}
	o.measure(rows, now)
	var sent []int64
	var failed []failure
	var outage error
	stuck := map[lane]bool{}
	for _, wave := range waves(rows) {
		wave = without(wave, stuck)
		acked, refused, err := o.send(ctx, wave)
		if err != nil {
			outage = err
			break
		}
		sent = append(sent, acked...)
		if len(acked) == 0 && len(refused) > 0 && allRetryable(refused) {
			outage = refused[0].err // the bus, rather than some lanes
			break
		}
		for _, f := range refused {
			stuck[f.lane()] = true
		}
		failed = append(failed, refused...)
	}
	if err := o.settle(ctx, sent, failed); err != nil {
		return false, err
	}
	o.heard(outage != nil, len(sent) > 0)
	return outage == nil && len(rows) == o.cfg.Batch, outage
}

// measure notes how long the oldest of rows has waited, by the database's clock, as far as the bus was there to take
// it. A bus that is down is tried again and again, and each try may take seconds; it is down until it has taken something.
// Where nothing of our keys waits any more it is not: another relay may have sent what did.
func (o *Outbox) measure(rows []row, now time.Time) {
	lag := time.Duration(0)
	if len(rows) > 0 {
		lag = min(max(0, now.Sub(rows[0].event.Time)), o.Taking())
	} else {
		o.heard(false, true)
	}
	o.lag.Store(int64(lag))
}

// heard notes whether the bus takes events.
func (o *Outbox) heard(outage, took bool) {
	switch {
	case outage:
		o.back.Store(away)
		o.lag.Store(0)
	case took && o.back.Load() == away:
		now := o.deps.Clock.Now()
		o.back.Store(&now)
	}
}

// waves divides rows so that each wave has one event of a lane, in order.
func waves(rows []row) [][]row {
	var out [][]row
	depth := make(map[lane]int, len(rows))
	for _, r := range rows {
		d := depth[r.lane()]
		depth[r.lane()] = d + 1
		if d == len(out) {
			out = append(out, make([]row, 0, len(rows)-d))
		}
		out[d] = append(out[d], r)
	}
	return out
}

func without(wave []row, stuck map[lane]bool) []row {
	if len(stuck) == 0 {
		return wave
	}
	kept := wave[:0]
	for _, r := range wave {
		if !stuck[r.lane()] {
			kept = append(kept, r)
		}
	}
	return kept
}

func allRetryable(failed []failure) bool {
	for _, f := range failed {
		if !shop.KindOf(f.err).Retryable() {
			return false
		}
	}
	return true
}

// send sends one wave under the lease.
func (o *Outbox) send(ctx context.Context, wave []row) (sent []int64, failed []failure, err error) {
	if len(wave) == 0 {
		return nil, nil, nil
	}
	left := o.lease.until.Sub(o.deps.Clock.Now())
	if left <= 0 {
		return nil, nil, shop.E(shop.Unavailable, "outbox.Run", "the lease has run out")
	}
	// The process may be stopping: an event under way is better acknowledged than sent again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), left)
	defer cancel()
	events := make([]shop.Event, len(wave))
	for i := range wave {
		events[i] = wave[i].event
	}
	end := o.startSpans(ctx, events)
	errs := o.parts.Producer.Send(ctx, events)
	end(errs)
	sent = make([]int64, 0, len(wave))
	for i, err := range errs {
		if err == nil {
			sent = append(sent, wave[i].pos)
		} else {
			failed = append(failed, failure{row: wave[i], err: err})
		}
	}
	o.metrics.sent.Add(ctx, int64(len(sent)), o.metrics.service)
	o.metrics.failures.Add(ctx, int64(len(failed)), o.metrics.service)
	return sent, failed, nil
}

// settle stores what became of a batch. What was sent is not sent again before that is stored, as
// long as this process lives.
func (o *Outbox) settle(ctx context.Context, sent []int64, failed []failure) error {
	if len(sent) == 0 && len(failed) == 0 {
		return nil
	}
	ctx, end := o.linger(ctx)
	defer end()
	positions := padded(sent)
	blocked := o.blocked
	err := o.untilDone(ctx, "storing what was sent failed", func(ctx context.Context) error {
		return o.parts.DB.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			if len(sent) > 0 {
				if _, err := tx.Exec(ctx, `DELETE FROM outbox_unsent WHERE pos IN `+sqldb.In(len(positions)), positions...); err != nil {
					return err
				}
			}
			if o.blocked == 0 && len(failed) == 0 {
				return nil
			}
			if err := o.block(ctx, tx, failed); err != nil {
				return err
			}
			var err error
			blocked, err = o.unblock(ctx, tx, positions)
			return err
		})
	})
	if err == nil {
		o.blocked = blocked
	}
	return err
}

// linger returns a context that goes on for Config.Drain after ctx has ended.
func (o *Outbox) linger(ctx context.Context) (longer context.Context, end func()) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		_ = o.deps.Clock.Sleep(longer, o.cfg.Drain) // or until end
		cancel()
	})
	return longer, func() {
		stop()
		cancel()
	}
}

const (
	// lookBack is how many positions below the oldest unsent one are looked at all the same: transactions do not commit
	// in the order of their positions.
	lookBack = 1000
	// lookAtAllEvery is how long an event may wait whose transaction took longer than that.
	lookAtAllEvery = time.Second
)

const eventsOf = `SELECT u.pos, o.event_id, o.topic, o.key, o.version, o.type, o.source, o.time, o.traceparent, o.headers, o.data FROM `

// unsent reads the oldest events of our slots whose lanes are not blocked. Their positions are chosen before the
// events are looked up: PostgreSQL would otherwise look up all that wait, and sort them. It looks each up by its key:
// OFFSET keeps it from reading the whole table beside the list instead, which is what it would do while that is small.
// Of positions far below the oldest that was unsent last it looks only now and then: PostgreSQL would pass each time
// over all that have been sent since its last vacuum. now is the time by the database's clock, where there are any.
func (o *Outbox) unsent(ctx context.Context) (found []row, now time.Time, err error) {
	floor := o.floor
	if now := o.deps.Clock.Now(); !now.Before(o.lookAtAll) {
		floor, o.lookAtAll = 0, now.Add(lookAtAllEvery)
	}
	query, args := `pos > ?`, make([]any, 1, slots+2)
	args[0] = floor
	if len(o.lease.held) < slots {
		query += ` AND slot IN ` + sqldb.In(len(o.lease.held))
		for _, s := range o.lease.held {
			args = append(args, s)
		}
	}
	if o.blocked > 0 {
		query += ` AND NOT EXISTS (SELECT 1 FROM outbox_blocked b WHERE b.lane = outbox_unsent.lane)`
	}
	events := `JOIN outbox o ON o.pos = u.pos`
	if o.parts.DB.Dialect() == sqldb.Postgres {
		events = `CROSS JOIN LATERAL (SELECT * FROM outbox WHERE pos = u.pos OFFSET 0) o`
	}
	query = eventsOf + `(SELECT pos FROM outbox_unsent WHERE ` + query + ` ORDER BY pos LIMIT ?) u ` + events + ` ORDER BY u.pos`
	args = append(args, o.cfg.Batch)
	err = o.parts.DB.Read(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		rows, err := tx.QueryReplanned(ctx, query, args...)
		if err == nil {
			found, err = scanRows(rows)
		}
		if err == nil && len(found) > 0 {
			now, err = tx.Now(ctx)
		}
		return err
	})
	if err == nil && len(found) > 0 {
		o.floor = found[0].pos - lookBack
	}
	return found, now, err
}

func scanRows(rows *sql.Rows) (found []row, err error) {
	defer rows.Close()
	for rows.Next() {
		var r row
		var at int64
		var headers string
		var data []byte
		e := &r.event
		err := rows.Scan(&r.pos, &e.ID, &e.Topic, &e.OrderID, &e.Version, &e.Type, &e.Source, &at, &e.TraceParent, &headers, &data)
		if err != nil {
			return nil, err
		}
		e.Time, e.Data = sqldb.FromMicros(at), data
		if headers != "" {
			if err := json.Unmarshal([]byte(headers), &e.Headers); err != nil {
				return nil, fmt.Errorf("headers of event %s: %w", e.ID, err)
			}
		}
		found = append(found, r)
	}
	return found, errors.Join(rows.Err(), rows.Close())
}
