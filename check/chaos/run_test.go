package chaos

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func campaign(t *testing.T, s System) *Campaign {
	return &Campaign{System: s, Seed: 1, Rest: 10 * time.Second, Say: func(line string) { t.Log(line) }, Tick: func(line string) { t.Log(line) }}
}

// TestInterrupted breaks off an experiment while a process is dead: it is started again, what was seen so far is
// reported, and the next experiment is not begun.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	part := newPart("order-1", "order")
	s := fakeHoldfast(t, part)
	way := &fakeLink{name: "order>kafka"}
	s.links = []Link{way}
	ctx, cancel := context.WithCancel(t.Context())
	e := Experiment{Name: "broken-off", Load: Load{Rate: 20, Cancels: 2, Reads: 2},
		Phases: []Phase{{Name: "fault", For: time.Minute, Faults: []Fault{&process{kind: "order", act: kill}, &link{name: "*>kafka", out: LinkFault{Drop: true}}}}}}
	go func() {
		<-part.told // it was killed
		cancel()
	}()
	r, err := campaign(t, s).Run(ctx, []Experiment{e, {Name: "next"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := part.all(); got != "kill start" {
		t.Errorf("the process: %q, want to be killed and started", got)
	}
	if way.out != (LinkFault{}) {
		t.Errorf("the link is left with %+v", way.out)
	}
	if len(r.Experiments) != 1 || r.Experiments[0].Verdict != Interrupted || len(r.NotRun) != 1 || r.NotRun[0] != "next" || r.Verdict() != Interrupted {
		t.Errorf("%+v", r)
	}
	if f := r.Experiments[0].Faults; len(f) != 2 || f[0].To == 0 || f[0].Bites == 0 {
		t.Errorf("the faults: %+v %+v", f[0], f[1])
	}
}

// TestInterruptedAtTheEnd breaks off an experiment while it waits until all is at rest: nothing is judged.
func TestInterruptedAtTheEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := campaign(t, fakeHoldfast(t, newPart("order-1", "order")))
	c.Say = func(line string) {
		if strings.Contains(line, "at rest") {
			cancel()
		}
	}
	e := Experiment{Name: "broken-off", Load: Load{Rate: 20, Cancels: 2, Reads: 2}, Phases: []Phase{{Name: "calm", For: time.Second}}}
	r, err := c.Run(ctx, []Experiment{e})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Experiments[0]; got.Verdict != Interrupted || len(got.Outcomes) > 0 || len(got.Violations) > 0 {
		t.Errorf("%s of %v, with %v", got.Verdict, got.Outcomes, got.Violations)
	}
}

// TestExperiment runs a whole one: a fault that bites, one that is not to be had here, and one that does nothing.
func TestExperiment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault Fault
		want  Verdict
	}{
		{"bites", &process{kind: "order", act: kill}, Holds},
		{"is not to be had", &link{name: "order>moon"}, Inconclusive},
		{"does nothing", &process{kind: "order", act: pause}, Inconclusive}, // the fake is no process that could be seen to stand still
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := fakeHoldfast(t, newPart("order-1", "order"), newPart("order-2", "order"))
			e := Experiment{Name: "short", Load: Load{Rate: 20, Cancels: 2, Reads: 2}, Least: Availability{1, 1, 1},
				Phases: []Phase{{Name: "calm", For: time.Second}, {Name: "fault", For: time.Second, Faults: []Fault{c.fault}}, {Name: "after", For: time.Second}}}
			r, err := campaign(t, s).Run(t.Context(), []Experiment{e})
			if err != nil {
				t.Fatal(err)
			}
			got := r.Experiments[0]
			if got.Verdict != c.want {
				t.Errorf("%s %q, want %s", got.Verdict, got.Failed, c.want)
			}
			if len(got.Phases) != 3 || got.Phases[1].Accepted < 10 || got.Phases[1].Confirmed < 10 || got.Available.Creates < 10 || got.Available.Cancels == 0 || got.Available.Reads == 0 || len(got.Violations) > 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestBursts has two bursts at the same time: no order of one is a repetition of the other's.
func TestBursts(t *testing.T) {
	t.Parallel()
	s := fakeHoldfast(t)
	e := Experiment{Name: "bursts", Load: Load{Rate: 20, Cancels: 2, Reads: 2}, Phases: []Phase{
		{Name: "fault", For: time.Second, Faults: []Fault{&burst{rate: 20}, &burst{rate: 20}}}, {Name: "after", For: time.Second}}}
	if _, err := campaign(t, s).Run(t.Context(), []Experiment{e}); err != nil {
		t.Fatal(err)
	}
	s.api.mu.Lock()
	defer s.api.mu.Unlock()
	if len(s.api.keys) < 30 {
		t.Errorf("%d orders", len(s.api.keys))
	}
	for key, n := range s.api.keys {
		if n > 1 {
			t.Errorf("%d orders under %q", n, key)
		}
	}
}

// TestDraws: the same seed draws the same replica and the same pairs; other seeds draw others.
func TestDraws(t *testing.T) {
	t.Parallel()
	killed := func(seed uint64, name string) string {
		s := &fakeSystem{}
		for _, replica := range []string{"order-3", "order-1", "order-2", "order-4"} {
			s.parts = append(s.parts, newPart(replica, "order"))
		}
		p := &process{kind: "order", act: kill}
		if err := p.Inject(t.Context(), &Field{System: s, Rand: draws(seed, name)}); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = p.Heal(t.Context()) }()
		return p.Describe()
	}
	seen := map[string]bool{}
	for seed := range uint64(20) {
		first := killed(seed, "kill-order")
		if again := killed(seed, "kill-order"); again != first {
			t.Errorf("seed %d: %s, and again %s", seed, first, again)
		}
		seen[first] = true
	}
	if len(seen) != 4 {
		t.Errorf("20 seeds drew %v of four replicas", seen)
	}
	names := func(seed uint64) (all string) {
		for _, e := range Pairs(10, seed, 0, Split, true, nil) {
			if len(e.Phases) != 5 || touches(e) == e.Phases[3].Faults[0].Touches() || !e.SafetyOnly {
				t.Errorf("%s is no pair", e.Name)
			}
			all += " " + e.Name
		}
		return all
	}
	if a, b, c := names(7), names(7), names(8); a != b || a == c {
		t.Errorf("seed 7 drew\n%s and\n%s, and seed 8\n%s", a, b, c)
	}
}

