package history

import (
	"fmt"
	"io"
	"time"

	"holdfast/check"
	"holdfast/check/audit"
	"holdfast/check/sometimes"
)

// Check is what became of one check of a history. Its zero value is that nobody looked.
type Check struct {
	Name      string            `json:"name"`
	Says      string            `json:"says"`
	Invariant string            `json:"invariant"`
	Verdict   audit.Verdict     `json:"verdict"`
	Examined  int               `json:"examined"`
	Why       string            `json:"why,omitempty"` // it could not be told
	Found     []check.Violation `json:"found"`
}

// bad adds a violation.
func (c *Check) bad(order, format string, args ...any) {
	c.Found = append(c.Found, check.Violation{Invariant: c.Invariant, Order: order, Detail: "history: " + fmt.Sprintf(format, args...)})
}

// open says that the check could not tell.
func (c *Check) open(format string, args ...any) {
	if c.Why == "" {
		c.Why = fmt.Sprintf(format, args...)
	}
}

// conclude gives the verdict. Nothing to look at is no good sign.
func (c *Check) conclude() {
	switch {
	case len(c.Found) > 0:
		c.Verdict = audit.Fail
	case c.Why != "":
		c.Verdict = audit.Inconclusive
	case c.Examined == 0:
		c.Verdict, c.Why = audit.NotRun, "there was nothing to look at"
	default:
		c.Verdict = audit.Pass
	}
}

// Report is what a history comes to.
type Report struct {
	Head       Head             `json:"head"`
	Operations int              `json:"operations"`
	Outcomes   map[Kind]int     `json:"outcomes"`
	Orders     int              `json:"orders"` // that were acknowledged
	Checks     []Check          `json:"checks"`
	Sites      sometimes.Counts `json:"sites"`
	Took       time.Duration    `json:"took_ns"`
}

// Violations are what does not hold and what could not be told: a check that was not carried out to its end
// is no good one.
func (r *Report) Violations() []check.Violation {
	var found []check.Violation
	for _, c := range r.Checks {
		found = append(found, c.Found...)
		if c.Verdict != audit.Pass && c.Verdict != audit.Fail {
			found = append(found, check.Violation{Invariant: c.Invariant, Detail: fmt.Sprintf("history: %s: %s: %s", c.Name, c.Verdict, c.Why)})
		}
	}
	return found
}

// Options are how a history is judged.
type Options struct {
	// Limit is how long one key or one item may take; beyond it the check is inconclusive. 0: 10 s.
	Limit time.Duration
}

const defaultLimit = 10 * time.Second

// Judge reads a history and judges it. An error means that it is none.
func Judge(r io.Reader, opt Options) (*Report, error) {
	h, err := Parse(r)
	if err != nil {
		return nil, err
	}
	return h.Judge(opt), nil
}

// Judge judges a history.
func (h *History) Judge(opt Options) *Report {
	if opt.Limit == 0 {
		opt.Limit = defaultLimit
	}
	began := time.Now()
	orders := h.orders()
	r := &Report{Head: h.Head, Operations: len(h.Ops), Outcomes: map[Kind]int{}, Orders: len(orders), Sites: h.sites(orders)}
	for _, o := range h.Ops {
		r.Outcomes[o.Outcome]++
	}
	for _, look := range []func(map[string]*order, Options) Check{h.found, h.asked, h.keys, h.stock, h.reads, h.cancels, h.ended} {
		c := look(orders, opt)
		c.conclude()
		r.Checks = append(r.Checks, c)
	}
	r.Took = time.Since(began)
	return r
}
