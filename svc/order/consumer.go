package order

import (
	"context"
	"fmt"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// topics are what the order folds: where each step of its saga stands.
var topics = []string{shop.TopicInventory, shop.TopicPayments, shop.TopicShipping}

var types = []shop.EventType{
	shop.EventStockReserved, shop.EventStockRejected, shop.EventStockReleased, shop.EventStockShipped,
	shop.EventPaymentAuthorised, shop.EventPaymentDeclined, shop.EventPaymentVoided, shop.EventPaymentRefunded,
	shop.EventPaymentCancelled, shop.EventPaymentCaptured, shop.EventPaymentNeedsAttention,
	shop.EventShipmentScheduled, shop.EventShipmentRejected, shop.EventShipmentCancelled, shop.EventShipmentDispatched,
	shop.EventShipmentNeedsAttention,
}

// consume folds the fresh events of a poll.
func (s *Service) consume(ctx context.Context, tx *sqldb.Tx, events []shop.Event) error {
	ids := make([]shop.OrderID, len(events))
	for i, e := range events {
		ids[i] = e.OrderID
	}
	b, err := s.load(ctx, tx, ids...)
	if err != nil {
		return err
	}
	for _, e := range events {
		if err := b.take(e); err != nil {
			return err
		}
	}
	return b.save(ctx, tx)
}

// take folds one event.
func (b *batch) take(e shop.Event) error {
	r := b.rows[e.OrderID]
	if r == nil {
		return fmt.Errorf("%s is about an order that was never placed here", e.Type)
	}
	was := r.needsOperator()
	fresh, err := r.fold(e)
	if err != nil {
		return err
	}
	r.dirty = true // at least what was seen has changed
	if !fresh {
		return nil
	}
	b.note(e.OrderID, e.Time, e.Source, string(e.Type), reasonOf(r, e.Topic), e.TraceParent)
	if r.Order.Status.Final() {
		// The order has ended. What follows an end that was reached early, on the first refusal, is
		// kept, and shown to the operator if it is amiss.
		if now := r.needsOperator(); now != was {
			b.s.deps.Log.Warn("an order that has ended needs an operator", "order_id", e.OrderID, "event", e.Type)
		}
		return nil
	}
	b.progress(r, e.TraceParent)
	return nil
}

// reasonOf is the reason that the last event of a topic gave.
func reasonOf(r *row, topic string) string {
	switch topic {
	case shop.TopicPayments:
		return string(r.PaymentReason)
	case shop.TopicShipping:
		return string(r.ParcelReason)
	default:
		if r.Stock == shop.StockRejected {
			return string(shop.ReasonOutOfStock)
		}
		return ""
	}
}

// Topics are those that the service reads. The embedded bus keeps a record until its readers have it.
func Topics() []string { return topics }
