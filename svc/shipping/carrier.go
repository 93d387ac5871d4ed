package shipping

import (
	"context"
	"encoding/json"
	"net/url"

	"holdfast/platform/calls"
	"holdfast/resilience"
	"holdfast/shop"
)

// parcel is the carrier's document.
type parcel struct {
	ID        string       `json:"id"`
	Status    string       `json:"status"`
	Tracking  string       `json:"tracking"`
	Reference shop.OrderID `json:"reference"`
}

// The operations at the carrier, which are also the kinds of calls.
const (
	opSchedule = "schedule"
	opCancel   = "cancel"
	opQuery    = "query" // what became of one of the others; it is no call of its own
	opRates    = "rates" // neither is this
)

// operations are what the policies have to know of them. All carry a key, so all are safe to repeat; a
// cancel is part of an undo, and has a lane of its own.
func operations() []resilience.Operation {
	op := func(name string, kind resilience.Kind, criticality resilience.Criticality) resilience.Operation {
		return resilience.Operation{Name: name, Kind: kind, Criticality: criticality, RespectsContext: true}
	}
	return []resilience.Operation{op(opSchedule, resilience.IdempotentCommand, resilience.Normal),
		op(opCancel, resilience.IdempotentCommand, resilience.Undo), op(opQuery, resilience.ExactRead, resilience.Critical),
		op(opRates, resilience.Read, resilience.Sheddable)}
}

// callKey is the idempotency key of an operation: the same for each attempt, worker and restart.
func callKey(id shop.OrderID, op string) string { return string(id) + ":" + op }

// request is what a call needs to be made.
type request struct {
	ShipTo    *shop.Address       `json:"ship_to,omitempty"`
	Lines     []shop.ReservedLine `json:"lines,omitempty"`
	Reference string              `json:"reference,omitempty"` // the carrier's parcel
}

// Ask asks what became of the operation. Refused means that the carrier does not know it.
func (a attempt) Ask(ctx context.Context) verdict {
	answer := a.carrier.Get(ctx, opQuery, "/v1/operations/"+url.PathEscape(a.call.Key))
	if answer.Outcome != calls.Succeeded {
		return verdict{Outcome: answer.Outcome, Code: answer.Code(), RetryAfter: answer.RetryAfter}
	}
	var op struct {
		Status   string `json:"status"`
		Shipment parcel `json:"shipment"`
		Code     string `json:"code"`
	}
	if json.Unmarshal(answer.Body, &op) != nil || op.Status == "" {
		return unreadable
	}
	return verdict{Outcome: calls.Succeeded, Status: op.Status, Doc: op.Shipment, Reference: op.Shipment.ID, Code: op.Code}
}

// unreadable is an answer that tells nothing.
var unreadable = verdict{Outcome: calls.Lost, Code: "unreadable"}

// Do makes the request. A refusal to schedule is an answer, a refusal to cancel is not: the
// order says that the parcel may not leave, so the carrier has to be asked again.
func (a attempt) Do(ctx context.Context) verdict {
	c, r := a.call, a.request
	var answer calls.Answer
	if c.Kind == opSchedule {
		answer = a.carrier.Post(ctx, c.Kind, "/v1/shipments", c.Key, map[string]any{"reference": c.OrderID, "ship_to": r.ShipTo, "lines": r.Lines})
	} else {
		answer = a.carrier.Post(ctx, c.Kind, "/v1/shipments/"+url.PathEscape(r.Reference)+"/cancel", c.Key, struct{}{})
	}
	v := verdict{Outcome: answer.Outcome, Status: calls.StatusDone, Code: answer.Code(), RetryAfter: answer.RetryAfter}
	switch {
	case answer.Outcome == calls.Succeeded:
		if json.Unmarshal(answer.Body, &v.Doc) != nil || v.Doc.ID == "" {
			return unreadable
		}
		v.Code, v.Reference = "", v.Doc.ID
	case c.Kind == opSchedule && v.Code == "not_shippable":
		v.Outcome, v.Status = calls.Succeeded, "refused"
	case c.Kind == opCancel && answer.Outcome == calls.Refused:
		v.Outcome = calls.Failed
	}
	return v
}
