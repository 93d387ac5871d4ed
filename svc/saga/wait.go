package saga

import (
	"time"

	"go.temporal.io/sdk/workflow"
)

// This file is workflow code, see workflow.go.

// State tells where a run stands, in the words of the business: the answer to QueryState.
type State struct {
	Doing   string    `json:"doing"`
	Step    string    `json:"step,omitempty"`
	Since   time.Time `json:"since"`
	Tries   int       `json:"tries,omitempty"`      // how often the step was asked for
	NextTry time.Time `json:"next_try,omitzero"`    // where the step is pending
	Undoing bool      `json:"undo_asked,omitempty"` // the order service has asked to undo the order
}

// enter notes what the run does from now on.
func (r *orderRun) enter(s State) {
	s.Since, s.Undoing = workflow.Now(r.ctx), r.undoAsked
	r.state = s
}

// listen takes the signals that have come, and tells whether there were any.
func (r *orderRun) listen() (told bool) {
	for r.undoSignals.ReceiveAsync(nil) {
		told = true
		r.undoAsked = true
	}
	var again Redrive
	for r.redriveSignals.ReceiveAsync(&again) {
		told = true
		r.redriven(again)
	}
	r.state.Undoing = r.undoAsked
	return told
}

func (r *orderRun) redriven(again Redrive) {
	r.undoAsked = r.undoAsked || again.Undo
	r.patience = patience
}

// pause waits before a step is asked for again, longer each time, until a signal comes. After a signal the
// waits begin anew. A run whose history is full goes on as a new one, which asks for every step again: all of
// them know what has been done.
func (r *orderRun) pause(try *int) error {
	if r.listen() {
		*try = 0
		return nil
	}
	if workflow.GetInfo(r.ctx).GetContinueAsNewSuggested() {
		return workflow.NewContinueAsNewError(r.ctx, WorkflowName, Input{OrderID: r.in.OrderID, Undo: r.undoAsked})
	}
	wait := pauseMin
	for range min(*try, 20) - 1 {
		wait = min(wait+wait/4, pauseMax)
	}
	r.state.NextTry = workflow.Now(r.ctx).Add(wait)
	ctx, stop := workflow.WithCancel(r.ctx)
	defer stop()
	waiting := workflow.NewSelector(ctx)
	waiting.AddFuture(workflow.NewTimer(ctx, wait), func(workflow.Future) {})
	waiting.AddReceive(r.undoSignals, func(c workflow.ReceiveChannel, _ bool) {
		c.Receive(ctx, nil)
		r.undoAsked, *try = true, 0
	})
	waiting.AddReceive(r.redriveSignals, func(c workflow.ReceiveChannel, _ bool) {
		var again Redrive
		c.Receive(ctx, &again)
		r.redriven(again)
		*try = 0
	})
	waiting.Select(ctx)
	return nil
}
