package order

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"time"

	jsonv2 "github.com/go-json-experiment/json" // reads several times faster

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// errStale is a row that another transaction changed since it was read.
var errStale = errors.New("stale row")

const (
	noLock    = ""
	forUpdate = " FOR UPDATE"
)

// rowsOf returns the orders that exist, locked in the order of their ids if lock says so.
func rowsOf(ctx context.Context, tx *sqldb.Tx, ids []shop.OrderID, lock string) (map[shop.OrderID]*row, error) {
	found := make(map[shop.OrderID]*row, len(ids))
	ids = slices.Clone(ids)
	slices.Sort(ids)
	for chunk := range slices.Chunk(slices.Compact(ids), 500) {
		where, args := sqldb.Among(tx, "order_id", chunk)
		rows, err := tx.Query(ctx, `SELECT caller, rev, deadline, doc FROM orders WHERE `+where+` ORDER BY order_id`+lock, args...)
		if err != nil {
			return nil, err
		}
		list, err := scanRows(rows)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			found[r.Order.ID] = r
		}
	}
	return found, nil
}

func scanRows(rows *sql.Rows) ([]*row, error) {
	defer rows.Close()
	var list []*row
	for rows.Next() {
		var r row
		var doc []byte
		var look int64
		if err := rows.Scan(&r.caller, &r.rev, &look, &doc); err != nil {
			return nil, err
		}
		r.look = sqldb.FromMicros(look)
		if err := jsonv2.Unmarshal(doc, &r.state); err != nil {
			return nil, err
		}
		list = append(list, &r)
	}
	return list, rows.Err()
}

// saveRows writes new and changed rows; a row that another transaction changed meanwhile fails the
// whole.
func saveRows(ctx context.Context, tx *sqldb.Tx, cfg Config, list []*row) error {
	const columns = 9
	for from, to := range tx.Pieces(len(list)) {
		chunk := list[from:to]
		args := make([]any, 0, columns*len(chunk))
		for _, r := range chunk {
			doc, err := json.Marshal(&r.state)
			if err != nil {
				return err
			}
			o := &r.Order
			args = append(args, string(o.ID), string(r.caller), o.CustomerID, o.ExternalID, string(o.Status), r.needsOperator(),
				sqldb.Micros(r.lookAt(cfg)), r.rev+1, string(doc))
		}
		values, args := tx.Values(columns, args)
		n, err := tx.Exec(ctx, `INSERT INTO orders (order_id, caller, customer_id, external_id, status, stuck, deadline, rev, doc)
			`+values+` ON CONFLICT (order_id) DO UPDATE SET status = excluded.status,
			stuck = excluded.stuck, deadline = excluded.deadline, rev = excluded.rev, doc = excluded.doc
			WHERE orders.rev = excluded.rev - 1`, args...)
		if err != nil {
			return err
		}
		if n != int64(len(chunk)) {
			return shop.Wrap(shop.Unavailable, "order.saveRows", "the order changed at the same time; try again", errStale)
		}
	}
	return nil
}

// lookAt is when the watchdog looks at the order: at its deadline or when it has put it off to, or earlier where that
// spares moving the row in the index. What it finds too early it puts back.
func (r *row) lookAt(cfg Config) time.Time {
	at := r.deadline(cfg)
	switch {
	case at.IsZero():
		return at
	case r.later.After(at):
		return r.later
	case !r.look.IsZero() && r.look.Before(at):
		return r.look
	default:
		return at
	}
}

// needsOperator is 1 for an order that waits for an operator or does not move.
func (r *row) needsOperator() int {
	if r.parked() || r.Stuck || r.Drives > 0 && !r.Order.Status.Final() {
		return 1
	}
	return 0
}

func insertEntries(ctx context.Context, tx *sqldb.Tx, entries []entry) error {
	const columns = 6
	for from, to := range tx.Pieces(len(entries)) {
		args := make([]any, 0, columns*(to-from))
		for _, e := range entries[from:to] {
			args = append(args, string(e.order), sqldb.Micros(e.At), e.Service, e.What, e.Detail, e.TraceID)
		}
		values, args := tx.Values(columns, args)
		if _, err := tx.Exec(ctx, `INSERT INTO timeline (order_id, at, service, what, detail, trace_id) `+values, args...); err != nil {
			return err
		}
	}
	return nil
}

func entriesOf(ctx context.Context, tx *sqldb.Tx, id shop.OrderID) ([]shop.TimelineItem, error) {
	rows, err := tx.Query(ctx, `SELECT at, service, what, detail, trace_id FROM timeline WHERE order_id = ? ORDER BY pos`, string(id))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	items := []shop.TimelineItem{}
	for rows.Next() {
		i := shop.TimelineItem{Kind: "event"}
		var at int64
		if err := rows.Scan(&at, &i.Service, &i.What, &i.Detail, &i.TraceID); err != nil {
			return nil, err
		}
		i.At = sqldb.FromMicros(at)
		items = append(items, i)
	}
	return items, rows.Err()
}

// page returns a caller's orders before the given id, newest first. An empty before begins.
func page(ctx context.Context, tx *sqldb.Tx, caller shop.Caller, q shop.OrderQuery, before shop.OrderID) ([]*row, error) {
	where, args := `caller = ?`, []any{string(caller)}
	add := func(clause string, values ...any) {
		where += ` AND ` + clause
		args = append(args, values...)
	}
	if q.CustomerID != "" {
		add(`customer_id = ?`, q.CustomerID)
	}
	if q.Status != "" {
		add(`status = ?`, string(q.Status))
	}
	if before != "" {
		add(`order_id < ?`, string(before))
	}
	selectFrom := `SELECT order_id, caller, rev, deadline, doc FROM orders WHERE ` + where
	tail := ` ORDER BY order_id DESC LIMIT ?`
	query := selectFrom + tail
	if q.Text != "" {
		// A branch each, so that each is looked up in its own index; external_id <> '' is that index's condition.
		query, selectFrom = ``, `SELECT * FROM (`+selectFrom
		base := args
		args = nil
		for i, clause := range []string{`order_id = ?`, `external_id = ? AND external_id <> ''`, `customer_id = ?`} {
			if i > 0 {
				query += ` UNION `
			}
			query += selectFrom + ` AND ` + clause + tail + `) AS b` + string(rune('0'+i))
			args = append(append(args, base...), q.Text, q.Limit+1)
		}
		query += tail
	}
	rows, err := tx.Query(ctx, `SELECT caller, rev, deadline, doc FROM (`+query+`) AS found ORDER BY order_id DESC`, append(args, q.Limit+1)...)
	if err != nil {
		return nil, err
	}
	return scanRows(rows)
}

// due returns the orders whose deadline has passed, the longest waiting first.
func due(ctx context.Context, tx *sqldb.Tx, now time.Time, limit int) ([]shop.OrderID, error) {
	rows, err := tx.Query(ctx, `SELECT order_id FROM orders WHERE deadline > 0 AND deadline <= ? ORDER BY deadline LIMIT ?`, sqldb.Micros(now), limit)
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

func stuckRows(ctx context.Context, tx *sqldb.Tx, limit int) ([]*row, error) {
	rows, err := tx.Query(ctx, `SELECT caller, rev, deadline, doc FROM orders WHERE stuck = 1 ORDER BY order_id LIMIT ?`, limit)
	if err != nil {
		return nil, err
	}
	return scanRows(rows)
}
