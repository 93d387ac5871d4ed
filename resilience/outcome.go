package resilience

import (
	"context"
	"errors"
	"time"
)

// Outcome is what a call tells about the dependency. It is not whether the caller got what it wanted:
// a declined card is a success of the payment provider.
type Outcome uint8

// The outcomes. Neutral tells nothing and is counted nowhere: the caller left, or a policy of ours
// refused the call before it reached the dependency.
const (
	Neutral Outcome = iota
	Success
	Failure
)

// String returns the outcome in lower case, as it is used for a metric's attribute.
func (o Outcome) String() string { return name(o, "neutral", "success", "failure") }

// Verdict is what a classifier makes of a result.
type Verdict struct {
	Outcome Outcome
	// Retryable says that another attempt may end differently. Whether there is one depends on the kind
	// of the operation, the budget, the breaker and the deadline, besides.
	Retryable bool
	// RetryAfter is the least wait before another attempt, as the dependency asked for it; 0 if it did not.
	RetryAfter time.Duration
}

// Classify is the classifier that is used where none is given: nil is a success, everything else a
// failure that may be retried. An error that has a method RetryAfter() time.Duration is asked for it.
// Rejections of policies further in are neutral and are not retried.
//
// Two rules hold above every classifier. An error after the caller has cancelled its own context is
// neutral, for whatever it says it says about the caller. And a function that had to be left to itself
// at a deadline, whosever it was, is a failure.
func Classify(err error) Verdict {
	if err == nil {
		return Verdict{Outcome: Success}
	}
	if _, own := errors.AsType[*Rejection](err); own {
		return Verdict{Outcome: Neutral}
	}
	after, _ := RetryAfter(err)
	return Verdict{Outcome: Failure, Retryable: true, RetryAfter: after}
}

// left tells whether err came about because the caller went away: its context was cancelled, which is
// not the same as a deadline that passed.
func left(caller context.Context, err error) bool {
	return err != nil && caller.Err() != nil && errors.Is(caller.Err(), context.Canceled)
}

// Kind says what may be done about an operation's failures. It is a property of the operation, so it is
// set in code and not in a configuration file.
type Kind uint8

// The kinds of operations, the most careful first.
const (
	// Command changes something and is not safe to repeat. It has one attempt.
	Command Kind = iota
	// IdempotentCommand changes something and is safe to repeat, because it carries an idempotency key.
	// It is retried, and never hedged.
	IdempotentCommand
	// ExactRead reads money, stock, or whatever else must be right or missing. It is retried and hedged,
	// and never answered from elsewhere.
	ExactRead
	// Read reads what may be a little old. It is retried and hedged, and may have a fallback.
	Read
)

// String returns the kind in snake case.
func (k Kind) String() string { return name(k, "command", "idempotent_command", "exact_read", "read") }

// Repeatable tells whether an attempt may follow another.
func (k Kind) Repeatable() bool { return k != Command }

// Hedgeable tells whether two attempts may run at once.
func (k Kind) Hedgeable() bool { return k == ExactRead || k == Read }

// Replaceable tells whether another answer may stand in for the dependency's.
func (k Kind) Replaceable() bool { return k == Read }

// Criticality orders calls by what a refusal costs.
type Criticality uint8

// The criticalities. Unspecified is treated as Normal. Undo is what gives back money or stock (cancel,
// refund): it has a lane of its own, since refusing it makes a mess larger, and it is the load that a
// failing system gets more of.
const (
	Unspecified Criticality = iota
	Sheddable
	Normal
	Critical
	Undo
)

// Criticalities returns those that a call can have in the end.
func Criticalities() []Criticality { return []Criticality{Sheddable, Normal, Critical, Undo} }

// String returns the criticality in lower case.
func (c Criticality) String() string {
	return name(c, "unspecified", "sheddable", "normal", "critical", "undo")
}

// or is c, or d where c is unspecified.
func (c Criticality) or(d Criticality) Criticality {
	if c == Unspecified {
		return d
	}
	return c
}

type criticalityKey struct{}

// WithCriticality returns a context whose calls have criticality c where they do not say otherwise.
func WithCriticality(ctx context.Context, c Criticality) context.Context {
	return context.WithValue(ctx, criticalityKey{}, c)
}

// CriticalityFrom returns what WithCriticality set.
func CriticalityFrom(ctx context.Context) (c Criticality, ok bool) {
	c, ok = ctx.Value(criticalityKey{}).(Criticality)
	return c, ok
}

// name returns the name of an enumeration's value.
func name[E ~uint8](e E, names ...string) string {
	if int(e) < len(names) {
		return names[e]
	}
	return "invalid"
}
