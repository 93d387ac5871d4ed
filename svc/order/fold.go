package order

import (
	"cmp"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"holdfast/shop"
)

// state is what the order service knows of one order: the order as the public sees it, what its saga
// needs besides, and where the steps of the other services stand.
type state struct {
	Order         shop.Order             `json:"order"`
	ShipTo        shop.Address           `json:"ship_to"`
	PaymentMethod string                 `json:"payment_method"`
	Stock         shop.ReservationStatus `json:"stock,omitempty"`
	Parcel        shop.ShipmentStatus    `json:"parcel,omitempty"`
	PaymentReason shop.Reason            `json:"payment_reason,omitempty"`
	Declined      shop.Reason            `json:"declined,omitempty"` // why the payment was given up, whatever has become of it since
	ParcelReason  shop.Reason            `json:"parcel_reason,omitempty"`
	HoldExpiresAt time.Time              `json:"hold_expires_at,omitzero"`
	Undo          shop.Reason            `json:"undo,omitempty"`           // why it is being undone
	DispatchBegun bool                   `json:"dispatch_begun,omitempty"` // the carrier may have it
	Seen          seen                   `json:"seen"`
	ProgressAt    time.Time              `json:"progress_at"`
	Drives        int                    `json:"drives,omitempty"` // since then
	Stuck         bool                   `json:"stuck,omitempty"`
}

// seen holds the highest version folded of each source. What is not above it says nothing new.
type seen struct {
	Inventory int64 `json:"inventory,omitempty"`
	Payment   int64 `json:"payment,omitempty"`
	Shipping  int64 `json:"shipping,omitempty"`
}

// fold takes in another service's event and tells whether it said something new.
func (st *state) fold(e shop.Event) (bool, error) {
	switch e.Topic {
	case shop.TopicInventory:
		return foldSnapshot(e, &st.Seen.Inventory, st.foldStock)
	case shop.TopicPayments:
		return foldSnapshot(e, &st.Seen.Payment, st.foldPayment)
	case shop.TopicShipping:
		return foldSnapshot(e, &st.Seen.Shipping, st.foldShipment)
	default:
		return false, fmt.Errorf("topic %s holds nothing that an order folds", e.Topic)
	}
}

// foldSnapshot drops what is older than what was seen: every event is a snapshot.
func foldSnapshot[T any](e shop.Event, seen *int64, apply func(T) bool) (bool, error) {
	if e.Version <= *seen {
		return false, nil
	}
	var d T
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return false, fmt.Errorf("decode %s: %w", e.Type, err)
	}
	*seen = e.Version
	return apply(d), nil
}

func (st *state) foldStock(d shop.StockData) bool {
	if st.Stock == d.Status {
		return false
	}
	st.Stock = d.Status
	for i := range st.Order.Lines {
		l := &st.Order.Lines[i]
		l.Reserved = 0
		switch d.Status {
		case shop.StockReserved:
			l.Reserved = l.Quantity
		case shop.StockShipped:
			l.Shipped = l.Quantity
		}
	}
	return true
}

func (st *state) foldPayment(d shop.PaymentData) bool {
	p := shop.OrderPayment{Status: d.Status, Authorised: d.Authorised, Captured: d.Captured, Refunded: d.Refunded}
	if st.Order.Payment == p && st.PaymentReason == d.Reason && st.HoldExpiresAt.Equal(d.HoldExpiresAt) {
		return false
	}
	st.Order.Payment, st.PaymentReason, st.HoldExpiresAt = p, d.Reason, d.HoldExpiresAt
	if d.Status == shop.PaymentDeclined {
		st.Declined = d.Reason
	}
	return true
}

func (st *state) foldShipment(d shop.ShipmentData) bool {
	if st.Parcel == d.Status {
		return false
	}
	st.Parcel, st.ParcelReason = d.Status, d.Reason
	if d.Status == shop.ShipmentCancelled && st.Order.Shipment == nil {
		return true // closed before there was one
	}
	st.Order.Shipment = &shop.OrderShipment{ID: d.ID, Status: d.Status, Tracking: d.Tracking}
	return true
}

// arranged tells whether every step of the saga has been taken: an order is confirmed by nothing else.
func (st *state) arranged() bool {
	return (st.Stock == shop.StockReserved || st.Stock == shop.StockShipped) &&
		(st.Order.Payment.Status == shop.PaymentAuthorised || st.Order.Payment.Status == shop.PaymentCaptured) &&
		(st.Parcel == shop.ShipmentScheduled || st.Parcel == shop.ShipmentDispatched)
}

