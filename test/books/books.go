// Package books looks into the databases that a stopped Holdfast has left, for the invariants that cannot
// be seen from outside: I7 and I11 to I14.
package books

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	_ "modernc.org/sqlite" // the stores are looked at as files

	"holdfast/check"
	"holdfast/shop"
)

// reads are the services and what each of them reads.
var reads = map[string][]string{
	"order":     {shop.TopicInventory, shop.TopicPayments, shop.TopicShipping},
	"inventory": {shop.TopicOrders, shop.TopicPayments, shop.TopicShipping},
	"payment":   {shop.TopicInventory, shop.TopicShipping, shop.TopicOrders},
	"shipping":  {shop.TopicPayments, shop.TopicOrders},
}

// look is a look at the databases of a directory.
type look struct {
	dbs     map[string]*sql.DB
	found   []check.Violation
	written map[string]int                 // event id to how often it is in an outbox
	byTopic map[string]map[string]struct{} // topic to the ids of its events
}

// Look returns what is wrong in the databases of a data directory.
func Look(dir string) (found []check.Violation, err error) {
	l := &look{dbs: map[string]*sql.DB{}, written: map[string]int{}, byTopic: map[string]map[string]struct{}{}}
	defer func() {
		for _, db := range l.dbs {
			err = errors.Join(err, db.Close())
		}
	}()
	for service := range reads {
		if l.dbs[service], err = sql.Open("sqlite", "file:"+filepath.Join(dir, service+".db")+"?mode=ro"); err != nil {
			return nil, err
		}
	}
	for service := range reads {
		if err := l.outbox(service); err != nil {
			return nil, fmt.Errorf("the outbox of %s: %w", service, err)
		}
	}
	for id, n := range l.written {
		if n > 1 {
			l.bad("I13", "event %s was written %d times", id, n)
		}
	}
	for service := range reads {
		if err := l.inbox(service); err != nil {
			return nil, fmt.Errorf("the inbox of %s: %w", service, err)
		}
	}
	return l.found, l.ledgers()
}

func (l *look) bad(invariant, format string, args ...any) {
	l.found = append(l.found, check.Violation{Invariant: invariant, Detail: fmt.Sprintf(format, args...)})
}

// none reports where a count is not 0.
func (l *look) none(service, query, invariant, format string) error {
	var n int
	if err := l.dbs[service].QueryRow(query).Scan(&n); err != nil {
		return err
	}
	if n > 0 {
		l.bad(invariant, service+": "+format, n)
	}
	return nil
}

// outbox: everything was sent, the versions have no gaps, and nothing became a dead letter.
func (l *look) outbox(service string) error {
	err := errors.Join(
		l.none(service, `SELECT count(*) FROM outbox_unsent`, "I13", "%d events were never sent"),
		l.none(service, `SELECT count(*) FROM (SELECT key, count(*) AS n, min(version) AS first, max(version) AS last, count(DISTINCT version) AS distinct_n
			FROM outbox WHERE version > 0 AND topic NOT LIKE '%.dlq' GROUP BY key) WHERE first <> 1 OR last <> n OR distinct_n <> n`, "I12", "the versions of %d orders are not 1..n"),
		l.none(service, `SELECT count(*) FROM outbox WHERE topic LIKE '%.dlq'`, "I14", "%d dead letters"))
	if err != nil {
		return err
	}
	return each(l.dbs[service], `SELECT event_id, topic FROM outbox WHERE version > 0`, func(rows *sql.Rows) error {
		var id, topic string
		if err := rows.Scan(&id, &topic); err != nil {
			return err
		}
		l.written[id]++
		if l.byTopic[topic] == nil {
			l.byTopic[topic] = map[string]struct{}{}
		}
		l.byTopic[topic][id] = struct{}{}
		return nil
	})
}

// inbox: what a service has handled was sent on a topic that it reads, and the order has folded every
// event of the others.
func (l *look) inbox(service string) error {
	handled := map[string]struct{}{}
	err := each(l.dbs[service], `SELECT event_id FROM inbox`, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		handled[id] = struct{}{}
		return err
	})
	if err != nil {
		return err
	}
	known, missed := 0, 0
	for _, topic := range reads[service] {
		for id := range l.byTopic[topic] {
			if _, ok := handled[id]; ok {
				known++
			} else if service == "order" {
				missed++
			}
		}
	}
	if known != len(handled) {
		l.bad("I14", "%s: %d events handled that nobody sent", service, len(handled)-known)
	}
	if missed > 0 {
		l.bad("I14", "%s: %d events were never handled", service, missed)
	}
	return nil
}

// ledgers: the payment ledger sums to zero per transaction, and the stock's ledger to the stock.
func (l *look) ledgers() error {
	return errors.Join(
		l.none("payment", `SELECT count(*) FROM (SELECT txn FROM ledger GROUP BY txn, currency HAVING sum(amount) <> 0)`, "I11", "%d transactions do not sum to zero"),
		l.none("inventory", `SELECT count(*) FROM items i WHERE i.on_hand <> (SELECT COALESCE(sum(on_hand_delta), 0) FROM movements m WHERE m.sku = i.sku)
			OR i.reserved <> (SELECT COALESCE(sum(reserved_delta), 0) FROM movements m WHERE m.sku = i.sku)`, "I7", "the stock of %d items is not the sum of its movements"))
}

func each(db *sql.DB, query string, row func(*sql.Rows) error) (err error) {
	rows, err := db.Query(query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
