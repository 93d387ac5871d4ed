package psp

import (
	"encoding/json"
	"time"

	"holdfast/shop"
)

// The operations, which are also the kinds of calls that are counted.
const (
	kindAuthorise = "authorise"
	kindCapture   = "capture"
	kindVoid      = "void"
	kindRefund    = "refund"
	kindQuery     = "query"
)

// The entries of the ledger.
const (
	entryAuthorised = "authorised"
	entryDeclined   = "declined"
	entryCaptured   = "captured"
	entryVoided     = "voided"
	entryRefunded   = "refunded"
)

// The notes between the entries.
const (
	noteNever      = "never"       // the key's authorisation was not done and never will be
	noteFailed     = "failed"      // the key's operation has failed once
	noteUndoFailed = "undo_failed" // a void or refund of the authorisation has failed
	noteDelivered  = "delivered"   // the webhook about the key's operation was taken
)

// line is a line of the ledger: an entry or a note. An entry also holds the whole state of its
// authorisation after it, and is thereby the answer to its operation, whenever it is asked for again.
type line struct {
	Seq           int64         `json:"seq,omitempty"`
	Note          string        `json:"note,omitempty"`
	At            time.Time     `json:"at"`
	Entry         string        `json:"entry,omitempty"`
	Authorisation string        `json:"authorisation,omitempty"`
	Reference     string        `json:"reference,omitempty"`
	Key           string        `json:"key,omitempty"`
	Amount        shop.Amount   `json:"amount,omitempty"`
	Currency      shop.Currency `json:"currency,omitempty"`

	Kind     string      `json:"kind,omitempty"` // of the operation, where the entry does not tell it
	Print    string      `json:"print,omitempty"`
	Total    shop.Amount `json:"total,omitempty"`
	Captured shop.Amount `json:"captured,omitempty"`
	Refunded shop.Amount `json:"refunded,omitempty"`
	Code     string      `json:"code,omitempty"`
	Expires  time.Time   `json:"expires,omitzero"`
	Method   string      `json:"method,omitempty"` // if its voids and refunds are to fail
	Hook     string      `json:"hook,omitempty"`   // the webhook about it must be delivered
	Trace    string      `json:"trace,omitempty"`  // for the webhook
}

// kind returns the operation that the line is of.
func (l line) kind() string {
	switch {
	case l.Kind != "":
		return l.Kind
	case l.Entry == entryCaptured:
		return kindCapture
	case l.Entry == entryVoided:
		return kindVoid
	case l.Entry == entryRefunded:
		return kindRefund
	default:
		return kindAuthorise
	}
}

// status returns where the authorisation stands.
func (l line) status() string {
	if l.Entry == entryRefunded && l.Refunded < l.Captured {
		return entryCaptured
	}
	return l.Entry
}

// document is an authorisation as the API shows it.
type document struct {
	ID          string        `json:"id"`
	Status      string        `json:"status"`
	Amount      shop.Amount   `json:"amount"`
	Currency    shop.Currency `json:"currency"`
	Reference   string        `json:"reference"`
	Captured    shop.Amount   `json:"captured"`
	Refunded    shop.Amount   `json:"refunded"`
	DeclineCode string        `json:"decline_code"`
	ExpiresAt   time.Time     `json:"expires_at,omitzero"`
}

func (l line) document() document {
	return document{ID: l.Authorisation, Status: l.status(), Amount: l.Total, Currency: l.Currency, Reference: l.Reference,
		Captured: l.Captured, Refunded: l.Refunded, DeclineCode: l.Code, ExpiresAt: l.Expires}
}

// operation is what is told about an idempotency key, by query and by webhook.
type operation struct {
	Key           string    `json:"key"`
	Kind          string    `json:"kind"`
	Status        string    `json:"status"` // succeeded, declined, failed
	Authorisation *document `json:"authorisation,omitempty"`
}

func (l line) operation() operation {
	op := operation{Key: l.Key, Kind: l.kind(), Status: "succeeded"}
	if l.Note == noteNever {
		op.Status = "failed"
		return op
	}
	if l.Entry == entryDeclined {
		op.Status = "declined"
	}
	doc := l.document()
	op.Authorisation = &doc
	return op
}

// message is the body of a webhook.
type message struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      operation `json:"data"`
}

func (l line) message() message {
	m := message{Timestamp: l.At, Data: l.operation()}
	topic := m.Data.Kind
	if topic == kindAuthorise {
		topic = "authorisation"
	}
	m.Type = topic + "." + m.Data.Status
	return m
}

// encode returns v as JSON.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings, numbers and times of this century
	}
	return b
}
