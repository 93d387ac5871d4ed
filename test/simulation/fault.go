package simulation

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"time"
)

// Fault is something that goes wrong on a link for a while.
type Fault struct {
	Link      string
	Dir       direction // of what it hits; see both
	Both      bool
	Kind      FaultKind
	From, For time.Duration
	Rate      float64       // of the writes that it hits
	Latency   time.Duration // of slow; of lose: when the loss is noticed, 0 for never
	Part      int           // of the connections, 1 to parts, that it hits; 0: all
}

// parts is how many parts the connections of a link are divided into, where a fault hits one.
const parts = 6

// FaultKind is what a fault does.
type FaultKind string

// The kinds of faults.
const (
	Slow      FaultKind = "slow"      // what is sent takes longer
	Lose      FaultKind = "lose"      // what is sent is lost, and everything after it on the same connection
	Reset     FaultKind = "reset"     // the connection breaks, after what was sent or before it
	Partition FaultKind = "partition" // nothing arrives until it is over, as when TCP sends again
	Refuse    FaultKind = "refuse"    // nobody listens
)

// The links.
var links = []string{"customer>api", "customer>api", "holdfast>psp", "holdfast>psp", "holdfast>carrier", "holdfast>carrier", "psp>api", "carrier>api", "holdfast>bus", "holdfast>bus"}

func (d dice) fault() Fault {
	f := Fault{Link: pick(d, links), Dir: direction(d.IntN(2)), Both: d.one(3), Kind: pick(d, []FaultKind{Slow, Lose, Lose, Reset, Reset, Partition, Refuse}),
		From: d.upTo(busyTime), For: d.between(100*time.Millisecond, 20*time.Second), Rate: 1}
	f.For = min(f.For, faultTime-f.From)
	switch f.Kind {
	case Slow:
		f.Latency, f.Rate = d.between(5*time.Millisecond, 6*time.Second), d.Float64()
		if f.Link == "holdfast>bus" {
			f.Latency = min(f.Latency, time.Second) // each of a client's requests waits for the one before
		}
	case Lose:
		f.Rate = d.Float64()
		if d.one(2) {
			f.Latency = d.between(time.Millisecond, 20*time.Second)
		}
	case Reset:
		f.Rate = d.Float64() * d.Float64()
	}
	return f
}

// hits tells whether a fault hits a write of a connection. The same write is always hit or never, whatever
// the scheduler does.
func (f Fault) hits(seed uint64, p *pair, dir direction, n int, at time.Duration) bool {
	if f.Link != p.link || at < f.From || at >= f.From+f.For || !f.Both && dir != f.Dir {
		return false
	}
	if f.Part > 0 && p.ordinal%parts+1 != f.Part {
		return false
	}
	return f.Rate >= 1 || chance(seed, p, dir, n, string(f.Kind)) < f.Rate
}

// chance is a number in [0,1) that belongs to a write.
func chance(seed uint64, p *pair, dir direction, n int, what string) float64 {
	h := fnv.New64a()
	var b [32]byte
	binary.LittleEndian.PutUint64(b[:], seed)
	binary.LittleEndian.PutUint64(b[8:], uint64(p.ordinal))
	binary.LittleEndian.PutUint64(b[16:], uint64(dir))
	binary.LittleEndian.PutUint64(b[24:], uint64(n))
	_, _ = h.Write(b[:])
	_, _ = h.Write([]byte(p.link + what))
	x := h.Sum64()
	x ^= x >> 33 // FNV's low bits are good, its high ones are not
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}

const (
	minLatency = 50 * time.Microsecond
	maxLatency = 3 * time.Millisecond
)

// effects returns what becomes of writes under a plan's faults; began is the start of the run.
func (p Plan) effects(began time.Time) func(*pair, direction, int, time.Time) effect {
	return func(c *pair, dir direction, n int, now time.Time) effect {
		e := calm(p.Seed, c, dir, n)
		at := now.Sub(began)
		for _, f := range p.Faults {
			if !f.hits(p.Seed, c, dir, n, at) {
				continue
			}
			switch f.Kind {
			case Slow:
				e.latency += f.Latency
			case Lose:
				if n >= 0 {
					e.lose, e.noticed = true, f.Latency
				}
			case Reset:
				e.reset = n >= 0
				e.drop = chance(p.Seed, c, dir, n, "drop") < 0.5
			case Partition:
				e.heldUntil = began.Add(f.From + f.For)
			case Refuse:
				e.refuse = n < 0
			}
		}
		return e
	}
}

// calm is a write on a network where nothing goes wrong.
func calm(seed uint64, c *pair, dir direction, n int) effect {
	return effect{latency: minLatency + time.Duration(chance(seed, c, dir, n, "latency")*float64(maxLatency-minLatency))}
}

func pow(x, y float64) float64 { return math.Pow(x, y) }

// PartyFault is something that an outside party does wrong for a while, as its PUT /faults has it.
type PartyFault struct {
	Party string // psp or carrier
	From  time.Duration
	For   time.Duration
	JSON  map[string]any
}

var operations = map[string][]string{"psp": {"*", "authorise", "capture", "void", "refund", "query"}, "carrier": {"*", "schedule", "cancel", "query"}}

func (d dice) partyFault() PartyFault {
	f := PartyFault{Party: pick(d, []string{"psp", "carrier"}), From: d.upTo(busyTime), For: d.between(time.Second, 15*time.Second)}
	f.JSON = map[string]any{"operation": pick(d, operations[f.Party]), "rate": 0.1 + 0.9*d.Float64(), "for": f.For.String()}
	switch d.IntN(6) {
	case 0:
		f.JSON["status"] = pick(d, []int{500, 502, 503})
	case 1:
		f.JSON["status"], f.JSON["retry_after"] = 429, (time.Duration(1+d.IntN(5)) * time.Second).String()
	case 2:
		f.JSON["latency"] = d.between(50*time.Millisecond, 10*time.Second).String()
	case 3:
		f.JSON["lose"] = "answer"
	case 4:
		f.JSON["lose"] = "request"
	case 5:
		f.JSON["garbage"] = true
	}
	return f
}

// Stop is the end of a process, and its start a while later.
type Stop struct {
	Process string // holdfast, psp, carrier
	At      time.Duration
	// Link, where it is set, has the process die at the Nth write on that link after At.
	Link   string
	Dir    direction
	Nth    int
	Drop   bool // that write does not arrive
	Gently bool // it is asked to stop, and finishes what it does
	Down   time.Duration
	NoBus  bool // the embedded bus has lost everything
}

func (d dice) stop() Stop {
	s := Stop{Process: pick(d, []string{"holdfast", "holdfast", "holdfast", "holdfast", "psp", "carrier"}), At: d.upTo(busyTime + 5*time.Second), Down: d.between(10*time.Millisecond, 5*time.Second)}
	if s.Process != "holdfast" {
		return s
	}
	s.Gently, s.NoBus = d.one(5), d.one(6)
	if !s.Gently && d.one(2) {
		s.Link, s.Dir, s.Nth, s.Drop = pick(d, links), direction(d.IntN(2)), d.IntN(12), d.one(2)
	}
	return s
}
