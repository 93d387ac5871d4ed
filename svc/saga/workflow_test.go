package saga_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"holdfast/platform/temporal"
	"holdfast/shop"
	"holdfast/svc/saga"
)

const id = shop.OrderID("ord_06h0t55ikhqif3b4tu06m4e0p8")

// script is what the services answer, by "do payment" and the like: the answers one after the other, the
// last of them for ever. What has no script is done, or undone, at once.
type script map[string][]string

// orchestra runs the workflow in virtual time.
type orchestra struct {
	*testsuite.TestWorkflowEnvironment
	asked  []string
	script script
	on     map[string]func() // runs when something is asked for
}

func newOrchestra(t *testing.T, s script) *orchestra {
	t.Helper()
	o := &orchestra{script: s, on: map[string]func(){}}
	suite := &testsuite.WorkflowTestSuite{}
	o.TestWorkflowEnvironment = suite.NewTestWorkflowEnvironment()
	saga.RegisterWorkflow(o)
	for _, what := range []string{"do", "undo"} {
		o.RegisterActivityWithOptions(func(_ context.Context, _ shop.OrderID, step string) (shop.StepOutcome, error) {
			return o.answer(what, step)
		}, activity.RegisterOptions{Name: what})
	}
	return o
}

func (o *orchestra) answer(what, step string) (shop.StepOutcome, error) {
	key := what + " " + step
	o.asked = append(o.asked, key)
	if f := o.on[key]; f != nil {
		f()
	}
	left := o.script[key]
	answer := map[string]string{"do": "done", "undo": "undone"}[what]
	if len(left) > 0 {
		answer = left[0]
		if len(left) > 1 {
			o.script[key] = left[1:]
		}
	}
	switch answer {
	case "conflict":
		return shop.StepOutcome{}, temporal.Failure(shop.E(shop.Conflict, "test", "it has left"))
	case "not found":
		return shop.StepOutcome{}, temporal.Failure(shop.E(shop.NotFound, "test", "it has ended"))
	case "unavailable":
		return shop.StepOutcome{}, temporal.Failure(shop.E(shop.Unavailable, "test", "its store is away"))
	case "broken":
		return shop.StepOutcome{}, temporal.Failure(fmt.Errorf("a nil map"))
	}
	return shop.StepOutcome{State: shop.StepState(answer)}, nil
}

// run runs the workflow to its end and returns how it ended.
func (o *orchestra) run(t *testing.T) saga.Outcome {
	t.Helper()
	o.ExecuteWorkflow(saga.WorkflowName, saga.Input{OrderID: id})
	if err := o.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	var r saga.Result
	if err := o.GetWorkflowResult(&r); err != nil {
		t.Fatal(err)
	}
	return r.Outcome
}

const forward = "do inventory, do payment, do shipping"
const backward = "undo shipping, undo payment, undo inventory"

// TestScenarios: each row of the scenario table that the workflow has to do with.
func TestScenarios(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		script  script
		asked   string
		outcome saga.Outcome
	}{
		"happy path":          {nil, forward, saga.Arranged},
		"no stock":            {script{"do inventory": {"refused"}, "undo inventory": {"refused"}}, "do inventory, undo inventory", saga.Undone},
		"declined":            {script{"do payment": {"refused"}, "undo payment": {"refused"}}, "do inventory, do payment, undo payment, undo inventory", saga.Undone},
		"shipping rejects":    {script{"do shipping": {"refused"}, "undo shipping": {"refused"}}, forward + ", " + backward, saga.Undone},
		"pending, then done":  {script{"do payment": {"pending", "pending", "done"}}, "do inventory, do payment, do payment, do payment, do shipping", saga.Arranged},
		"a store is away":     {script{"do payment": {"unavailable", "broken", "done"}}, "do inventory, do payment, do payment, do payment, do shipping", saga.Arranged},
		"undone before":       {script{"do inventory": {"undone"}}, "do inventory, undo inventory", saga.Undone},
		"the order has ended": {script{"do inventory": {"not found"}}, "do inventory", saga.Ended},
		"void fails, then succeeds": {script{"do shipping": {"refused"}, "undo payment": {"pending", "unavailable", "undone"}},
			forward + ", undo shipping, undo payment, undo payment, undo payment, undo inventory", saga.Undone},
		"void fails for ever: the stock goes back": {script{"do shipping": {"refused"}, "undo payment": {"pending", "parked"}},
			forward + ", undo shipping, undo payment, undo payment, undo inventory", saga.Parked},
		"the carrier's cancel fails for ever: money and stock stay": {script{"do shipping": {"refused"}, "undo shipping": {"parked"}},
			forward + ", undo shipping", saga.Parked},
		"the parcel has left": {script{"do shipping": {"undone"}, "undo shipping": {"conflict"}}, forward + ", undo shipping", saga.Left},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrchestra(t, test.script)
			outcome := o.run(t)
			if asked := strings.Join(o.asked, ", "); asked != test.asked || outcome != test.outcome {
				t.Errorf("ended as %s after\n%s\nwant %s after\n%s", outcome, asked, test.outcome, test.asked)
			}
		})
	}
}

