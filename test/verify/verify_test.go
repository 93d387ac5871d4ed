// Package verify_test breaks stores on purpose, one place at a time, and looks whether the audit names it.
package verify_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/app"
	"holdfast/app/local"
	"holdfast/check"
	"holdfast/check/audit"
	"holdfast/client"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// shopful are the orders of a data directory in which every kind of end is met.
type shopful struct {
	dir                    string
	done, undone, held, no shop.OrderID // fulfilled, cancelled, confirmed, declined
}

// fill runs a Holdfast until its orders have come to their ends, and stops it.
func fill(t *testing.T, dsn string) shopful {
	t.Helper()
	cfg := local.Defaults()
	if dsn != "" {
		cfg.Store.Driver, cfg.Store.DSN, cfg.Store.MaxConns = "postgres", dsn, 8
	}
	cfg.Data, cfg.Addr, cfg.AdminAddr, cfg.Seed = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0", false
	cfg.Carrier.DispatchAfter = 100 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan local.Ready, 1), make(chan error, 1)
	go func() { ended <- local.Run(ctx, cfg, fakes.Deps(t), func(r local.Ready) { ready <- r }) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("stop: %v", err)
		}
	}()
	r := <-ready
	c, err := client.New(r.Addresses.API, r.Key, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutItem(t.Context(), "TEA", 0, shop.PutItem{Name: "Tea", UnitPrice: 450, Currency: "EUR"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Receive(t.Context(), "r", "TEA", shop.Receipt{Quantity: 100}); err != nil {
		t.Fatal(err)
	}
	place := func(payment, postal string, until shop.OrderStatus) shop.OrderID {
		p, err := c.PlaceOrder(t.Context(), client.NewKey(), shop.PlaceOrder{CustomerID: "cus_1", Currency: "EUR", PaymentMethod: payment,
			Lines:           []shop.PlaceLine{{SKU: "TEA", Quantity: 2}},
			ShippingAddress: shop.Address{Name: "A", Line1: "1", City: "B", PostalCode: postal, Country: "DE"}}, 0)
		if err != nil {
			t.Fatal(err)
		}
		wait(t, c, p.Order.ID, until)
		return p.Order.ID
	}
	s := shopful{dir: cfg.Data, done: place("tok_ok", "10115", shop.Fulfilled), undone: place("tok_ok", "00005", shop.Confirmed),
		no: place("tok_declined", "10115", shop.Rejected), held: place("tok_ok", "00005", shop.Confirmed)}
	if _, err := c.CancelOrder(t.Context(), client.NewKey(), s.undone); err != nil {
		t.Fatal(err)
	}
	wait(t, c, s.undone, shop.Cancelled)
	report, err := audit.Run(t.Context(), look(cfg.Data, dsn, true))
	if err != nil || report.Verdict != audit.Pass {
		t.Fatalf("while it runs: %v %v", err, failures(report))
	}
	asked(t, r.Addresses)
	return s
}

// asked has the running Holdfast check itself, and looks for the result among its metrics.
func asked(t *testing.T, at app.Addresses) {
	t.Helper()
	if found, err := check.Stores(t.Context(), check.Addresses(at)); err != nil || len(found) > 0 {
		t.Errorf("asked to check itself: %v %v", err, found)
	}
	resp, err := http.Get(at.Admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	metrics, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(metrics), `holdfast_verify_violations{invariant="I12"} 0`) {
		t.Error("the metrics do not say what came of it")
	}
}

func wait(t *testing.T, c *client.Client, id shop.OrderID, status shop.OrderStatus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for o, err := range c.Watch(ctx, id, 0) {
		if err != nil {
			t.Fatalf("%s does not become %s: %v", id, status, err)
		}
		if o.Status == status {
			return
		}
	}
}

func look(dir, dsn string, rest bool) audit.Config {
	cfg := audit.Config{Data: dir, DSN: dsn, AtRest: rest, Grace: 5 * time.Second}
	cfg.PSP, cfg.Carrier = audit.SimulatorLedgers(dir)
	return cfg
}

func failures(r *audit.Report) (list []string) {
	if r == nil {
		return nil
	}
	for _, x := range r.Results {
		if x.Verdict != audit.Pass && x.Verdict != audit.NotCheckable {
			list = append(list, fmt.Sprintf("%s %s %v", x.ID, x.Verdict, x.Items))
		}
	}
	return list
}

// corruption changes a copy of the stores: by a statement in one of them, or by a line in a ledger.
type corruption struct {
	name, invariant, names string
	store, sql             string // {done}, {undone}, {held} stand for the orders' ids
	ledger                 string // psp or carrier
	line                   string // to add to it
	without                string // lines with it are removed
}

var corruptions = []corruption{
	{name: "an acknowledged order is gone", invariant: "I1", names: "{done}", store: "order", sql: `DELETE FROM orders WHERE order_id = '{done}'`},
	{name: "it was acknowledged with another total", invariant: "I1", names: "{done}", store: "order", sql: `UPDATE idempotency SET answer = json_set(answer, '$.total', 1) WHERE answer LIKE '%{done}%'`},
	{name: "nobody asked for it", invariant: "I2", names: "{done}", store: "order", sql: `DELETE FROM idempotency WHERE answer LIKE '%{done}%'`},
	{name: "a reservation of no order", invariant: "I2", names: "ord_nobody", store: "inventory", sql: `INSERT INTO reservations SELECT 'ord_nobody', 'x', 'released', '', '[]', 0, 0, 0, 1, 0`},
	{name: "two keys for one order", invariant: "I3", names: "{done}", store: "order", sql: `INSERT INTO idempotency (caller, route, key, hash, answer, created_at) SELECT caller, route, 'other', hash, answer, created_at FROM idempotency WHERE answer LIKE '%{done}%'`},
	{name: "captured twice", invariant: "I4", names: "{done}", ledger: "psp", line: `{"seq":99,"entry":"captured","reference":"{done}","key":"again","amount":0}`},
	{name: "a payment of another amount", invariant: "I4", names: "{held}", store: "payment", sql: `UPDATE payments SET amount = amount + 1 WHERE order_id = '{held}'`},
	{name: "refunded more than captured", invariant: "I5", names: "{held}", ledger: "psp", line: `{"seq":99,"entry":"refunded","reference":"{held}","key":"r","amount":1}`},
	{name: "cancelled and still held", invariant: "I6", names: "{undone}", ledger: "psp", without: `"entry":"voided"`},
	{name: "money of an unknown order", invariant: "I6", names: "ord_nobody", ledger: "psp", line: `{"seq":99,"entry":"authorised","reference":"ord_nobody","key":"n","amount":5}`},
	{name: "cancelled and the parcel comes", invariant: "I6", names: "{undone}", ledger: "carrier", without: `"entry":"cancelled"`},
	{name: "more reserved than its movements", invariant: "I7", names: "TEA", store: "inventory", sql: `UPDATE items SET reserved = reserved + 1`},
	{name: "stock has vanished", invariant: "I7", names: "TEA", store: "inventory", sql: `UPDATE items SET on_hand = on_hand - 1`},
	{name: "released after it was shipped", invariant: "I8", names: "{done}", store: "inventory", sql: `INSERT INTO movements (sku, at, kind, on_hand_delta, reserved_delta, order_id, reference) VALUES ('TEA', 0, 'release', 0, -1, '{done}', '');
		UPDATE items SET reserved = reserved - 1`},
	{name: "cancelled and gone", invariant: "I9", names: "{undone}", store: "shipping", sql: `UPDATE shipments SET dispatched_at = 1 WHERE order_id = '{undone}'`},
	{name: "two parcels", invariant: "I9", names: "{done}", ledger: "carrier", line: `{"seq":99,"entry":"scheduled","reference":"{done}","key":"s","id":"x"}`},
	{name: "a booking of one side", invariant: "I11", names: "{done}", store: "payment", sql: `UPDATE ledger SET amount = amount + 1 WHERE order_id = '{done}' AND account = 'sales'`},
	{name: "the provider knows nothing", invariant: "I11", names: "{held}", ledger: "psp", without: `{held}`},
	{name: "an event is missing", invariant: "I12", names: "{done}", store: "order", sql: `DELETE FROM outbox WHERE key = '{done}' AND type = 'OrderProgressed'`},
	{name: "an event is another", invariant: "I12", names: "{done}", store: "order", sql: `UPDATE outbox SET type = 'OrderCancelled' WHERE key = '{done}' AND type = 'OrderConfirmed'`},
	{name: "the row is not what was folded", invariant: "I12", names: "{done}", store: "order", sql: `UPDATE orders SET status = 'confirmed', doc = json_set(doc, '$.order.status', 'confirmed') WHERE order_id = '{done}'`},
	{name: "an event was never sent", invariant: "I13", names: "order", store: "order", sql: `INSERT INTO outbox_unsent SELECT pos, slot, topic || '/' || key FROM outbox LIMIT 1`},
	{name: "an event was never handled", invariant: "I14", names: "evt_", store: "order", sql: `DELETE FROM inbox WHERE event_id = (SELECT max(event_id) FROM inbox)`},
	{name: "an event that nobody wrote", invariant: "I14", names: "evt_", store: "shipping", sql: `INSERT INTO inbox SELECT consumer, substr(event_id, 1, 20) || '0000000000', at FROM inbox LIMIT 1`},
	{name: "a dead letter", invariant: "I14", names: "{done}", store: "payment", sql: `INSERT INTO outbox (event_id, slot, topic, key, version, type, source, time, traceparent, headers, data) SELECT 'evt_d', slot, 'orders.dlq', '{done}', 0, type, source, time, '', '', data FROM outbox LIMIT 1`},
	{name: "a list shows another customer", invariant: "I15", names: "{done}", store: "order", sql: `UPDATE orders SET customer_id = 'other' WHERE order_id = '{done}'`},
	{name: "cancelled and shipped", invariant: "I16", names: "{done}", store: "order", sql: `INSERT INTO idempotency (caller, route, key, hash, answer, created_at) VALUES ('dev', 'POST /v1/orders/{done}/cancel', 'c', 'h', '{"id":"{done}","status":"cancelling"}', 0)`},
	{name: "a message booked twice", invariant: "I17", names: "{done}", store: "payment", sql: `INSERT INTO ledger (at, txn, order_id, account, amount, currency) SELECT at, txn, order_id, account, amount, currency FROM ledger WHERE order_id = '{done}' AND account IN ('provider', 'sales')`},
}

// TestNamesWhatIsWrong: each corruption breaks its own invariant and no other, and is named.
func TestNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := fill(t, "")
	t.Run("sound", func(t *testing.T) {
		r, err := audit.Run(t.Context(), look(s.dir, "", true))
		if err != nil || r.Verdict != audit.Pass || r.Counts.Orders != 4 {
			t.Errorf("%v %+v", err, failures(r))
		}
	})
	ids := strings.NewReplacer("{done}", string(s.done), "{undone}", string(s.undone), "{held}", string(s.held))
	for _, c := range corruptions {
		t.Run(c.invariant+" "+c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(dir, os.DirFS(s.dir)); err != nil {
				t.Fatal(err)
			}
			c.apply(t, dir, ids)
			c.judge(t, look(dir, "", true), ids)
		})
	}
}

