// Package chaos breaks what a running Holdfast stands on, under load, and judges what becomes of it: whether
// anything was lost or done twice, whether it went on as it is to, and how soon all was as before.
package chaos

import (
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"
)

// Where an experiment can be run.
type Where string

// The places.
const (
	Up     Where = "up"     // one process with embedded engines
	Split  Where = "split"  // a process for each replica of a service, on real engines
	Either Where = "either" // both
)

// Need is something that an experiment cannot do without, beside what all need.
type Need string

// The needs.
const (
	SmallDiskNeed Need = "root, to mount a small disk"
	NamesNeed     Need = "root, to give processes a resolver of their own"
	ClocksNeed    Need = "bin/holdfastd-faultclock"
)

// Experiment is a question to a running Holdfast that a run answers.
type Experiment struct {
	Name       string
	Hypothesis string
	Blast      string // what may be felt, and by whom
	Where      Where
	Temporal   bool // it needs orchestrated orders
	Needs      Need // what not every machine has

	Load   Load
	Phases []Phase
	Target Target
	Least  Availability // while the faults last
	// SafetyOnly says that only what must never happen is judged.
	SafetyOnly bool
	// Repeated says that the faults are one that comes again: it is enough that it bites once.
	Repeated bool
	// Watch are the breakers whose changes are told in words; those of all are in the report.
	Watch []string
	// Judge says what else of the hypothesis did not hold; nil: nothing is asked.
	Judge func(*Result) []string
}

// Load is what the clients of an experiment do, besides the faults.
type Load struct {
	Rate    float64 // orders per second
	Cancels float64 // per second, of orders that were placed for it
	Reads   float64 // per second
	// Mixed has the orders be of both styles of saga, where there is a Temporal, and some of their cards be declined.
	Mixed bool
}

// Phase is a part of an experiment: what is wrong meanwhile. A fault that is in the next phase too goes on.
type Phase struct {
	Name   string
	For    time.Duration // 0: until all is as before, or has had time enough for it
	Faults []Fault
}

// Target is how soon all is to be as before.
type Target struct {
	Within    time.Duration // 0: not measured
	FromFault bool          // counted from the fault, which others are to make up for; else from its end
}

// Availability is the share of requests that are answered as they should. 0 is no promise.
type Availability struct {
	Create float64 `json:"create"`
	Cancel float64 `json:"cancel"`
	Read   float64 `json:"read"`
}

// Runs tells whether the experiment can be run there.
func (e *Experiment) Runs(where Where) bool { return e.Where == Either || e.Where == where }

// Ways tells of a way between two parts, such as payment>psp, whether it needs a proxy for the experiments: where it is
// to fail, and where any name is not to be told, since names are those of proxies. It is nil where no way needs one.
func Ways(list []Experiment) func(way string) bool {
	var faults []*link
	for _, e := range list {
		for _, p := range e.Phases {
			for _, f := range p.Faults {
				switch f := f.(type) {
				case *name:
					return func(string) bool { return true }
				case *link:
					faults = append(faults, f)
				}
			}
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return func(way string) bool {
		return slices.ContainsFunc(faults, func(f *link) bool { return f.matches(way) })
	}
}

// draws is the source of everything that an experiment draws: the same for the same seed and name, whatever
// was run before.
func draws(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // a hash takes all
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}
