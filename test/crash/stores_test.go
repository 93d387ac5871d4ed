package crash_test

import (
	"database/sql"
	"path/filepath"

	_ "modernc.org/sqlite" // the stores are looked at as files

	"holdfast/shop"
)

// services and what each of them reads.
var reads = map[string][]string{
	"order":     {shop.TopicInventory, shop.TopicPayments, shop.TopicShipping},
	"inventory": {shop.TopicOrders, shop.TopicPayments, shop.TopicShipping},
	"payment":   {shop.TopicInventory, shop.TopicShipping, shop.TopicOrders},
	"shipping":  {shop.TopicPayments, shop.TopicOrders},
}

// stores looks into the databases of the stopped process, for the invariants that cannot be seen from
// outside: I11 to I14.
func (c *crasher) stores() {
	t := c.t
	t.Helper()
	sent := map[string]int{}                // event id to how often it is in an outbox
	byTopic := map[string]map[string]bool{} // topic to the ids of its events
	for service := range reads {
		db := c.open(service)
		var unsent int
		c.one(db, &unsent, `SELECT count(*) FROM outbox_unsent`)
		if unsent > 0 {
			t.Errorf("I13 %s: %d events were never sent", service, unsent)
		}
		var gaps int
		c.one(db, &gaps, `SELECT count(*) FROM (SELECT key, count(*) AS n, min(version) AS first, max(version) AS last, count(DISTINCT version) AS distinct_n
			FROM outbox WHERE version > 0 AND topic NOT LIKE '%.dlq' GROUP BY key) WHERE first <> 1 OR last <> n OR distinct_n <> n`)
		if gaps > 0 {
			t.Errorf("I12 %s: the versions of %d orders are not 1..n", service, gaps)
		}
		var dead int
		c.one(db, &dead, `SELECT count(*) FROM outbox WHERE topic LIKE '%.dlq'`)
		if dead > 0 {
			t.Errorf("I14 %s: %d dead letters", service, dead)
		}
		rows, err := db.Query(`SELECT event_id, topic FROM outbox WHERE version > 0`)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id, topic string
			if err := rows.Scan(&id, &topic); err != nil {
				t.Fatal(err)
			}
			sent[id]++
			if byTopic[topic] == nil {
				byTopic[topic] = map[string]bool{}
			}
			byTopic[topic][id] = true
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		c.close(rows)
		c.close(db)
	}
	for id, n := range sent {
		if n > 1 {
			t.Errorf("I13: event %s was written %d times", id, n)
		}
	}
	c.inboxes(byTopic)
	c.books()
}

// inboxes: what a service has handled was sent on a topic that it reads, and the order has folded every
// event of the others.
func (c *crasher) inboxes(byTopic map[string]map[string]bool) {
	c.t.Helper()
	for service, topics := range reads {
		db := c.open(service)
		rows, err := db.Query(`SELECT event_id FROM inbox`)
		if err != nil {
			c.t.Fatal(err)
		}
		handled := map[string]bool{}
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				c.t.Fatal(err)
			}
			handled[id] = true
		}
		if err := rows.Err(); err != nil {
			c.t.Fatal(err)
		}
		known, missed := 0, 0
		for _, topic := range topics {
			for id := range byTopic[topic] {
				if handled[id] {
					known++
				} else if service == "order" {
					missed++
				}
			}
		}
		if known != len(handled) {
			c.t.Errorf("I14 %s: %d events handled that nobody sent", service, len(handled)-known)
		}
		if missed > 0 {
			c.t.Errorf("I14 %s: %d events were never handled", service, missed)
		}
		c.close(rows)
		c.close(db)
	}
}

// books: the payment ledger sums to zero per transaction, and the stock's ledger to the stock.
func (c *crasher) books() {
	c.t.Helper()
	db := c.open("payment")
	var wrong int
	c.one(db, &wrong, `SELECT count(*) FROM (SELECT txn FROM ledger GROUP BY txn, currency HAVING sum(amount) <> 0)`)
	if wrong > 0 {
		c.t.Errorf("I11: %d transactions do not sum to zero", wrong)
	}
	c.close(db)
	db = c.open("inventory")
	c.one(db, &wrong, `SELECT count(*) FROM items i WHERE i.on_hand <> (SELECT COALESCE(sum(on_hand_delta), 0) FROM movements m WHERE m.sku = i.sku)
		OR i.reserved <> (SELECT COALESCE(sum(reserved_delta), 0) FROM movements m WHERE m.sku = i.sku)`)
	if wrong > 0 {
		c.t.Errorf("I7: the stock of %d items is not the sum of its movements", wrong)
	}
	c.close(db)
}

func (c *crasher) open(service string) *sql.DB {
	c.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(c.dir, "data", service+".db")+"?mode=ro")
	if err != nil {
		c.t.Fatal(err)
	}
	return db
}

func (c *crasher) one(db *sql.DB, into *int, query string) {
	c.t.Helper()
	if err := db.QueryRow(query).Scan(into); err != nil {
		c.t.Fatal(err)
	}
}

func (c *crasher) close(x interface{ Close() error }) {
	c.t.Helper()
	if err := x.Close(); err != nil {
		c.t.Error(err)
	}
}