// undone tells whether every step is known to be closed.
func (st *state) undone() bool {
	return (st.Stock == shop.StockRejected || st.Stock == shop.StockReleased) && st.Order.Payment.Status.Closed() && st.Parcel.Closed()
}

// declined tells whether the order was given up for want of money. A success that the provider reports later is
// given back, and may be known, or an operator's, before the stock is released: the payment is not declined then.
func (st *state) declined() bool {
	return st.Order.Payment.Status == shop.PaymentDeclined || st.Declined != "" && st.Order.Payment.Status.Closed()
}

// parked tells whether a step waits for an operator.
func (st *state) parked() bool {
	return st.Order.Payment.Status == shop.PaymentNeedsAttention || st.Parcel == shop.ShipmentNeedsAttention
}

// outcome returns the status and the reason that follow from where the steps stand. An order that has
// ended stays as it is.
func (st *state) outcome() (shop.OrderStatus, shop.Reason) {
	switch {
	case st.Order.Status.Final():
		return st.Order.Status, st.Order.Reason
	case st.Order.Payment.Status == shop.PaymentNeedsAttention:
		return shop.NeedsAttention, st.PaymentReason
	case st.Parcel == shop.ShipmentNeedsAttention:
		return shop.NeedsAttention, st.ParcelReason
	case st.Undo != "":
		return st.undoing()
	case st.Stock == shop.StockRejected:
		return shop.Rejected, shop.ReasonOutOfStock // no later step was taken
	case st.declined() && st.Stock == shop.StockReleased:
		return shop.Rejected, cmp.Or(st.Declined, st.PaymentReason)
	case st.Parcel == shop.ShipmentRejected && st.undone():
		return shop.Rejected, st.ParcelReason
	case st.arranged() && st.Parcel == shop.ShipmentDispatched && st.Order.Payment.Status == shop.PaymentCaptured && st.Stock == shop.StockShipped:
		return shop.Fulfilled, ""
	case st.Stuck:
		return shop.NeedsAttention, shop.ReasonStuck
	case st.arranged():
		return shop.Confirmed, ""
	default:
		return shop.Pending, ""
	}
}

// undoing is the outcome of an order that somebody asked to undo.
func (st *state) undoing() (shop.OrderStatus, shop.Reason) {
	customer := st.Undo != shop.ReasonReservationExpired // otherwise the order never came about
	switch {
	case st.undone() && customer:
		return shop.Cancelled, st.Undo
	case st.undone():
		return shop.Rejected, st.Undo
	case st.Stuck:
		return shop.NeedsAttention, shop.ReasonStuck
	case customer:
		return shop.Cancelling, st.Undo
	default:
		return shop.Pending, ""
	}
}

// settle brings the order's status in line with its steps.
func (st *state) settle() {
	st.Order.Status, st.Order.Reason = st.outcome()
	if st.Order.Status == shop.Rejected || st.Order.Status == shop.Cancelled {
		for i := range st.Order.Lines {
			st.Order.Lines[i].Cancelled = st.Order.Lines[i].Quantity
		}
	}
}

// brief is what the other services need to know of the order.
func (st *state) brief(caller shop.Caller) *shop.Brief {
	o := &st.Order
	lines := make([]shop.ReservedLine, len(o.Lines))
	for i, l := range o.Lines {
		lines[i] = shop.ReservedLine{Line: l.Line, SKU: l.SKU, Quantity: l.Quantity}
	}
	return &shop.Brief{OrderID: o.ID, Caller: caller, Saga: o.Saga, Currency: o.Currency, Total: o.Total,
		PaymentMethod: st.PaymentMethod, Lines: lines, ShipTo: st.ShipTo}
}

// deadline is when the watchdog has to look at the order; the zero time for one that has ended or that
// only an operator can move.
func (st *state) deadline(cfg Config) time.Time {
	switch {
	case st.Order.Status.Final() || st.parked():
		return time.Time{}
	case st.Order.Status == shop.Confirmed && !st.DispatchBegun:
		if st.HoldExpiresAt.IsZero() {
			return st.ProgressAt.Add(cfg.ConfirmedMax)
		}
		return st.HoldExpiresAt.Add(-cfg.HoldMargin)
	}
	at, wait := st.ProgressAt, cfg.RedriveAfter
	for range st.Drives {
		at, wait = at.Add(wait), min(2*wait, cfg.RedriveMax)
	}
	return at.Add(wait)
}