// TestProcess: what is done to processes is undone, of one or of all.
func TestProcess(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault *process
		want  string
	}{
		{&process{kind: "psp", all: true, act: kill}, "kill start"},
		{&process{kind: "psp", all: true, act: pause}, "pause resume"},
		{&process{kind: "psp", all: true, act: throttle, share: 0.1}, "throttle=0.1 throttle=0"},
	} {
		t.Run(string(c.fault.act), func(t *testing.T) {
			t.Parallel()
			a, b, other := newPart("psp-1", "psp"), newPart("psp-2", "psp"), newPart("order-1", "order")
			if err := c.fault.Inject(t.Context(), &Field{System: &fakeSystem{parts: []Part{a, b, other}}, Rand: draws(1, "")}); err != nil {
				t.Fatal(err)
			}
			if err := c.fault.Heal(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := c.fault.Heal(t.Context()); err != nil { // once more does nothing
				t.Fatal(err)
			}
			if a.all() != c.want || b.all() != c.want || other.all() != "" {
				t.Errorf("%q, %q, another kind %q; want %q for both", a.all(), b.all(), other.all(), c.want)
			}
		})
	}
}

// needy is a part that does not start while something else is broken, and away that something.
type (
	needy struct {
		*fakePart
		without *away
	}
	away struct{ broken atomic.Bool }
)

func (n needy) Start(ctx context.Context) error {
	if n.without.broken.Load() {
		return errors.New("what it needs is away")
	}
	return n.fakePart.Start(ctx)
}

func (a *away) Touches() string                      { return "what it needs" }
func (a *away) Describe() string                     { return "it is away" }
func (a *away) Inject(context.Context, *Field) error { a.broken.Store(true); return nil }
func (a *away) Heal(context.Context) error           { a.broken.Store(false); return nil }
func (a *away) Bites() (int64, error)                { return 1, nil }

// TestHealedOnceItCan: what was killed is started when what it needs is there again, be that healed with it or later.
func TestHealedOnceItCan(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]bool{"together": false, "later": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := &away{}
			part := needy{newPart("order-1", "order"), other}
			killed := &process{kind: "order", act: kill}
			phases := []Phase{{Name: "both", For: time.Second, Faults: []Fault{killed, other}}, {Name: "after", For: time.Second}}
			if later {
				phases = slices.Insert(phases, 1, Phase{Name: "second", For: time.Second, Faults: []Fault{other}})
			}
			r, err := campaign(t, fakeHoldfast(t, part)).Run(t.Context(), []Experiment{{Name: "needy", Load: Load{Rate: 5}, Phases: phases, SafetyOnly: true}})
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Experiments[0]; got.Verdict != Holds || part.all() != "kill start" {
				t.Errorf("%s %q after %q", got.Verdict, got.Failed, part.all())
			} else if f := got.Faults[0]; f.Delayed == "" || f.Error != "" {
				t.Errorf("the report says %+v", f)
			}
		})
	}
}

// TestNeverHealed: what cannot be started ends the run, and the report says why.
func TestNeverHealed(t *testing.T) {
	t.Parallel()
	gone := &away{}
	gone.broken.Store(true)
	e := Experiment{Name: "needy", Load: Load{Rate: 5}, SafetyOnly: true, Phases: []Phase{
		{Name: "fault", For: time.Second, Faults: []Fault{&process{kind: "order", act: kill}}}, {Name: "after", For: time.Second}}}
	r, err := campaign(t, fakeHoldfast(t, needy{newPart("order-1", "order"), gone})).Run(t.Context(), []Experiment{e})
	if err == nil || !strings.Contains(err.Error(), "what it needs is away") {
		t.Errorf("%v", err)
	}
	if got := r.Experiments[0]; got.Verdict != Inconclusive || !strings.Contains(got.Faults[0].Error, "what it needs is away") {
		t.Errorf("%s %+v", got.Verdict, got.Faults[0])
	}
}

// TestExperimentsAreWhole: every experiment says what it claims, and the names are theirs alone.
func TestExperimentsAreWhole(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, e := range Experiments(0) {
		faulted := false
		for _, p := range e.Phases {
			faulted = faulted || len(p.Faults) > 0
		}
		if names[e.Name] || e.Hypothesis == "" || e.Blast == "" || e.Where == "" || !faulted || e.Load.Rate == 0 {
			t.Errorf("%+v", e)
		}
		names[e.Name] = true
	}
}
