package payment

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"holdfast/platform/calls"
	"holdfast/resilience"
	"holdfast/shop"
)

// authorisation is the provider's document.
type authorisation struct {
	ID          string        `json:"id"`
	Status      string        `json:"status"`
	Amount      shop.Amount   `json:"amount"`
	Currency    shop.Currency `json:"currency"`
	Reference   shop.OrderID  `json:"reference"`
	Captured    shop.Amount   `json:"captured"`
	Refunded    shop.Amount   `json:"refunded"`
	DeclineCode string        `json:"decline_code"`
	ExpiresAt   time.Time     `json:"expires_at"`
}

// operation is what the provider knows of one idempotency key.
type operation struct {
	Key           string        `json:"key"`
	Kind          string        `json:"kind"`
	Status        string        `json:"status"` // succeeded, declined, failed
	Authorisation authorisation `json:"authorisation"`
}

// The operations at the provider, which are also the kinds of calls.
const (
	opAuthorise = "authorise"
	opCapture   = "capture"
	opVoid      = "void"
	opRefund    = "refund"
	opQuery     = "query" // what became of one of the others; it is no call of its own
)

// operations are what the policies have to know of them. All carry a key, so all are safe to repeat;
// a void and a refund give money back, and have a lane of their own.
func operations() []resilience.Operation {
	op := func(name string, kind resilience.Kind, criticality resilience.Criticality) resilience.Operation {
		return resilience.Operation{Name: name, Kind: kind, Criticality: criticality, RespectsContext: true}
	}
	return []resilience.Operation{
		op(opAuthorise, resilience.IdempotentCommand, resilience.Normal), op(opCapture, resilience.IdempotentCommand, resilience.Critical),
		op(opVoid, resilience.IdempotentCommand, resilience.Undo), op(opRefund, resilience.IdempotentCommand, resilience.Undo),
		op(opQuery, resilience.ExactRead, resilience.Critical),
	}
}

// callKey is the idempotency key of an operation: the same for each attempt, worker and restart.
func callKey(id shop.OrderID, op string) string { return string(id) + ":" + op }

// request is what a call needs to be made.
type request struct {
	Brief     *shop.Brief `json:"brief,omitempty"` // of an authorisation
	Capture   bool        `json:"capture,omitempty"`
	Reference string      `json:"reference,omitempty"` // the provider's authorisation
	Amount    shop.Amount `json:"amount,omitempty"`
}

// Ask asks what became of the operation. Refused means that the provider does not know it.
func (a attempt) Ask(ctx context.Context) verdict {
	answer := a.provider.Get(ctx, opQuery, "/v1/operations/"+url.PathEscape(a.call.Key))
	if answer.Outcome != calls.Succeeded {
		return verdict{Outcome: answer.Outcome, Code: answer.Code(), RetryAfter: answer.RetryAfter}
	}
	var op operation
	if json.Unmarshal(answer.Body, &op) != nil || op.Status == "" {
		return unreadable
	}
	return verdict{Outcome: calls.Succeeded, Status: op.Status, Doc: op.Authorisation, Reference: op.Authorisation.ID, Code: op.Authorisation.DeclineCode}
}

// unreadable is an answer that tells nothing.
var unreadable = verdict{Outcome: calls.Lost, Code: "unreadable"}

// Do makes the request.
func (a attempt) Do(ctx context.Context) verdict {
	c, r := a.call, a.request
	var answer calls.Answer
	path := "/v1/authorisations/" + url.PathEscape(r.Reference)
	switch c.Kind {
	case opAuthorise:
		answer = a.provider.Post(ctx, c.Kind, "/v1/authorisations", c.Key, map[string]any{"amount": r.Brief.Total, "currency": r.Brief.Currency,
			"payment_method": r.Brief.PaymentMethod, "reference": c.OrderID, "capture": r.Capture})
	case opVoid:
		answer = a.provider.Post(ctx, c.Kind, path+"/void", c.Key, struct{}{})
	default:
		answer = a.provider.Post(ctx, c.Kind, path+"/"+c.Kind, c.Key, map[string]any{"amount": r.Amount})
	}
	v := verdict{Outcome: answer.Outcome, Status: calls.StatusDone, Code: answer.Code(), RetryAfter: answer.RetryAfter}
	declined := answer.Status == http.StatusPaymentRequired
	if answer.Outcome == calls.Succeeded || declined {
		v.Outcome = calls.Succeeded
		if json.Unmarshal(answer.Body, &v.Doc) != nil || v.Doc.ID == "" {
			return unreadable
		}
		v.Code, v.Reference = v.Doc.DeclineCode, v.Doc.ID
	}
	if declined {
		v.Status = "declined"
	}
	return v
}
