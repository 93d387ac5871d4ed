package main

const (
	performFile  = "svc/payment/perform.go"
	attemptFile  = "platform/calls/attempt.go"
	stepsFile    = "svc/payment/steps.go"
	providerFile = "svc/payment/provider.go"
)

// money are mutants of how the provider is asked to move it.
func money() []Mutant {
	return []Mutant{
		{Name: "key-includes-attempt", Proves: "I4", Breaks: "each attempt has a key of its own at the provider",
			Edits: edit(providerFile, "\"/v1/authorisations\", c.Key, map", "\"/v1/authorisations\", c.Key+string(rune('a'+c.Attempts)), map"),
			Check: scenario("tok_timeout_ok_10115", "violated: I4")},
		{Name: "capture-without-asking", Proves: "I4", Breaks: "a capture whose answer was lost is sent again without asking what became of it",
			Edits: edit(attemptFile, "	if c.Unknown || undone && c.Failures > 0 {\n", "	if c.Unknown && c.Kind != \"capture\" {\n"),
			Check: e2e("^TestLostAnswers$", "asked for capture")},
		{Name: "authorise-without-asking", Proves: "I4", Breaks: "an authorisation whose answer was lost is sent again without asking what became of it",
			Edits: edit(attemptFile, "	if c.Unknown || undone && c.Failures > 0 {\n", "	if c.Unknown && c.Kind != \"authorise\" {\n"),
			Check: e2e("^TestLostAnswers$", "asked for authorise")},
		{Name: "unknown-is-failed", Proves: "I6", Breaks: "an answer that does not come is taken for a no",
			Edits: edit(attemptFile, "	switch {\n	case lastTry && c.Unknown:\n", "	if v.Outcome == Lost {\n		return a.end(op.GivenUp(v))\n	}\n	switch {\n	case lastTry && c.Unknown:\n"),
			Check: scenario("tok_timeout_ok_10115", "ended as rejected")},
		{Name: "not-known-is-proof", Proves: "I6", Breaks: "what the provider does not know yet counts as what never arrives",
			Edits: edit(attemptFile, "	a.result.Unknown = a.Unknown || !queried &&", "	a.result.Unknown = queried && a.Unknown || !queried &&"),
			Check: unit("svc/payment", "^TestUndoneInDoubt$", "said [PaymentCancelled]")},
		{Name: "given-up-at-once", Proves: "I6", Breaks: "an authorisation is given up on the word of a provider that does not know it yet",
			Edits: edit(attemptFile, "	case lastTry && c.Unknown:\n", "	case lastTry && c.Unknown && c.Attempts < 0:\n"),
			Check: unit("svc/payment", "^TestArrivesLate$", "said [PaymentDeclined]")},
		{Name: "refusal-is-proof", Proves: "I6", Breaks: "a refusal of the same request settles one that is still on its way",
			Edits: edit(attemptFile, "	case lastTry || v.Outcome == Refused && !c.Unknown:\n", "	case lastTry || v.Outcome == Refused:\n"),
			Check: unit("svc/payment", "^TestArrivesLate$", "said [PaymentDeclined]")},
		{Name: "silence-counts-as-failure", Proves: "I6", Breaks: "a question that gets no answer counts into the failures, so that what hangs after it is given up on the first word",
			Edits: edit(attemptFile, "a.result.Failed, a.result.Unknown, a.result.RetryIn = false, true, a.retryIn(asked)", "a.result.Failed, a.result.Unknown, a.result.RetryIn = true, false, a.retryIn(asked)"),
			Check: unit("platform/calls", "^TestAttempt$", "end: got given up, want ended")},
		{Name: "no-effect-by-hearsay", Proves: "I6", Breaks: "a process whose call was taken over still says that it has had no effect",
			Edits: edit("platform/calls/runner.go", "	return n > 0, err\n", "	return n >= 0, err\n"),
			Check: unit("platform/calls", "^TestEndAfterTakeover$", "calls that are the other's")},
		{Name: "begun-is-forgotten", Proves: "I4", Breaks: "a call that a killed process had begun counts as never made",
			Edits: edit("platform/calls/runner.go", "[]byte(request), begun == 1, sqldb", "[]byte(request), begun == 2, sqldb"),
			Check: unit("platform/calls", "^TestKilled$", "")},
		{Name: "dead-owner-waited-for", Proves: "I10", Breaks: "the calls of a killed process wait for the end of their leases",
			Edits: edit("platform/calls/owners.go", "err != nil || dead+far == 0 {", "err != nil || dead+far >= 0 {"),
			Check: unit("platform/calls", "^TestSilentOwner$", "of 2 attempts began")},
		{Name: "begun-after-silence", Proves: "I4", Breaks: "a process that gave no sign of life begins what another may have taken over",
			Edits: edit("platform/calls/runner.go", "			case !r.lives(c.life):\n", "			case c.life == nil:\n"),
			Check: unit("platform/calls", "^TestSilentOwner$", "attempts of the first")},
		{Name: "silent-goes-on", Proves: "I4", Breaks: "a process that can give no sign of life goes on with its attempts, beside the one that takes over",
			Edits: edit("platform/calls/runner.go", "	defer context.AfterFunc(of.life.ctx, cancel)()\n", ""),
			Check: unit("platform/calls", "^TestNoSign$", "attempts do not end")},
		{Name: "stuck-sign-goes-on", Proves: "I4", Breaks: "a process whose sign of life is not answered goes on with its attempts, beside the one that takes over",
			Edits: edit("platform/calls/owners.go", "	go r.watch(l)\n", ""),
			Check: unit("platform/calls", "^TestStuckSign$", "attempts do not end")},
		{Name: "leases-of-the-dead", Proves: "I10", Breaks: "what a killed process had taken up waits until its lease has run out",
			Edits: edit("platform/calls/owners.go", "WHERE owner = ? AND lease_until > 0`", "WHERE owner = ? AND lease_until < 0`"),
			Check: at("^decline.request:psp.authorisations.1.", "violated: I10")},
	}
}

