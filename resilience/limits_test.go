package resilience_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/resilience"
)

// serve simulates a server with so many workers, and clients that always have a call under way where the
// limit allows it; it returns the limit at the end.
func serve(l *resilience.AdaptiveLimit, workers int, work time.Duration, rounds int) int {
	for range rounds {
		n := l.Limit()
		latency := work * time.Duration(max(1, (n+workers-1)/workers)) // the rest of them wait for a worker
		time.Sleep(latency)
		for range n {
			l.Observe(resilience.Success, latency, n)
		}
	}
	return l.Limit()
}

func TestAdaptiveLimitFindsTheCapacity(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := resilience.AdaptiveDefaults()
		c.Ceiling = 1000
		for _, initial := range []int{4, 32} {
			c.Initial = initial
			l := must(resilience.NewAdaptiveLimit(c, resilience.Options{}))
			got := serve(l, 40, 10*time.Millisecond, 20_000) // more than six horizons
			if got < 40 || got > 120 {
				t.Errorf("limit %d for 40 workers, from %d", got, initial)
			}
			got = serve(l, 8, 10*time.Millisecond, 5000)
			if got < 8 || got > 40 {
				t.Errorf("limit %d when 8 workers are left", got)
			}
		}
	})
}

func TestAdaptiveLimitIsNotFooled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := resilience.AdaptiveDefaults()
		l := must(resilience.NewAdaptiveLimit(c, resilience.Options{}))
		serve(l, 50, 10*time.Millisecond, 1000)
		before := l.Stats()
		for range 1000 { // failures that come at once, and calls that tell nothing
			time.Sleep(time.Millisecond)
			l.Observe(resilience.Failure, time.Microsecond, before.Limit)
			l.Observe(resilience.Neutral, time.Microsecond, before.Limit)
		}
		is(t, "after quick failures", l.Stats(), before)
		for range 1000 { // a server that is idle
			time.Sleep(10 * time.Millisecond)
			l.Observe(resilience.Success, 10*time.Millisecond, 1)
		}
		if l.Limit() > before.Limit+2 { // the window that was under way had been busy
			t.Errorf("limit %d after a quiet time, and %d before", l.Limit(), before.Limit)
		}
		for range 10_000 { // and one that times out
			time.Sleep(10 * time.Millisecond)
			l.Observe(resilience.Failure, 3*time.Second, l.Limit())
		}
		is(t, "after timeouts", l.Limit(), c.Floor)
	})
}

func TestAdaptiveBulkhead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var r recorder
		c := resilience.BulkheadConfig{Queue: 1000, MaxWait: time.Minute, Adaptive: resilience.AdaptiveDefaults()}
		b := must(resilience.NewBulkhead(c, resilience.Options{Observer: &r}))
		for range 2000 {
			go func() {
				for range 5 {
					_ = b.Run(t.Context(), func(context.Context) error { time.Sleep(10 * time.Millisecond); return nil })
				}
			}()
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		s := b.Stats()
		if s.Limit <= c.Adaptive.Initial || len(r.limited) == 0 || s.InUse != 0 || s.Queued != 0 {
			t.Errorf("limit %d after %d moves, %d in use, %d queued", s.Limit, len(r.limited), s.InUse, s.Queued)
		}
	})
}

func TestBulkheadQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var r recorder
		b := newBulkhead(1, 2, time.Second, &r)
		slot := must(b.Acquire(t.Context()))
		errs := make(chan error, 3)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, err := b.Acquire(ctx); errs <- err }()
		synctest.Wait()
		go func() {
			s, err := b.Acquire(t.Context())
			errs <- err
			time.Sleep(5 * time.Second)
			s.Release()
		}()
		synctest.Wait()
		_, err := b.Acquire(t.Context())
		isErr(t, err, resilience.ErrFull)
		cancel()
		isErr(t, <-errs, context.Canceled)
		slot.Release()
		isErr(t, <-errs, nil)
		began := time.Now()
		_, err = b.Acquire(t.Context())
		isErr(t, err, resilience.ErrFull)
		is(t, "waited", time.Since(began), time.Second)
		is(t, "reason", r.rejected[1].Reason, resilience.ReasonQueueTimeout)
		is(t, "events of the queue", len(r.queued), 6)
		is(t, "last", r.queued[5], resilience.QueueEvent{Label: b.Stats().Label, InUse: 1, Done: true, Waited: time.Second})
		time.Sleep(time.Minute)
		capacity(t, b, 1)
	})
}

