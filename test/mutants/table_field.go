package main

import "slices"

// field is the test of something that went wrong in another order system, see docs/field-bugs.md.
func field(row, store, says string) Check {
	return Check{Package: "./test/field", Run: "^TestField_" + row + "$/^" + store + "$", Says: says}
}

const workflowFile = "svc/saga/workflow.go"

// elsewhere are mutants that bring to Holdfast what went wrong in other order systems: the row of each must
// notice.
func elsewhere() []Mutant { return slices.Concat(samples(), sagas(), shops()) }

// samples are of order systems that show how it is done.
func samples() []Mutant {
	return []Mutant{
		{Name: "field-read-by-anybody", Proves: "field: eShop 996", Breaks: "an order is shown to whoever knows its id",
			Edits: edit("svc/order/service.go", "	if found == nil || found.caller != caller {\n", "	if found == nil {\n"),
			Check: field("eshop996_IDOR", "SQLite", "of an order that does not exist")},
		{Name: "field-checked-not-reserved", Proves: "field: eShop 888", Breaks: "the last unit is sold to everybody who asks at once",
			Edits: []Edit{
				{inventoryFile, "item.OnHand-item.Reserved < n {", "item.OnHand < n {"},
				{itemsSQL, "    updated_at BIGINT NOT NULL,\n    CHECK (reserved >= 0 AND reserved <= on_hand)\n", "    updated_at BIGINT NOT NULL\n"},
			},
			Check: field("eshop888_LastUnit", "SQLite", "round 0: map[confirmed:15]")},
		{Name: "field-failed-is-sent", Proves: "field: eShopOnContainers 1340", Breaks: "an event whose sending failed is never sent again",
			Edits: edit(relayFile, "		if err == nil {\n			sent = append(sent, wave[i].pos)", "		if err == nil || wave[i].pos > 0 {\n			sent = append(sent, wave[i].pos)"),
			Check: field("eshopOC1340_OutboxRelay", "SQLite", "wanted [fulfilled]")},
		{Name: "field-failed-is-handled", Proves: "field: eShop, acknowledged on an exception", Breaks: "an event whose handler fails is taken off the bus",
			Edits: edit("platform/bus/consumer.go", "		if err == nil {\n			client.MarkCommitRecords", "		if err == nil || ctx.Err() == nil {\n			client.MarkCommitRecords"),
			Check: field("eshop_AckOnException", "SQLite", "never: handling fails")},
		{Name: "field-rejected-is-completed", Proves: "field: Temporal order sample 122", Breaks: "an order that the carrier refused is fulfilled",
			Edits: edit("svc/order/fold.go", "		return shop.Rejected, st.ParcelReason\n", "		return shop.Fulfilled, st.ParcelReason\n"),
			Check: field("temporal122_Rollup", "SQLite", "is fulfilled, want rejected")},
		{Name: "field-running-sum", Proves: "field: Temporal order sample, totals", Breaks: "the running sum is added for each line",
			Edits: edit("svc/order/place.go", "o.Subtotal.Plus(l.Total)", "o.Subtotal.Plus(l.Total + o.Subtotal)"),
			Check: field("temporalOMS_Totals", "SQLite", "the lines' sum is")},
		{Name: "field-money-kept", Proves: "field: Temporal order sample, shipment fails", Breaks: "nobody gives money back when the parcel is refused",
			Edits: edit("svc/payment/consumer.go", "	case shop.EventShipmentRejected, shop.EventShipmentCancelled:\n", "	case shop.EventShipmentRejected:\n		return nil\n	case shop.EventShipmentCancelled:\n"),
			Check: field("temporalOMS_ShipFails", "SQLite", "wanted [rejected fulfilled]")},
		{Name: "field-undo-three-times", Proves: "field: Temporal samples-go, compensation", Breaks: "an undo is tried three times, and then not again",
			Edits: edit(performFile, "	return a.cfg.UndoFailures\n", "	return 3\n"),
			Check: field("samplesgo_UndoAfterStep", "SQLite", "needs_attention")},
		{Name: "field-no-breaker", Proves: "field: Online Boutique 3474", Breaks: "a provider that is gone is asked for each order",
			Edits: edit(dependencyFile, "		o := s.options(name, op.Name)\n", "		o := s.options(name, op.Name)\n		c.Breaker.Off = true\n"),
			Check: field("boutique3474_PaymentDelay", "SQLite", "never: the breaker opens")},
		{Name: "field-noted-before-sent", Proves: "field: OpenTelemetry demo 1590", Breaks: "events count as sent before the broker has them",
			Edits: edit(relayFile, "	for _, wave := range waves(rows) {\n", `	early := make([]int64, len(rows))
	for i := range rows {
		early[i] = rows[i].pos
	}
	if err := o.settle(ctx, early, nil); err != nil {
		return false, err
	}
	for _, wave := range waves(rows) {
`),
			Check: field("otel1590_BrokerRestart", "SQLite", "wanted [fulfilled]")},
		{Name: "field-decline-is-an-outage", Proves: "field: OpenTelemetry demo 3737", Breaks: "a card that is declined looks like a provider that is gone",
			Edits: edit(performFile, "a.declined(shop.ReasonPaymentDeclined, v.Code)", "a.declined(shop.ReasonPaymentUnavailable, v.Code)"),
			Check: field("otel3737_Decline500", "SQLite", "rejected (payment_unavailable)")},
		{Name: "field-undo-once", Proves: "field: FTGO 107", Breaks: "an undo that fails is not tried again",
			Edits: edit(performFile, "	return a.cfg.UndoFailures\n", "	return 1\n"),
			Check: field("ftgo107_Compensation", "SQLite", "never: void failed")},
		{Name: "field-operator-unheard", Proves: "field: Eventuate 75", Breaks: "an operator's word does not drive an order that waits for it",
			Edits: edit(commandsFile, "		return b.redrive(r, telemetry.TraceParent(ctx))\n", "		return nil\n"),
			Check: field("eventuate75_FailedCompensation", "SQLite", "wanted [cancelled]")},
		{Name: "field-pending-for-ever", Proves: "field: FTGO 111", Breaks: "an order that does not move is never driven again",
			Edits: edit("svc/order/watchdog.go", "	return b.redrive(r, \"\")\n", "	return nil\n"),
			Check: field("ftgo111_StuckPending", "SQLite", "wanted [fulfilled]")},
		{Name: "field-charge-kept", Proves: "field: Dapr sample, stock after charge", Breaks: "what was charged and cannot be delivered is voided, which does nothing",
			Edits: edit(stepsFile, "	case p.Captured > 0:\n		b.to(p, refunding)", "	case p.Captured < 0:\n		b.to(p, refunding)"),
			Check: field("dapr_StockAfterCharge", "SQLite", "wanted [rejected]")},
		{Name: "field-publish-before-commit", Proves: "field: AWS retail sample, publish before commit", Breaks: "events go out before their transaction commits, and stay where it does not",
			Edits: edit(outboxFile, "	for from, to := range tx.Pieces(len(events)) {\n", "	_ = o.parts.Producer.Send(ctx, events)\n	for from, to := range tx.Pieces(len(events)) {\n"),
			Check: field("awsretail_PublishBeforeCommit", "PostgreSQL", "and there is no such order")},
		{Name: "field-no-retry", Proves: "field: AWS retail sample, retry", Breaks: "a call to an outside party is never repeated",
			Edits: edit("resilience/run.go", "	if v.Outcome != Failure || !v.Retryable || r.once || r.ctx.Err() != nil {\n", "	if v.Outcome != Failure || !v.Retryable || r.once || r.ctx != nil {\n"),
			Check: field("awsretail_RetryNeverActs", "SQLite", "retry acts")},
	}
}