// TestCancel: a cancel before, during and after each step undoes all three, last first, also those that were
// never begun: they get tombstones.
func TestCancel(t *testing.T) {
	t.Parallel()
	steps := strings.Split(forward, ", ")
	for i, at := range steps {
		for _, pending := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s pending=%t", at, pending), func(t *testing.T) {
				t.Parallel()
				o := newOrchestra(t, script{})
				if pending {
					o.script[at] = []string{"pending"} // for ever
				}
				o.on[at] = func() {
					delete(o.on, at)
					o.SignalWorkflow(saga.SignalUndo, nil)
					o.SignalWorkflow(saga.SignalUndo, nil) // twice is once
				}
				if outcome := o.run(t); outcome != saga.Undone {
					t.Errorf("ended as %s", outcome)
				}
				want := strings.Join(steps[:i+1], ", ") + ", " + backward
				if asked := strings.Join(o.asked, ", "); asked != want {
					t.Errorf("asked for %s\nwant %s", asked, want)
				}
			})
		}
	}
	t.Run("as the run begins", func(t *testing.T) {
		t.Parallel()
		o := newOrchestra(t, script{})
		o.RegisterDelayedCallback(func() { o.SignalWorkflow(saga.SignalUndo, nil) }, 0)
		if outcome := o.run(t); outcome != saga.Undone || strings.Join(o.asked, ", ") != backward {
			t.Errorf("ended as %s after %v", outcome, o.asked)
		}
	})
	t.Run("while a refusal is undone", func(t *testing.T) {
		t.Parallel()
		o := newOrchestra(t, script{"do payment": {"refused"}})
		o.on["undo inventory"] = func() {
			delete(o.on, "undo inventory")
			o.SignalWorkflow(saga.SignalUndo, nil)
		}
		o.run(t)
		if asked := strings.Join(o.asked, ", "); !strings.HasSuffix(asked, backward) {
			t.Errorf("asked for %s", asked)
		}
	})
}

// TestRedrive: a redrive has what waits asked for at once, and a parked undo again for a while; one that says
// that the order is being undone undoes it.
func TestRedrive(t *testing.T) {
	t.Parallel()
	t.Run("does not wait for the timer", func(t *testing.T) {
		t.Parallel()
		o := newOrchestra(t, script{"do payment": {"pending", "pending", "pending", "pending", "pending", "pending", "done"}})
		began := o.Now()
		for i := range 6 {
			o.RegisterDelayedCallback(func() { o.SignalWorkflow(saga.SignalRedrive, saga.Redrive{}) }, time.Duration(i+1)*10*time.Millisecond)
		}
		if outcome := o.run(t); outcome != saga.Arranged {
			t.Errorf("ended as %s", outcome)
		}
		if took := o.Now().Sub(began); took > time.Second {
			t.Errorf("it took %s", took)
		}
	})
	t.Run("of a parked undo", func(t *testing.T) {
		t.Parallel()
		o := newOrchestra(t, script{"undo shipping": {"parked", "parked", "undone"}})
		o.RegisterDelayedCallback(func() { o.SignalWorkflow(saga.SignalRedrive, saga.Redrive{Undo: true}) }, 0)
		if outcome := o.run(t); outcome != saga.Undone {
			t.Errorf("ended as %s after %v", outcome, o.asked)
		}
	})
	t.Run("of one that stays parked", func(t *testing.T) {
		t.Parallel()
		o := newOrchestra(t, script{"undo shipping": {"parked"}})
		o.RegisterDelayedCallback(func() { o.SignalWorkflow(saga.SignalRedrive, saga.Redrive{Undo: true}) }, 0)
		if outcome := o.run(t); outcome != saga.Parked || len(o.asked) != 6 {
			t.Errorf("ended as %s after %v", outcome, o.asked)
		}
	})
}

// TestState: the query tells in business words where the saga is.
func TestState(t *testing.T) {
	t.Parallel()
	o := newOrchestra(t, script{"do payment": {"pending", "pending", "done"}})
	var state saga.State
	o.RegisterDelayedCallback(func() {
		value, err := o.QueryWorkflow(saga.QueryState)
		if err != nil {
			t.Error(err)
			return
		}
		if err := value.Get(&state); err != nil {
			t.Error(err)
		}
	}, 1500*time.Millisecond)
	o.run(t)
	if state.Step != "payment" || state.Doing != "having the money held" || state.Tries != 2 || state.Since.IsZero() || !state.NextTry.After(state.Since) {
		t.Errorf("%+v", state)
	}
}

// TestNothingPersonal: what a run is given names the order and nothing else of it.
func TestNothingPersonal(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(saga.Input{OrderID: id})
	if err != nil || string(b) != `{"order_id":"`+string(id)+`"}` {
		t.Errorf("%s %v", b, err)
	}
}

// TestHistories replays what runs of before have left: today's code must do the same as theirs did. New ones
// are recorded by TestOrchestrated of test/e2e with HOLDFAST_TEST_RECORD set to this folder.
func TestHistories(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/histories/*.json")
	if err != nil || len(files) < 3 {
		t.Fatalf("there are %d histories: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			r := worker.NewWorkflowReplayer()
			saga.RegisterWorkflow(r)
			if err := r.ReplayWorkflowHistoryFromJSONFile(nil, file); err != nil {
				t.Errorf("it is not survived: put the change behind workflow.GetVersion: %v", err)
			}
		})
	}
}

// TestHistoriesHoldNothingPersonal: neither the address nor the payment token got into what Temporal keeps.
func TestHistoriesHoldNothingPersonal(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/histories/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, m := range payload.FindAllStringSubmatch(text, -1) {
			decoded, err := base64.StdEncoding.DecodeString(m[1])
			if err != nil {
				t.Fatal(err)
			}
			text += string(decoded)
		}
		if !strings.Contains(text, "order_id") {
			t.Errorf("%s: not even the input was found", file)
		}
		for _, personal := range []string{"Reader", "Long Street", "Berlin", "tok_"} {
			if strings.Contains(text, personal) {
				t.Errorf("%s holds %q", file, personal)
			}
		}
	}
}

// payload finds the payloads of a history.
var payload = regexp.MustCompile(`"data": "([^"]*)"`)
