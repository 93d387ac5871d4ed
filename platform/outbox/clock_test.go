package outbox_test

import (
	"context"
	"testing"
	"time"

	"holdfast/platform/outbox"
	"holdfast/shop"
	"holdfast/test/fakes"
	"holdfast/test/stores"
)

// TestBacklogOfWrongClocks: how long events wait is told by the database's clock. A replica whose own is wrong would
// otherwise have itself, or the others, refuse orders because of a backlog that there is not.
func TestBacklogOfWrongClocks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		writer, relays time.Duration // how far their clocks are ahead
	}{
		{"the writer is behind", -5 * time.Minute, 0},
		{"the relay is ahead", 0, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db, s := stores.SQLite(t, outbox.Migrations()), newSender()
			with := func(name string, ahead time.Duration) *outbox.Outbox {
				clock, deps := new(fakes.SkewedClock), fakes.Deps(t)
				clock.Advance(ahead)
				deps.Clock = clock
				return newOutbox(t, fast(name), outbox.Parts{DB: db, Producer: s, Deps: deps})
			}
			writer, relay := with("a", c.writer), with("b", c.relays)
			seen := make(chan time.Duration, 10)
			s.hook = func(context.Context, []shop.Event) { seen <- relay.Backlog() }
			e := event(1, 1)
			e.Time = time.Time{}
			appendEvents(t, db, writer, e)
			run(t, relay.Run)
			s.untilArrived(t, "1.1")
			if backlog := <-seen; backlog < 0 || backlog > time.Minute {
				t.Errorf("the backlog is %s", backlog)
			}
		})
	}
}
