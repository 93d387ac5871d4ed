package shop

import (
	"context"
	"time"
)

// PaymentStatus is where the money of one order stands.
type PaymentStatus string

// The statuses of a payment. In an order "none" means that no answer has come yet.
const (
	PaymentNone           PaymentStatus = "none"
	PaymentAuthorised     PaymentStatus = "authorised"
	PaymentDeclined       PaymentStatus = "declined"
	PaymentVoided         PaymentStatus = "voided"
	PaymentRefunded       PaymentStatus = "refunded"
	PaymentCancelled      PaymentStatus = "cancelled" // closed before any money was held
	PaymentCaptured       PaymentStatus = "captured"
	PaymentNeedsAttention PaymentStatus = "needs_attention"
)

// Closed tells whether no money is held or taken and none ever will be.
func (s PaymentStatus) Closed() bool {
	return s == PaymentDeclined || s == PaymentVoided || s == PaymentRefunded || s == PaymentCancelled
}

// Attempt is one call to an outside party, as it was answered.
type Attempt struct {
	At        time.Time `json:"at"`
	Operation string    `json:"operation"` // authorise, capture, void, refund, schedule, cancel, or query:<operation>
	Number    int       `json:"number"`    // from 1 within the operation
	Outcome   string    `json:"outcome"`   // succeeded, declined, refused, failed, unknown
	Code      string    `json:"code,omitempty"`
	Reference string    `json:"reference,omitempty"` // the other party's id
	TraceID   string    `json:"trace_id,omitempty"`
}

// LedgerEntry is one side of a booking. Per transaction and currency the amounts sum to zero.
type LedgerEntry struct {
	At          time.Time `json:"at"`
	Transaction string    `json:"transaction"` // the operation's key
	Account     string    `json:"account"`
	Amount      Amount    `json:"amount"` // debit positive, credit negative
	Currency    Currency  `json:"currency"`
}

// Payment is the money of one order.
type Payment struct {
	ID            PaymentID     `json:"id"`
	OrderID       OrderID       `json:"order_id"`
	Status        PaymentStatus `json:"status"`
	Reason        Reason        `json:"reason,omitempty"`
	Currency      Currency      `json:"currency"`
	Amount        Amount        `json:"amount"`
	Authorised    Amount        `json:"authorised"`
	Captured      Amount        `json:"captured"`
	Refunded      Amount        `json:"refunded"`
	Reference     string        `json:"provider_reference,omitempty"`
	HoldExpiresAt time.Time     `json:"hold_expires_at,omitzero"`
	Attempts      []Attempt     `json:"attempts"`
	Ledger        []LedgerEntry `json:"ledger"`
	DeclineCode   string        `json:"decline_code,omitempty"`
	CaptureAtOnce bool          `json:"capture_at_once"`
	UpdatedAt     time.Time     `json:"updated_at"`
	CreatedAt     time.Time     `json:"created_at"`
}

// Webhook is a message that an outside party signed and sent; the signature has been verified.
type Webhook struct {
	ID   string // webhook-id: the same for every delivery of one message
	Type string
	Data []byte // JSON
}

// Payments is the payment service. Errors are *Error.
type Payments interface {
	// Payment returns the payment of a caller's order, or NotFound where there is none yet.
	Payment(ctx context.Context, caller Caller, id OrderID) (Payment, error)
	// ProviderWebhook takes a message of the payment provider. Any number of deliveries has one
	// effect. A nil error means that it need not be sent again.
	ProviderWebhook(ctx context.Context, w Webhook) error
}
