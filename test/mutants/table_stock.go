package main

const (
	inventoryFile = "svc/inventory/consumer.go"
	itemsFile     = "svc/inventory/store.go"
	itemsSQL      = "svc/inventory/migrations/01000_inventory.sql"
)

// stock are mutants of the inventory service.
func stock() []Mutant {
	return []Mutant{
		{Name: "oversold", Proves: "I7", Breaks: "stock is reserved that is not there, and the store's own guard is gone",
			Edits: []Edit{
				{inventoryFile, "item.OnHand-item.Reserved < n {", "n < 0 && item.OnHand < n {"},
				{itemsSQL, "    updated_at BIGINT NOT NULL,\n    CHECK (reserved >= 0 AND reserved <= on_hand)\n", "    updated_at BIGINT NOT NULL\n"},
			},
			Check: scenarioOn("sqlite", "hot_SKU", "violated: I7")},
		{Name: "reserved-without-looking", Proves: "I10", Breaks: "stock is reserved without looking, and only the store's guard refuses",
			Edits: edit(inventoryFile, "item.OnHand-item.Reserved < n {", "n < 0 && item.OnHand < n {"),
			Check: scenarioOn("sqlite", "one_of_two_lines_is_short", "wanted [rejected]")},
		{Name: "lines-not-summed", Proves: "I7", Breaks: "two lines of one item are compared with the stock one by one",
			Edits: edit(inventoryFile, "		need[l.SKU] += l.Quantity\n", "		need[l.SKU] = l.Quantity\n"),
			Check: scenarioOn("sqlite", "two_lines_of_one_item_are_short", "wanted [rejected]")},
		{Name: "lost-update-of-stock", Proves: "I7", Breaks: "two who change an item at once overwrite one another",
			Edits: []Edit{
				{itemsFile, "	if lock {\n", "	if lock && len(skus) < 0 {\n"},
				{itemsFile, "\n		updated_at = excluded.updated_at WHERE items.version = excluded.version - 1`", "\n		updated_at = excluded.updated_at`"},
			},
			Check: e2e("^TestStockAtOnce$/^postgres$", "violated: I7")},
		{Name: "released-twice", Proves: "I8", Breaks: "stock that was released is released again, and it is another order's",
			Edits: edit(inventoryFile, "	if r.Status != shop.StockReserved {\n		return nil\n	}\n	b.move(r, \"release\", 0, -1)\n", "	b.move(r, \"release\", 0, -1)\n"),
			Check: scenarioOn("sqlite", "void_fails_for_ever", "violated: I8")},
		{Name: "never-released", Proves: "I8", Breaks: "an order that has ended keeps its stock",
			Edits: edit(inventoryFile, "	b.move(r, \"release\", 0, -1)\n", ""),
			Check: scenario("tok_declined_10115", "violated: I8")},
		{Name: "no-movement", Proves: "I7", Breaks: "stock leaves the shelf that was not taken off it",
			Edits: edit(inventoryFile, "	b.move(r, \"ship\", -1, -1)\n", "	b.move(r, \"ship\", 0, -1)\n"),
			Check: scenario("tok_ok_10115", "violated: I7")},
		{Name: "expiry-by-own-clock", Proves: "I10", Breaks: "reservations expire by the process's clock and not by the database's",
			Edits: edit("svc/inventory/expiry.go", "		now, err := tx.Now(ctx)\n		if err != nil {\n			return err\n		}\n		ids, err = expired(ctx, tx, now, sweepBatch)\n		return err\n",
				"		var err error\n		ids, err = expired(ctx, tx, s.deps.Clock.Now(), sweepBatch)\n		return err\n"),
			Check: e2e("^TestWrongClock$", "reservation_expired")},
		{Name: "expiry-without-asking", Proves: "I6", Breaks: "a reservation that has run out is released without the order's word",
			Edits: edit("svc/inventory/expiry.go", "	case gone:\n", "	case gone || !kept:\n"),
			Check: unit("svc/inventory", "^TestExpiry$", "")},
		{Name: "no-tombstone-of-stock", Proves: "I8", Breaks: "a release that comes before its reservation leaves nothing to stop that",
			Edits: edit(inventoryFile, "		r.Status = shop.StockReleased\n		return b.emit(r, e, nil)\n", "		r.Status = shop.StockReleased\n		err := b.emit(r, e, nil)\n		delete(b.reservations, e.OrderID)\n		return err\n"),
			Check: unit("svc/inventory", "^TestLateReserve$", "")},
	}
}
