package calls_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/platform/calls"
	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// TestKilled leaves a call begun and not finished, as a process that is killed does. The same process
// finds it when it starts again, and nobody makes it as if nothing had happened.
func TestKilled(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		end, open := d.gate()
		d.answer = func(_ context.Context, c calls.Call, _ int) result {
			<-end
			return result{RetryIn: notYet}
		}
		d.enqueue(call("authorise", 1)) // taken up by a look for due calls
		stop := d.run()
		d.enqueue(call("authorise", 2)) // handed over directly
		for _, c := range d.next(2) {
			is(t, "unknown at first", c.Unknown, false)
		}
		other := newDesk(t, d.db, config("b"), limits())
		other.run()
		other.poll(manyPolls)
		is(t, "attempts of another process under the lease", other.attempts(), 0)
		again := newDesk(t, d.db, config("a"), limits())
		again.run()
		for _, c := range again.next(2) {
			is(t, "unknown", c.Unknown, true)
			is(t, "attempts and failures", [2]int{c.Attempts, c.Failures}, [2]int{})
		}
		same(t, "outcomes", again.settled(), keys(call("authorise", 1), call("authorise", 2)))
		open()
		stop()
		is(t, "calls", d.number(left), 0)
	})
}

// TestLeaseRunsOut has another process take over what a killed one had begun.
func TestLeaseRunsOut(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		end, open := d.gate()
		d.answer = func(context.Context, calls.Call, int) result {
			<-end
			return result{RetryIn: notYet}
		}
		stop := d.run()
		d.enqueue(call("authorise", 1))
		d.next(1)
		other := newDesk(t, d.db, config("b"), limits())
		other.run()
		other.poll(manyPolls)
		is(t, "attempts under the lease", other.attempts(), 0)
		d.exec(`UPDATE calls SET lease_until = 1`)
		other.poll(1)
		is(t, "unknown", other.next(1)[0].Unknown, true)
		other.settled()
		open()
		stop()
	})
}

// TestEndAfterTakeover: that an operation has had no effect is no longer said once another process has taken the call
// over, which may have sent it since; what has had its effect is.
func TestEndAfterTakeover(t *testing.T) {
	for name, whileHeld := range map[string]bool{"without effect": true, "with effect": false} {
		t.Run(name, func(t *testing.T) {
			each(t, config("a"), limits(), func(t *testing.T, d *desk) {
				end, open := d.gate()
				d.answer = func(context.Context, calls.Call, int) result {
					<-end
					r := settle("the first")
					r.WhileHeld = whileHeld
					return r
				}
				stop := d.run()
				d.enqueue(call("authorise", 1))
				d.next(1)
				d.exec(`UPDATE calls SET owner = 'b'`)
				open()
				stop()
				is(t, "calls that are the other's", d.number(left+` WHERE owner = 'b'`), map[bool]int{true: 1}[whileHeld])
				is(t, "outcomes", len(d.outcomes()), map[bool]int{false: 1}[whileHeld])
			})
		})
	}
}

// TestTriedAgain sees what an attempt leaves for the one that follows.
func TestTriedAgain(t *testing.T) {
	cases := []struct {
		name               string
		results            []result
		attempts, failures int
		unknown            bool
	}{
		{"no answer", []result{{Unknown: true}}, 1, 0, true},
		{"nothing happened", []result{{}}, 1, 0, false},
		{"a failure", []result{{Failed: true}}, 1, 1, false},
		{"two failures", []result{{Failed: true}, {Failed: true}}, 2, 2, false},
		{"a failure after no answer", []result{{Unknown: true}, {Failed: true}}, 2, 1, false},
		{"rejected", []result{{Rejected: true}}, 0, 0, false},
		{"rejected again and again", []result{{Rejected: true}, {Rejected: true}, {Rejected: true}}, 0, 0, false},
		{"rejected after no answer", []result{{Unknown: true}, {Rejected: true, Unknown: true}}, 1, 0, true},
		{"rejected after a failure", []result{{Failed: true}, {Rejected: true}}, 1, 1, false},
	}
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		d.answer = func(_ context.Context, c calls.Call, n int) result {
			for i := range cases {
				if c.Key == call("authorise", i).Key && n <= len(cases[i].results) {
					return cases[i].results[n-1]
				}
			}
			return settle(c.Key)
		}
		d.enqueue(some("authorise", len(cases))...)
		d.run()
		d.drain()
		same(t, "outcomes", d.outcomes(), keys(some("authorise", len(cases))...))
		for i, c := range cases {
			var made []calls.Call
			for _, m := range d.made {
				if m.Key == call("authorise", i).Key {
					made = append(made, m)
				}
			}
			is(t, c.name+": attempts made", len(made), len(c.results)+1)
			first, last := made[0], made[len(made)-1]
			is(t, c.name+": attempts and failures", [2]int{last.Attempts, last.Failures}, [2]int{c.attempts, c.failures})
			is(t, c.name+": unknown", last.Unknown, c.unknown)
			is(t, c.name+": first at", last.FirstAt, first.FirstAt)
		}
	})
}

