package audit

import (
	"context"
	"fmt"
	"slices"
)

// settle turns what was found into the results.
func (a *auditor) settle(ctx context.Context, found []finding) error {
	twice, err := a.twice(ctx)
	if err != nil {
		return err
	}
	found = append(found, twice...)
	if a.unreadable > 0 {
		found = append(found, finding{inv: "I1", id: "requests", detail: fmt.Sprintf("%d stored answers cannot be read", a.unreadable)})
	}
	a.total()
	if a.cfg.AtRest {
		for _, l := range a.letters {
			found = append(found, finding{inv: "I14", id: l.ID, rest: true, detail: l.Detail})
		}
	}
	slices.SortFunc(found, func(x, y finding) int {
		if x.id != y.id {
			return compareText(x.id, y.id)
		}
		return compareText(x.detail, y.detail)
	})
	for i := range a.report.Results {
		a.result(&a.report.Results[i], found)
	}
	return nil
}

func compareText(x, y string) int {
	if x < y {
		return -1
	}
	return 1
}

// total adds up what waits in the stores.
func (a *auditor) total() {
	c := &a.report.Counts
	for _, w := range a.waits {
		c.Unsent += w.unsent
		c.ParkedLanes += w.lanes
		c.ParkedKeys += w.keys
		c.ParkedCalls += w.calls
	}
}

// result fills in what became of one invariant.
func (a *auditor) result(r *Result, found []finding) {
	r.Items = []Offender{}
	if r.Verdict == NotCheckable {
		return
	}
	r.Examined = a.examined(r.ID)
	for _, f := range found {
		if f.inv != r.ID {
			continue
		}
		open := f.untold || f.rest && f.open && !a.cfg.AtRest
		if open {
			r.Open++
		} else {
			r.Wrong++
		}
		if len(r.Items) < maxOffenders {
			r.Items = append(r.Items, Offender{ID: f.id, Detail: f.detail, Open: open})
		}
	}
	switch {
	case r.Wrong > 0:
		r.Verdict = Fail
	case r.Open > 0:
		r.Verdict = Inconclusive
	default:
		r.Verdict = Pass
	}
	r.Observed = a.observed(r)
}

// examined is how much was looked at for an invariant.
func (a *auditor) examined(id string) int64 {
	c := &a.report.Counts
	switch id {
	case "I1", "I3":
		return a.requests
	case "I7":
		return a.moved + a.itemsSeen
	case "I11", "I17":
		return a.bookCount
	case "I12", "I13":
		return c.Events
	case "I14":
		return c.Handled
	default:
		return c.Orders
	}
}

func (a *auditor) observed(r *Result) string {
	c := &a.report.Counts
	text := fmt.Sprintf("%d wrong", r.Wrong)
	if r.Open > 0 {
		text += fmt.Sprintf(", %d open", r.Open)
	}
	switch r.ID {
	case "I10":
		text += fmt.Sprintf("; %d moving, %d confirmed, %d with an operator, %d calls parked", c.Moving, c.Confirmed, c.NeedsAttention, c.ParkedCalls)
	case "I13":
		text += fmt.Sprintf("; %d unsent, %d lanes parked", c.Unsent, c.ParkedLanes)
		if a.cfg.Bus != nil {
			text += fmt.Sprintf("; %d on the bus", c.OnBus)
		}
	case "I14":
		text += fmt.Sprintf("; %d dead letters, %d keys parked", c.DeadLetters, c.ParkedKeys)
	}
	return text
}
