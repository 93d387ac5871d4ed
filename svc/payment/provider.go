package payment

import (
	"context"
	"encoding/json"
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

// verdict is what the provider said about an operation.
type verdict struct {
	outcome calls.Outcome
	status  string // of the operation, where outcome is Succeeded
	doc     authorisation
	code    string

	retryAfter time.Duration // the least wait before the next attempt, as the provider or a policy asks for it
}

// ask asks what became of an operation. Refused means that the provider does not know it.
func (s *Service) ask(ctx context.Context, c calls.Call) verdict {
	a := s.provider.Get(ctx, opQuery, "/v1/operations/"+url.PathEscape(c.Key))
	if a.Outcome != calls.Succeeded {
		return verdict{outcome: a.Outcome, code: a.Code(), retryAfter: a.RetryAfter}
	}
	var op operation
	if json.Unmarshal(a.Body, &op) != nil || op.Status == "" {
		return verdict{outcome: calls.Lost, code: "unreadable"}
	}
	return verdict{outcome: calls.Succeeded, status: op.Status, doc: op.Authorisation, code: op.Authorisation.DeclineCode}
}

// do makes the request of a call.
func (s *Service) do(ctx context.Context, c calls.Call, r request) verdict {
	var a calls.Answer
	path := "/v1/authorisations/" + url.PathEscape(r.Reference)
	switch c.Kind {
	case opAuthorise:
		a = s.provider.Post(ctx, c.Kind, "/v1/authorisations", c.Key, map[string]any{"amount": r.Brief.Total, "currency": r.Brief.Currency,
			"payment_method": r.Brief.PaymentMethod, "reference": c.OrderID, "capture": r.Capture})
	case opVoid:
		a = s.provider.Post(ctx, c.Kind, path+"/void", c.Key, struct{}{})
	default:
		a = s.provider.Post(ctx, c.Kind, path+"/"+c.Kind, c.Key, map[string]any{"amount": r.Amount})
	}
	v := verdict{outcome: a.Outcome, status: "succeeded", code: a.Code(), retryAfter: a.RetryAfter}
	declined := a.Status == 402
	if a.Outcome == calls.Succeeded || declined {
		v.outcome = calls.Succeeded
		if json.Unmarshal(a.Body, &v.doc) != nil || v.doc.ID == "" {
			return verdict{outcome: calls.Lost, code: "unreadable"}
		}
		v.code = v.doc.DeclineCode
	}
	if declined {
		v.status = "declined"
	}
	return v
}
