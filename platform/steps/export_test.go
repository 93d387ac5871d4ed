package steps

import (
	"context"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// Together begins undos in one transaction, as those that are asked for at the same time are.
func (s *Steps[B, R]) Together(ctx context.Context, tx *sqldb.Tx, begin func(B, shop.OrderID) error, of func(*R, bool) shop.StepOutcome, ids ...shop.OrderID) ([]Answer, error) {
	var asks []ask[B, R]
	for _, id := range ids {
		asks = append(asks, ask[B, R]{id: id, begin: func(b B) error { return begin(b, id) }, of: of, undo: true})
	}
	return s.beginAll(ctx, tx, asks)
}
