package main

const idemFile = "platform/idem/idem.go"

// commands are mutants of what makes a command happen once, and an acknowledgement true.
func commands() []Mutant {
	return []Mutant{
		{Name: "unique-key-dropped", Proves: "I3", Breaks: "nothing in the store keeps two commands of one key apart",
			Edits: []Edit{
				{"platform/idem/migrations/00100_idempotency.sql", "    created_at BIGINT NOT NULL,\n    UNIQUE (caller, route, key)\n", "    created_at BIGINT NOT NULL\n"},
				{idemFile, " ON CONFLICT (caller, route, key) DO NOTHING", ""},
				{idemFile, "\t\tON CONFLICT (caller, route, key) DO NOTHING RETURNING", "\t\tRETURNING"},
			},
			Check: scenarioOn("postgres", "same_key_at_once", "I3: ")},
		{Name: "body-hash-ignored", Proves: "I3", Breaks: "another body under a used key gets the first one's answer",
			Edits: edit(idemFile, "	if storedHash != hash {\n", "	if storedHash == \"\" {\n"),
			Check: scenarioOn("sqlite", "same_key_at_once", "idempotency_key_reused")},
		{Name: "key-not-scoped", Proves: "I3", Breaks: "a key of one caller answers another one's command",
			Edits: edit(idemFile, "WHERE caller = ? AND route = ?", "WHERE (caller = ? OR 1 = 1) AND route = ?"),
			Check: unit("platform/idem", "^TestDo$", "")},
		{Name: "answer-other-transaction", Proves: "I3", Breaks: "the key is stored in a transaction after the order's, so that a repetition after a crash makes a second order",
			Edits: edit("svc/order/place.go", "	if err := idem.Claim(ctx, tx, all); err != nil {\n		return nil, err\n	}\n", `	if err := idem.Claim(ctx, tx, all); err != nil {
		return nil, err
	}
	var later []*placed
	for _, p := range all {
		if !p.Fresh() {
			continue
		}
		later = append(later, p)
		if _, err := tx.Exec(ctx, "DELETE FROM idempotency WHERE caller = ? AND key = ?", string(p.Caller), p.Key); err != nil {
			return nil, err
		}
	}
	tx.AfterCommit(func() {
		go func() {
			_ = s.db.Update(context.Background(), func(ctx context.Context, tx *sqldb.Tx) error { return idem.Claim(ctx, tx, later) })
		}()
	})
`),
			Check: at("^no-stock.commit:order.[12].(before|half|after)$", "violated: I3")},
		{Name: "acknowledged-before-commit", Proves: "I1", Breaks: "a transaction is said to be durable 20 ms before it is",
			Edits: edit("platform/sqldb/writer.go", "	if err := w.c.run(w.group[0].ctx, \"COMMIT\"); err != nil {\n", `	ctx := w.group[0].ctx
	w.answer()
	<-time.After(20 * time.Millisecond)
	if err := w.c.run(ctx, "COMMIT"); err != nil {
`),
			Check: kill("violated: I1 ")},
		{Name: "batch-shares-its-fault", Proves: "I1, I2", Breaks: "a command fails because of another that was carried out with it",
			Edits: edit("platform/sqldb/batcher.go", "len(batch) > 1 &&", "len(batch) > 99 &&"),
			Check: unit("platform/sqldb", "^TestConformance$/^sqlite$/^commands_that_come_together$", "failed because of others")},
		{Name: "key-of-one-batch", Proves: "I3", Breaks: "two commands of one key in one transaction are both carried out",
			Edits: edit(idemFile, "		if claimed[c.Scope] == c {\n", "		if claimed[c.Scope] != nil {\n"),
			Check: unit("platform/idem", "^TestClaim$", "")},
		{Name: "refused-and-stored", Proves: "I2", Breaks: "an order that is refused for its price is stored all the same",
			Edits: edit("svc/order/place.go", "	if refused != nil {\n", `	if refused != nil && shop.KindOf(refused) == shop.PriceChanged {
		_ = s.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := s.insert(ctx, tx, by.Caller, cmd, o)
			return err
		})
	}
	if refused != nil {
`),
			Check: e2e("^TestBadInput$/^sqlite$", "I2: ")},
		{Name: "quantity-not-priced", Proves: "I4", Breaks: "a line costs as much as one piece of it",
			Edits: edit("svc/order/place.go", "l.UnitPrice.Times(l.Quantity)", "l.UnitPrice.Times(1)"),
			Check: scenarioOn("sqlite", "largest_order", "subtotal")},
	}
}
