package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/check"
	"holdfast/shop"
)

// history has an order every 40 ms for 40 s; change makes of each what it was.
func history(change func(o *request)) (orders []request) {
	for at := time.Duration(0); at < 40*time.Second; at += 40 * time.Millisecond {
		o := request{id: "ord", at: at, took: 10 * time.Millisecond, status: 201, settled: at + 200*time.Millisecond, outcome: shop.EventOrderConfirmed}
		change(&o)
		if !o.created() {
			o.id, o.settled, o.outcome = "", 0, ""
		}
		orders = append(orders, o)
	}
	return orders
}

const (
	calmEnds  = 5 * time.Second
	faultEnds = 15 * time.Second
	ends      = 40 * time.Second
)

// during tells whether an order was placed while the fault lasted.
func during(o *request) bool { return o.at >= calmEnds && o.at < faultEnds }

func TestRecovery(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		change           func(o *request)
		ref              time.Duration
		accepts, confirm time.Duration // about
		never            bool
	}{
		{"nothing was wrong", func(*request) {}, faultEnds, 0, 200 * time.Millisecond, false},
		{"refused while it lasts", func(o *request) {
			if during(o) {
				o.status = 503
			}
		}, faultEnds, 0, 200 * time.Millisecond, false},
		{"refused for 4 s more", func(o *request) {
			if o.at >= calmEnds && o.at < faultEnds+4*time.Second {
				o.status = 503
			}
		}, faultEnds, 4 * time.Second, 4200 * time.Millisecond, false},
		{"slow for 6 s more", func(o *request) {
			if o.at >= calmEnds && o.at < faultEnds+6*time.Second {
				o.took = 2 * time.Second
			}
		}, faultEnds, 6 * time.Second, 200 * time.Millisecond, false},
		{"confirmed all at once, 7 s after", func(o *request) {
			if during(o) {
				o.settled = faultEnds + 7*time.Second
			}
		}, faultEnds, 0, 7 * time.Second, false},
		{"new ones wait for 9 s", func(o *request) {
			if o.at >= calmEnds && o.at < faultEnds+9*time.Second {
				o.settled = faultEnds + 9*time.Second
			}
		}, faultEnds, 0, 9 * time.Second, false},
		{"a line that never gets shorter", func(o *request) {
			if during(o) {
				o.settled = 0
			}
		}, faultEnds, 0, 0, true},
		{"never accepted again", func(o *request) {
			if o.at >= calmEnds {
				o.status = 0
			}
		}, faultEnds, 0, 0, true},
		{"from the fault: the others took over after 3 s", func(o *request) {
			if o.at >= calmEnds && o.at < calmEnds+3*time.Second {
				o.settled = calmEnds + 3*time.Second + 100*time.Millisecond
			}
		}, calmEnds, 0, 3100 * time.Millisecond, false},
		{"from the fault: it goes wrong late, and stays so for 2 s", func(o *request) {
			if o.at >= calmEnds+6*time.Second && o.at < calmEnds+8*time.Second {
				o.settled = calmEnds + 8*time.Second
			}
		}, calmEnds, 0, 8 * time.Second, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, ok := recovery(history(c.change), calmEnds, span{c.ref, faultEnds, ends})
			if ok == c.never {
				t.Fatalf("recovered: %t", ok)
			}
			if c.never {
				return
			}
			const about = 500 * time.Millisecond
			if (got.Accepts-c.accepts).Abs() > about || (got.Confirm-c.confirm).Abs() > about {
				t.Errorf("accepted after %s and confirmed after %s, want %s and %s", got.Accepts, got.Confirm, c.accepts, c.confirm)
			}
		})
	}
}

// TestRecoveryIsNotKnownYet: what is well for a moment only is not well yet.
func TestRecoveryIsNotKnownYet(t *testing.T) {
	t.Parallel()
	if _, ok := recovery(history(func(*request) {}), calmEnds, span{faultEnds, faultEnds, faultEnds + time.Second}); ok {
		t.Error("a second is enough")
	}
}