// TestField07_SlotMeetsCancel grants a slot to a caller that leaves at the same instant.
func TestField07_SlotMeetsCancel(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBulkhead(1, 1, time.Minute, nil)
		for range 200 {
			slot := must(b.Acquire(t.Context()))
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				if s, err := b.Acquire(ctx); err == nil {
					s.Release()
				}
			}()
			synctest.Wait()
			cancel() // first, so that this is what wakes the caller
			slot.Release()
			synctest.Wait()
		}
		capacity(t, b, 1)
	})
}

func TestBulkheadReconfigure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBulkhead(4, 4, time.Minute, nil)
		slots := make([]resilience.Slot, 4)
		for i := range slots {
			slots[i] = must(b.Acquire(t.Context()))
		}
		admitted := 0
		for range 3 {
			go func() { _ = must(b.Acquire(t.Context())); admitted++ }()
			synctest.Wait()
		}
		isErr(t, b.Reconfigure(resilience.BulkheadConfig{Limit: 2, Queue: 4, MaxWait: time.Minute}), nil)
		for i := range 2 {
			slots[i].Release()
			synctest.Wait()
			is(t, "admitted while there are too many", admitted, 0)
		}
		slots[2].Release()
		synctest.Wait()
		is(t, "admitted", admitted, 1)
		isErr(t, b.Reconfigure(resilience.BulkheadConfig{Limit: 3, Queue: 4, MaxWait: time.Minute}), nil)
		synctest.Wait()
		is(t, "admitted by a larger limit", admitted, 2)
		isErr(t, b.Reconfigure(resilience.BulkheadConfig{Off: true}), nil)
		synctest.Wait()
		is(t, "admitted when off", admitted, 3)
		is(t, "in use", b.Stats().InUse, 4)
	})
}

func TestAdmissionByCriticality(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var r recorder
		a := must(resilience.NewAdmission(resilience.AdmissionConfig{Limit: 10, SheddableShare: 0.5, NormalShare: 0.8, UndoLane: 2, RetryAfter: 3 * time.Second},
			resilience.Options{Observer: &r}))
		var tickets []resilience.Ticket
		for _, step := range []struct {
			c    resilience.Criticality
			most int // under way afterwards, the lane included
		}{{resilience.Sheddable, 5}, {resilience.Normal, 8}, {resilience.Unspecified, 8}, {resilience.Critical, 10}, {resilience.Undo, 12}} {
			for range 20 {
				ticket, err := a.Admit(step.c)
				if err == nil {
					tickets = append(tickets, ticket)
					continue
				}
				isErr(t, err, resilience.ErrShed)
				after, _ := resilience.RetryAfter(err)
				is(t, "retry after", after, 3*time.Second)
			}
			is(t, "under way after "+step.c.String(), len(tickets), step.most)
		}
		s := a.Stats()
		is(t, "in use", s.InUse, 10)
		is(t, "in the lane", s.Undoing, 2)
		is(t, "normal ones shed", s.Shed[resilience.Normal], uint64(17+20))
		is(t, "events", len(r.rejected), 100-12)
		for i := range tickets {
			tickets[i].Done(resilience.Success)
			tickets[i].Done(resilience.Success)
		}
		s = a.Stats()
		is(t, "under way at the end", s.InUse+s.Undoing, 0)
		isErr(t, a.Reconfigure(resilience.AdmissionConfig{Off: true}), nil)
		for range 1000 {
			_ = must(a.Admit(resilience.Sheddable))
		}
	})
}

// TestUndoHasALane sheds creation, and not one cancel.
func TestUndoHasALane(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := resilience.AdmissionDefaults()
		c.Adaptive.Initial, c.Adaptive.Ceiling = 10, 10
		a := must(resilience.NewAdmission(c, resilience.Options{}))
		p := newPolicy(resilience.Command, bare(), resilience.Deps{Admission: a})
		shed := map[resilience.Criticality]int{}
		for range 1000 {
			for _, c := range []resilience.Criticality{resilience.Normal, resilience.Normal, resilience.Normal, resilience.Undo} {
				go func() {
					ctx := resilience.WithCriticality(t.Context(), c)
					if errors.Is(p.Run(ctx, func(context.Context) error { time.Sleep(20 * time.Millisecond); return nil }), resilience.ErrShed) {
						shed[c]++
					}
				}()
				synctest.Wait()
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		is(t, "cancels shed", shed[resilience.Undo], 0)
		is(t, "others shed", shed[resilience.Normal] > 2000, true)
	})
}
