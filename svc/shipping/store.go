package shipping

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"slices"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// The states of a row that shop.ShipmentStatus lacks are steps under way.
const (
	scheduling = shop.ShipmentStatus("scheduling")
	cancelling = shop.ShipmentStatus("cancelling")
)

// shipment is a row of shipments.
type shipment struct {
	shop.Shipment // Status is the row's state
	caller        shop.Caller
	saga          shop.SagaStyle // empty on rows of before it was kept: choreographed
	undo          bool
	version       int64
	rev           int64
	dirty         bool
}

const (
	shipmentColumns = `order_id, id, caller, state, reason, reference, tracking, lines, saga, undo, version, rev, dispatched_at, created_at, updated_at`

	forUpdate = " FOR UPDATE"
	noLock    = ""
)

// shipmentsOf returns the shipments that exist, locked if the transaction can write.
func shipmentsOf(ctx context.Context, tx *sqldb.Tx, ids []shop.OrderID, lock string) (map[shop.OrderID]*shipment, error) {
	found := make(map[shop.OrderID]*shipment, len(ids))
	ids = slices.Clone(ids)
	slices.Sort(ids)
	for chunk := range slices.Chunk(slices.Compact(ids), 500) {
		where, args := sqldb.Among(tx, "order_id", chunk)
		rows, err := tx.Query(ctx, `SELECT `+shipmentColumns+` FROM shipments WHERE `+where+` ORDER BY order_id`+lock, args...)
		if err != nil {
			return nil, err
		}
		if err := scanShipments(rows, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func scanShipments(rows *sql.Rows, into map[shop.OrderID]*shipment) error {
	defer rows.Close()
	for rows.Next() {
		var sh shipment
		var lines string
		var undo, dispatched, created, updated int64
		if err := rows.Scan(&sh.OrderID, &sh.ID, &sh.caller, &sh.Status, &sh.Reason, &sh.Reference, &sh.Tracking, &lines,
			&sh.saga, &undo, &sh.version, &sh.rev, &dispatched, &created, &updated); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(lines), &sh.Lines); err != nil {
			return err
		}
		sh.undo, sh.DispatchedAt = undo == 1, sqldb.FromMicros(dispatched)
		sh.CreatedAt, sh.UpdatedAt = sqldb.FromMicros(created), sqldb.FromMicros(updated)
		into[sh.OrderID] = &sh
	}
	return rows.Err()
}

// saveShipments writes new and changed rows; a row that another transaction changed meanwhile fails
// the whole.
func saveShipments(ctx context.Context, tx *sqldb.Tx, shs []*shipment) error {
	const columns = 15
	for from, to := range tx.Pieces(len(shs)) {
		chunk := shs[from:to]
		args := make([]any, 0, columns*len(chunk))
		for _, sh := range chunk {
			lines, err := json.Marshal(sh.Lines)
			if err != nil {
				return err
			}
			undo := 0
			if sh.undo {
				undo = 1
			}
			args = append(args, string(sh.OrderID), string(sh.ID), string(sh.caller), string(sh.Status), string(sh.Reason), sh.Reference,
				sh.Tracking, string(lines), string(sh.saga), undo, sh.version, sh.rev+1, sqldb.Micros(sh.DispatchedAt), sqldb.Micros(sh.CreatedAt), sqldb.Micros(sh.UpdatedAt))
		}
		values, args := tx.Values(columns, args)
		n, err := tx.Exec(ctx, `INSERT INTO shipments (`+shipmentColumns+`) `+values+`
			ON CONFLICT (order_id) DO UPDATE SET state = excluded.state, reason = excluded.reason, reference = excluded.reference,
			tracking = excluded.tracking, undo = excluded.undo, version = excluded.version, rev = excluded.rev,
			dispatched_at = excluded.dispatched_at, updated_at = excluded.updated_at WHERE shipments.rev = excluded.rev - 1`, args...)
		if err != nil {
			return err
		}
		if n != int64(len(chunk)) {
			return shop.E(shop.Unavailable, "shipping.saveShipments", "a shipment changed at the same time; try again")
		}
	}
	return nil
}

// insertWebhooks records messages; one that came before changes nothing.
func insertWebhooks(ctx context.Context, tx *sqldb.Tx, dispatches []dispatch) error {
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	// In one order, since a message that comes to two processes is waited for.
	dispatches = slices.SortedFunc(slices.Values(dispatches), func(a, b dispatch) int { return cmp.Compare(a.message.ID, b.message.ID) })
	const columns = 4
	for from, to := range tx.Pieces(len(dispatches)) {
		args := make([]any, 0, columns*(to-from))
		for _, d := range dispatches[from:to] {
			args = append(args, d.message.ID, string(d.order), d.message.Type, sqldb.Micros(now))
		}
		values, args := tx.Values(columns, args)
		if _, err := tx.Exec(ctx, `INSERT INTO webhooks (id, order_id, kind, at) `+values+` ON CONFLICT (id) DO NOTHING`, args...); err != nil {
			return err
		}
	}
	return nil
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
