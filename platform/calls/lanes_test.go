package calls_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"holdfast/platform/calls"
	"holdfast/platform/policy"
	"holdfast/platform/sqldb"
	"holdfast/resilience"
	"holdfast/shop"
)

// behind has attempts go through the policy of their operation, and call does in it. It counts what the
// policy rejects.
func behind(d *desk, rejected *atomic.Int32, call func(c calls.Call) error) func(context.Context, calls.Call, int) result {
	return func(ctx context.Context, c calls.Call, _ int) result {
		err := d.psp.Policy(c.Kind).Run(ctx, func(context.Context) error { return call(c) })
		if err == nil {
			return settle(c.Key)
		}
		wait, _ := resilience.RetryAfter(err)
		res := result{RetryIn: wait, Rejected: resilience.Classify(err).Outcome == resilience.Neutral}
		if res.Rejected {
			rejected.Add(1)
		}
		return res
	}
}

func (d *desk) force(name, how string) {
	d.t.Helper()
	if _, err := d.policies.Force(name, how, "test"); err != nil {
		d.t.Fatal(err)
	}
}

// TestUndoLane has an outage keep all usual workers and their queue busy, while money is given back.
func TestUndoLane(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		end, open := d.gate()
		d.answer = func(_ context.Context, c calls.Call, _ int) result {
			if c.Kind != "void" {
				<-end
			}
			return settle(c.Key)
		}
		d.enqueue(some("authorise", 20)...)
		d.run()
		d.next(4) // all that there are
		for n := range 10 {
			d.enqueue(call("void", n))
			is(t, "kind", d.next(1)[0].Kind, "void")
		}
		d.until(20, left)
		is(t, "usual attempts", d.attempts(), 14)
		open()
		d.drain()
	})
}

// TestUndoLaneFromStore is the same for calls to undo that were there before the runner.
func TestUndoLaneFromStore(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		end, open := d.gate()
		d.answer = func(_ context.Context, c calls.Call, _ int) result {
			<-end
			return settle(c.Key)
		}
		d.enqueue(append(some("authorise", 20), some("void", 20)...)...)
		d.run()
		kinds := map[string]int{}
		for _, c := range d.next(6) {
			kinds[c.Kind]++
		}
		is(t, "attempts under way", fmt.Sprint(kinds), "map[authorise:4 void:2]")
		open()
		d.drain()
	})
}

// TestQueueFull has calls of two kinds due that together are more than the queue has room for. None of
// them may be begun and then left to its lease, which is an hour here.
func TestQueueFull(t *testing.T) {
	cfg := config("a")
	cfg.Workers, cfg.Queue = 2, 4
	each(t, cfg, limits(), func(t *testing.T, d *desk) {
		end, open := d.gate()
		d.answer = func(_ context.Context, c calls.Call, _ int) result {
			<-end
			return settle(c.Key)
		}
		d.enqueue(append(some("authorise", 4), some("capture", 4)...)...)
		d.run()
		is(t, "calls taken up at first", d.number(`SELECT count(*) FROM calls WHERE begun = 1`), 4)
		d.next(2)
		d.poll(manyPolls)
		if n := d.number(`SELECT count(*) FROM calls WHERE begun = 1`); n != 6 {
			t.Errorf("%d calls were begun, with two workers and 4 places to wait", n)
		}
		open()
		d.drain()
		for _, c := range d.made {
			is(t, "unknown", c.Unknown, false)
		}
	})
}

// TestNoWorker commits more calls in one transaction than there is room for, each of which looked like the
// only one. Those that find none go back to the store, and nothing is thought to have been begun of them.
func TestNoWorker(t *testing.T) {
	cfg := config("a")
	cfg.Workers, cfg.Queue = 1, 4
	each(t, cfg, limits(), func(t *testing.T, d *desk) {
		end, open := d.gate()
		d.answer = func(_ context.Context, c calls.Call, _ int) result {
			<-end
			return settle(c.Key)
		}
		d.run()
		d.update(func(ctx context.Context, tx *sqldb.Tx) error {
			for _, c := range some("authorise", 12) {
				if err := d.Enqueue(ctx, tx, c); err != nil {
					return err
				}
			}
			return nil
		})
		d.next(1)
		d.poll(2)
		is(t, "calls that were begun", d.number(`SELECT count(*) FROM calls WHERE begun = 1`), 5)
		open()
		d.drain()
		is(t, "outcomes", len(d.outcomes()), 12)
		for _, c := range d.made {
			is(t, "unknown", c.Unknown, false)
		}
		is(t, "attempts", d.attempts(), 12)
	})
}

