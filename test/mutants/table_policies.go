package main

const dependencyFile = "platform/policy/dependency.go"

// outside are mutants of the policies in front of the outside parties: each is taken away.
func outside() []Mutant {
	return []Mutant{
		{Name: "no-breaker", Proves: "policy: breaker", Breaks: "calls to outside parties go out however many have failed",
			Edits: edit(dependencyFile, "		o := s.options(name, op.Name)\n", "		o := s.options(name, op.Name)\n		c.Breaker.Off = true\n"),
			Check: e2e("^TestBreaker$", "never: the breaker opens")},
		{Name: "no-bulkhead", Proves: "policy: bulkhead", Breaks: "any number of calls is under way at an outside party",
			Edits: edit(dependencyFile, "s.bulkhead(name, \"\", cfg.Bulkhead)", "s.bulkhead(name, \"\", resilience.BulkheadConfig{Off: true})"),
			Check: e2e("^TestBulkhead$", "never: the bulkhead is full")},
		{Name: "bulkhead-per-call", Proves: "policy: bulkhead", Breaks: "each call has a bulkhead of its own, which bounds nothing",
			Edits: edit("resilience/run.go", "	h.slot, waited, err = p.bulkhead.acquire(ctx, t, atOnce)\n",
				"	own, _ := NewBulkhead(p.bulkhead.set.Load().config, p.bulkhead.options)\n	h.slot, waited, err = own.acquire(ctx, t, atOnce)\n"),
			Check: e2e("^TestBulkhead$", "never: the bulkhead is full")},
		{Name: "no-undo-lane", Proves: "policy: undo lane", Breaks: "what gives money back waits behind what takes it",
			Edits: edit(dependencyFile, "		if op.Criticality == resilience.Undo {\n", "		if op.Criticality > resilience.Undo {\n"),
			Check: e2e("^TestBulkhead$", "wanted [cancelled]")},
		{Name: "no-undo-workers", Proves: "policy: undo lane", Breaks: "calls that undo something wait for the workers of all others",
			Edits: edit("platform/calls/lanes.go", "		if p.Operation().Criticality == resilience.Undo {\n", "		if p.Operation().Criticality > resilience.Undo {\n"),
			Check: unit("platform/calls", "^TestUndoLane$", "")},
		{Name: "no-retry-budget", Proves: "policy: retry budget", Breaks: "every failure is repeated, however many there are",
			Edits: edit(dependencyFile, "s.budget(name, cfg.Budget)", "s.budget(name, resilience.BudgetConfig{Off: true})"),
			Check: e2e("^TestRetryBudget$", "never: the budget is spent")},
		{Name: "no-attempt-timeout", Proves: "policy: timeout of an attempt", Breaks: "a request that hangs is waited for",
			Edits: edit("resilience/run.go", "	if r.set.attempt > 0 {\n", "	if r.set.attempt < 0 {\n"),
			Check: e2e("^TestTimeout$", "wanted [fulfilled]")},
		{Name: "no-total-deadline", Proves: "policy: total deadline", Breaks: "a call with all its attempts may take for ever",
			Edits: edit("resilience/run.go", "	if total := r.set.total; total > 0 {\n", "	if total := r.set.total; total < 0 {\n"),
			Check: e2e("^TestTotalDeadline$", "still being asked")},
		{Name: "no-last-known-rates", Proves: "policy: fallback of rates", Breaks: "the carrier's fees are forgotten while it is down",
			Edits: edit("svc/shipping/rates.go", "		case ctx.Err() == nil:\n", "		case ctx.Err() == nil:\n			r.table.Store(&map[string]int64{restOfWorld: 500})\n"),
			Check: e2e("^TestRates$", "the fee is 500")},
	}
}

