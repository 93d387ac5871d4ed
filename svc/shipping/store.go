package shipping

import (
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
		args := make([]any, len(chunk))
		for i, id := range chunk {
			args[i] = string(id)
		}
		rows, err := tx.Query(ctx, `SELECT `+shipmentColumns+` FROM shipments WHERE order_id IN `+sqldb.In(len(chunk))+` ORDER BY order_id`+lock, args...)
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
	for chunk := range slices.Chunk(shs, 50) {
		args := make([]any, 0, 15*len(chunk))
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
		n, err := tx.Exec(ctx, `INSERT INTO shipments (`+shipmentColumns+`) VALUES `+sqldb.Rows(len(chunk), 15)+`
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

// insertWebhook records a message; one that came before changes nothing.
func insertWebhook(ctx context.Context, tx *sqldb.Tx, w shop.Webhook, id shop.OrderID) error {
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO webhooks (id, order_id, kind, at) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		w.ID, string(id), w.Type, sqldb.Micros(now))
	return err
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
