package payment

import (
	"context"
	"database/sql"
	"slices"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// The states of a row. Those that shop.PaymentStatus lacks are steps under way.
const (
	authorising = shop.PaymentStatus("authorising")
	capturing   = shop.PaymentStatus("capturing")
	voiding     = shop.PaymentStatus("voiding")
	refunding   = shop.PaymentStatus("refunding")
)

// payment is a row of payments.
type payment struct {
	shop.Payment // Status is the row's state
	caller       shop.Caller
	saga         shop.SagaStyle // empty on rows of before it was kept: choreographed
	undo         bool
	version      int64
	rev          int64
	dirty        bool
}

const paymentColumns = `order_id, id, caller, state, reason, decline_code, currency, amount, authorised, captured, refunded,
	reference, hold_until, at_once, saga, undo, version, rev, created_at, updated_at`

// paymentsOf returns the payments that exist, locked if the transaction can write.
func paymentsOf(ctx context.Context, tx *sqldb.Tx, ids []shop.OrderID, lock string) (map[shop.OrderID]*payment, error) {
	found := make(map[shop.OrderID]*payment, len(ids))
	ids = slices.Clone(ids)
	slices.Sort(ids)
	for chunk := range slices.Chunk(slices.Compact(ids), 500) {
		where, args := sqldb.Among(tx, "order_id", chunk)
		rows, err := tx.Query(ctx, `SELECT `+paymentColumns+` FROM payments WHERE `+where+` ORDER BY order_id`+lock, args...)
		if err != nil {
			return nil, err
		}
		if err := scanPayments(rows, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

const (
	forUpdate = " FOR UPDATE"
	noLock    = ""
)

func scanPayments(rows *sql.Rows, into map[shop.OrderID]*payment) error {
	defer rows.Close()
	for rows.Next() {
		var p payment
		var hold, atOnce, undo, created, updated int64
		if err := rows.Scan(&p.OrderID, &p.ID, &p.caller, &p.Status, &p.Reason, &p.DeclineCode, &p.Currency, &p.Amount,
			&p.Authorised, &p.Captured, &p.Refunded, &p.Reference, &hold, &atOnce, &p.saga, &undo, &p.version, &p.rev, &created, &updated); err != nil {
			return err
		}
		p.HoldExpiresAt, p.CaptureAtOnce, p.undo = sqldb.FromMicros(hold), atOnce == 1, undo == 1
		p.CreatedAt, p.UpdatedAt = sqldb.FromMicros(created), sqldb.FromMicros(updated)
		into[p.OrderID] = &p
	}
	return rows.Err()
}

// savePayments writes new and changed rows; a row that another transaction changed meanwhile fails
// the whole.
func savePayments(ctx context.Context, tx *sqldb.Tx, ps []*payment) error {
	const columns = 20
	for from, to := range tx.Pieces(len(ps)) {
		chunk := ps[from:to]
		args := make([]any, 0, columns*len(chunk))
		for _, p := range chunk {
			args = append(args, string(p.OrderID), string(p.ID), string(p.caller), string(p.Status), string(p.Reason), p.DeclineCode,
				string(p.Currency), int64(p.Amount), int64(p.Authorised), int64(p.Captured), int64(p.Refunded), p.Reference,
				sqldb.Micros(p.HoldExpiresAt), bit(p.CaptureAtOnce), string(p.saga), bit(p.undo), p.version, p.rev+1,
				sqldb.Micros(p.CreatedAt), sqldb.Micros(p.UpdatedAt))
		}
		values, args := tx.Values(columns, args)
		n, err := tx.Exec(ctx, `INSERT INTO payments (`+paymentColumns+`) `+values+`
			ON CONFLICT (order_id) DO UPDATE SET state = excluded.state, reason = excluded.reason, decline_code = excluded.decline_code,
			authorised = excluded.authorised, captured = excluded.captured, refunded = excluded.refunded, reference = excluded.reference,
			hold_until = excluded.hold_until, undo = excluded.undo, version = excluded.version, rev = excluded.rev,
			updated_at = excluded.updated_at WHERE payments.rev = excluded.rev - 1`, args...)
		if err != nil {
			return err
		}
		if n != int64(len(chunk)) {
			return shop.E(shop.Unavailable, "payment.savePayments", "a payment changed at the same time; try again")
		}
	}
	return nil
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// entry is one side of a booking.
type entry struct {
	txn      string
	orderID  shop.OrderID
	account  string
	amount   shop.Amount
	currency shop.Currency
}

func insertEntries(ctx context.Context, tx *sqldb.Tx, entries []entry) error {
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	const columns = 6
	for from, to := range tx.Pieces(len(entries)) {
		args := make([]any, 0, columns*(to-from))
		for _, e := range entries[from:to] {
			args = append(args, sqldb.Micros(now), e.txn, string(e.orderID), e.account, int64(e.amount), string(e.currency))
		}
		values, args := tx.Values(columns, args)
		if _, err := tx.Exec(ctx, `INSERT INTO ledger (at, txn, order_id, account, amount, currency) `+values, args...); err != nil {
			return err
		}
	}
	return nil
}

func entriesOf(ctx context.Context, tx *sqldb.Tx, id shop.OrderID) ([]shop.LedgerEntry, error) {
	rows, err := tx.Query(ctx, `SELECT at, txn, account, amount, currency FROM ledger WHERE order_id = ? ORDER BY pos`, string(id))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	entries := []shop.LedgerEntry{}
	for rows.Next() {
		var e shop.LedgerEntry
		var at int64
		if err := rows.Scan(&at, &e.Transaction, &e.Account, &e.Amount, &e.Currency); err != nil {
			return nil, err
		}
		e.At = sqldb.FromMicros(at)
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

// insertWebhook records a message and tells whether it is new.
func insertWebhook(ctx context.Context, tx *sqldb.Tx, w shop.Webhook, id shop.OrderID) (bool, error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return false, err
	}
	n, err := tx.Exec(ctx, `INSERT INTO webhooks (id, order_id, kind, at) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		w.ID, string(id), w.Type, sqldb.Micros(now))
	return n == 1, err
}

func webhooksOf(ctx context.Context, tx *sqldb.Tx, id shop.OrderID) ([]shop.TimelineItem, error) {
	rows, err := tx.Query(ctx, `SELECT at, kind FROM webhooks WHERE order_id = ? ORDER BY at`, string(id))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var items []shop.TimelineItem
	for rows.Next() {
		item := shop.TimelineItem{Kind: "webhook", Service: Name}
		var at int64
		if err := rows.Scan(&at, &item.What); err != nil {
			return nil, err
		}
		item.At = sqldb.FromMicros(at)
		items = append(items, item)
	}
	return items, rows.Err()
}