// edge are mutants of the policies in front of the public API.
func edge() []Mutant {
	return []Mutant{
		{Name: "no-criticality", Proves: "policy: admission by criticality", Breaks: "lists and orders are let in for as long as anything is",
			Edits: edit("svc/gateway/gateway.go", "admission.Admit(route.Criticality)", "admission.Admit(max(route.Criticality, resilience.Critical))"),
			Check: e2e("^TestCriticality$", "a list: 200")},
		{Name: "no-admission", Proves: "policy: admission", Breaks: "the edge lets in any number of requests",
			Edits: edit("platform/httpx/route.go", "rt.api.admit(rt.Route, r)", "func(int) {}, error(nil)"),
			Check: e2e("^TestCriticality$", "never: one request is under way")},
		{Name: "no-lane-for-cancels", Proves: "policy: undo lane", Breaks: "a cancel is refused when the edge is full",
			Edits: edit("resilience/admission.go", "	if c == Undo && below(", "	if c > Undo && below("),
			Check: e2e("^TestCriticality$", "the cancel of")},
		{Name: "no-rate-limit", Proves: "policy: rate limit per caller", Breaks: "a caller may send as much as it likes",
			Edits: edit("platform/httpx/call.go", "	if d.Allowed {\n", "	if d.Allowed || d.Limit > 0 {\n"),
			Check: e2e("^TestRateLimit$", "")},
		{Name: "no-backlog-limit", Proves: "policy: backlog shedding", Breaks: "orders are taken that would only wait",
			Edits: edit("svc/order/shed.go", "float64(wait-s.cfg.BacklogFrom)/float64(s.cfg.BacklogMax-s.cfg.BacklogFrom)", "min(0, float64(wait-s.cfg.BacklogFrom))"),
			Check: e2e("^TestBacklog$", "none of")},
		{Name: "no-strain-limit", Proves: "policy: backlog shedding", Breaks: "orders are taken however long goroutines wait for a processor",
			Edits: edit("svc/order/shed.go", "		admitted *= cut\n", "		admitted *= 1\n"),
			Check: unit("svc/order", "^TestShedStrain$", "of 1000 are refused")},
		{Name: "burst-is-strain", Proves: "policy: backlog shedding", Breaks: "orders are refused for a burst that ends by itself",
			Edits: edit("svc/order/shed.go", "s.strained++; s.strained >= standing {", "s.strained++; s.strained >= 1 {"),
			Check: unit("svc/order", "^TestShedStrain$", "of 1000 are refused")},
		{Name: "repetition-is-shed", Proves: "policy: backlog shedding", Breaks: "the repetition of a stored order is refused under load",
			Edits: edit("svc/order/shed.go", " || s.recent.has(caller, key) {", " {"),
			Check: unit("svc/order", "^TestShedKnows$", "is not known")},
		{Name: "no-pace", Proves: "policy: pace of what comes back", Breaks: "calls that waited out an outage come back all at once",
			Edits: edit("platform/calls/lanes.go", "min(l.room(k, inLane[l]), pace)", "min(l.room(k, inLane[l]), max(pace, r.cfg.Queue))"),
			Check: unit("platform/calls", "^TestPace$", "calls of the first poll")},
		{Name: "pace-without-strain", Proves: "policy: pace of what comes back", Breaks: "calls come back faster and faster although the process has no strength left",
			Edits: edit("platform/calls/pace.go", "	case wait > strain:\n", "	case wait < 0:\n"),
			Check: unit("platform/calls", "^TestPace$", "under strain")},
		{Name: "new-behind-backlog", Proves: "policy: pace of what comes back", Breaks: "a new order's calls wait behind all that has waited out an outage",
			Edits: edit("platform/calls/lanes.go", "	if r.young = !r.young; r.young {\n", "	if r.young {\n"),
			Check: unit("platform/calls", "^TestYoungest$", "the new order's call")},
		{Name: "no-last-known-order", Proves: "policy: fallback of reads by id", Breaks: "an order cannot be read while its store is down",
			Edits: edit("svc/order/http.go", "	if !ok {\n		return read{}, cause\n	}\n", "	if ok || !ok {\n		return read{}, cause\n	}\n"),
			Check: e2e("^TestFallback$", "as of \"\"")},
		{Name: "copy-of-another-caller", Proves: "policy: fallback of reads by id", Breaks: "the copy of an order is shown to whoever asks",
			Edits: edit("svc/order/copies.go", "	if found.caller != caller {\n", "	if found.caller == \"\" {\n"),
			Check: unit("svc/order", "^TestCopies$", "")},
		{Name: "deadline-header-ignored", Proves: "policy: deadline header", Breaks: "a request goes on when its caller has gone",
			Edits: edit("platform/httpx/headers.go", "	if seconds >= most.Seconds() {\n", "	if seconds > 0 {\n"),
			Check: e2e("^TestDeadline$", "want 504")},
	}
}

