package chaos

import (
	"context"
	"time"

	"holdfast/check"
	"holdfast/check/audit"
)

// System is a running Holdfast that an experiment may hurt.
type System interface {
	Target() check.Target
	Stores() audit.Config // for the audit of its databases and the outside parties' ledgers
	Parts() []Part
	Links() []Link
}

// Part is a process that an experiment may hurt: one of Holdfast's own, an engine, or an outside party. All replicas of a
// service have names of their own: "payment-1", "payment-2".
type Part interface {
	Name() string
	Kind() string                    // the service, engine or party: "payment", "kafka", "postgres", "temporal", "psp", "holdfast"
	Kill() error                     // SIGKILL; it returns when the process is gone
	Stop() error                     // in order
	Start(ctx context.Context) error // again, on the same files and address; it returns when the part is ready
	Pause() error                    // SIGSTOP
	Resume() error                   // SIGCONT
	Throttle(share float64) error    // gives it a share of one processor, 0 < share; 0 takes the limit away
	Running() bool
}

// Link is a way from one part to another, through a proxy of the experiment's. Links have the names of both ends:
// "payment>psp", "psp>gateway", "gateway>order", "order>kafka", "payment>postgres".
type Link interface {
	Name() string
	// Set replaces the fault of both directions; the zero value heals. Connections that are open feel it too.
	Set(out, back LinkFault)
	// Cut resets the connections that are open.
	Cut()
	// Bites is how often the faults that were set have done something since the start.
	Bites() int64
}

// Named is a System whose own processes find the others by name. Names is nil where they do not.
type Named interface{ Names() Names }

// Names is where the names of parts are asked for. A part is known by its kind: "psp", "postgres", "order".
type Names interface {
	// Set has the questions for a name fail, or with "*" those for all; "" heals.
	Set(kind string, fault NameFault)
	// Bites is how many questions were not answered as they should since the start.
	Bites() int64
}

// NameFault is what becomes of a question for a name.
type NameFault string

// The faults.
const (
	NoSuchName    NameFault = "NXDOMAIN"
	ServerFailure NameFault = "SERVFAIL"
	NoAnswer      NameFault = "no answer"
)

// Clocked is a Part whose clock can be set wrong.
type Clocked interface {
	Part
	// SetClock has it be wrong by so much, ahead or behind; 0 puts it right.
	SetClock(wrong time.Duration) error
	// Shown is how many wrong times it has told its process, which may begin at 0 again when that is started again.
	Shown() (int64, error)
}

// LinkFault is what happens to the bytes of one direction.
type LinkFault struct {
	Latency  string  `json:"latency,omitempty"`  // a duration, added to each piece
	Drip     int     `json:"drip,omitempty"`     // bytes per second; 0: as fast as they come
	Drop     bool    `json:"drop,omitempty"`     // swallowed: a partition, or a lost request or answer
	ResetAt  float64 `json:"reset,omitempty"`    // share of connections that are reset in the middle of what comes next
	Truncate float64 `json:"truncate,omitempty"` // share of connections that are closed in order in the middle of what comes next
	Refuse   bool    `json:"refuse,omitempty"`   // new connections are refused
}