func TestAvailable(t *testing.T) {
	t.Parallel()
	n := 0
	orders := history(func(o *request) {
		if n++; during(o) && n%5 == 0 {
			o.status = 503
		}
		if during(o) && n%5 == 1 {
			o.extra, o.status = true, 503 // a burst is not what was promised
		}
	})
	a := available(orders, []request{{at: 6 * time.Second, status: 409}, {at: 7 * time.Second}}, []request{{at: time.Second}}, calmEnds, faultEnds)
	want := Availabilities{Creates: 200, Cancels: 2, Share: Availability{Create: 0.75, Cancel: 0.5}}
	if a != want {
		t.Errorf("%+v, want %+v", a, want)
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	good := func() *Result {
		return &Result{Faults: []*FaultReport{{Fault: "x", Bites: 1}}, Available: Availabilities{Creates: 300, Share: Availability{Create: 0.99}},
			Recovery: &Recovery{From: "heal", Accepts: time.Second, Confirm: 2 * time.Second, Target: 5 * time.Second}}
	}
	for _, c := range []struct {
		name   string
		break_ func(*Result, *Experiment)
		want   Verdict
		says   string
	}{
		{"all is well", func(*Result, *Experiment) {}, Holds, ""},
		{"too slow", func(r *Result, _ *Experiment) { r.Recovery.Confirm = 6 * time.Second }, Missed, "as before 6s after the heal, the target is 5s"},
		{"never", func(r *Result, _ *Experiment) { r.Recovery.Never, r.Recovery.Waited = true, 20*time.Second }, Missed, "not as before within 20s"},
		{"not available", func(r *Result, _ *Experiment) { r.Available.Share.Create = 0.97 }, Missed, "create order was available for 97.0 %"},
		{"a hypothesis of its own", func(_ *Result, e *Experiment) { e.Judge = func(*Result) []string { return []string{"no"} } }, Missed, "no"},
		{"the fault did nothing", func(r *Result, _ *Experiment) { r.Faults[0].Bites = 0 }, Inconclusive, "the fault did nothing: x"},
		{"the fault could not be set", func(r *Result, _ *Experiment) { r.Faults[0].Error = "no link" }, Inconclusive, "no link"},
		{"nothing was done and it was slow", func(r *Result, _ *Experiment) { r.Faults[0].Bites, r.Recovery.Never = 0, true }, Inconclusive, "did nothing"},
		{"a violation", func(r *Result, _ *Experiment) {
			r.Violations = []check.Violation{{Invariant: "I4", Order: "ord_1", Detail: "captured twice"}}
		}, Violated, "I4 ord_1: captured twice"},
		{"a violation of a fault that did nothing", func(r *Result, _ *Experiment) {
			r.Faults[0].Bites, r.Violations = 0, []check.Violation{{Invariant: "I4"}}
		}, Violated, "I4"},
		{"safety only, and slow", func(r *Result, e *Experiment) { r.Recovery.Never, e.SafetyOnly = true, true }, Holds, ""},
		{"one that comes again, and did nothing once", func(r *Result, e *Experiment) {
			r.Faults, e.Repeated = append(r.Faults, &FaultReport{Fault: "x"}), true
		}, Holds, ""},
		{"one that comes again, and never did anything", func(r *Result, e *Experiment) {
			r.Faults[0].Bites, e.Repeated = 0, true
		}, Inconclusive, "the fault did nothing: x"},
		{"safety only, and nothing done", func(r *Result, e *Experiment) { r.Faults[0].Bites, e.SafetyOnly = 0, true }, Inconclusive, "did nothing"},
		{"interrupted", func(r *Result, _ *Experiment) { r.Verdict, r.Faults[0].Bites = Interrupted, 0 }, Interrupted, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, e := good(), &Experiment{Least: Availability{Create: all}}
			c.break_(r, e)
			e.judge(r)
			if r.Verdict != c.want || c.says == "" && len(r.Failed) > 0 || c.says != "" && !slices.ContainsFunc(r.Failed, func(f string) bool { return strings.Contains(f, c.says) }) {
				t.Errorf("%s %q, want %s %q", r.Verdict, r.Failed, c.want, c.says)
			}
		})
	}
}

// TestWorst: the verdict of a report is the worst, and that of nothing is none.
func TestWorst(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		all  []Verdict
		left []string
		want Verdict
	}{
		{nil, nil, ""}, {[]Verdict{Holds, Holds}, nil, Holds}, {[]Verdict{Holds, Missed}, nil, Missed}, {[]Verdict{Inconclusive, Missed}, nil, Inconclusive},
		{[]Verdict{Holds, Violated, Inconclusive}, nil, Violated}, {[]Verdict{Holds}, []string{"poison"}, Interrupted},
	} {
		r := &Report{NotRun: c.left}
		for _, v := range c.all {
			r.Experiments = append(r.Experiments, &Result{Verdict: v})
		}
		if got := r.Verdict(); got != c.want {
			t.Errorf("%v, %v: %q, want %q", c.all, c.left, got, c.want)
		}
	}
}

// TestAdd: what was run in parts is one report.
func TestAdd(t *testing.T) {
	t.Parallel()
	r := &Report{System: "one", Took: 1, NotRun: []string{}, Experiments: []*Result{{Name: "a", Verdict: Holds}}}
	r.Add(&Report{System: "one", Took: 2, Experiments: []*Result{{Name: "b", Verdict: Holds}}})
	if r.Verdict() != Holds || r.System != "one" || r.Took != 3 || len(r.Experiments) != 2 {
		t.Errorf("%+v", r)
	}
	r.Add(&Report{System: "two", NotRun: []string{"c"}})
	r.Skip([]Experiment{{Name: "d"}, {Name: "e"}})
	if r.Verdict() != Interrupted || r.System != "one; or two" || strings.Join(r.NotRun, " ") != "c d e" {
		t.Errorf("%+v, which %s", r, r.Verdict())
	}
}

// TestContradictions: an order must become what the answer to its cancel said.
func TestContradictions(t *testing.T) {
	t.Parallel()
	orders := []shop.Order{{ID: "undone", Status: shop.Cancelled}, {ID: "kept", Status: shop.Fulfilled}, {ID: "asked", Status: shop.NeedsAttention}}
	right := []request{{id: "undone", status: 202}, {id: "undone", status: 200}, {id: "kept", status: 409}, {id: "asked", status: 202}}
	if found := contradicted(right, orders); len(found) > 0 {
		t.Errorf("%v", found)
	}
	if found := contradicted([]request{{id: "undone", status: 409}, {id: "kept", status: 202}}, orders); len(found) != 2 {
		t.Errorf("%v, want two", found)
	}
}
