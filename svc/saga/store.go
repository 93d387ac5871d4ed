package saga

import (
	"context"
	"encoding/json"
	"errors"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// saveBrief keeps what the steps need to know of an order. Every event of an order has the same.
func saveBrief(ctx context.Context, tx *sqldb.Tx, b *shop.Brief) error {
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	doc, err := json.Marshal(b)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO briefs (order_id, at, doc) VALUES (?, ?, ?) ON CONFLICT (order_id) DO NOTHING`,
		string(b.OrderID), sqldb.Micros(now), string(doc))
	return err
}

// dropBriefs forgets orders.
func dropBriefs(ctx context.Context, tx *sqldb.Tx, ids []shop.OrderID) error {
	if len(ids) == 0 {
		return nil
	}
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = string(id)
	}
	_, err := tx.Exec(ctx, `DELETE FROM briefs WHERE order_id IN `+sqldb.In(len(ids)), args...)
	return err
}

// brief returns what the steps need to know of an order; NotFound for one that has ended.
func (s *Service) brief(ctx context.Context, id shop.OrderID) (b shop.Brief, err error) {
	err = s.db.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var doc string
		err := tx.QueryRow(ctx, `SELECT doc FROM briefs WHERE order_id = ?`, string(id)).Scan(&doc)
		if errors.Is(err, sqldb.ErrNoRows) {
			return shop.E(shop.NotFound, "saga.brief", "nothing is kept of this order: it has ended")
		}
		if err != nil {
			return err
		}
		return json.Unmarshal([]byte(doc), &b)
	})
	return b, err
}
