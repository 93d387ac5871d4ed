package audit

import (
	"context"
	"database/sql"
	"fmt"
)

// sums are those of an item's movements.
type sums struct{ onHand, reserved int64 }

// items compares the stock with its ledger, in the snapshot that the ledger was read to the end of.
func (a *auditor) items(ctx context.Context, v *view) error {
	a.itemsBad, a.itemsSeen = nil, 0
	seen := map[string]bool{}
	bad := func(sku, format string, args ...any) {
		a.itemsBad = append(a.itemsBad, finding{inv: "I7", id: sku, detail: fmt.Sprintf(format, args...)})
	}
	err := v.query(ctx, `SELECT sku, on_hand, reserved FROM items`, nil, func(rows *sql.Rows) error {
		var sku string
		var onHand, reserved int64
		if err := rows.Scan(&sku, &onHand, &reserved); err != nil {
			return err
		}
		a.itemsSeen++
		seen[sku] = true
		sum := a.stock[sku]
		switch {
		case reserved < 0 || reserved > onHand:
			bad(sku, "%d reserved of %d", reserved, onHand)
		case sum.onHand != onHand || sum.reserved != reserved:
			bad(sku, "%d on hand and %d reserved, and its movements make %d and %d", onHand, reserved, sum.onHand, sum.reserved)
		}
		return nil
	})
	for sku, sum := range a.stock {
		if !seen[sku] && sum != (sums{}) {
			bad(sku, "is no item, and has movements of %d pieces", sum.onHand)
		}
	}
	return err
}
