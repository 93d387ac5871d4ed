package main

const (
	outboxFile   = "platform/outbox/outbox.go"
	relayFile    = "platform/outbox/relay.go"
	inboxFile    = "platform/outbox/inbox.go"
	consumerFile = "platform/outbox/consumer.go"
)

// events are mutants of the outbox.
func events() []Mutant {
	return []Mutant{
		{Name: "publish-before-commit", Proves: "I2, I6", Breaks: "events go out before their transaction commits, and stay where it does not",
			Edits: edit(outboxFile, "	for from, to := range tx.Pieces(len(events)) {\n", "	_ = o.parts.Producer.Send(ctx, events)\n	for from, to := range tx.Pieces(len(events)) {\n"),
			Check: field("awsretail_PublishBeforeCommit", "PostgreSQL", "and there is no such order")},
		{Name: "outbox-other-transaction", Proves: "I13", Breaks: "events are written in a transaction after that of the state",
			Edits: edit(outboxFile, "	for from, to := range tx.Pieces(len(events)) {\n		if err := insert(ctx, tx, events[from:to]); err != nil {\n			return fmt.Errorf(\"write events: %w\", err)\n		}\n	}\n",
				`	later, long := append([]shop.Event{}, events...), context.WithoutCancel(ctx)
	tx.AfterCommit(func() {
		go func() {
			_ = o.parts.DB.Update(long, func(ctx context.Context, tx *sqldb.Tx) error {
				tx.AfterCommit(o.wake)
				return insert(ctx, tx, later)
			})
		}()
	})
`),
			Check: kill("I10")},
		{Name: "poll-by-max-id", Proves: "I13", Breaks: "the relay remembers the highest position that it has read, and passes over one that commits later",
			Edits: []Edit{
				{relayFile, "found[0].pos - lookBack", "found[len(found)-1].pos"},
				{relayFile, "floor, o.lookAtAll = 0, now.Add", "_, o.lookAtAll = 0, now.Add"},
			},
			Check: unit("platform/outbox", "^TestCommitsOutOfOrder$", "never: [1.1] arrived")},
		{Name: "mark-before-send", Proves: "I13", Breaks: "the relay notes events as sent before it sends them",
			Edits: edit(relayFile, "	for _, wave := range waves(rows) {\n", `	early := make([]int64, len(rows))
	for i := range rows {
		early[i] = rows[i].pos
	}
	if err := o.settle(ctx, early, nil); err != nil {
		return false, err
	}
	for _, wave := range waves(rows) {
`),
			Check: unit("platform/outbox", "^TestOutageParksNothing$/^sqlite$", "never: 30 attempts")},
		{Name: "lane-overtaken", Proves: "I12", Breaks: "two events of one order are on their way at once",
			Edits: edit(relayFile, "		d := depth[r.lane()]\n", "		d := 0\n"),
			Check: unit("platform/outbox", "^TestOneUnacknowledgedPerLane$", "two events of")},
		{Name: "slots-of-others", Proves: "I12", Breaks: "a relay takes the keys of another one that is alive",
			Edits: edit("platform/outbox/lease.go", "		case until <= sqldb.Micros(now):\n", "		case until <= sqldb.Micros(now) || owner != \"\":\n"),
			Check: unit("platform/outbox", "^TestTwoRelaysShare$", "")},
		{Name: "no-replay", Proves: "I13", Breaks: "what the bus has lost is not sent again",
			Edits: edit(relayFile, "		_, err := o.Replay(ctx)\n		return err\n", "		return nil\n"),
			Check: unit("platform/outbox", "^TestBusLost$", "")},
		{Name: "purge-unsent", Proves: "I13", Breaks: "old events are deleted whether they were sent or not",
			Edits: edit("platform/outbox/purge.go", "\n				AND NOT EXISTS (SELECT 1 FROM outbox_unsent u WHERE u.pos = outbox.pos)", ""),
			Check: unit("platform/outbox", "^TestPurge$/^sqlite$", "")},
	}
}

// readers are mutants of the inbox and of the consumers.
func readers() []Mutant {
	return []Mutant{
		{Name: "no-inbox", Proves: "I14", Breaks: "an event that comes again takes effect again",
			Edits: edit(inboxFile, "	if len(fresh) == len(items) {\n", "	if len(fresh) <= len(items) {\n"),
			Check: unit("platform/outbox", "^TestEachEventTakesEffectOnce$/^sqlite$", "took effect")},
		{Name: "inbox-other-transaction", Proves: "I14", Breaks: "an event is noted as handled in a transaction before that of its effect",
			Edits: []Edit{
				{consumerFile, "	var fresh, dead int\n	err := c.parts.DB.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {\n		todo, err := c.note(ctx, tx, items)\n		fresh, dead = len(todo), 0\n		if err != nil || len(todo) == 0 {\n			return err\n		}\n",
					`	var fresh, dead int
	var todo []item
	err := c.parts.DB.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		todo, err = c.note(ctx, tx, items)
		fresh = len(todo)
		return err
	})
	if err != nil || fresh == 0 {
		return err
	}
	err = c.parts.DB.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
`},
			},
			Check: kill("I10")},
		{Name: "offset-before-handling", Proves: "I14", Breaks: "the bus is told that events are handled before they are",
			Edits: edit("platform/bus/consumer.go", "		err := handle(ctx, batch)\n", "		client.MarkCommitRecords(c.stillOwned(last)...)\n		err := handle(ctx, batch)\n"),
			Check: unit("platform/bus", "^TestOffsetsAreCommittedAfterTheHandler$", "")},
		{Name: "poison-not-parked", Proves: "I14", Breaks: "events behind a dead letter of their order are handled as if it had been",
			Edits: edit("platform/outbox/deadletter.go", "		c.parked.Add(1)\n", ""),
			Check: unit("platform/outbox", "^TestPoison$/^sqlite$", "")},
		{Name: "outage-is-poison", Proves: "I14", Breaks: "events become dead letters because the store is down",
			Edits: edit(consumerFile, "	return shop.KindOf(err).Retryable() || errors", "	return errors"),
			Check: unit("platform/outbox", "^TestOutageMakesNoDeadLetters$", "")},
	}
}
