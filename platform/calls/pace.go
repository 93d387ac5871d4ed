package calls

import "time"

// A pace is how many calls of a kind are taken from the store at a poll. What waited out an outage comes
// back by the thousand; it must neither crowd out the orders that are being placed, nor meet the other
// party all at once. So the pace grows by one each poll while this process has strength left, and is halved
// where it has none (additive increase, multiplicative decrease).
type pace struct {
	calls int
	most  int
	wait  func() time.Duration // for a processor
}

const (
	// minPace is the least pace.
	minPace = 5
	// strain is how long goroutines wait for a processor where the process has no strength left for what
	// could come later.
	strain = 2 * time.Millisecond
)

func newPace(most int, wait func() time.Duration) *pace {
	return &pace{calls: minPace, most: most, wait: wait}
}

// next returns how many calls may be taken up now that some are due, or that none are.
func (p *pace) next(due bool) int {
	switch wait := p.wait(); { // always asked: it tells what was since it was asked last
	case !due:
		p.calls = p.least()
	case wait > strain:
		p.calls = max(p.least(), p.calls/2)
	default:
		p.calls = min(p.most, p.calls+1)
	}
	return p.calls
}

func (p *pace) least() int { return min(minPace, p.most) }
