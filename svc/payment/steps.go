package payment

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"holdfast/platform/calls"
	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// batch is the work of one transaction: rows are loaded once, changed in memory, and saved once.
type batch struct {
	s        *Service
	now      time.Time
	payments map[shop.OrderID]*payment
	entries  []entry
	events   []shop.Event
	calls    []calls.Call
}

// load locks the rows of the orders.
func (s *Service) load(ctx context.Context, tx *sqldb.Tx, ids []shop.OrderID) (*batch, error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return nil, err
	}
	found, err := paymentsOf(ctx, tx, ids, forUpdate)
	return &batch{s: s, now: now, payments: found}, err
}

// store is how the rows of a transaction are loaded and saved.
func (s *Service) store() calls.Store[*batch] { return calls.Store[*batch]{Load: s.load, Save: save} }

// save writes what was changed.
func save(ctx context.Context, tx *sqldb.Tx, b *batch) error {
	var dirty []*payment
	for _, p := range b.payments {
		if p.dirty {
			dirty = append(dirty, p)
		}
	}
	slices.SortFunc(dirty, func(x, y *payment) int { return cmp.Compare(x.OrderID, y.OrderID) })
	if err := savePayments(ctx, tx, dirty); err != nil {
		return err
	}
	if err := insertEntries(ctx, tx, b.entries); err != nil {
		return err
	}
	if err := b.s.runner.Enqueue(ctx, tx, b.calls...); err != nil {
		return err
	}
	tx.AfterCommit(func() {
		for _, p := range dirty {
			b.s.steps.Settled(p.OrderID)
		}
	})
	return b.s.outbox.Append(ctx, tx, b.events...)
}

// open makes a row in the given state.
func (b *batch) open(id shop.OrderID, state shop.PaymentStatus) *payment {
	p := &payment{dirty: true, Payment: shop.Payment{OrderID: id, ID: shop.PaymentID(b.s.deps.IDs.New(shop.PaymentPrefix)),
		Status: state, CreatedAt: b.now, UpdatedAt: b.now, CaptureAtOnce: b.s.cfg.Capture == CaptureImmediate}}
	b.payments[id] = p
	return p
}

// to moves a row to a state.
func (b *batch) to(p *payment, state shop.PaymentStatus) {
	p.Status, p.UpdatedAt, p.dirty = state, b.now, true
}

// authorise asks the provider to hold the order's total. Nothing is asked for an order that is free.
func (b *batch) authorise(cause shop.Event, brief *shop.Brief) error {
	p := b.open(brief.OrderID, authorising)
	p.caller, p.saga, p.Currency, p.Amount = brief.Caller, brief.Saga, brief.Currency, brief.Total
	if p.Amount == 0 {
		b.to(p, shop.PaymentAuthorised)
		return b.emit(p, cause.TraceParent, brief)
	}
	return b.call(p, opAuthorise, cause.TraceParent, request{Brief: brief, Capture: p.CaptureAtOnce})
}

// capture takes the money that is held; cause is the dispatch.
func (b *batch) capture(p *payment, traceParent string) error {
	switch {
	case p.Status != shop.PaymentAuthorised:
		return nil // under way or done; money that was given back cannot be here, see ARCHITECTURE.md I9
	case p.Captured == p.Amount:
		b.to(p, shop.PaymentCaptured)
		return b.emit(p, traceParent, nil)
	}
	b.to(p, capturing)
	return b.call(p, opCapture, traceParent, request{Reference: p.Reference, Amount: p.Authorised})
}

// undo gives back whatever is or will be held or taken. It is remembered in the row, so that a success
// that arrives later is given back as well.
func (b *batch) undo(p *payment, id shop.OrderID, saga shop.SagaStyle, traceParent string) error {
	if p == nil {
		p = b.open(id, shop.PaymentCancelled)
		p.undo, p.saga = true, saga
		return b.emit(p, traceParent, nil)
	}
	if p.undo {
		return nil
	}
	p.undo, p.dirty = true, true
	if p.Status != shop.PaymentAuthorised {
		return nil // declined: nothing to undo; authorising: its outcome decides
	}
	return b.giveBack(p, traceParent)
}

// giveBack voids a hold or refunds a charge.
func (b *batch) giveBack(p *payment, traceParent string) error {
	switch {
	case p.Authorised == 0:
		b.to(p, shop.PaymentVoided)
		return b.emitUndone(p, traceParent)
	case p.Captured > 0:
		b.to(p, refunding)
		return b.call(p, opRefund, traceParent, request{Reference: p.Reference, Amount: p.Captured})
	default:
		b.to(p, voiding)
		return b.call(p, opVoid, traceParent, request{Reference: p.Reference})
	}
}

