package chaos

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"holdfast/check"
)

// What counts as being as before.
const (
	// hold is how long all must be as before, so that one quiet moment does not count.
	hold = 3 * time.Second
	// slower is how much slower than the slowest of the calm acceptances may be: twice, and this.
	slower = 100 * time.Millisecond
	// outliers is the share of acceptances that may be slower, and refusals of those that may be refused; one always may.
	outliers = 0.05
	refusals = 0.01
	// moreWait is how much longer than in the calm the line of orders without an outcome may be: half as much
	// again, and what comes in so long.
	moreWait = 500 * time.Millisecond
)

// calm is how it was before anything was wrong.
type calm struct {
	accept  time.Duration // the slowest acceptance but for one in a hundred
	backlog int           // the most orders without an outcome
	rate    float64
}

func calmOf(orders []request, until time.Duration) calm {
	c := calm{}
	var took []time.Duration
	for _, o := range orders {
		if o.at < until && o.created() {
			took = append(took, o.took)
			c.backlog = max(c.backlog, backlogAt(orders, o.at+o.took))
		}
	}
	c.accept = check.QuantilesOf(took).P99
	c.rate = float64(len(took)) / max(until.Seconds(), 1)
	return c
}

// span is a part of a record: from ref on, all must be as before until then at least. now is how far the record goes.
type span struct{ ref, until, now time.Duration }

// acceptsFrom is the first instant since when orders are accepted as in the calm.
func (c calm) acceptsFrom(orders []request, in span) (time.Duration, bool) {
	limit := 2*c.accept + slower
	instants := []time.Duration{in.ref}
	for _, o := range orders {
		if o.at > in.ref && !o.extra {
			instants = append(instants, o.at)
		}
	}
	for _, t := range instants {
		end := max(t+hold, in.until)
		if end+limit > in.now {
			break
		}
		n, refused, slow := 0, 0, 0
		for _, o := range orders {
			if o.extra || o.at < t || o.at >= end {
				continue
			}
			n++
			switch {
			case !o.created():
				refused++
			case o.took > limit:
				slow++
			}
		}
		if n > 0 && float64(refused) <= max(1, refusals*float64(n)) && float64(slow) <= outliers*float64(n) {
			return t, true
		}
	}
	return 0, false
}

// firstNew is when the first order that was placed from ref on was settled.
func firstNew(orders []request, ref time.Duration) (first time.Duration, ok bool) {
	for _, o := range orders {
		if o.at >= ref && o.settled != 0 && !o.extra && (!ok || o.settled < first) {
			first, ok = o.settled, true
		}
	}
	return first, ok
}

// drainedFrom is the first instant since when no more orders wait for an outcome than in the calm.
func (c calm) drainedFrom(orders []request, in span) (time.Duration, bool) {
	limit := c.backlog + c.backlog/2 + int(math.Ceil(c.rate*moreWait.Seconds()))
	type step struct {
		at time.Duration
		by int
	}
	var steps []step
	for _, o := range orders {
		if !o.created() {
			continue
		}
		steps = append(steps, step{o.at + o.took, 1})
		if o.settled != 0 {
			steps = append(steps, step{max(o.settled, o.at+o.took), -1})
		}
	}
	slices.SortFunc(steps, func(a, b step) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.by, b.by)) })
	waiting, since, over := 0, in.ref, false
	for _, s := range steps {
		if s.at > in.now || s.at > in.ref && !over && s.at >= max(since+hold, in.until) {
			break
		}
		waiting += s.by
		if s.at <= in.ref {
			over = waiting > limit
			continue
		}
		if waiting > limit {
			over = true
		} else if over {
			over, since = false, s.at
		}
	}
	return since, !over && in.now >= max(since+hold, in.until)
}

