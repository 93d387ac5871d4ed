package calls_test

import (
	"context"
	"testing"
	"time"

	"holdfast/platform/calls"
	"holdfast/shop"
)

// held has a's attempts last until their context ends, and tells of each that has ended.
func held(d *desk) (ended <-chan struct{}) {
	c := make(chan struct{}, 100)
	d.answer = func(ctx context.Context, _ calls.Call, _ int) result {
		<-ctx.Done()
		c <- struct{}{}
		return result{Unknown: true, RetryIn: notYet}
	}
	return c
}

// untilEnded waits for an attempt's end.
func untilEnded(t *testing.T, ended <-chan struct{}) {
	t.Helper()
	select {
	case <-ended:
	case <-within(t).Done():
		t.Fatal("attempts do not end")
	}
}

// TestSilentOwner has a process give no sign of life any more: another takes its calls over at once, and knows that
// it must ask. When the silent one is heard again it begins nothing that it had, ends what it has under way,
// and what comes of that changes nothing.
func TestSilentOwner(t *testing.T) {
	cfg := config("a")
	cfg.Workers = 1
	each(t, cfg, limits(), func(t *testing.T, d *desk) {
		ended := held(d)
		d.run()
		d.enqueue(call("authorise", 1))
		d.next(1)
		d.enqueue(call("authorise", 2)) // in its queue
		other := newDesk(t, d.db, config("b"), limits())
		end, open := other.gate()
		other.answer = func(_ context.Context, c calls.Call, _ int) result {
			<-end
			return settle(c.Key)
		}
		other.run()
		other.sign(2)
		other.poll(manyPolls)
		is(t, "attempts while the first is alive", other.attempts(), 0)
		d.exec(`UPDATE call_owners SET until = 1 WHERE owner = 'a'`)
		other.sign(2)
		other.poll(1)
		for _, c := range other.next(2) {
			is(t, "unknown", c.Unknown, true)
		}
		d.sign(2)
		untilEnded(t, ended)
		d.poll(manyPolls)
		is(t, "attempts of the first", d.attempts(), 1)
		is(t, "calls that are the other's", d.number(`SELECT count(*) FROM calls WHERE owner = 'b' AND lease_until > 0`), 2)
		open()
		same(t, "outcomes", other.settled(), keys(call("authorise", 1), call("authorise", 2)))
		d.enqueue(call("authorise", 3)) // it goes on
		d.next(1)
	})
}

// TestNoSign has a process that can give no sign of life end what it has under way before another may take it
// over, and begin nothing that it had until it is heard again.
func TestNoSign(t *testing.T) {
	cfg := config("a")
	cfg.Workers = 1
	each(t, cfg, limits(), func(t *testing.T, d *desk) {
		ended := held(d)
		d.run()
		d.enqueue(call("authorise", 1))
		d.next(1)
		d.enqueue(call("authorise", 2))
		d.exec(`ALTER TABLE call_owners RENAME TO call_owners_away`)
		d.sign(2)
		is(t, "attempts that were ended at once", len(ended), 0)
		d.clock.ahead.Store(int64(cfg.Alive * 9 / 10))
		d.sign(2)
		untilEnded(t, ended)
		d.poll(manyPolls)
		is(t, "attempts", d.attempts(), 1)
		d.exec(`ALTER TABLE call_owners_away RENAME TO call_owners`)
		d.answer = func(_ context.Context, c calls.Call, _ int) result { return settle(c.Key) }
		d.sign(2)
		d.poll(2)
		is(t, "unknown, of the one that was not begun", d.next(1)[0].Unknown, false)
		d.due()
		d.poll(1)
		is(t, "unknown, of the one that was", d.next(1)[0].Unknown, true)
		same(t, "outcomes", d.settled(), keys(call("authorise", 1), call("authorise", 2)))
	})
}

// TestStuckSign has the next sign of life never come to its end, as where a commit is not answered: what is under way
// ends in time all the same.
func TestStuckSign(t *testing.T) {
	cfg := config("a")
	cfg.Alive = 3 * time.Second // enough to begin a call on a busy machine
	each(t, cfg, limits(), func(t *testing.T, d *desk) {
		ended := held(d)
		d.run()
		d.enqueue(call("authorise", 1))
		d.next(1)
		untilEnded(t, ended)
	})
}

// TestStoppedOwner leaves nothing behind that another would have to wait for.
func TestStoppedOwner(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		stop := d.run()
		is(t, "owners", d.number(`SELECT count(*) FROM call_owners WHERE owner = 'a'`), 1)
		stop()
		is(t, "owners after the stop", d.number(`SELECT count(*) FROM call_owners`), 0)
	})
}

// TestYoungest has a call of a new order come while many of older ones wait: it is made at the next look or the
// one after it, and the oldest are made meanwhile.
func TestYoungest(t *testing.T) {
	cfg := config("a")
	cfg.Workers, cfg.Queue = 60, 100
	each(t, cfg, limits(), func(t *testing.T, d *desk) {
		end, open := d.gate()
		d.answer = func(_ context.Context, c calls.Call, _ int) result {
			<-end
			return settle(c.Key)
		}
		d.waited.Store(int64(time.Second)) // five at each look
		var waiting []calls.Call
		for n := range 60 {
			c := call("authorise", 100+n)
			waiting = append(waiting, c)
		}
		d.enqueue(waiting...)
		d.run()
		d.next(1)
		d.exec(`INSERT INTO calls (key, order_id, kind, request, traceparent, owner, lease_until, next_at, first_at)
			SELECT 'new', 'ord_999', kind, request, traceparent, '', 0, next_at + 1, first_at FROM calls WHERE key = ?`, waiting[0].Key)
		d.poll(2)
		is(t, "the new order's call is taken up", d.number(`SELECT count(*) FROM calls WHERE key = 'new' AND begun = 1`), 1)
		is(t, "the oldest order's call is taken up", d.number(`SELECT count(*) FROM calls WHERE order_id = ? AND begun = 1`, string(shop.OrderID("ord_100"))), 1)
		d.waited.Store(0)
		open()
		d.drain()
	})
}
