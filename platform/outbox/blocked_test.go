package outbox_test

import (
	"context"
	"testing"
	"time"

	"holdfast/platform/outbox"
	"holdfast/platform/sqldb"
	"holdfast/shop"
	"holdfast/test/stores"
)

// TestBlockedWhileTheClockWasAhead has a lane be put off while the clock was an hour ahead. Once it is right, the lane
// does not wait for that hour.
func TestBlockedWhileTheClockWasAhead(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		db, s := open(t, outbox.Migrations()), newSender()
		s.fail = func(e shop.Event) (error, bool) {
			if e.OrderID == "ord_1" {
				return unavailable(e)
			}
			return nil, true
		}
		o := newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s})
		appendEvents(t, db, o, event(1, 1), event(2, 1))
		stop := run(t, o.Run)
		untilNumber(t, db, 1, `SELECT count(*) FROM outbox_blocked`)
		stop()
		err := db.Update(testContext(t), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE outbox_blocked SET retry_at = retry_at + ?`, time.Hour.Microseconds())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		s.set(nil)
		run(t, newOutbox(t, fast("a"), outbox.Parts{DB: db, Producer: s}).Run)
		s.untilArrived(t, "1.1")
	})
}