// TestOpenBreaker leaves calls of one operation in the store while its breaker is open, and makes as many
// as may be probes when it can be asked again.
func TestOpenBreaker(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		end, open := d.gate()
		var rejected atomic.Int32
		d.answer = behind(d, &rejected, func(c calls.Call) error {
			if c.Kind == "authorise" {
				<-end
			}
			return nil
		})
		d.force("psp.authorise", policy.ForceOpen)
		d.enqueue(append(some("authorise", 6), call("capture", 1))...)
		d.run()
		is(t, "kind", d.next(1)[0].Kind, "capture") // the other operations are not its business
		d.enqueue(call("authorise", 6))             // nor are new ones handed over directly
		d.poll(manyPolls)
		is(t, "attempts while open", d.attempts(), 1)
		is(t, "calls that were begun", d.number(`SELECT count(*) FROM calls WHERE kind = 'authorise' AND (begun = 1 OR lease_until > 0)`), 0)
		d.force("psp.authorise", policy.Auto)
		d.poll(1)
		d.next(2)
		d.enqueue(call("authorise", 7))
		d.poll(manyPolls)
		is(t, "attempts with two probes under way", d.attempts(), 3)
		open()
		d.drain()
		is(t, "outcomes", len(d.outcomes()), 9)
		is(t, "rejected", rejected.Load(), 0)
		is(t, "attempts", d.attempts(), 9)
	})
}

// TestBreakerOpens has it open under way: what was taken up already is put back once, and waits.
func TestBreakerOpens(t *testing.T) {
	cfg := config("a")
	cfg.Workers = 2
	each(t, cfg, limits(), func(t *testing.T, d *desk) {
		var rejected atomic.Int32
		d.answer = behind(d, &rejected, func(calls.Call) error { return shop.E(shop.Unavailable, "test", "down") })
		d.enqueue(some("authorise", 30)...)
		d.run()
		d.next(4)
		d.until(30, idle)
		d.poll(manyPolls)
		if n := d.attempts(); n < 4 || n > 4+cfg.Queue || int(rejected.Load()) != n-4 {
			t.Errorf("%d attempts, of which %d were rejected", n, rejected.Load())
		}
		is(t, "calls with an attempt", d.number(`SELECT count(*) FROM calls WHERE attempts = 1`), 4)
		is(t, "calls that were begun", d.number(`SELECT count(*) FROM calls WHERE begun = 1`), 0)
		n := d.attempts()
		d.due()
		d.poll(manyPolls)
		is(t, "attempts of calls that are due while it is open", d.attempts(), n)
	})
}

// TestBudget has more calls fail than may be repeated: the others are put off, and nothing is lost.
func TestBudget(t *testing.T) {
	c := limits()
	c.Budget = resilience.BudgetConfig{Ratio: 0, Burst: 2}
	each(t, config("a"), c, func(t *testing.T, d *desk) {
		d.answer = func(_ context.Context, c calls.Call, n int) result {
			if n == 1 {
				return result{Unknown: true}
			}
			return settle(c.Key)
		}
		d.enqueue(some("authorise", 5)...)
		d.run()
		d.next(5)
		d.until(5, `SELECT count(*) FROM calls WHERE attempts = 1 AND lease_until = 0`)
		d.poll(1)
		d.next(2)
		d.until(3, left)
		d.until(3, idle+` AND attempts = 1 AND begun = 1 AND next_at >= first_at + 100000`)
		d.due()
		d.poll(manyPolls)
		d.until(3, idle)
		is(t, "attempts within the budget", d.attempts(), 7)
		free := c
		free.Budget.Off = true
		if err := d.psp.Reconfigure(free); err != nil {
			t.Fatal(err)
		}
		d.due()
		d.poll(1)
		for _, c := range d.next(3) {
			is(t, "attempts", c.Attempts, 1)
			is(t, "unknown", c.Unknown, true)
		}
		is(t, "outcomes", len(d.settled()), 5)
	})
}

// TestBudgetOfRejected sees that what a policy rejects neither pays into the budget nor spends of it.
func TestBudgetOfRejected(t *testing.T) {
	c := limits()
	c.Budget = resilience.BudgetConfig{Ratio: 0.5, Burst: 2}
	each(t, config("a"), c, func(t *testing.T, d *desk) {
		d.answer = func(_ context.Context, c calls.Call, n int) result {
			switch {
			case n <= 4 || n > 5 && n <= 10:
				return result{Rejected: true}
			case n == 5:
				return result{Failed: true}
			}
			return settle(c.Key)
		}
		budget := d.psp.Budget()
		budget.TryRetry()
		budget.TryRetry()
		d.enqueue(call("authorise", 1))
		d.run()
		step := func(tokens float64) {
			t.Helper()
			d.next(1)
			d.until(1, idle)
			is(t, "tokens", budget.Stats().Tokens, tokens)
			d.poll(1)
		}
		for range 4 {
			step(0)
		}
		d.next(1)
		d.until(1, idle)
		is(t, "tokens", budget.Stats().Tokens, 0.5) // the call was made, and paid once
		budget.Return()
		d.poll(1)
		for range 5 {
			step(1.5)
		}
		d.next(1)
		d.settled()
		is(t, "tokens after the retry", budget.Stats().Tokens, 0.5)
	})
}

// TestUnknownKind is a mistake in a service, and found at once.
func TestUnknownKind(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		defer func() { is(t, "the panic", fmt.Sprint(recover()), "no operation for calls of kind nothing") }()
		_ = d.db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error { return d.Enqueue(ctx, tx, call("nothing", 1)) })
	})
}
