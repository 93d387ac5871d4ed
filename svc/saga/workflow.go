package saga

import (
	"time"

	sdk "go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"holdfast/platform/temporal"
	"holdfast/shop"
)

// This file is workflow code: it is run again from its history after every restart, so it must do the same
// each time. Histories of before a change are replayed by a test; a change that they do not survive stands
// behind workflow.GetVersion.

// The names by which Temporal knows the workflow. They are in histories: never change them.
const (
	WorkflowName  = "Order"
	SignalUndo    = "undo"
	SignalRedrive = "redrive"
	QueryState    = "state"
)

// Input is what a run begins with. What is personal stays in our own store.
type Input struct {
	OrderID shop.OrderID `json:"order_id"`
	Undo    bool         `json:"undo,omitempty"` // of a run that goes on from one whose history was full
}

// Redrive asks a run to drive on at once what waits, as an operator or the watchdog does.
type Redrive struct {
	Undo bool `json:"undo,omitempty"` // the order is being undone
}

// Result says how a run ended. A later signal begins another.
type Result struct {
	Outcome Outcome `json:"outcome"`
}

// Outcome is how a run ended.
type Outcome string

// The outcomes.
const (
	Arranged Outcome = "arranged" // every step is done
	Undone   Outcome = "undone"
	Parked   Outcome = "parked" // an undo waits for an operator
	Left     Outcome = "left"   // the parcel has left: nothing is undone any more
	Ended    Outcome = "ended"  // the order had ended before
)

// The steps. Their names are in histories.
const (
	stepInventory = "inventory"
	stepPayment   = "payment"
	stepShipping  = "shipping"
)

// step is a step with what it is called while it is done and undone.
type step struct{ name, doing, undoing string }

// steps are all of them in their order.
func steps() []step {
	return []step{
		{stepInventory, "reserving the stock", "releasing the stock"},
		{stepPayment, "having the money held", "giving the money back"},
		{stepShipping, "scheduling the parcel", "cancelling the parcel"},
	}
}

const (
	// localTimeout is for one question to a service: a workflow task takes 10 s at most.
	localTimeout = 8 * time.Second
	// pauseMin and pauseMax bound the wait before a step that is pending is asked for again. It grows by a quarter each time:
	// what waited through an outage goes on within a fifth of the outage's time, and a run costs Temporal little meanwhile.
	pauseMin = time.Second
	pauseMax = 30 * time.Second
	// patience is how often an undo that is parked is asked for again after a redrive: the same event has
	// the service try again, and may reach it later than us.
	patience = 5
)

// order is the workflow: the saga of one order. It ends when there is nothing to do at present, and is run
// again when there is. It has no deadline, since the order service's watchdog is the one that looks after
// orders that do not move; and it heeds no cancellation, since whether an order is undone is for the order
// service to decide.
func order(ctx workflow.Context, in Input) (Result, error) {
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: localTimeout, ScheduleToCloseTimeout: localTimeout,
		RetryPolicy: &sdk.RetryPolicy{MaximumAttempts: 1}}) // what is repeated is repeated below, by a durable timer
	r := &orderRun{ctx: ctx, in: in, undoAsked: in.Undo,
		undoSignals: workflow.GetSignalChannel(ctx, SignalUndo), redriveSignals: workflow.GetSignalChannel(ctx, SignalRedrive)}
	if err := workflow.SetQueryHandler(ctx, QueryState, func() (State, error) { return r.state, nil }); err != nil {
		return Result{}, err
	}
	outcome, err := r.drive()
	if err == nil {
		r.enter(State{Doing: "nothing: " + string(outcome)})
	}
	return Result{Outcome: outcome}, err
}

// orderRun is one run of the workflow.
type orderRun struct {
	ctx       workflow.Context
	in        Input
	begun     []step // each noted before it is asked for, so that an unknown outcome is undone too
	undoAsked bool   // by the order service: everything is undone, what was not begun as well
	patience  int
	state     State

	undoSignals, redriveSignals workflow.ReceiveChannel
}

// drive does the steps, or undoes them.
func (r *orderRun) drive() (Outcome, error) {
	for _, s := range steps() {
		r.listen()
		if r.undoAsked {
			return r.undo()
		}
		r.begun = append(r.begun, s)
		out, err := r.do(s)
		switch {
		case temporal.KindOf(err) == shop.NotFound && err != nil:
			return Ended, nil
		case err != nil:
			return "", err
		case out.State != shop.StepDone:
			return r.undo()
		}
	}
	r.listen()
	if r.undoAsked {
		return r.undo()
	}
	return Arranged, nil
}

// do asks for a step until it has an outcome, or is to be undone; then its outcome stays pending.
func (r *orderRun) do(s step) (shop.StepOutcome, error) {
	r.enter(State{Step: s.name, Doing: s.doing})
	for try := 1; ; try++ {
		out, err := r.ask(activityDo, s)
		if err != nil && temporal.KindOf(err) == shop.NotFound || err == nil && out.State != shop.StepPending {
			return out, err
		}
		if err := r.pause(&try); err != nil || r.undoAsked {
			return shop.StepOutcome{State: shop.StepPending}, err
		}
	}
}

// undo undoes what was begun, or everything where the order service asks for it, last step first. What was
// asked for meanwhile is done in another round.
func (r *orderRun) undo() (Outcome, error) {
	for {
		all, todo := r.undoAsked, r.begun
		if all {
			todo = steps()
		}
		outcome, err := r.backwards(todo)
		if err != nil {
			return "", err
		}
		told := r.listen()
		if all == r.undoAsked && (!told || outcome != Parked) {
			return outcome, nil
		}
	}
}

// backwards undoes steps, each before the one that it came after. A parcel that cannot be cancelled keeps
// its money and its stock; money that cannot be given back keeps no stock.
func (r *orderRun) backwards(todo []step) (Outcome, error) {
	outcome := Undone
	for i := len(todo) - 1; i >= 0; i-- {
		out, err := r.undoStep(todo[i])
		switch {
		case err != nil && temporal.KindOf(err) == shop.Conflict:
			return Left, nil
		case err != nil:
			return "", err
		case out.State == shop.StepParked && todo[i].name == stepShipping:
			return Parked, nil
		case out.State == shop.StepParked:
			outcome = Parked
		}
	}
	return outcome, nil
}

// undoStep asks for the undo of a step until it has an outcome.
func (r *orderRun) undoStep(s step) (shop.StepOutcome, error) {
	r.enter(State{Step: s.name, Doing: s.undoing})
	for try := 1; ; try++ {
		out, err := r.ask(activityUndo, s)
		switch {
		case err != nil && temporal.KindOf(err) == shop.Conflict:
			return out, err
		case err == nil && out.State == shop.StepParked && r.patience > 0:
			r.patience--
		case err == nil && out.State != shop.StepPending:
			return out, nil
		}
		if err := r.pause(&try); err != nil {
			return out, err
		}
	}
}

// ask asks a service once.
func (r *orderRun) ask(activity string, s step) (out shop.StepOutcome, err error) {
	r.state.Tries++
	r.state.NextTry = time.Time{}
	err = workflow.ExecuteLocalActivity(r.ctx, activity, r.in.OrderID, s.name).Get(r.ctx, &out)
	return out, err
}