// TestRetryIn has an attempt wait as long as the one before says.
func TestRetryIn(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		d.answer = func(_ context.Context, c calls.Call, n int) result {
			if n == 1 {
				return result{RetryIn: notYet}
			}
			return settle(c.Key)
		}
		d.enqueue(call("authorise", 1))
		d.run()
		d.next(1)
		d.until(1, idle)
		d.poll(manyPolls)
		is(t, "attempts", d.attempts(), 1)
		wait := time.Duration(d.number(`SELECT next_at - first_at FROM calls`)) * time.Microsecond
		if wait < notYet || wait > notYet+patience {
			t.Errorf("it waits for %s", wait)
		}
		d.due()
		d.poll(1)
		d.next(1)
		d.settled()
	})
}

// TestClockWasAhead has calls that were put off while the clock was an hour ahead. Once it is right they do not
// wait for that hour.
func TestClockWasAhead(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		d.answer = func(_ context.Context, c calls.Call, n int) result {
			if n == 1 {
				return result{RetryIn: time.Second}
			}
			return settle(c.Key)
		}
		d.enqueue(call("authorise", 1), call("void", 2))
		d.run()
		d.next(2)
		d.until(2, idle)
		d.exec(`UPDATE calls SET next_at = next_at + ?`, time.Hour.Microseconds())
		d.poll(manyPolls)
		d.next(2)
		same(t, "outcomes", d.settled(), keys(call("authorise", 1), call("void", 2)))
	})
}

// TestLeasesOfAClockAhead has leases that were written while the clock was an hour ahead: the call is its owner's no
// longer than it takes any, and a silent process is waited for no longer than any may be.
func TestLeasesOfAClockAhead(t *testing.T) {
	cfg := config("a")
	cfg.Lease = 3 * time.Minute
	each(t, cfg, limits(), func(t *testing.T, d *desk) {
		end, _ := d.gate()
		d.answer = func(_ context.Context, c calls.Call, _ int) result {
			<-end
			return settle(c.Key)
		}
		d.run()
		d.enqueue(call("authorise", 1))
		d.next(1)
		far := sqldb.Micros(time.Now().Add(time.Hour))
		d.exec(`UPDATE calls SET lease_until = ?`, far)
		d.exec(`INSERT INTO call_owners (owner, until) VALUES ('b', ?)`, far)
		d.poll(manyPolls)
		is(t, "calls with a lease of its length", d.number(`SELECT count(*) FROM calls WHERE lease_until BETWEEN 1 AND ?`, sqldb.Micros(time.Now().Add(cfg.Lease))), 1)
		d.sign(2)
		is(t, "signs of life that last for a minute", d.number(`SELECT count(*) FROM call_owners WHERE owner = 'b' AND until <= ?`, sqldb.Micros(time.Now().Add(time.Minute))), 1)
	})
}

// TestHeldSinceBegin has a transaction last for so long that the lease of its call, which counts from its begin, does not
// suffice for an attempt any more: the call is taken up anew before it is made.
func TestHeldSinceBegin(t *testing.T) {
	cfg := config("a")
	cfg.Lease = 2*cfg.Timeout + 10*time.Second
	each(t, cfg, limits(), func(t *testing.T, d *desk) {
		end, _ := d.gate()
		d.answer = func(_ context.Context, c calls.Call, _ int) result {
			<-end
			return settle(c.Key)
		}
		d.run()
		d.update(func(ctx context.Context, tx *sqldb.Tx) error {
			err := d.Enqueue(ctx, tx, call("authorise", 1))
			d.clock.ahead.Store(int64(20 * time.Second))
			return err
		})
		first := d.number(`SELECT lease_until FROM calls`)
		for ctx := within(t); d.attempts() == 0 && ctx.Err() == nil; {
			d.poll(1)
		}
		d.next(1)
		if second := d.number(`SELECT lease_until FROM calls`); second <= first {
			t.Error("an attempt was begun under a lease that was about to end")
		}
	})
}

