package chaos

import (
	"strings"
	"time"

	"holdfast/check"
)

// Verdict is what became of an experiment.
type Verdict string

// The verdicts, the worst first. The zero value is that nobody looked, which is never good.
const (
	Violated     Verdict = "safety violated" // something was lost, done twice, or never came to its end
	Inconclusive Verdict = "inconclusive"    // a fault did nothing, or what it was done to could not be healed
	Interrupted  Verdict = "interrupted"     // healed, and not judged
	Missed       Verdict = "target missed"   // nothing was lost, but it was slower, or refused more, than it should
	Holds        Verdict = "holds"
)

// Report is what a campaign has shown. Durations are in nanoseconds in JSON.
type Report struct {
	Version     int           `json:"version"`
	At          time.Time     `json:"at"`
	Took        time.Duration `json:"took_ns"`
	Machine     string        `json:"machine"`
	System      string        `json:"system"`
	Seed        uint64        `json:"seed"`
	Repeat      string        `json:"repeat"` // the command that draws the same again
	Experiments []*Result     `json:"experiments"`
	NotRun      []string      `json:"not_run"` // asked for, and not come to
}

// Totals are sums over a report.
type Totals struct {
	Orders, Violations, Held, Attention int
	Cancels                             int
	Bites                               int64
}

// Totals adds up the experiments.
func (r *Report) Totals() (t Totals) {
	for _, e := range r.Experiments {
		for _, n := range e.Outcomes {
			t.Orders += n
		}
		t.Attention += e.Outcomes["needs_attention"]
		t.Violations += len(e.Violations)
		t.Cancels += e.Available.Cancels
		for _, f := range e.Faults {
			t.Bites += f.Bites
		}
		if e.Verdict == Holds {
			t.Held++
		}
	}
	return t
}

// Verdict is the worst of the experiments'; a report of none has none.
func (r *Report) Verdict() Verdict {
	worst := Verdict("")
	for _, v := range []Verdict{Holds, Missed, Interrupted, Inconclusive, Violated} {
		for _, e := range r.Experiments {
			if e.Verdict == v {
				worst = v
			}
		}
	}
	if worst == Holds && len(r.NotRun) > 0 {
		return Interrupted
	}
	return worst
}

// Add adds what was run after it.
func (r *Report) Add(next *Report) {
	if !strings.Contains(r.System, next.System) {
		r.System += "; or " + next.System
	}
	r.Experiments, r.NotRun, r.Took = append(r.Experiments, next.Experiments...), append(r.NotRun, next.NotRun...), r.Took+next.Took
}

// Skip notes what is not run any more.
func (r *Report) Skip(list []Experiment) {
	for _, e := range list {
		r.NotRun = append(r.NotRun, e.Name)
	}
}

// Result is what an experiment has shown.
type Result struct {
	Name       string `json:"experiment"`
	Hypothesis string `json:"hypothesis"`
	Blast      string `json:"blast_radius"`

	Verdict    Verdict           `json:"verdict"`
	Failed     []string          `json:"failed"` // what did not hold, in words; empty: all did
	Violations []check.Violation `json:"violations"`

	Faults    []*FaultReport `json:"faults"`
	Phases    []PhaseReport  `json:"phases"`
	Available Availabilities `json:"availability"`
	Recovery  *Recovery      `json:"recovery,omitempty"` // nil where it is not measured

	Outcomes map[string]int `json:"outcomes"`                     // orders by status, at the end
	Attempts float64        `json:"psp_authorisations_per_order"` // that reached it; 0 where it was started again meanwhile
	Drain    time.Duration  `json:"drain_ns"`                     // from the end of the load until all was at rest
	PeakMB   float64        `json:"peak_memory_mb,omitempty"`
	Changes  []Change       `json:"breaker_changes"`
	Timeline []Point        `json:"timeline"` // a point for each second
	Took     time.Duration  `json:"took_ns"`
}

// FaultReport is what a fault did. Times are since the start of the experiment.
type FaultReport struct {
	Fault string        `json:"fault"`
	From  time.Duration `json:"from_ns"`
	To    time.Duration `json:"to_ns"` // when it was healed, and what it was done to was there again
	Bites int64         `json:"bites"`
	Error string        `json:"error,omitempty"` // of setting it, counting it or healing it
	// Delayed is why it could not be healed at first, though it may have been when another fault was.
	Delayed string `json:"delayed,omitempty"`
}

// PhaseReport is what was seen of a phase.
type PhaseReport struct {
	Name      string          `json:"name"`
	Began     time.Duration   `json:"began_ns"` // since the start of the experiment
	Lasted    time.Duration   `json:"lasted_ns"`
	Sent      int             `json:"sent"`
	Accepted  int             `json:"accepted"`
	Refused   int             `json:"refused"` // with an answer: nothing was stored
	Unknown   int             `json:"unknown"` // without one
	Accept    check.Quantiles `json:"acceptance"`
	Confirmed int             `json:"confirmed"` // orders that were confirmed meanwhile
	PSP       int             `json:"psp_requests"`
	Carrier   int             `json:"carrier_requests"`
	Cancels   int             `json:"cancels"`
	Answered  int             `json:"cancels_answered"` // 200, 202 or 409
}

// Availabilities are what clients met while the faults lasted, of the load that is not itself a fault.
type Availabilities struct {
	Creates  int          `json:"creates"`
	Cancels  int          `json:"cancels"`
	Reads    int          `json:"reads"`
	Share    Availability `json:"share"` // of those that were answered as they should
	Promised Availability `json:"promised"`
}

// Recovery is how long it took until all was as before.
type Recovery struct {
	From    string        `json:"from"`                   // "fault" or "heal"
	Accepts time.Duration `json:"accepts_ns"`             // orders are accepted, as fast as before
	Confirm time.Duration `json:"confirms_ns"`            // a new order is confirmed, and no more wait than before
	Never   bool          `json:"never,omitempty"`        // not while it was waited for
	Waited  time.Duration `json:"waited_ns"`              // for it, at most
	Target  time.Duration `json:"target_ns"`              //
	First   time.Duration `json:"first_new_confirmed_ns"` // the first order that was placed after it was confirmed
}

// Took is the longer of the two.
func (r *Recovery) Took() time.Duration { return max(r.Accepts, r.Confirm) }

// Change is a change of a breaker's state.
type Change struct {
	At      time.Duration `json:"at_ns"` // since the start of the experiment
	Part    string        `json:"part,omitempty"`
	Breaker string        `json:"breaker"`
	State   string        `json:"state"`
}

// Point is a second of an experiment.
type Point struct {
	Second    int           `json:"second"`
	Sent      int           `json:"sent"`
	Accepted  int           `json:"accepted"` // of those that were sent in it
	Refused   int           `json:"refused"`
	Unknown   int           `json:"unknown"`
	Confirmed int           `json:"confirmed"` // in it
	Backlog   int           `json:"backlog"`   // orders without an outcome at its end
	P50       time.Duration `json:"p50_ns"`    // until orders that were sent in it were accepted
	P99       time.Duration `json:"p99_ns"`
}
