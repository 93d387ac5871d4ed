package shop

import (
	"context"
	"time"
)

// OrderStatus is where an order stands. It follows from its lines, payment and shipment alone.
type OrderStatus string

// The statuses of an order. Rejected, Cancelled and Fulfilled are final; NeedsAttention ends only when
// an operator acts.
const (
	Pending        OrderStatus = "pending"         // accepted, saga running
	Confirmed      OrderStatus = "confirmed"       // stock held, money authorised, shipment scheduled
	Rejected       OrderStatus = "rejected"        // the saga ended without an order; everything undone
	Cancelling     OrderStatus = "cancelling"      // a cancel was accepted and is being carried out
	Cancelled      OrderStatus = "cancelled"       // everything undone
	Fulfilled      OrderStatus = "fulfilled"       // dispatched and captured
	NeedsAttention OrderStatus = "needs_attention" // an undo or a capture could not be completed
)

// Statuses lists every status, for validation and for the documents.
var Statuses = []OrderStatus{Pending, Confirmed, Rejected, Cancelling, Cancelled, Fulfilled, NeedsAttention}

// Final tells whether an order of status s never changes again.
func (s OrderStatus) Final() bool { return s == Rejected || s == Cancelled || s == Fulfilled }

// Settled tells whether the saga has an outcome for now; Prefer: wait ends on it.
func (s OrderStatus) Settled() bool { return s != Pending && s != Cancelling }

// Reason says why an order was rejected or cancelled or what failed. The empty reason means none.
type Reason string

// The reasons an order may carry.
const (
	ReasonOutOfStock          Reason = "out_of_stock"
	ReasonPaymentDeclined     Reason = "payment_declined"
	ReasonPaymentUnavailable  Reason = "payment_unavailable"  // the provider kept failing
	ReasonNotShippable        Reason = "not_shippable"        // the carrier refused
	ReasonShippingUnavailable Reason = "shipping_unavailable" // the carrier kept failing
	ReasonRequested           Reason = "requested"            // cancelled by the customer
	ReasonReservationExpired  Reason = "reservation_expired"
	ReasonAuthorisationExpiry Reason = "authorisation_expiring" // never dispatched while the hold lasted
	ReasonVoidFailed          Reason = "void_failed"            // void or refund did not succeed
	ReasonCaptureFailed       Reason = "capture_failed"
	ReasonCarrierCancelFailed Reason = "carrier_cancel_failed"
	ReasonStuck               Reason = "stuck" // redriven for long without progress
)

// SagaStyle is how an order's steps are driven.
type SagaStyle string

// The two styles.
const (
	Choreographed SagaStyle = "choreographed"
	Orchestrated  SagaStyle = "orchestrated"
)

// Address is where a parcel goes. It is personal data: it travels in events and stores, never in
// logs, traces, metrics or error messages.
type Address struct {
	Name       string `json:"name"`
	Line1      string `json:"line1"`
	Line2      string `json:"line2,omitempty"`
	City       string `json:"city"`
	Region     string `json:"region,omitempty"`
	PostalCode string `json:"postal_code"`
	Country    string `json:"country"` // ISO 3166-1 alpha-2
}

// PlaceLine is one line of a PlaceOrder.
type PlaceLine struct {
	SKU               SKU     `json:"sku"`
	Quantity          int64   `json:"quantity"`
	ExpectedUnitPrice *Amount `json:"expected_unit_price,omitempty"`
}

// PlaceOrder is the command to place an order; the JSON form is the body of POST /v1/orders.
type PlaceOrder struct {
	CustomerID      string            `json:"customer_id"`
	Currency        Currency          `json:"currency"`
	Lines           []PlaceLine       `json:"lines"`
	ShippingAddress Address           `json:"shipping_address"`
	PaymentMethod   string            `json:"payment_method"` // a provider's token, never a card number
	Saga            SagaStyle         `json:"saga,omitempty"`
	ExternalID      string            `json:"external_id,omitempty"`
	Metadata        map[string]string `json:"metadata,omitempty"`
}

// OrderLine is one line of an order. 0 <= shipped, cancelled, reserved <= quantity, and
// reserved + shipped + cancelled <= quantity.
type OrderLine struct {
	Line      int    `json:"line"` // from 1
	SKU       SKU    `json:"sku"`
	Name      string `json:"name"`
	Quantity  int64  `json:"quantity"`
	UnitPrice Amount `json:"unit_price"`
	Total     Amount `json:"total"`
	Reserved  int64  `json:"reserved"`
	Shipped   int64  `json:"shipped"`
	Cancelled int64  `json:"cancelled"`
}

// OrderPayment is what an order knows of its payment.
type OrderPayment struct {
	Status     PaymentStatus `json:"status"`
	Authorised Amount        `json:"authorised"`
	Captured   Amount        `json:"captured"`
	Refunded   Amount        `json:"refunded"`
}

// OrderShipment is what an order knows of its shipment.
type OrderShipment struct {
	ID       ShipmentID     `json:"id"`
	Status   ShipmentStatus `json:"status"`
	Tracking string         `json:"tracking,omitempty"`
}

