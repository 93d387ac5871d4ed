package carrier

import (
	"encoding/json"
	"strings"
	"time"

	"holdfast/shop"
)

// The operations, which are also the kinds of calls that are counted.
const (
	kindSchedule = "schedule"
	kindCancel   = "cancel"
	kindQuery    = "query"
	kindRates    = "rates"
)

// The entries of the ledger.
const (
	entryScheduled  = "scheduled"
	entryRefused    = "refused"
	entryCancelled  = "cancelled"
	entryHeld       = "held" // it was not allowed to leave
	entryDispatched = "dispatched"
)

const (
	// noteFailed says that the key's operation has failed once.
	noteFailed = "failed"
	// never marks a parcel that will not be dispatched.
	never = "never"
	// notShippable is the code of a refusal.
	notShippable = "not_shippable"
	// trackingDigits is how many characters of a parcel's id its tracking number has.
	trackingDigits = 14
)

// line is a line of the ledger: an entry or a note. The latest entry of a parcel is its state. Where it
// goes is nobody's business here, and is not kept.
type line struct {
	Seq       int64        `json:"seq,omitempty"`
	Note      string       `json:"note,omitempty"`
	At        time.Time    `json:"at"`
	Entry     string       `json:"entry,omitempty"`
	ID        string       `json:"id,omitempty"`
	Reference string       `json:"reference,omitempty"`
	Key       string       `json:"key,omitempty"`
	Lines     []parcelLine `json:"lines,omitempty"`

	Print    string `json:"print,omitempty"`
	Dispatch string `json:"dispatch,omitempty"` // "never"
	Trace    string `json:"trace,omitempty"`    // for the webhook
}

// parcelLine is what is in a parcel.
type parcelLine struct {
	SKU      shop.SKU `json:"sku"`
	Quantity int64    `json:"quantity"`
}

// document is a parcel as the API shows it.
type document struct {
	ID        string `json:"id"`
	Status    string `json:"status"` // scheduled, dispatched, cancelled
	Tracking  string `json:"tracking"`
	Reference string `json:"reference"`
}

func (l line) document() document {
	d := document{ID: l.ID, Status: l.Entry, Reference: l.Reference, Tracking: "HF" + strings.ToUpper(l.ID[max(0, len(l.ID)-trackingDigits):])}
	if l.Entry == entryHeld {
		d.Status = entryScheduled
	}
	return d
}

// operation is what is told about an idempotency key.
type operation struct {
	Key      string    `json:"key"`
	Kind     string    `json:"kind"`
	Status   string    `json:"status"` // succeeded, refused
	Shipment *document `json:"shipment,omitempty"`
	Code     string    `json:"code"`
}

func (l line) operation() operation {
	if l.Entry == entryRefused {
		return operation{Key: l.Key, Kind: kindSchedule, Status: "refused", Code: notShippable}
	}
	doc := l.document()
	op := operation{Key: l.Key, Kind: kindSchedule, Status: "succeeded", Shipment: &doc}
	if l.Entry == entryCancelled {
		op.Kind = kindCancel
	}
	return op
}

// message is the body of a webhook.
type message struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      document  `json:"data"`
}

// leaving is the message that a parcel is about to leave.
func (l line) leaving(at time.Time) message {
	m := message{Type: "shipment.dispatched", Timestamp: at, Data: l.document()}
	m.Data.Status = entryDispatched
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
