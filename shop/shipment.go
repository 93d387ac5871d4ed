package shop

import (
	"context"
	"time"
)

// ShipmentStatus is where the parcel of one order stands.
type ShipmentStatus string

// The statuses of a shipment.
const (
	ShipmentScheduled      ShipmentStatus = "scheduled"
	ShipmentRejected       ShipmentStatus = "rejected"
	ShipmentCancelled      ShipmentStatus = "cancelled"
	ShipmentDispatched     ShipmentStatus = "dispatched"
	ShipmentNeedsAttention ShipmentStatus = "needs_attention"
)

// Closed tells whether no parcel is on its way and none ever will be.
func (s ShipmentStatus) Closed() bool { return s == ShipmentRejected || s == ShipmentCancelled }

// Shipment is the parcel of one order.
type Shipment struct {
	ID           ShipmentID     `json:"id"`
	OrderID      OrderID        `json:"order_id"`
	Status       ShipmentStatus `json:"status"`
	Reason       Reason         `json:"reason,omitempty"`
	Reference    string         `json:"carrier_reference,omitempty"`
	Tracking     string         `json:"tracking,omitempty"`
	Lines        []ReservedLine `json:"lines"`
	Attempts     []Attempt      `json:"attempts"`
	DispatchedAt time.Time      `json:"dispatched_at,omitzero"`
	CreatedAt    time.Time      `json:"created_at"`
	UpdatedAt    time.Time      `json:"updated_at"`
}

// Rates is what shipping costs.
type Rates interface {
	// ShippingFee is the fee for a parcel to a country (ISO 3166-1, two letters), in minor units of the
	// order's currency, by the carrier's table as it was last known.
	ShippingFee(country string) Amount
}

// RestOfWorld stands in a table of fees for every country that it does not name.
const RestOfWorld = "*"

// RateTable is a Rates that another process can take over as a whole.
type RateTable interface {
	Rates
	// Table returns the fees by country, RestOfWorld among them. It must not be changed.
	Table() map[string]int64
}

// FeeOf is the fee of a country in a table.
func FeeOf(table map[string]int64, country string) Amount {
	if fee, ok := table[country]; ok {
		return Amount(fee)
	}
	return Amount(table[RestOfWorld])
}

// Shipments is the shipping service. Errors are *Error.
type Shipments interface {
	// Shipment returns the shipment of a caller's order, or NotFound where there is none yet.
	Shipment(ctx context.Context, caller Caller, id OrderID) (Shipment, error)
	// CarrierWebhook takes a message of the carrier. Any number of deliveries has one effect. A nil
	// error means that it need not be sent again; Conflict on a dispatch means that the parcel must
	// not leave.
	CarrierWebhook(ctx context.Context, w Webhook) error
}
