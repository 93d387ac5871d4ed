package main

const commandsFile = "svc/order/commands.go"

// orders are mutants of the order service.
func orders() []Mutant {
	return []Mutant{
		{Name: "version-ignored", Proves: "I12", Breaks: "an older event overwrites what a newer one said",
			Edits: edit("svc/order/fold.go", "	if e.Version <= *seen {\n", "	if e.Version <= 0 {\n"),
			Check: unit("svc/order", "^TestFoldAnyOrder$", "")},
		{Name: "cancel-after-dispatch", Proves: "I16", Breaks: "a cancel is accepted when the parcel has been handed over",
			Edits: edit(commandsFile, "			case r.DispatchBegun || r.Order.Status == shop.Fulfilled:\n", "			case r.Order.Status == shop.Fulfilled:\n"),
			Check: scenarioOn("sqlite", "cancel_at_any_time", "wanted [cancelled]")},
		{Name: "dispatch-of-cancelled", Proves: "I9, I16", Breaks: "a parcel may leave although its order is being undone",
			Edits: edit(commandsFile, "	case r.Undo != \"\" || r.Order.Status.Final():\n		return shop.E(shop.Conflict", "	case r.Order.Status.Final():\n		return shop.E(shop.Conflict"),
			Check: unit("svc/order", "^TestCancelMeetsDispatch$", "")},
		{Name: "lost-update-of-order", Proves: "I12", Breaks: "two who change an order at once overwrite one another",
			Edits: []Edit{
				{"svc/order/store.go", "\n			WHERE orders.rev = excluded.rev - 1`", "`"},
				{"svc/order/store.go", "	forUpdate = \" FOR UPDATE\"\n", "	forUpdate = \"\"\n"},
			},
			Check: scenarioOn("postgres", "cancel_at_any_time", "")},
		{Name: "no-watchdog", Proves: "I10", Breaks: "an order that does not move is never driven again",
			Edits: edit("svc/order/watchdog.go", "	return b.redrive(r, \"\")\n", "	return nil\n"),
			Check: unit("svc/order", "^TestWatchdog$", "")},
		{Name: "driven-without-bus", Proves: "I10", Breaks: "orders are driven again while what was said of them waits for the bus: what waits feeds itself",
			Edits: edit("svc/order/watchdog.go", "b.s.outbox.Taking(); wait > 0 {", "b.s.outbox.Taking(); wait > b.s.cfg.RedriveAfter {"),
			Check: unit("svc/order", "^TestWatchdogWaitsForTheBus$", "driven again, want 0")},
		{Name: "undo-not-said", Proves: "I10", Breaks: "a cancel is stored, and nobody is told",
			Edits: edit("svc/order/batch.go", "	r.moved = false // this event says it\n	return b.emit(r, shop.EventOrderUndoRequested, traceParent)\n", "	r.moved = false // this event says it\n	return nil\n"),
			Check: scenarioOn("sqlite", "cancel_before_dispatch", "wanted [cancelled]")},
	}
}

const (
	parcelsFile = "svc/shipping/steps.go"
	carrierFile = "svc/shipping/carrier.go"
)

// parcels are mutants of the shipping service.
func parcels() []Mutant {
	return []Mutant{
		{Name: "no-tombstone-of-parcel", Proves: "I6", Breaks: "a cancel that comes before the parcel leaves nothing to stop that",
			Edits: edit(parcelsFile, "		sh.undo, sh.saga = true, saga\n		return b.emit(sh, traceParent, false)\n", "		sh.undo, sh.saga = true, saga\n		err := b.emit(sh, traceParent, false)\n		delete(b.shipments, id)\n		return err\n"),
			Check: unit("svc/shipping", "^TestUndone$/^sqlite$", "")},
		{Name: "parcel-not-cancelled", Proves: "I6", Breaks: "the carrier is not told that an order was cancelled",
			Edits: edit(parcelsFile, "	b.to(sh, cancelling)\n	return b.call(sh, opCancel, traceParent, request{Reference: sh.Reference})\n", "	b.to(sh, shop.ShipmentCancelled)\n	return b.emit(sh, traceParent, true)\n"),
			Check: scenarioOn("sqlite", "cancel_before_dispatch", "violated: I6")},
		{Name: "late-parcel-kept", Proves: "I6", Breaks: "a parcel that is scheduled after its order was undone is kept",
			Edits: edit(parcelsFile, "	if sh.undo || late {\n", "	if late {\n"),
			Check: unit("svc/shipping", "^TestUndoneMeanwhile$", "")},
		{Name: "parcel-key-includes-attempt", Proves: "I9", Breaks: "each attempt has a key of its own at the carrier",
			Edits: edit(carrierFile, "\"/v1/shipments\", c.Key, map", "\"/v1/shipments\", c.Key+string(rune('a'+c.Attempts)), map"),
			Check: unit("svc/shipping", "^TestLostAnswer$", "")},
		{Name: "dispatch-without-asking", Proves: "I9, I16", Breaks: "a parcel leaves without the order's word",
			Edits: edit("svc/shipping/service.go", "	if err := s.orders.AllowDispatch(ctx, id); err != nil {\n		return err\n	}\n", ""),
			Check: scenarioOn("sqlite", "cancel_at_any_time", "")},
	}
}
