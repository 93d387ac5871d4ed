package payment

import (
	"context"
	"time"

	"github.com/go-json-experiment/json"

	"holdfast/platform/calls"
	"holdfast/platform/sqldb"
	"holdfast/resilience"
	"holdfast/shop"
)

// undoneAfter is how old a first attempt is before its order is looked at again.
const undoneAfter = time.Second

// verdict is what the provider said about an operation, and ending how that is applied.
type (
	verdict = calls.Verdict[authorisation]
	ending  = calls.Ending[*batch]
)

// perform makes one attempt at an operation.
func (s *Service) perform(ctx context.Context, c calls.Call) calls.Result[*batch] {
	a := attempt{Service: s, call: c}
	if err := json.Unmarshal(c.Request, &a.request); err != nil {
		s.deps.Log.ErrorContext(ctx, "a stored call cannot be read", "kind", c.Kind, "err", err)
		return calls.Result[*batch]{RetryIn: s.cfg.RetryMax, Failed: true, Unknown: c.Unknown}
	}
	return calls.Attempt(ctx, c, a, resilience.Backoff{Base: s.cfg.RetryMin, Max: s.cfg.RetryMax, Floor: s.cfg.RetryMin / 10}, s.deps)
}

// attempt is one at an operation. It is a calls.Operation.
type attempt struct {
	*Service
	call    calls.Call
	request request
}

// Limit is how many attempts may fail: of an authorisation few, of what gives money back or takes what was promised, many.
func (a attempt) Limit() int {
	if a.call.Kind == opAuthorise {
		return a.cfg.AuthoriseFailures
	}
	return a.cfg.UndoFailures
}

// Ended applies what the provider has done, or will not do.
func (a attempt) Ended(v verdict) ending {
	switch {
	case v.Status == calls.StatusDone:
		return a.ending(func(b *batch, p *payment) error { return b.succeeded(p, a.call, a.request, v.Doc) })
	case a.call.Kind == opAuthorise:
		return a.declined(shop.ReasonPaymentDeclined, v.Code)
	default:
		return a.parked()
	}
}

// GivenUp ends an operation that the provider says it never did.
func (a attempt) GivenUp(v verdict) ending {
	if a.call.Kind == opAuthorise {
		return a.declined(shop.ReasonPaymentUnavailable, v.Code)
	}
	return a.parked()
}

// NeverSent ends an authorisation whose order was undone before the money was asked for.
func (a attempt) NeverSent() ending {
	return a.ending(func(b *batch, p *payment) error { return b.neverAsked(p, a.call) })
}

func (a attempt) declined(reason shop.Reason, code string) ending {
	return a.ending(func(b *batch, p *payment) error { return b.declined(p, a.call, reason, code) })
}

// parked leaves the operation to an operator.
func (a attempt) parked() ending {
	e := a.ending(func(b *batch, p *payment) error { return b.park(p, a.call) })
	e.Park = true
	return e
}

// ending applies an outcome to the order's row in the transaction that removes the call.
func (a attempt) ending(apply func(*batch, *payment) error) ending {
	return ending{Settle: func(b *batch) error {
		if p := b.payments[a.call.OrderID]; p != nil {
			return apply(b, p)
		}
		return nil
	}}
}

// Undone tells whether the order was undone before its money was asked for.
func (a attempt) Undone(ctx context.Context) bool {
	c := a.call
	if c.Kind != opAuthorise || c.Attempts == 0 && a.deps.Clock.Now().Sub(c.FirstAt) < undoneAfter {
		return false // the transaction that asked for it has just seen that it is not
	}
	undo := false
	err := a.db.Read(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		found, err := paymentsOf(ctx, tx, []shop.OrderID{c.OrderID}, noLock)
		if p := found[c.OrderID]; p != nil {
			undo = p.undo
		}
		return err
	})
	return err == nil && undo
}
