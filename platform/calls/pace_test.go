package calls_test

import (
	"context"
	"testing"
	"time"

	"holdfast/platform/calls"
)

// TestPace has more calls due than may come back at once: they come faster and faster while the process has
// strength left, and slowly where it has none.
func TestPace(t *testing.T) {
	cfg := config("a")
	cfg.Workers, cfg.Queue = 60, 100
	each(t, cfg, limits(), func(t *testing.T, d *desk) {
		end, open := d.gate()
		d.answer = func(_ context.Context, c calls.Call, _ int) result {
			<-end
			return settle(c.Key)
		}
		d.enqueue(some("authorise", 100)...)
		d.run()
		d.next(1)
		taken := func() int { return d.number(`SELECT count(*) FROM calls WHERE begun = 1`) }
		var came []int
		before := taken()
		for i := range 8 {
			d.waited.Store(int64(map[bool]time.Duration{true: time.Second}[i >= 4]))
			d.poll(1)
			now := taken()
			came, before = append(came, now-before), now
		}
		is(t, "calls of the first poll", came[0], 7)
		is(t, "calls of the fourth poll", came[3], 10)
		is(t, "calls of the first poll under strain", came[4], 5)
		is(t, "calls of the last poll under strain", came[7], 5)
		d.waited.Store(0)
		open()
		d.drain()
	})
}
