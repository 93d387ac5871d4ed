package simulation

import (
	"bytes"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the stores are looked at as files

	"holdfast/check/sometimes"
	"holdfast/shop"
)

// Must are the races that a campaign must have seen, and how each is told: by what the customers, the
// outside parties and the stores have on record, never by what the product says of its inside.
var Must = sometimes.Sites{
	"cancel against ship":            "the carrier was told to keep a parcel, or a cancel came too late",
	"cancel against capture":         "the money was taken between a cancel and its answer, after one without an answer, or after the undo that it brought about had begun",
	"expiry against payment":         "a reservation ran out, and the provider authorised",
	"success after the undo began":   "the provider authorised after the order had begun to be undone",
	"undo failing":                   "the provider failed an undo that it did later",
	"payment undone before its step": "a payment was closed before it was asked for, and left its tombstone",
	"release before its reservation": "stock was released before it was reserved, and left its tombstone",
	"clock set":                      "Holdfast's clock was set wrong while orders came",
	"hang":                           "a process hung while orders came",
	"driven again":                   "an order was driven again, and inventory said again what it had said",
	"webhook before the answer":      "a webhook of an authorisation was stored before an answer to the call was",
	"order of unknown outcome":       "an order is there whose customer was never told",
	"crash between send and mark":    "at a crash an event was on the bus, and its row unsent",
	"bus lost":                       "the process died, and its bus came back empty",
	"death at a write":               "a process died at a chosen write",
	"needs attention, then repaired": "an operator had an order tried again that needed attention, and it has ended",
}

// races counts what of Must has happened.
func (w *World) races() map[string]int {
	n := map[string]int{"death at a write": w.seen.trapped, "clock set": w.seen.jumps, "hang": w.seen.hangs, "driven again": w.seen.repeated, "bus lost": w.seen.busLost, "crash between send and mark": w.seen.sentNotMarked}
	told := map[string]*sentOrder{}
	for _, s := range w.seen.sent {
		told[s.plan.Key] = s
	}
	for _, o := range w.seen.final {
		if s := told[o.ExternalID]; s != nil && s.id == "" {
			n["order of unknown outcome"]++
		}
		if w.seen.retried[o.ID] && o.Status.Final() {
			n["needs attention, then repaired"]++
		}
	}
	for _, p := range w.seen.parcels {
		if p.Entry == "held" {
			n["cancel against ship"]++
		}
	}
	authorised := map[shop.OrderID]bool{}
	for _, m := range w.seen.money {
		authorised[m.Reference] = authorised[m.Reference] || m.Entry == "authorised"
	}
	for _, o := range w.seen.final {
		if o.Reason == shop.ReasonReservationExpired && authorised[o.ID] {
			n["expiry against payment"]++
		}
	}
	for _, s := range w.seen.sent {
		for _, c := range s.cancels {
			if c.status == 409 {
				n["cancel against ship"]++
			}
		}
	}
	if err := w.storeRaces(n); err != nil {
		w.violate("X2", "", "the stores cannot be read: %v", err)
	}
	return n
}

// storeRaces are those that the stores and the files of the outside parties tell of.
func (w *World) storeRaces(n map[string]int) error {
	undone, taken, err := w.times()
	if err != nil {
		return err
	}
	lines, err := os.ReadFile(filepath.Join(w.dir, "psp", "ledger.ndjson"))
	if err != nil {
		return err
	}
	failed := map[string]bool{}
	for line := range bytes.Lines(lines) {
		e, err := parseLine(line)
		if err != nil {
			return err
		}
		switch {
		case e.Note == "undo_failed":
			failed[e.Authorisation] = true
		case (e.Entry == "voided" || e.Entry == "refunded") && failed[e.Authorisation]:
			n["undo failing"]++
		case e.Entry == "authorised" && !undone[e.Reference].IsZero() && e.At.After(undone[e.Reference]):
			n["success after the undo began"]++
		case e.Entry == "captured":
			taken[e.Reference] = e.At
		}
	}
	for _, s := range w.seen.sent {
		for _, c := range s.cancels {
			at, undo := taken[string(s.id)], undone[string(s.id)]
			late := c.answered == 0 || at.Before(w.began.Add(c.answered)) || !undo.IsZero() && at.After(undo)
			if at.After(w.began.Add(c.asked)) && late {
				n["cancel against capture"]++
			}
		}
	}
	return errors.Join(
		count(w.seen.dir, "payment", `SELECT count(*) FROM webhooks w JOIN call_attempts a ON a.order_id = w.order_id AND a.operation = 'authorise' AND w.kind LIKE 'authoris%' AND a.at > w.at`, n, "webhook before the answer"),
		count(w.seen.dir, "inventory", `SELECT count(*) FROM outbox WHERE type = 'StockReleased' AND version = 1`, n, "release before its reservation"),
		count(w.seen.dir, "payment", `SELECT count(*) FROM outbox WHERE type = 'PaymentCancelled' AND version = 1`, n, "payment undone before its step"))
}

func open(dir, service string) (*sql.DB, error) {
	return sql.Open("sqlite", "file:"+filepath.Join(dir, service+".db")+"?mode=ro")
}

// counts runs a query for numbers by key.
func counts(dir, service, query string) (map[string]int, error) {
	db, err := open(dir, service)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.Query(query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	n := map[string]int{}
	for rows.Next() {
		var key string
		var k int
		if err := rows.Scan(&key, &k); err != nil {
			return nil, err
		}
		n[key] = k
	}
	return n, rows.Err()
}

func count(dir, service, query string, n map[string]int, what string) error {
	db, err := open(dir, service)
	if err != nil {
		return err
	}
	defer db.Close()
	var k int
	if err := db.QueryRow(query).Scan(&k); err != nil {
		return err
	}
	n[what] += k
	return nil
}

// lookAtCrash looks at what a process that has just died left behind: for an event that the bus has and
// whose row says that it was not sent.
func (w *World) lookAtCrash(dir string) {
	for _, service := range []string{"order", "inventory", "payment", "shipping"} {
		ids, err := unsent(dir, service)
		if err != nil {
			w.note("the dead process's outbox of %s: %v", service, err)
			continue
		}
		for _, id := range ids {
			if onBus(filepath.Join(dir, "bus"), id) {
				w.seen.sentNotMarked++
			}
		}
	}
}

func unsent(dir, service string) (ids []string, err error) {
	db, err := open(dir, service)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.Query(`SELECT event_id FROM outbox JOIN outbox_unsent USING (pos)`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// onBus tells whether a file of the bus has an event.
func onBus(dir, id string) (found bool) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !found {
			b, err := os.ReadFile(path)
			found = err == nil && strings.Contains(string(b), id)
		}
		return nil
	})
	return found
}
