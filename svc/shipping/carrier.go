package shipping

import (
	"context"
	"encoding/json"
	"net/url"
	"time"

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

// verdict is what the carrier said about an operation.
type verdict struct {
	outcome calls.Outcome
	status  string // succeeded or refused, where outcome is Succeeded
	doc     parcel
	code    string

	retryAfter time.Duration // the least wait before the next attempt, as the carrier or a policy asks for it
}

// ask asks what became of an operation. Refused means that the carrier does not know it.
func (s *Service) ask(ctx context.Context, c calls.Call) verdict {
	a := s.carrier.Get(ctx, opQuery, "/v1/operations/"+url.PathEscape(c.Key))
	if a.Outcome != calls.Succeeded {
		return verdict{outcome: a.Outcome, code: a.Code(), retryAfter: a.RetryAfter}
	}
	var op struct {
		Status   string `json:"status"`
		Shipment parcel `json:"shipment"`
		Code     string `json:"code"`
	}
	if json.Unmarshal(a.Body, &op) != nil || op.Status == "" {
		return verdict{outcome: calls.Lost, code: "unreadable"}
	}
	return verdict{outcome: calls.Succeeded, status: op.Status, doc: op.Shipment, code: op.Code}
}

// do makes the request of a call. A refusal to schedule is an answer, a refusal to cancel is not: the
// order says that the parcel may not leave, so the carrier has to be asked again.
func (s *Service) do(ctx context.Context, c calls.Call, r request) verdict {
	var a calls.Answer
	if c.Kind == opSchedule {
		a = s.carrier.Post(ctx, c.Kind, "/v1/shipments", c.Key, map[string]any{"reference": c.OrderID, "ship_to": r.ShipTo, "lines": r.Lines})
	} else {
		a = s.carrier.Post(ctx, c.Kind, "/v1/shipments/"+url.PathEscape(r.Reference)+"/cancel", c.Key, struct{}{})
	}
	v := verdict{outcome: a.Outcome, status: "succeeded", code: a.Code(), retryAfter: a.RetryAfter}
	switch {
	case a.Outcome == calls.Succeeded:
		v.code = ""
		if json.Unmarshal(a.Body, &v.doc) != nil || v.doc.ID == "" {
			return verdict{outcome: calls.Lost, code: "unreadable"}
		}
	case c.Kind == opSchedule && v.code == "not_shippable":
		v.outcome, v.status = calls.Succeeded, "refused"
	case c.Kind == opCancel && a.Outcome == calls.Refused:
		v.outcome = calls.Failed
	}
	return v
}
