package shop

import "context"

// StepState is where one step of an order's saga stands, as an orchestrator sees it.
type StepState string

// The states of a step. Done, Refused and Undone stay until somebody asks for the opposite; a step that
// was undone is never done again.
const (
	StepPending StepState = "pending" // begun, and without an outcome so far; ask again
	StepDone    StepState = "done"
	StepRefused StepState = "refused" // it cannot be done, and left nothing: the order is to be undone
	StepUndone  StepState = "undone"
	StepParked  StepState = "parked" // its undo keeps failing: it waits for an operator
)

// StepOutcome is what came of asking for a step or for its undo.
type StepOutcome struct {
	State  StepState `json:"state"`
	Reason Reason    `json:"reason,omitempty"` // of Refused and Parked
}

// Step is one service's step of the saga, for orders whose saga is orchestrated: the service does what it
// would do on its own on the events of a choreographed one, and says the same events. Inventory reserves and
// releases, payment authorises and gives back, shipping schedules and cancels. Errors are *Error.
type Step interface {
	// Do does the step if it was never begun, and waits for its outcome until ctx ends; then it is
	// StepPending, and no error. It is safe to repeat. StepUndone is the answer for a step that was undone,
	// also before it was begun.
	Do(ctx context.Context, b Brief) (StepOutcome, error)
	// Undo undoes the step, whether its outcome is known or not, and waits for that until ctx ends. Where the
	// step was never begun it leaves a tombstone. It is safe to repeat. Its answer is StepUndone, StepRefused
	// for a step that was refused and so holds nothing, StepPending, or StepParked. Conflict means that
	// the parcel has left: there is nothing to undo any more.
	Undo(ctx context.Context, id OrderID) (StepOutcome, error)
}
