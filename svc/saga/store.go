package saga

import (
	"context"
	"encoding/json"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// saveBriefs keeps what the steps need to know of orders. Every event of an order has the same.
func saveBriefs(ctx context.Context, tx *sqldb.Tx, briefs []*shop.Brief) error {
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	const columns = 3
	var args []any
	for _, b := range briefs {
		doc, err := json.Marshal(b)
		if err != nil {
			return err
		}
		args = append(args, string(b.OrderID), sqldb.Micros(now), string(doc))
	}
	for from, to := range tx.Pieces(len(briefs)) {
		values, bound := tx.Values(columns, args[columns*from:columns*to])
		if _, err := tx.Exec(ctx, `INSERT INTO briefs (order_id, at, doc) `+values+` ON CONFLICT (order_id) DO NOTHING`, bound...); err != nil {
			return err
		}
	}
	return nil
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
func (s *Service) brief(ctx context.Context, id shop.OrderID) (shop.Brief, error) {
	b, err := s.briefs.Do(ctx, id)
	switch {
	case err != nil:
		return shop.Brief{}, err
	case b == nil:
		return shop.Brief{}, shop.E(shop.NotFound, "saga.brief", "nothing is kept of this order: it has ended")
	default:
		return *b, nil
	}
}

// briefsOf returns what is kept of each order; nil of one that has ended.
func briefsOf(ctx context.Context, tx *sqldb.Tx, ids []shop.OrderID) ([]*shop.Brief, error) {
	where, args := sqldb.Among(tx, "order_id", ids)
	rows, err := tx.Query(ctx, `SELECT order_id, doc FROM briefs WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := map[shop.OrderID]*shop.Brief{}
	for rows.Next() {
		var id shop.OrderID
		var doc string
		if err := rows.Scan(&id, &doc); err != nil {
			return nil, err
		}
		b := new(shop.Brief)
		if err := json.Unmarshal([]byte(doc), b); err != nil {
			return nil, err
		}
		found[id] = b
	}
	briefs := make([]*shop.Brief, len(ids))
	for i, id := range ids {
		briefs[i] = found[id]
	}
	return briefs, rows.Err()
}