// recovery measures how soon all was as before. ok is false while it is not known yet, or has not come.
func recovery(orders []request, calmUntil time.Duration, in span) (r Recovery, ok bool) {
	c := calmOf(orders, calmUntil)
	accepts, ok1 := c.acceptsFrom(orders, in)
	first, ok2 := firstNew(orders, in.ref)
	drained, ok3 := c.drainedFrom(orders, in)
	r = Recovery{Accepts: max(0, accepts-in.ref), First: max(0, first-in.ref), Confirm: max(first, drained) - in.ref, Waited: in.now - in.ref}
	return r, ok1 && ok2 && ok3
}

// available is what clients met from one instant to another.
func available(orders, cancels, reads []request, from, to time.Duration) (a Availabilities) {
	share := func(list []request, ok func(request) bool) (n int, share float64) {
		good := 0
		for _, r := range list {
			if r.at < from || r.at >= to || r.extra {
				continue
			}
			n++
			if ok(r) {
				good++
			}
		}
		return n, float64(good) / float64(max(n, 1))
	}
	a.Creates, a.Share.Create = share(orders, request.created)
	a.Cancels, a.Share.Cancel = share(cancels, request.settledCancel)
	a.Reads, a.Share.Read = share(reads, request.read)
	return a
}

// below tells whether fewer requests of n were answered than promised. One is let pass, since of a few it is
// more than the share that a promise leaves.
func below(n int, share, promised float64) bool {
	failed := math.Round(float64(n) * (1 - share))
	return promised > 0 && failed > max(1, math.Floor(float64(n)*(1-promised)+1e-9))
}

// judge gives the result its verdict, and says in words what did not hold.
func (e *Experiment) judge(r *Result) {
	if r.Verdict == Interrupted {
		return
	}
	r.Verdict = Holds
	missed := e.missed(r)
	if e.SafetyOnly {
		missed = nil
	}
	var nothing []string
	bitten := slices.ContainsFunc(r.Faults, func(f *FaultReport) bool { return f.Bites > 0 })
	for _, f := range r.Faults {
		switch {
		case f.Error != "":
			nothing = append(nothing, fmt.Sprintf("%s: %s", f.Fault, f.Error))
		case f.Bites == 0 && (!e.Repeated || !bitten):
			nothing = append(nothing, "the fault did nothing: "+f.Fault)
		}
	}
	for _, level := range []struct {
		verdict Verdict
		why     []string
	}{{Missed, missed}, {Inconclusive, nothing}, {Violated, inWords(r.Violations)}} {
		if len(level.why) > 0 {
			r.Verdict, r.Failed = level.verdict, append(level.why, r.Failed...)
		}
	}
}

func inWords(violations []check.Violation) (words []string) {
	for _, v := range violations {
		words = append(words, v.String())
	}
	return words
}

// missed says which targets were.
func (e *Experiment) missed(r *Result) (failed []string) {
	a := &r.Available
	a.Promised = e.Least
	for _, p := range []struct {
		what            string
		n               int
		share, promised float64
	}{
		{"create order", a.Creates, a.Share.Create, e.Least.Create},
		{"cancel", a.Cancels, a.Share.Cancel, e.Least.Cancel},
		{"read", a.Reads, a.Share.Read, e.Least.Read},
	} {
		if below(p.n, p.share, p.promised) {
			failed = append(failed, fmt.Sprintf("%s was available for %.1f %% of %d requests, promised are %g %%", p.what, 100*p.share, p.n, 100*p.promised))
		}
	}
	if rec := r.Recovery; rec != nil {
		switch {
		case rec.Never:
			failed = append(failed, fmt.Sprintf("it was not as before within %s, the target is %s", rec.Waited.Round(time.Second), rec.Target))
		case rec.Took() > rec.Target:
			failed = append(failed, fmt.Sprintf("it was as before %s after the %s, the target is %s", rec.Took().Round(100*time.Millisecond), rec.From, rec.Target))
		}
	}
	if e.Judge != nil {
		failed = append(failed, e.Judge(r)...)
	}
	return failed
}
