package calls_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/platform/calls"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

// TestPerformed has calls made that were there before the runner, and such as come while it runs.
func TestPerformed(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		d.enqueue(some("authorise", 3)...)
		d.run()
		d.next(3)
		same(t, "outcomes", d.settled(), keys(some("authorise", 3)...))
		d.enqueue(call("capture", 1)) // and the runner need not look for it
		d.next(1)
		same(t, "outcomes", d.settled(), keys(append(some("authorise", 3), call("capture", 1))...))
		d.poll(manyPolls)
		is(t, "attempts", d.attempts(), 4)
	})
}

// TestPerformedWithCall sees what the performer gets.
func TestPerformedWithCall(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		traced := telemetry.WithTraceParent(within(t), parent)
		err := d.db.Update(traced, func(ctx context.Context, tx *sqldb.Tx) error { return d.Enqueue(ctx, tx, call("authorise", 1)) })
		if err != nil {
			t.Fatal(err)
		}
		d.enqueue(call("authorise", 2))
		deadline := make(chan bool, 2)
		d.answer = func(ctx context.Context, c calls.Call, _ int) result {
			_, ok := ctx.Deadline()
			deadline <- ok && (c.TraceParent == "" || telemetry.TraceID(telemetry.TraceParent(ctx)) == telemetry.TraceID(parent))
			return settle(c.Key)
		}
		d.run()
		got := d.next(2)
		for i, c := range got {
			if c.FirstAt.IsZero() || c.FirstAt.Location() != time.UTC {
				t.Errorf("first at %v", c.FirstAt)
			}
			got[i].FirstAt = time.Time{}
			is(t, "request", string(c.Request), `{"n":1}`)
			is(t, "a deadline and its trace", <-deadline, true)
			is(t, "attempts, failures", [2]int{c.Attempts, c.Failures}, [2]int{})
		}
		is(t, "trace", got[0].TraceParent, parent)
		is(t, "no trace", got[1].TraceParent, "")
		is(t, "unknown", got[0].Unknown || got[1].Unknown, false)
		d.settled()
	})
}

// TestRolledBack has calls decided on in transactions that fail: they are never made.
func TestRolledBack(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		undone := errors.New("undone")
		fails := func(ctx context.Context, tx *sqldb.Tx) error {
			if err := d.Enqueue(ctx, tx, some("authorise", 2)...); err != nil {
				return err
			}
			return undone
		}
		roll := func() {
			t.Helper()
			if err := d.db.Update(within(t), fails); !errors.Is(err, undone) {
				t.Fatal(err)
			}
		}
		roll()
		d.run()
		roll() // the same while it runs
		d.poll(manyPolls)
		is(t, "attempts", d.attempts(), 0)
		is(t, "calls", d.number(left), 0)
	})
}

// TestSameKeyTwice writes a call in one transaction twice, then in another, and then while it is made.
func TestSameKeyTwice(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		end, open := d.gate()
		d.answer = func(_ context.Context, c calls.Call, _ int) result {
			<-end
			return settle(c.Key)
		}
		other := call("authorise", 1)
		other.Request = []byte(`{"n":2}`)
		d.enqueue(call("authorise", 1), other)
		d.enqueue(other)
		d.run()
		first := d.next(1)[0]
		is(t, "request", string(first.Request), `{"n":1}`)
		d.enqueue(other)
		d.poll(manyPolls)
		open()
		same(t, "outcomes", d.settled(), keys(first))
		is(t, "attempts", d.attempts(), 1)
	})
}

// TestManyAtOnce writes more calls than one INSERT takes, and more than the queue has room for.
func TestManyAtOnce(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		d.run()
		d.enqueue(some("authorise", 120)...)
		d.drain()
		same(t, "outcomes", d.outcomes(), keys(some("authorise", 120)...))
		for _, c := range d.made {
			if c.Unknown {
				t.Fatalf("%s was begun twice", c.Key)
			}
		}
	})
}