// TestSettleFails has outcomes that cannot be stored, of which one can in the end. The others of their
// transaction are stored all the same.
func TestSettleFails(t *testing.T) {
	cfg := config("a")
	cfg.Workers = 3
	each(t, cfg, limits(), func(t *testing.T, d *desk) {
		var passing, lasting atomic.Int32
		fail := func(n *atomic.Int32, times int32, name string) result {
			good := settle(name).Settle
			return result{Settle: func(b *book) error {
				if n.Add(1) <= times {
					return errors.New("the store says no")
				}
				return good(b)
			}}
		}
		together, open := d.gate()
		d.answer = func(_ context.Context, c calls.Call, n int) result {
			<-together
			switch {
			case c.Key == call("authorise", 1).Key:
				return fail(&passing, 2, c.Key)
			case c.Key == call("authorise", 2).Key && n == 1:
				return fail(&lasting, 1<<30, c.Key)
			}
			return settle(c.Key)
		}
		d.enqueue(some("authorise", 3)...)
		d.run()
		d.next(3)
		open()
		d.until(1, left)
		d.poll(manyPolls)
		is(t, "attempts before the lease has run out", d.attempts(), 3)
		d.until(1, `SELECT count(*) FROM calls WHERE begun = 1 AND lease_until > 0`)
		d.exec(`UPDATE calls SET lease_until = 1`)
		d.poll(1)
		is(t, "unknown", d.next(1)[0].Unknown, true)
		same(t, "outcomes", d.settled(), keys(some("authorise", 3)...))
		if n := lasting.Load(); n < 5 || n > 6 { // by itself, and perhaps with the others before
			t.Errorf("an outcome was offered %d times", n)
		}
	})
}

// TestStops lets an attempt under way end, and stores what came of it.
func TestStops(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		d.answer = func(ctx context.Context, c calls.Call, _ int) result {
			<-ctx.Done()
			if !errors.Is(ctx.Err(), context.Canceled) {
				t.Error(ctx.Err())
			}
			return settle(c.Key)
		}
		d.enqueue(call("authorise", 1))
		stop := d.run()
		d.next(1)
		stop()
		is(t, "calls", d.number(left), 0)
		same(t, "outcomes", d.outcomes(), keys(call("authorise", 1)))
		d.enqueue(call("authorise", 2)) // stays in the store
		is(t, "calls nobody has begun", d.number(`SELECT count(*) FROM calls WHERE begun = 0 AND lease_until = 0`), 1)
		is(t, "attempts", d.attempts(), 1)
	})
}

// TestStopGivesBack: what was taken up and not begun is another process's at once, not after its lease, and is
// not asked for as if it had been begun.
func TestStopGivesBack(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		d.answer = func(ctx context.Context, c calls.Call, _ int) result {
			<-ctx.Done()
			return settle(c.Key)
		}
		stop := d.run()
		busy := some("authorise", 4) // as many as there are workers
		for _, c := range busy {
			d.enqueue(c)
			d.next(1)
		}
		d.enqueue(call("authorise", 11), call("authorise", 12))
		is(t, "calls that are taken up", d.number(`SELECT count(*) FROM calls WHERE owner = 'a' AND lease_until > 0`), 6)
		stop()
		same(t, "outcomes", d.outcomes(), keys(busy...))
		other := newDesk(t, d.db, config("b"), limits())
		other.run()
		for _, c := range other.next(2) {
			is(t, "unknown", c.Unknown, false)
		}
		is(t, "attempts of the first", d.attempts(), 4)
	})
}

// TestStopsAtOnce is stopped before it began.
func TestStopsAtOnce(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestTimeout ends the context of an attempt that takes too long.
func TestTimeout(t *testing.T) {
	cfg := config("a")
	cfg.Timeout = 10 * time.Millisecond
	each(t, cfg, limits(), func(t *testing.T, d *desk) {
		d.answer = func(ctx context.Context, c calls.Call, _ int) result {
			<-ctx.Done()
			return settle(ctx.Err().Error())
		}
		d.enqueue(call("authorise", 1))
		d.run()
		same(t, "outcomes", d.settled(), []string{context.DeadlineExceeded.Error()})
	})
}

// TestStoreDown has the runner's first look fail, which ends it: the calls of an earlier run are its.
func TestStoreDown(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		d.exec(`DROP TABLE calls`)
		if err := d.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "calls of an earlier run") {
			t.Errorf("got %v", err)
		}
		err := d.db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return d.Enqueue(ctx, tx, call("authorise", 1)) })
		is(t, "a call that cannot be written is an error", err != nil && shop.KindOf(err) == shop.Internal, true)
	})
}