// inside are mutants of the policies between the parts.
func inside() []Mutant {
	return []Mutant{
		{Name: "refused-for-another", Proves: "I2", Breaks: "a replica that refuses what it has not seen speaks for the one that had it before",
			Edits: edit("platform/upstream/upstream.go", "	case refuses(resp) && !unsent(err):\n", "	case refuses(resp) && resp.Body == nil:\n"),
			Check: unit("platform/upstream", "^TestRefusedInDoubt$", "of 2 were refused, want 1")},
		{Name: "client-refused-for-another", Proves: "I2", Breaks: "a repetition that was refused speaks for a first try without an answer, in the Go client",
			Edits: edit("client/retry.go", "	if refused(p) {\n		return doubt\n", "	if refused(p) && doubt == nil {\n		return doubt\n"),
			Check: unit("client", "^TestRefusedInDoubt$", `overloaded: too much to do (request req_2), want the code ""`)},
		{Name: "sent-twice-unseen", Proves: "I2", Breaks: "net/http sends a cancellation to the replica again whose connection broke, and nobody knows",
			Edits: edit("platform/upstream/upstream.go", "if key, ok := r.Header[name]; ok {", `if key, ok := r.Header[name]; ok && name == "" {`),
			Check: unit("platform/upstream", "^TestSentOnceEach$", "want once each")},
		{Name: "no-store-guard", Proves: "policy: store guard", Breaks: "a store that is down is asked by everybody",
			Edits: edit("app/app.go", "	cfg.Guard = guard\n", ""),
			Check: e2e("^TestFallback$", "")},
		{Name: "no-bus-breaker", Proves: "policy: bus breaker", Breaks: "relays wait for a bus that is down, each of them, each time",
			Edits: edit("platform/policy/bus.go", "	errs := b.next.Send(ctx, events)\n	permit.Done(busOutcome(ctx, errs))\n", "	errs := b.next.Send(ctx, events)\n"),
			Check: e2e("^TestBusDown$", "never: the breaker opens")},
		{Name: "no-internal-policy", Proves: "policy: between services", Breaks: "a service that hangs takes its callers with it",
			Edits: edit("platform/policy/internal.go", "	return inventoryGuard{next, i.services[\"inventory\"].Policy(\"prices\")}\n", "	return next\n"),
			Check: e2e("^TestInternal$", "while the inventory hangs: 0")},
	}
}

// library are mutants of the package resilience, beside those that stand for a policy taken away.
func library() []Mutant {
	return []Mutant{
		{Name: "breaker-without-generation", Proves: "policy: breaker", Breaks: "a result from before the breaker opened decides about it afterwards",
			Edits: edit("resilience/breaker.go", "	if ph.generation != p.generation || p.place != 0 &&", "	if p.place != 0 &&"),
			Check: unit("resilience", "^TestField03_StaleResult$", "")},
		{Name: "probe-without-lease", Proves: "policy: breaker", Breaks: "a probe that never ends keeps the breaker half-open for ever",
			Edits: edit("resilience/breaker.go", "l.until = t.add(ph.config.ProbeLease)", "l.until = never"),
			Check: unit("resilience", "^TestField05_HungProbe$", "")},
		{Name: "slot-freed-at-timeout", Proves: "policy: bulkhead", Breaks: "a call that was given up and still runs holds no slot",
			Edits: edit("resilience/do.go", "	r.flight.slot = Slot{}\n", ""),
			Check: unit("resilience", "^TestField08_TimeoutFreesTheSlot$", "")},
		{Name: "cancelled-is-failed", Proves: "policy: breaker", Breaks: "callers that leave open the breaker",
			Edits: edit("resilience/outcome.go", "	return err != nil && caller.Err() != nil && errors.Is(", "	return err == nil && errors.Is("),
			Check: unit("resilience", "^TestField10_CancellationIsNoFailure$", "")},
	}
}