// judge wants the corruption's own invariant to fail, no other, and to name what was corrupted.
func (c corruption) judge(t *testing.T, cfg audit.Config, ids *strings.Replacer) {
	t.Helper()
	cfg.Grace = 10 * time.Millisecond // nothing runs
	r, err := audit.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	failed := r.Failed()
	if len(failed) != 1 || failed[0].ID != c.invariant {
		t.Fatalf("failed: %v; want %s alone", failures(r), c.invariant)
	}
	if !slices.ContainsFunc(failed[0].Items, func(o audit.Offender) bool { return strings.Contains(o.ID, ids.Replace(c.names)) }) {
		t.Errorf("named: %v; want %s", failed[0].Items, ids.Replace(c.names))
	}
}

func (c corruption) apply(t *testing.T, dir string, ids *strings.Replacer) {
	t.Helper()
	if c.store != "" {
		execute(t, "sqlite", filepath.Join(dir, c.store+".db"), ids.Replace(c.sql))
		return
	}
	file := filepath.Join(dir, c.ledger, "ledger.ndjson")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for line := range strings.Lines(string(b)) {
		if c.without == "" || !strings.Contains(line, ids.Replace(c.without)) {
			kept = append(kept, line)
		}
	}
	if c.line != "" {
		kept = append(kept, ids.Replace(c.line)+"\n")
	}
	if err := os.WriteFile(file, []byte(strings.Join(kept, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func execute(t *testing.T, driver, where, statement string) {
	t.Helper()
	db, err := sql.Open(driver, where)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}