// succeeded applies an operation that the provider did. It is safe to repeat: the answer, a query and
// the webhook may all bring it.
func (b *batch) succeeded(p *payment, c calls.Call, r request, doc authorisation) error {
	switch {
	case c.Kind == opAuthorise && (p.Status == authorising || p.Authorised == 0 && p.Amount > 0 && (p.Status == shop.PaymentDeclined || p.Status == shop.PaymentCancelled)):
		return b.authorised(p, c, r, doc)
	case c.Kind == opCapture && (p.Status == capturing || p.Status == shop.PaymentNeedsAttention):
		b.book(c.Key, p, doc.Captured, "holds_owed", "holds")
		b.book(c.Key, p, doc.Captured, "provider", "sales")
		p.Captured = doc.Captured
		b.to(p, shop.PaymentCaptured)
		return b.emit(p, c.TraceParent, nil)
	case c.Kind == opVoid && (p.Status == voiding || p.Status == shop.PaymentNeedsAttention):
		b.book(c.Key, p, p.Authorised, "holds_owed", "holds")
		b.to(p, shop.PaymentVoided)
		return b.emitUndone(p, c.TraceParent)
	case c.Kind == opRefund && (p.Status == refunding || p.Status == shop.PaymentNeedsAttention):
		b.book(c.Key, p, doc.Refunded-p.Refunded, "sales", "provider")
		p.Refunded = doc.Refunded
		b.to(p, shop.PaymentRefunded)
		return b.emitUndone(p, c.TraceParent)
	}
	return nil
}

// authorised applies the provider's hold, or gives it back where the order is being undone or was
// given up before the provider's success became known.
func (b *batch) authorised(p *payment, c calls.Call, r request, doc authorisation) error {
	late := p.Status == shop.PaymentDeclined || p.Status == shop.PaymentCancelled
	p.Reference, p.Authorised, p.Captured, p.HoldExpiresAt = doc.ID, doc.Amount, doc.Captured, doc.ExpiresAt
	b.book(c.Key, p, doc.Amount, "holds", "holds_owed")
	if doc.Captured > 0 {
		b.book(c.Key, p, doc.Captured, "holds_owed", "holds")
		b.book(c.Key, p, doc.Captured, "provider", "sales")
	}
	if p.undo || late {
		p.undo = true
		return b.giveBack(p, c.TraceParent)
	}
	b.to(p, shop.PaymentAuthorised)
	return b.emit(p, c.TraceParent, r.Brief)
}

// declined ends an authorisation that did not come about.
func (b *batch) declined(p *payment, c calls.Call, why shop.Reason, code string) error {
	if p.Status != authorising {
		return nil
	}
	p.Reason, p.DeclineCode = why, code
	b.to(p, shop.PaymentDeclined)
	return b.emit(p, c.TraceParent, nil)
}

// neverAsked closes a payment whose order was undone before the provider was asked.
func (b *batch) neverAsked(p *payment, c calls.Call) error {
	if p.Status != authorising {
		return nil
	}
	b.to(p, shop.PaymentCancelled)
	return b.emit(p, c.TraceParent, nil)
}

// park leaves an undo or a capture that keeps failing to an operator.
func (b *batch) park(p *payment, c calls.Call) error {
	if p.Status != voiding && p.Status != refunding && p.Status != capturing {
		return nil
	}
	p.Reason = shop.ReasonVoidFailed
	if c.Kind == opCapture {
		p.Reason = shop.ReasonCaptureFailed
	}
	b.to(p, shop.PaymentNeedsAttention)
	return b.emit(p, c.TraceParent, nil)
}

// book writes both sides of a booking.
func (b *batch) book(txn string, p *payment, amount shop.Amount, debit, credit string) {
	b.entries = append(b.entries,
		entry{txn: txn, orderID: p.OrderID, account: debit, amount: amount, currency: p.Currency},
		entry{txn: txn, orderID: p.OrderID, account: credit, amount: -amount, currency: p.Currency})
}

func (b *batch) call(p *payment, op, traceParent string, r request) error {
	body, err := json.Marshal(r)
	b.calls = append(b.calls, calls.Call{Key: callKey(p.OrderID, op), OrderID: p.OrderID, Kind: op, Request: body, TraceParent: traceParent})
	return err
}

// eventTypes names the event that says a state; states under way say nothing.
func eventType(state shop.PaymentStatus) (shop.EventType, bool) {
	t, ok := map[shop.PaymentStatus]shop.EventType{
		shop.PaymentAuthorised: shop.EventPaymentAuthorised, shop.PaymentDeclined: shop.EventPaymentDeclined,
		shop.PaymentVoided: shop.EventPaymentVoided, shop.PaymentRefunded: shop.EventPaymentRefunded,
		shop.PaymentCancelled: shop.EventPaymentCancelled, shop.PaymentCaptured: shop.EventPaymentCaptured,
		shop.PaymentNeedsAttention: shop.EventPaymentNeedsAttention,
	}[state]
	return t, ok
}

// emit says p's state.
func (b *batch) emit(p *payment, traceParent string, brief *shop.Brief) error {
	t, ok := eventType(p.Status)
	if !ok {
		return nil
	}
	if p.Status != shop.PaymentAuthorised {
		brief = nil
	}
	p.version++
	p.dirty = true
	e, err := shop.NewEvent(t, shop.TopicPayments, p.OrderID, p.version, traceParent, shop.PaymentData{
		ID: p.ID, OrderID: p.OrderID, Status: p.Status, Reason: p.Reason, Currency: p.Currency, Authorised: p.Authorised,
		Captured: p.Captured, Refunded: p.Refunded, HoldExpiresAt: p.HoldExpiresAt, Saga: p.saga, Brief: brief})
	b.events = append(b.events, e)
	return err
}

// emitUndone says p's state also on the topic of compensations.
func (b *batch) emitUndone(p *payment, traceParent string) error {
	if err := b.emit(p, traceParent, nil); err != nil {
		return err
	}
	undone := b.events[len(b.events)-1]
	undone.Topic, undone.Version = shop.TopicCompensations, 0
	b.events = append(b.events, undone)
	return nil
}
