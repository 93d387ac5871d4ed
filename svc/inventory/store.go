package inventory

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"time"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

const itemColumns = `sku, name, unit_price, currency, on_hand, reserved, version`

func scanItems(rows *sql.Rows) ([]shop.Item, error) {
	defer rows.Close()
	items := []shop.Item{}
	for rows.Next() {
		var i shop.Item
		if err := rows.Scan(&i.SKU, &i.Name, &i.UnitPrice, &i.Currency, &i.OnHand, &i.Reserved, &i.Version); err != nil {
			return nil, err
		}
		i.Available = i.OnHand - i.Reserved
		items = append(items, i)
	}
	return items, rows.Err()
}

// itemsBySKU returns the items that exist. With lock they are locked in the order of their SKUs, so
// that concurrent carts cannot deadlock.
func itemsBySKU(ctx context.Context, tx *sqldb.Tx, skus []shop.SKU, lock bool) (map[shop.SKU]shop.Item, error) {
	skus = slices.Clone(skus)
	slices.Sort(skus)
	skus = slices.Compact(skus)
	found := make(map[shop.SKU]shop.Item, len(skus))
	suffix := ""
	if lock {
		suffix = " FOR UPDATE"
	}
	for chunk := range slices.Chunk(skus, 500) {
		where, args := sqldb.Among(tx, "sku", chunk)
		rows, err := tx.Query(ctx, `SELECT `+itemColumns+` FROM items WHERE `+where+` ORDER BY sku`+suffix, args...)
		if err != nil {
			return nil, err
		}
		items, err := scanItems(rows)
		if err != nil {
			return nil, err
		}
		for _, i := range items {
			found[i.SKU] = i
		}
	}
	return found, nil
}

func itemsAfter(ctx context.Context, tx *sqldb.Tx, after shop.SKU, limit int) ([]shop.Item, error) {
	rows, err := tx.Query(ctx, `SELECT `+itemColumns+` FROM items WHERE sku > ? ORDER BY sku LIMIT ?`, string(after), limit)
	if err != nil {
		return nil, err
	}
	return scanItems(rows)
}

func upsertItem(ctx context.Context, tx *sqldb.Tx, i shop.Item) error {
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	n, err := tx.Exec(ctx, `INSERT INTO items (sku, name, unit_price, currency, on_hand, reserved, version, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sku) DO UPDATE SET name = excluded.name, unit_price = excluded.unit_price,
		currency = excluded.currency, on_hand = excluded.on_hand, reserved = excluded.reserved, version = excluded.version,
		updated_at = excluded.updated_at WHERE items.version = excluded.version - 1`,
		string(i.SKU), i.Name, int64(i.UnitPrice), string(i.Currency), i.OnHand, i.Reserved, i.Version, sqldb.Micros(now))
	if err == nil && n == 0 {
		err = shop.Wrap(shop.Unavailable, "inventory.upsertItem", "the item changed at the same time; try again", errStale)
	}
	return err
}

// movement is one entry of the stock's ledger.
type movement struct {
	sku       shop.SKU
	kind      string
	onHand    int64
	reserved  int64
	orderID   shop.OrderID
	reference string
}

func insertMovements(ctx context.Context, tx *sqldb.Tx, ms []movement) error {
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	const columns = 7
	for from, to := range tx.Pieces(len(ms)) {
		args := make([]any, 0, columns*(to-from))
		for _, m := range ms[from:to] {
			args = append(args, string(m.sku), sqldb.Micros(now), m.kind, m.onHand, m.reserved, string(m.orderID), m.reference)
		}
		values, args := tx.Values(columns, args)
		if _, err := tx.Exec(ctx, `INSERT INTO movements (sku, at, kind, on_hand_delta, reserved_delta, order_id, reference) `+values, args...); err != nil {
			return err
		}
	}
	return nil
}

// reservation is a row of reservations.
type reservation struct {
	shop.Reservation
	kept    bool
	version int64
	rev     int64
	dirty   bool
}

// reservationsOf locks and returns the reservations that exist.
func reservationsOf(ctx context.Context, tx *sqldb.Tx, ids []shop.OrderID) (map[shop.OrderID]*reservation, error) {
	found := make(map[shop.OrderID]*reservation, len(ids))
	ids = slices.Clone(ids)
	slices.Sort(ids)
	for chunk := range slices.Chunk(slices.Compact(ids), 500) {
		where, args := sqldb.Among(tx, "order_id", chunk)
		rows, err := tx.Query(ctx, `SELECT order_id, id, status, reason, lines, expires_at, kept, version, rev
			FROM reservations WHERE `+where+` ORDER BY order_id FOR UPDATE`, args...)
		if err != nil {
			return nil, err
		}
		if err := scanReservations(rows, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func scanReservations(rows *sql.Rows, into map[shop.OrderID]*reservation) error {
	defer rows.Close()
	for rows.Next() {
		var r reservation
		var lines string
		var expires, kept int64
		if err := rows.Scan(&r.OrderID, &r.ID, &r.Status, &r.Reason, &lines, &expires, &kept, &r.version, &r.rev); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(lines), &r.Lines); err != nil {
			return err
		}
		r.ExpiresAt, r.kept = sqldb.FromMicros(expires), kept == 1
		into[r.OrderID] = &r
	}
	return rows.Err()
}

// saveReservations writes new and changed rows; a row that another transaction changed meanwhile
// fails the whole.
func saveReservations(ctx context.Context, tx *sqldb.Tx, rs []*reservation) error {
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	const columns = 10
	for from, to := range tx.Pieces(len(rs)) {
		chunk := rs[from:to]
		args := make([]any, 0, columns*len(chunk))
		for _, r := range chunk {
			lines, err := json.Marshal(r.Lines)
			if err != nil {
				return err
			}
			kept := 0
			if r.kept {
				kept = 1
			}
			args = append(args, string(r.OrderID), string(r.ID), string(r.Status), string(r.Reason), string(lines),
				sqldb.Micros(r.ExpiresAt), kept, r.version, r.rev+1, sqldb.Micros(now))
		}
		values, args := tx.Values(columns, args)
		n, err := tx.Exec(ctx, `INSERT INTO reservations (order_id, id, status, reason, lines, expires_at, kept, version, rev, updated_at)
			`+values+` ON CONFLICT (order_id) DO UPDATE SET status = excluded.status,
			reason = excluded.reason, lines = excluded.lines, expires_at = excluded.expires_at, kept = excluded.kept,
			version = excluded.version, rev = excluded.rev, updated_at = excluded.updated_at
			WHERE reservations.rev = excluded.rev - 1`, args...)
		if err != nil {
			return err
		}
		if n != int64(len(chunk)) {
			return shop.Wrap(shop.Unavailable, "inventory.saveReservations", "a reservation changed at the same time; try again", errStale)
		}
	}
	return nil
}

// expired returns the oldest reservations that ran out.
func expired(ctx context.Context, tx *sqldb.Tx, now time.Time, limit int) ([]shop.OrderID, error) {
	rows, err := tx.Query(ctx, `SELECT order_id FROM reservations WHERE status = 'reserved' AND kept = 0 AND expires_at < ?
		ORDER BY expires_at LIMIT ?`, sqldb.Micros(now), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []shop.OrderID
	for rows.Next() {
		var id shop.OrderID
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