// TestParked keeps a call for an operator, who has it made again.
func TestParked(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		d.answer = func(_ context.Context, c calls.Call, n int) result {
			res := settle([]string{"", "failed", "parked", "done"}[n])
			switch n {
			case 1:
				return result{Failed: true}
			case 2:
				res.Park = true
			}
			return res
		}
		d.enqueue(call("void", 1), call("authorise", 2))
		d.exec(`UPDATE calls SET next_at = first_at + ? WHERE kind = 'authorise'`, notYet.Microseconds())
		d.run()
		d.next(1)
		d.until(2, idle)
		d.poll(1)
		d.next(1)
		d.until(1, `SELECT count(*) FROM calls WHERE parked = 1`)
		d.due()
		d.exec(`UPDATE calls SET next_at = first_at + ? WHERE kind = 'authorise'`, notYet.Microseconds())
		d.poll(manyPolls)
		is(t, "attempts while parked", d.attempts(), 2)
		for _, want := range []int64{1, 0} { // the second time it is parked no more
			d.update(func(ctx context.Context, tx *sqldb.Tx) error {
				none, err := calls.Unpark(ctx, tx, "ord_2")
				is(t, "calls of another order", none, 0)
				if err != nil {
					return err
				}
				n, err := calls.Unpark(ctx, tx, "ord_1")
				is(t, "calls", n, want)
				return err
			})
		}
		d.poll(1)
		again := d.next(1)[0]
		is(t, "attempts and failures", [2]int{again.Attempts, again.Failures}, [2]int{2, 0})
		is(t, "unknown", again.Unknown, true) // so that the other party is asked first
		d.until(1, left)
		same(t, "outcomes", d.outcomes(), []string{"done", "parked"})
	})
}

// TestDone removes a call whose outcome came another way.
func TestDone(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		want := call("authorise", 1)
		d.enqueue(want, call("authorise", 2))
		find := func(found bool) {
			t.Helper()
			d.update(func(ctx context.Context, tx *sqldb.Tx) error {
				c, ok, err := calls.Find(ctx, tx, want.Key)
				is(t, "found", ok, found)
				if ok && (c.Key != want.Key || c.OrderID != want.OrderID || c.Kind != want.Kind || string(c.Request) != string(want.Request)) {
					t.Errorf("found %+v", c)
				}
				return err
			})
		}
		find(true)
		d.update(func(ctx context.Context, tx *sqldb.Tx) error { return calls.Done(ctx, tx, want.Key) })
		find(false)
		d.run()
		same(t, "outcomes", d.settled(), keys(call("authorise", 2)))
		is(t, "attempts", d.attempts(), 1)
	})
}

// TestAttempts records what was tried, for the order's story.
func TestAttempts(t *testing.T) {
	each(t, config("a"), limits(), func(t *testing.T, d *desk) {
		at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
		attempt := func(n int, outcome, code string) shop.Attempt {
			return shop.Attempt{At: at.Add(time.Duration(n) * time.Second), Operation: "authorise", Number: n, Outcome: outcome, Code: code, Reference: "auth_1", TraceID: "t"}
		}
		lost, asked, done := attempt(1, "unknown", ""), attempt(2, "refused", "http_404"), attempt(3, "succeeded", "")
		d.answer = func(_ context.Context, c calls.Call, n int) result {
			if n == 1 {
				return result{Unknown: true, Attempts: []shop.Attempt{lost}}
			}
			res := settle(c.Key)
			res.Attempts = []shop.Attempt{asked, done}
			return res
		}
		d.enqueue(call("authorise", 1))
		d.run()
		d.next(1)
		d.until(1, idle)
		d.poll(1)
		d.settled()
		var got []shop.Attempt
		d.update(func(ctx context.Context, tx *sqldb.Tx) (err error) {
			if none, err := calls.Attempts(ctx, tx, "ord_2"); err != nil || none == nil || len(none) != 0 {
				t.Errorf("attempts of another order: %v, %v", none, err)
			}
			got, err = calls.Attempts(ctx, tx, "ord_1")
			return err
		})
		if want := []shop.Attempt{lost, asked, done}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		items := calls.Timeline("payment", got)
		is(t, "items", len(items), 3)
		is(t, "item", items[1], shop.TimelineItem{At: asked.At, Kind: "attempt", Service: "payment", What: "authorise #2", Detail: "refused http_404", TraceID: "t"})
	})
}

func TestValidate(t *testing.T) {
	t.Parallel()
	cases := []struct {
		want   string
		change func(*calls.Config)
	}{
		{"", func(*calls.Config) {}},
		{"calls.owner", func(c *calls.Config) { c.Owner = "" }},
		{"calls.workers", func(c *calls.Config) { c.Workers = 0 }},
		{"calls.undo_workers", func(c *calls.Config) { c.UndoWorkers = 0 }},
		{"calls.queue", func(c *calls.Config) { c.Queue = c.Workers - 1 }},
		{"calls.timeout", func(c *calls.Config) { c.Timeout = 0 }},
		{"calls.lease", func(c *calls.Config) { c.Lease = 2 * c.Timeout }},
		{"calls.poll", func(c *calls.Config) { c.Poll = 0 }},
	}
	for _, c := range cases {
		cfg := calls.Defaults()
		c.change(&cfg)
		err := cfg.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.want, err)
		}
		if _, made := calls.New(cfg, calls.Parts{}, nil, bookStore()); (made == nil) != (err == nil) {
			t.Errorf("%q: New says %v", c.want, made)
		}
	}
}
