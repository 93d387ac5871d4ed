package main

// told runs a client process against the program and judges what it was told: the public API is all that shows
// what these mutants break. What is read beside it then, the stores and the bus, finds some of them too; what has
// to be said is the history's word.
func told(says string) Check { return Check{Package: "./test/history", Run: "^TestClean$", Says: says} }

// histories are mutants that the judges of histories are shown to be sharp by.
func histories() []Mutant {
	return []Mutant{
		{Name: "told-body-ignored", Proves: "I3", Breaks: "another body under a used key gets the first one's answer",
			Edits: edit(idemFile, "	if storedHash != hash {\n", "	if storedHash == \"\" {\n"),
			Check: told("violated: I3 place h")},
		{Name: "told-anew", Proves: "I3", Breaks: "a repetition is answered with the order as it is now, and not with the first answer",
			Edits: edit("svc/order/place.go", "	if placed.Err == nil {\n		s.shedder.recent.add(by.Caller, by.Key)\n", "	if placed.Replayed {\n		placed.Answer, placed.Err = s.Get(ctx, by.Caller, placed.Answer.ID)\n	}\n	if placed.Err == nil {\n		s.shedder.recent.add(by.Caller, by.Key)\n"),
			Check: told("violated: I3 place h")},
		{Name: "told-key-taken-by-refusal", Proves: "I3", Breaks: "a refused command takes its key",
			Edits: edit("svc/order/place.go", "		if err == nil && !found {\n			err = refused\n", "		if err == nil && !found {\n			_, _, err = idem.Do(ctx, s.db, scope, cmd, func(context.Context, *sqldb.Tx) (shop.Order, error) { return o, nil })\n		}\n		if err == nil && !found {\n			err = refused\n"),
			Check: told("violated: I3 place h")},
		{Name: "told-oversold", Proves: "I7", Breaks: "stock is reserved that is not there, and the store's own guard is gone",
			Edits: []Edit{
				{inventoryFile, "item.OnHand-item.Reserved < n {", "n < 0 && item.OnHand < n {"},
				{itemsSQL, "    updated_at BIGINT NOT NULL,\n    CHECK (reserved >= 0 AND reserved <= on_hand)\n", "    updated_at BIGINT NOT NULL\n"},
			},
			Check: told("violated: I7 h")},
		{Name: "told-released-twice", Proves: "I7", Breaks: "a release gives back twice what was reserved",
			Edits: []Edit{
				{inventoryFile, "	b.move(r, \"release\", 0, -1)\n", "	b.move(r, \"release\", 0, -1)\n	b.move(r, \"release\", 0, -1)\n"},
				{itemsSQL, "    updated_at BIGINT NOT NULL,\n    CHECK (reserved >= 0 AND reserved <= on_hand)\n", "    updated_at BIGINT NOT NULL\n"},
			},
			Check: told("violated: I7 h")},
		{Name: "told-never-released", Proves: "I7", Breaks: "an order that has ended keeps its stock",
			Edits: edit(inventoryFile, "	b.move(r, \"release\", 0, -1)\n", ""),
			Check: told("violated: I7 h")},
		{Name: "told-old", Proves: "I15", Breaks: "reads come from a cache that is up to 2 s old",
			Edits: []Edit{
				{"svc/order/service.go", "		s.copies.keep(r.caller, r.Order, now)\n", "		_, _ = r, now\n"},
				{"svc/order/service.go", "	found, err := s.reading.Do(ctx, id)\n",
					"	if o, at, ok := s.copies.get(caller, id); ok && s.deps.Clock.Now().Sub(at).Milliseconds() < 2000 {\n		return o, nil\n	}\n	found, err := s.reading.Do(ctx, id)\n"},
			},
			Check: told("violated: I15 ord_")},
		{Name: "told-cancelled-and-left", Proves: "I16", Breaks: "a cancel is accepted when the parcel has been handed over",
			Edits: edit(commandsFile, "			case r.DispatchBegun || r.Order.Status == shop.Fulfilled:\n", "			case r.Order.Status == shop.Fulfilled:\n"),
			Check: told("violated: I16 ord_")},
		{Name: "sent-and-not-on-bus", Proves: "I13", Breaks: "events that no service waits for are noted as sent and are not",
			Edits: edit("platform/bus/producer.go", "		r := ToRecord(events[i])\n", "		if events[i].Type == shop.EventOrderFulfilled {\n			sent.Done()\n			continue\n		}\n		r := ToRecord(events[i])\n"),
			Check: told("violated: I13: bus")},
	}
}
