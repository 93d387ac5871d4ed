package shop

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"
)

// The topics of the bus. Each also has a dead-letter topic, see DeadLetters.
const (
	TopicOrders        = "orders"
	TopicInventory     = "inventory"
	TopicPayments      = "payments"
	TopicShipping      = "shipping"
	TopicCompensations = "order-compensations"
)

// Topics lists the topics that services publish on.
var Topics = []string{TopicOrders, TopicInventory, TopicPayments, TopicShipping, TopicCompensations}

// DeadLetters names the dead-letter topic of a topic.
func DeadLetters(topic string) string { return topic + ".dlq" }

// EventType names a fact. Types are append-only.
type EventType string

// The facts of topic orders; payload OrderData.
const (
	EventOrderPlaced         EventType = "OrderPlaced"
	EventOrderProgressed     EventType = "OrderProgressed"     // a step was folded, the status is the same
	EventOrderConfirmed      EventType = "OrderConfirmed"      //
	EventOrderUndoRequested  EventType = "OrderUndoRequested"  // cancelled, expired or stuck: undo it, last step first
	EventOrderRejected       EventType = "OrderRejected"       //
	EventOrderCancelled      EventType = "OrderCancelled"      //
	EventOrderDispatchBegun  EventType = "OrderDispatchBegun"  // the carrier may take it; no cancel from here on
	EventOrderFulfilled      EventType = "OrderFulfilled"      //
	EventOrderNeedsAttention EventType = "OrderNeedsAttention" //
	EventOrderRedriven       EventType = "OrderRedriven"       // it has not moved: every service does its step or says its state again
)

// The facts of topic inventory; payload StockData.
const (
	EventStockReserved EventType = "StockReserved"
	EventStockRejected EventType = "StockRejected"
	EventStockReleased EventType = "StockReleased"
	EventStockShipped  EventType = "StockShipped"
)

// The facts of topic payments; payload PaymentData.
const (
	EventPaymentAuthorised     EventType = "PaymentAuthorised"
	EventPaymentDeclined       EventType = "PaymentDeclined"
	EventPaymentVoided         EventType = "PaymentVoided"
	EventPaymentRefunded       EventType = "PaymentRefunded"
	EventPaymentCancelled      EventType = "PaymentCancelled"
	EventPaymentCaptured       EventType = "PaymentCaptured"
	EventPaymentNeedsAttention EventType = "PaymentNeedsAttention"
)

// The facts of topic shipping; payload ShipmentData.
const (
	EventShipmentScheduled      EventType = "ShipmentScheduled"
	EventShipmentRejected       EventType = "ShipmentRejected"
	EventShipmentCancelled      EventType = "ShipmentCancelled"
	EventShipmentDispatched     EventType = "ShipmentDispatched"
	EventShipmentNeedsAttention EventType = "ShipmentNeedsAttention"
)

// Event is a fact on the bus. Payloads are snapshots: each event says all that its topic has to say
// about the order, so a consumer that keeps the highest version per (source, order) needs no other.
type Event struct {
	ID          EventID
	Type        EventType
	Source      string // the service: "inventory"
	Topic       string
	OrderID     OrderID // the key on the bus
	Version     int64   // 1..n per source and order without gaps; 0 on copies (compensations, dead letters)
	Time        time.Time
	TraceParent string            // W3C; "" where there is no trace
	Headers     map[string]string // beyond the envelope: what a dead letter says of its end; nil on most events
	Data        json.RawMessage   // the payload
}

// Saga tells how the saga of the event's order is driven, as its payload says; "" where that says nothing.
func (e Event) Saga() SagaStyle {
	type styled struct {
		Saga SagaStyle `json:"saga"`
	}
	var d struct {
		styled
		Brief styled `json:"brief"`
		Order styled `json:"order"`
	}
	if json.Unmarshal(e.Data, &d) != nil {
		return ""
	}
	return cmp.Or(d.Saga, d.Brief.Saga, d.Order.Saga)
}

// Brief is what the steps of a saga need to know of an order. It travels along with their events,
// so that no step has to ask.
type Brief struct {
	OrderID       OrderID        `json:"order_id"`
	Caller        Caller         `json:"caller"`
	Saga          SagaStyle      `json:"saga"`
	Currency      Currency       `json:"currency"`
	Total         Amount         `json:"total"`
	PaymentMethod string         `json:"payment_method"`
	Lines         []ReservedLine `json:"lines"`
	ShipTo        Address        `json:"ship_to"`
}

// OrderData is the payload of topic orders.
type OrderData struct {
	Order Order  `json:"order"`
	Brief *Brief `json:"brief,omitempty"` // on OrderPlaced and OrderRedriven
	Undo  bool   `json:"undo,omitempty"`  // the order is being undone: a shipment must not come about
}

// StockData is the payload of topic inventory.
type StockData struct {
	Reservation
	Brief *Brief `json:"brief,omitempty"` // on StockReserved
}

// PaymentData is the payload of topic payments.
type PaymentData struct {
	ID            PaymentID     `json:"id"`
	OrderID       OrderID       `json:"order_id"`
	Status        PaymentStatus `json:"status"`
	Reason        Reason        `json:"reason,omitempty"`
	Currency      Currency      `json:"currency"`
	Authorised    Amount        `json:"authorised"`
	Captured      Amount        `json:"captured"`
	Refunded      Amount        `json:"refunded"`
	HoldExpiresAt time.Time     `json:"hold_expires_at,omitzero"`
	Saga          SagaStyle     `json:"saga,omitempty"`  // empty on events of before it was said: choreographed
	Brief         *Brief        `json:"brief,omitempty"` // on PaymentAuthorised
}

// ShipmentData is the payload of topic shipping.
type ShipmentData struct {
	ID       ShipmentID     `json:"id"`
	OrderID  OrderID        `json:"order_id"`
	Status   ShipmentStatus `json:"status"`
	Reason   Reason         `json:"reason,omitempty"`
	Tracking string         `json:"tracking,omitempty"`
	Saga     SagaStyle      `json:"saga,omitempty"` // empty on events of before it was said: choreographed
}

// NewEvent makes an event that carries data. The outbox fills in what is left: id, time and source.
func NewEvent(t EventType, topic string, id OrderID, version int64, traceParent string, data any) (Event, error) {
	b, err := json.Marshal(data)
	if err != nil {
		return Event{}, fmt.Errorf("encode %s: %w", t, err)
	}
	return Event{Type: t, Topic: topic, OrderID: id, Version: version, TraceParent: traceParent, Data: b}, nil
}
