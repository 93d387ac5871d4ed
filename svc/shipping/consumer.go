package shipping

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json"

	"holdfast/platform/calls"
	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// topics and types are what the saga asks of shipping: schedule when money is held, and be the first to
// undo, since the last step is undone first. An orchestrator asks for both by itself, and then the events
// ask for nothing.
var topics = []string{shop.TopicPayments, shop.TopicOrders}

var types = []shop.EventType{
	shop.EventPaymentAuthorised,
	shop.EventOrderUndoRequested, shop.EventOrderRedriven,
}

// asks tells whether an event asks for anything. Of an orchestrated order the orchestrator asks, but for saying a state
// again.
func asks(e shop.Event) bool {
	return e.Type == shop.EventOrderRedriven || e.Saga() != shop.Orchestrated
}

// consume handles the fresh events of a poll.
func (s *Service) consume(ctx context.Context, tx *sqldb.Tx, events []shop.Event) error {
	ids := make([]shop.OrderID, len(events))
	for i, e := range events {
		ids[i] = e.OrderID
	}
	b, err := s.load(ctx, tx, ids)
	if err != nil {
		return err
	}
	for _, e := range events {
		if err := b.apply(ctx, tx, e); err != nil {
			return err
		}
	}
	return save(ctx, tx, b)
}

// apply does what one event asks for.
func (b *batch) apply(ctx context.Context, tx *sqldb.Tx, e shop.Event) error {
	sh := b.shipments[e.OrderID]
	switch e.Type {
	case shop.EventPaymentAuthorised:
		if sh != nil {
			return nil // asked for already, or closed before it came
		}
		var d shop.PaymentData
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return fmt.Errorf("decode %s: %w", e.Type, err)
		}
		if d.Brief == nil {
			return fmt.Errorf("%s has no brief", e.Type)
		}
		return b.schedule(e, d.Brief)
	case shop.EventOrderUndoRequested:
		var d shop.OrderData
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return fmt.Errorf("decode %s: %w", e.Type, err)
		}
		return b.undo(sh, e.OrderID, d.Order.Saga, e.TraceParent)
	default: // OrderRedriven
		return b.redrive(ctx, tx, sh, e)
	}
}

// redrive does what may have been missed, and says the state again.
func (b *batch) redrive(ctx context.Context, tx *sqldb.Tx, sh *shipment, e shop.Event) error {
	var d shop.OrderData
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return fmt.Errorf("decode %s: %w", e.Type, err)
	}
	if _, err := calls.Unpark(ctx, tx, e.OrderID); err != nil {
		return err
	}
	if d.Undo && d.Order.Saga != shop.Orchestrated && (sh == nil || !sh.undo) {
		return b.undo(sh, e.OrderID, d.Order.Saga, e.TraceParent)
	}
	if sh == nil {
		return nil
	}
	return b.emit(sh, e.TraceParent, false)
}

// Topics are those that the service reads. The embedded bus keeps a record until its readers have it.
func Topics() []string { return topics }