// Order is an order as the public API shows it. It holds no address and no payment token.
type Order struct {
	ID         OrderID           `json:"id"`
	Status     OrderStatus       `json:"status"`
	Reason     Reason            `json:"reason"`
	Version    int64             `json:"version"` // 1..n, one event of topic orders each
	Saga       SagaStyle         `json:"saga"`
	CustomerID string            `json:"customer_id"`
	ExternalID string            `json:"external_id,omitempty"`
	Currency   Currency          `json:"currency"`
	Lines      []OrderLine       `json:"lines"`
	Subtotal   Amount            `json:"subtotal"`
	Shipping   Amount            `json:"shipping"`
	Tax        Amount            `json:"tax"`
	Total      Amount            `json:"total"`
	Payment    OrderPayment      `json:"payment"`
	Shipment   *OrderShipment    `json:"shipment"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	CreatedAt  time.Time         `json:"created_at"`
	UpdatedAt  time.Time         `json:"updated_at"`
}

// Caller is whom a request acts for. Orders belong to the caller that placed them.
type Caller string

// Request says who asks and under which idempotency key.
type Request struct {
	Caller Caller
	Key    string
}

// OrderQuery selects orders of a caller, newest first. Empty fields select all.
type OrderQuery struct {
	CustomerID string
	Status     OrderStatus
	Text       string // an order id, an external id or a customer id, whole
	Limit      int    // 1..200
	Cursor     string // opaque, from OrderPage.NextCursor
}

// OrderPage is one page of a list.
type OrderPage struct {
	Items      []Order   `json:"items"`
	NextCursor string    `json:"next_cursor"` // empty on the last page
	AsOf       time.Time `json:"as_of"`
}

// Decisions are what other services ask of the order, since two things meet in its row of which one wins:
// a dispatch and a cancel, the expiry of a reservation and a confirmation. Errors are *Error.
type Decisions interface {
	// AllowDispatch is asked by shipping before a parcel is handed over; nil makes the order
	// uncancellable from then on, and is repeatable. Conflict means that it must not leave.
	AllowDispatch(ctx context.Context, id OrderID) error
	// Expire is asked by inventory when a reservation has run out. kept is true for an order that
	// is confirmed or dispatched; otherwise the order is being undone, and the release follows as
	// the last undo. NotFound means that no such order was ever committed.
	Expire(ctx context.Context, id OrderID) (kept bool, err error)
}

// Orders is the order service. Errors are *Error.
type Orders interface {
	Decisions
	// Place prices and stores an order and starts its saga; when it returns, the order is durable.
	// The same key with the same command returns the first answer and replayed; with another
	// command KeyReused; while the first still runs KeyInProgress. Invalid, UnknownSKU and
	// PriceChanged store nothing and leave the key free.
	Place(ctx context.Context, by Request, cmd PlaceOrder) (o Order, replayed bool, err error)
	// Get returns the order as last committed, or NotFound, also for another caller's order.
	Get(ctx context.Context, caller Caller, id OrderID) (Order, error)
	// LastKnown returns the order as this process saw it last, and when that was, for a caller whose Get
	// failed as Unavailable or Overloaded. ok is false where there is no copy of a caller's order.
	LastKnown(caller Caller, id OrderID) (o Order, asOf time.Time, ok bool)
	// Wait returns the order once done holds, or as it is when ctx ends. It never returns a
	// deadline error for an order that exists.
	Wait(ctx context.Context, caller Caller, id OrderID, done func(Order) bool) (Order, error)
	// List returns a page of the caller's orders.
	List(ctx context.Context, caller Caller, q OrderQuery) (OrderPage, error)
	// Timeline returns what happened to an order, oldest first.
	Timeline(ctx context.Context, caller Caller, id OrderID) ([]TimelineItem, error)
	// Cancel asks for an order to be undone. It returns the order as cancelled, or as cancelling
	// while the undoing runs; repeating it is harmless, and so is cancelling a rejected order. Once
	// the carrier has been allowed to take the parcel it is OrderDispatched, and stays so.
	Cancel(ctx context.Context, by Request, id OrderID) (o Order, replayed bool, err error)

	// Stuck lists orders that need an operator or have not moved within their deadline, oldest first.
	Stuck(ctx context.Context, limit int) ([]Order, error)
	// Retry drives a stuck order again, parked undos and captures included. Conflict for an order
	// that has ended.
	Retry(ctx context.Context, id OrderID) (Order, error)
}

// TimelineItem is one thing that happened to an order.
type TimelineItem struct {
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"`    // event, attempt, webhook
	Service string    `json:"service"` // order, inventory, payment, shipping
	What    string    `json:"what"`    // "StockReserved", "authorise"
	Detail  string    `json:"detail"`
	TraceID string    `json:"trace_id"`
}

// TimelineSource is a service that has something to add to an order's timeline.
type TimelineSource interface {
	// OrderTimeline returns the service's own items for an order, none if it has none.
	OrderTimeline(ctx context.Context, id OrderID) ([]TimelineItem, error)
}
