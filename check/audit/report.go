package audit

import (
	"fmt"
	"time"
)

// Verdict is what became of a check. Its zero value is that nobody looked, which is never good.
type Verdict int

// The verdicts.
const (
	NotRun       Verdict = iota
	Pass                 // looked at, and it holds
	Fail                 // it does not hold, and it is not a matter of time
	Inconclusive         // it may still come right: work is under way
	NotCheckable         // stores do not show it
)

var verdicts = []string{"not run", "pass", "fail", "inconclusive", "not checkable"}

func (v Verdict) String() string { return verdicts[v] }

// MarshalText writes the verdict as a word.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (v *Verdict) UnmarshalText(text []byte) error {
	for i, name := range verdicts {
		if name == string(text) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no verdict", text)
}

// maxOffenders bounds the list of each invariant. The counts go on.
const maxOffenders = 20

// Offender is one thing that an invariant does not hold for.
type Offender struct {
	ID     string `json:"id"` // of an order, or what else is named
	Detail string `json:"detail"`
	// Open is true for what may still come right.
	Open bool `json:"open,omitempty"`
}

// Result is what was found of one invariant.
type Result struct {
	ID       string     `json:"id"`
	Says     string     `json:"says"`
	Holds    string     `json:"holds"` // at every instant, or at rest
	Verdict  Verdict    `json:"verdict"`
	Observed string     `json:"observed"`
	Limit    string     `json:"limit"`
	Examined int64      `json:"examined"`
	Wrong    int64      `json:"wrong"`
	Open     int64      `json:"open"` // what cannot be told yet
	Why      string     `json:"why,omitempty"`
	Items    []Offender `json:"offenders"`
}

// Counts are figures that are no breach by themselves.
type Counts struct {
	Orders         int64 `json:"orders"`
	Moving         int64 `json:"moving"` // neither ended, nor confirmed, nor with an operator
	Confirmed      int64 `json:"confirmed"`
	NeedsAttention int64 `json:"needs_attention"`
	ParkedCalls    int64 `json:"parked_calls"`
	DeadLetters    int64 `json:"dead_letters"`
	ParkedKeys     int64 `json:"parked_keys"`
	Unsent         int64 `json:"unsent_events"`
	ParkedLanes    int64 `json:"parked_lanes"`
	Events         int64 `json:"events"`
	Handled        int64 `json:"handled_events"`
	OnBus          int64 `json:"records_on_bus"` // those of repetitions too; 0 where the bus was not read
	Reread         int64 `json:"reread"`         // orders that were looked at more than once
}

// Report is what an audit found. It is also the document of `holdfast verify --json`.
type Report struct {
	Version  int           `json:"version"`
	At       time.Time     `json:"at"`
	Took     time.Duration `json:"took_ns"`
	AtRest   bool          `json:"at_rest"`
	Grace    time.Duration `json:"grace_ns"`
	Sources  []string      `json:"sources"`
	Verdict  Verdict       `json:"verdict"`
	Counts   Counts        `json:"counts"`
	Results  []Result      `json:"results"`
	Unjudged int64         `json:"unjudged"` // suspicions beyond what is kept of them
}

// conclude gives the report its verdict: a failure outweighs what is open, and what was not run is one.
func (r *Report) conclude() {
	r.Verdict = Pass
	for _, x := range r.Results {
		switch {
		case x.Verdict == Fail || x.Verdict == NotRun:
			r.Verdict = Fail
		case x.Verdict == Inconclusive && r.Verdict == Pass:
			r.Verdict = Inconclusive
		}
	}
	if r.Unjudged > 0 && r.Verdict == Pass {
		r.Verdict = Inconclusive
	}
}

// Failed lists the invariants that do not hold.
func (r *Report) Failed() []Result {
	var list []Result
	for _, x := range r.Results {
		if x.Verdict == Fail || x.Verdict == NotRun {
			list = append(list, x)
		}
	}
	return list
}

const (
	always = "always"
	atRest = "at rest"
)

// catalogue are the invariants of ARCHITECTURE.md, as far as stores show them.
func catalogue() []Result {
	return []Result{
		{ID: "I1", Holds: always, Says: "every acknowledged order exists with the same id, lines and total", Limit: "0 acknowledgements without their order"},
		{ID: "I2", Holds: always, Says: "no order, and no event or row of one, that nobody asked for", Limit: "0 without a request"},
		{ID: "I3", Holds: always, Says: "one order per caller, route and idempotency key", Limit: "1 order per key"},
		{ID: "I4", Holds: always, Says: "one capture per order at most, and not more than its total", Limit: "captured <= total, once"},
		{ID: "I5", Holds: always, Says: "refunds do not exceed captures", Limit: "0 <= refunded <= captured"},
		{ID: "I6", Holds: atRest, Says: "fulfilled: the total is kept; rejected or cancelled: nothing is kept or held", Limit: "net = total, or 0 and no open hold"},
		{ID: "I7", Holds: always, Says: "0 <= reserved <= on hand, both the sums of their movements", Limit: "the sums of the movements"},
		{ID: "I8", Holds: always, Says: "one live reservation per order at most, ended once, and none on orders that have ended", Limit: "reserved once, released or shipped once"},
		{ID: "I9", Holds: always, Says: "one parcel per order at most; gone or cancelled, not both; gone implies paid", Limit: "1 parcel"},
		{ID: "I10", Holds: atRest, Says: "every order has ended or waits for the carrier, and none for an operator", Limit: "0 moving, 0 needs_attention at rest"},
		{ID: "I11", Holds: always, Says: "each transaction sums to zero per currency, and the books are the payment's and the provider's", Limit: "sum = 0; books = row"},
		{ID: "I12", Holds: always, Says: "versions 1..n, each legal, and folding the events gives the row", Limit: "no gap, no illegal step"},
		{ID: "I13", Holds: atRest, Says: "all events have been sent, each written once", Limit: "0 unsent at rest"},
		{ID: "I14", Holds: atRest, Says: "an event takes effect once per consumer, and none without having been sent", Limit: "0 unhandled at rest, 0 unknown, 0 dead letters"},
		{ID: "I15", Holds: always, Says: "what lists are read by is what the order says", Limit: "columns = order"},
		{ID: "I16", Holds: always, Says: "the answer to a cancel is not contradicted", Limit: "0 fulfilled after an accepted cancel"},
		{ID: "I17", Holds: always, Says: "any number of messages of the provider has one effect", Limit: "1 booking per operation and account"},
		{ID: "I18", Verdict: NotCheckable, Says: "at most 3 attempts per request, bounded queues and memory",
			Why: "policies act in memory: see holdfast policies and /metrics"},
	}
}
