package payment

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json"

	"holdfast/platform/calls"
	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// topics and types are what the saga asks of payment: authorise when stock is held, give back when there is
// no parcel, capture when it has left. The first two are asked by the orchestrator where there is one, and
// then the events ask for nothing.
var topics = []string{shop.TopicInventory, shop.TopicShipping, shop.TopicOrders}

var types = []shop.EventType{
	shop.EventStockReserved,
	shop.EventShipmentRejected, shop.EventShipmentCancelled, shop.EventShipmentDispatched,
	shop.EventOrderRedriven,
}

// asks tells whether an event asks for anything. Of an orchestrated order the orchestrator asks, but for what follows a
// dispatch and for saying a state again.
func asks(e shop.Event) bool {
	return e.Type == shop.EventOrderRedriven || e.Type == shop.EventShipmentDispatched || e.Saga() != shop.Orchestrated
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
	p := b.payments[e.OrderID]
	switch e.Type {
	case shop.EventStockReserved:
		if p != nil {
			return nil // asked for already, or closed before it came
		}
		brief, err := briefOf[shop.StockData](e, func(d shop.StockData) *shop.Brief { return d.Brief })
		if err != nil {
			return err
		}
		return b.authorise(e, brief)
	case shop.EventShipmentRejected, shop.EventShipmentCancelled:
		var d shop.ShipmentData
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return fmt.Errorf("decode %s: %w", e.Type, err)
		}
		return b.undo(p, e.OrderID, d.Saga, e.TraceParent)
	case shop.EventShipmentDispatched:
		if p == nil {
			return fmt.Errorf("the parcel of %s left, but there is no payment", e.OrderID)
		}
		return b.capture(p, e.TraceParent)
	default: // OrderRedriven
		if p == nil {
			return nil
		}
		if _, err := calls.Unpark(ctx, tx, e.OrderID); err != nil {
			return err
		}
		brief, err := briefOf[shop.OrderData](e, func(d shop.OrderData) *shop.Brief { return d.Brief })
		if err != nil {
			return err
		}
		return b.emit(p, e.TraceParent, brief)
	}
}

// briefOf decodes an event that must carry a brief.
func briefOf[T any](e shop.Event, get func(T) *shop.Brief) (*shop.Brief, error) {
	var d T
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return nil, fmt.Errorf("decode %s: %w", e.Type, err)
	}
	brief := get(d)
	if brief == nil {
		return nil, fmt.Errorf("%s has no brief", e.Type)
	}
	return brief, nil
}

// Topics are those that the service reads. The embedded bus keeps a record until its readers have it.
func Topics() []string { return topics }