// shops are of commerce platforms, and of libraries for events.
func shops() []Mutant {
	return []Mutant{
		{Name: "field-lines-not-summed", Proves: "field: Medusa 16502", Breaks: "two lines of one item are compared with the stock one by one",
			Edits: edit(inventoryFile, "		need[l.SKU] += l.Quantity\n", "		need[l.SKU] = l.Quantity\n"),
			Check: field("medusa16502_SameSkuTwice", "SQLite", "wanted [rejected fulfilled]")},
		{Name: "field-webhook-and-answer", Proves: "field: Medusa 13301", Breaks: "the answer and the webhook of one authorisation take effect one each",
			Edits: edit(stepsFile, "	case c.Kind == opAuthorise && (p.Status == authorising || p.Authorised == 0 && p.Amount > 0 && (p.Status == shop.PaymentDeclined || p.Status == shop.PaymentCancelled)):\n", "	case c.Kind == opAuthorise:\n"),
			Check: field("medusa13301_ConfirmVsWebhook", "SQLite", "I11")},
		{Name: "field-refund-too-small", Proves: "field: Medusa 10491", Breaks: "the refund is not what was taken: without the shipping fee",
			Edits: edit(stepsFile, "request{Reference: p.Reference, Amount: p.Captured})", "request{Reference: p.Reference, Amount: p.Captured - 500})"),
			Check: field("medusa10491_RefundArithmetic", "SQLite", "refunded")},
		{Name: "field-stock-not-returned", Proves: "field: Vendure 1210", Breaks: "the stock of a cancelled order is not returned",
			Edits: edit(inventoryFile, "	b.move(r, \"release\", 0, -1)\n", ""),
			Check: field("vendure1210_StockAfterCancel", "SQLite", "CUP: ")},
		{Name: "field-double-submit", Proves: "field: Saleor 14358", Breaks: "nothing in the store keeps two commands of one key apart",
			Edits: []Edit{
				{idemFile, "WHERE caller = ? AND route = ?", "WHERE 1 = 0 AND caller = ? AND route = ?"},
				{"platform/idem/migrations/00100_idempotency.sql", "    created_at BIGINT NOT NULL,\n    UNIQUE (caller, route, key)\n", "    created_at BIGINT NOT NULL\n"},
				{idemFile, " ON CONFLICT (caller, route, key) DO NOTHING", ""},
				{idemFile, "\t\tON CONFLICT (caller, route, key) DO NOTHING RETURNING", "\t\tRETURNING"},
			},
			Check: field("saleor14358_Idempotency", "SQLite", "two answers")},
		{Name: "field-dead-context", Proves: "field: Watermill 467", Breaks: "the time of the first attempt is that of all",
			Edits: edit("resilience/run.go", "		f.ctx, f.cancel = within(r.ctx, r.set.attempt, t)\n", "		f.ctx, f.cancel = within(r.ctx, r.set.attempt, t)\n		r.ctx = f.ctx\n"),
			Check: field("watermill467_DeadContextRetry", "rates", "never: the second attempt is made")},
	}
}

// sagas are mutants of what the saga and the policies stand on, which a campaign must find.
func sagas() []Mutant {
	return []Mutant{
		{Name: "field-undo-after-step", Proves: "I6", Breaks: "a workflow notes a step for undo after the step, and undoes what it has noted",
			Edits: []Edit{
				{workflowFile, "		r.begun = append(r.begun, s)\n		out, err := r.do(s)\n", "		out, err := r.do(s)\n"},
				{workflowFile, "		case out.State != shop.StepDone:\n			return r.undo()\n		}\n", "		case out.State != shop.StepDone:\n			return r.undo()\n		}\n		r.begun = append(r.begun, s)\n"},
				{workflowFile, "		if all {\n			todo = steps()\n		}\n", ""},
			},
			Check: field("samplesgo_UndoOfWorkflow", "SQLite", "violated: I6")},
		{Name: "field-breaker-without-generation", Proves: "policy: breaker", Breaks: "a result from before the breaker opened decides about it afterwards",
			Edits: edit("resilience/breaker.go", "	if ph.generation != p.generation || p.place != 0 &&", "	if p.place != 0 &&"),
			Check: field("polly216_StaleResult", "SQLite", "violated: policy: breaker")},
	}
}