// moved are mutants of what is done with money that was moved.
func moved() []Mutant {
	return []Mutant{
		{Name: "void-after-capture", Proves: "I6", Breaks: "money that was taken is voided and not refunded",
			Edits: edit(stepsFile, "	case p.Captured > 0:\n		b.to(p, refunding)", "	case p.Captured < 0:\n		b.to(p, refunding)"),
			Check: e2e("^TestImmediateCapture$/^sqlite$", "wanted [rejected]")},
		{Name: "refund-of-another-amount", Proves: "I6", Breaks: "the refund is not what was taken: without the shipping fee",
			Edits: edit(stepsFile, "request{Reference: p.Reference, Amount: p.Captured})", "request{Reference: p.Reference, Amount: p.Captured - 500})"),
			Check: e2e("^TestImmediateCapture$/^sqlite$", "violated: I6")},
		{Name: "capture-of-another-amount", Proves: "I6", Breaks: "the capture is not what was authorised",
			Edits: edit(stepsFile, "Amount: p.Authorised})", "Amount: p.Authorised - 1})"),
			Check: scenario("tok_ok_10115", "violated: I6")},
		{Name: "late-success-kept", Proves: "I6", Breaks: "money that is authorised after its order was undone is kept",
			Edits: edit(stepsFile, "	if p.undo || late {\n", "	if late {\n"),
			Check: scenarioOn("sqlite", "cancel_at_any_time", "wanted [cancelled]")},
		{Name: "no-tombstone-of-payment", Proves: "I6", Breaks: "an undo that comes before its step leaves nothing to stop the step",
			Edits: edit(stepsFile, "		p.undo, p.saga = true, saga\n		return b.emit(p, traceParent, nil)\n", "		p.undo, p.saga = true, saga\n		err := b.emit(p, traceParent, nil)\n		delete(b.payments, id)\n		return err\n"),
			Check: unit("svc/payment", "^TestUndoneBefore$", "")},
		{Name: "compensation-limited", Proves: "I10", Breaks: "an undo is tried three times, and then not again",
			Edits: edit(performFile, "	return a.cfg.UndoFailures\n", "	return 3\n"),
			Check: scenario("tok_void_fails_3_00001", "needs_attention")},
		{Name: "capture-not-booked", Proves: "I11", Breaks: "the books know nothing of money that was taken",
			Edits: edit(stepsFile, "		b.book(c.Key, p, doc.Captured, \"provider\", \"sales\")\n		p.Captured = doc.Captured\n", "		p.Captured = doc.Captured\n"),
			Check: scenario("tok_ok_10115", "violated: I11")},
		{Name: "capture-booked-twice", Proves: "I11, I17", Breaks: "the answer and the webhook of one capture are booked one each",
			Edits: edit(stepsFile, "	case c.Kind == opCapture && (p.Status == capturing || p.Status == shop.PaymentNeedsAttention):\n", "	case c.Kind == opCapture:\n"),
			Check: e2e("^TestEveryWebhook$", "violated: I11")},
		{Name: "uneven-booking", Proves: "I11", Breaks: "the two sides of a booking differ by a cent",
			Edits: edit(stepsFile, "amount: -amount,", "amount: 1 - amount,"),
			Check: scenario("tok_ok_10115", "do not sum to zero")},
	}
}
