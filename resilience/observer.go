package resilience

import "time"

// Label names what a policy guards. A policy that the operations of a dependency share has no Operation.
type Label struct {
	Dependency string
	Operation  string
}

// String returns "dependency/operation", or what there is of it.
func (l Label) String() string {
	switch {
	case l.Operation == "":
		return l.Dependency
	case l.Dependency == "":
		return l.Operation
	default:
		return l.Dependency + "/" + l.Operation
	}
}

// Observer is told what policies do. This package never logs and has no metrics of its own.
//
// Methods are called on the goroutine of the call, never while a lock of this package is held, and must
// be safe for concurrent use. They are called after the fact: events of two goroutines may arrive in the
// other order, and a transition's Generation tells the true one. Embed NopObserver, so that a method
// that is added later is no work.
type Observer interface {
	// Called is told each call through a Policy, once, when its caller gets the result.
	Called(CallEvent)
	// Attempted is told each attempt that reached the dependency and ended, or was given up.
	Attempted(AttemptEvent)
	// Rejected is told each call that a policy refused.
	Rejected(RejectEvent)
	// Retried is told before the wait that precedes a further attempt.
	Retried(RetryEvent)
	// GaveUp is told when a failure that could be retried is not.
	GaveUp(GiveUpEvent)
	// BudgetExhausted is told each time a Budget refuses a retry or a hedge.
	BudgetExhausted(BudgetEvent)
	// Transitioned is told each change of a breaker's state.
	Transitioned(TransitionEvent)
	// Stale is told each result that a breaker did not count.
	Stale(StaleEvent)
	// Late is told when a function ends whose caller had left. A late success may be money.
	Late(LateEvent)
	// FellBack is told when an answer was taken from elsewhere, or was tried to be.
	FellBack(FallbackEvent)
	// Hedged is told when a second attempt starts beside the first, wins, or may not start.
	Hedged(HedgeEvent)
	// Queued is told when a call begins to wait for a slot of a bulkhead, and when it no longer does.
	Queued(QueueEvent)
	// Limited is told when an adaptive limit moves.
	Limited(LimitEvent)
}

// CallEvent is the end of a call.
type CallEvent struct {
	Label       Label
	Criticality Criticality
	// Outcome is that of the last attempt. A call that was refused is neutral, and Err tells.
	Outcome  Outcome
	Source   Source
	Attempts int           // that reached the dependency
	Duration time.Duration // of all attempts and waits; 0 where the call was refused before the first
	Err      error
}

// AttemptEvent is the end of an attempt.
type AttemptEvent struct {
	Label    Label
	Number   int // from 1
	Outcome  Outcome
	Duration time.Duration
	Err      error
}

// RejectEvent is a refused call.
type RejectEvent struct {
	Label       Label
	Reason      Reason
	Criticality Criticality // where the reason is ReasonShed
}

// RetryEvent is a retry that is about to wait.
type RetryEvent struct {
	Label  Label
	Number int // of the attempt that follows; 2 is the first retry
	Delay  time.Duration
	Err    error // of the attempt before; nil where its result was judged a failure
}

// GiveUp says why there was no further attempt.
type GiveUp uint8

// The reasons to give up.
const (
	GiveUpNot           GiveUp = iota // there is a further attempt
	GiveUpAttempts                    // all attempts were used
	GiveUpDeadline                    // the wait would pass the deadline
	GiveUpElapsed                     // the wait would pass RetryConfig.MaxElapsed
	GiveUpBudget                      // the budget is spent
	GiveUpOpen                        // the breaker would refuse it
	GiveUpNotIdempotent               // the operation must not be repeated
)

// GiveUps returns all reasons to give up.
func GiveUps() []GiveUp {
	return []GiveUp{GiveUpAttempts, GiveUpDeadline, GiveUpElapsed, GiveUpBudget, GiveUpOpen, GiveUpNotIdempotent}
}

// String returns the reason in snake case.
func (g GiveUp) String() string {
	return name(g, "not", "attempts", "deadline", "elapsed", "budget", "open", "not_idempotent")
}

// GiveUpEvent is a failure that could be retried and is not.
type GiveUpEvent struct {
	Label    Label
	Reason   GiveUp
	Attempts int
	Err      error
}

// BudgetEvent is a refused retry or hedge.
type BudgetEvent struct{ Label Label }

// TransitionEvent is a change of a breaker's state.
type TransitionEvent struct {
	Label      Label
	From, To   State
	Generation uint64 // of the new state; it counts up by one
	Why        string // one of a fixed set, or what the operator said
	// Counts are those of the window at the transition.
	Counts Counts
}

// StaleEvent is a result that was not counted: it belongs to an earlier generation, or to a probe whose
// lease was over.
type StaleEvent struct {
	Label      Label
	Outcome    Outcome
	Generation uint64 // that the call was admitted in
	Current    uint64
}

// LateEvent is the end of a function that its caller had given up.
type LateEvent struct {
	Label    Label
	Outcome  Outcome
	Duration time.Duration // from the start of the attempt
	Err      error
}

// FallbackEvent is a fallback.
type FallbackEvent struct {
	Label  Label
	Source string // the fallback's name
	Cause  error  // why it was needed
	Err    error  // its own error, where it had no answer either
}

// HedgeStage is how far a hedge has come.
type HedgeStage uint8

// The stages.
const (
	HedgeStarted HedgeStage = iota // the second attempt starts
	HedgeWon                       // its answer was first
	HedgeRefused                   // budget, breaker or bulkhead had no room for it
)

// String returns the stage in lower case.
func (s HedgeStage) String() string { return name(s, "started", "won", "refused") }

// HedgeEvent is something about a hedge.
type HedgeEvent struct {
	Label Label
	Stage HedgeStage
	Delay time.Duration // between the two attempts
}

// QueueEvent is the begin or the end of a wait for a slot. The counts are those just after it.
type QueueEvent struct {
	Label         Label
	InUse, Queued int
	Done          bool          // the wait is over
	Admitted      bool          // and gave a slot
	Waited        time.Duration // where Done
}

// LimitEvent is a move of an adaptive limit.
type LimitEvent struct {
	Label    Label
	From, To int
}

// NopObserver does nothing, and is there to be embedded.
type NopObserver struct{}

// Called does nothing.
func (NopObserver) Called(CallEvent) {}

// Attempted does nothing.
func (NopObserver) Attempted(AttemptEvent) {}

// Rejected does nothing.
func (NopObserver) Rejected(RejectEvent) {}

// Retried does nothing.
func (NopObserver) Retried(RetryEvent) {}

// GaveUp does nothing.
func (NopObserver) GaveUp(GiveUpEvent) {}

// BudgetExhausted does nothing.
func (NopObserver) BudgetExhausted(BudgetEvent) {}

// Transitioned does nothing.
func (NopObserver) Transitioned(TransitionEvent) {}

// Stale does nothing.
func (NopObserver) Stale(StaleEvent) {}

// Late does nothing.
func (NopObserver) Late(LateEvent) {}

// FellBack does nothing.
func (NopObserver) FellBack(FallbackEvent) {}

// Hedged does nothing.
func (NopObserver) Hedged(HedgeEvent) {}

// Queued does nothing.
func (NopObserver) Queued(QueueEvent) {}

// Limited does nothing.
func (NopObserver) Limited(LimitEvent) {}
