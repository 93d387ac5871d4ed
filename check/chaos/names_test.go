package chaos

import (
	"strings"
	"testing"
	"time"
)

// namedSystem is a fakeSystem whose processes find the others by name.
type namedSystem struct {
	fakeSystem
	names *fakeNames
}

func (s *namedSystem) Names() Names { return s.names }

// fakeNames bites once for each time that something goes wrong.
type fakeNames struct {
	wrong map[string]NameFault
	bites int64
}

func (n *fakeNames) Bites() int64 { return n.bites }
func (n *fakeNames) Set(kind string, fault NameFault) {
	n.wrong[kind] = fault
	if fault != "" {
		n.bites++
	}
}

// TestName: the questions for a name go wrong, who has a connection has it no more, and all of it ends.
func TestName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind string
		cut  []int // of the links below
	}{
		{"psp", []int{1, 0, 0, 0}},
		{"kafka", []int{0, 1, 1, 0}},
		{"*", []int{1, 1, 1, 0}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			links := []*fakeLink{{name: "payment>psp"}, {name: "order>kafka"}, {name: "saga>kafka"}, {name: "client>gateway"}}
			s := &namedSystem{names: &fakeNames{wrong: map[string]NameFault{}}}
			for _, l := range links {
				s.links = append(s.links, l)
			}
			f := &name{kind: c.kind, how: NoAnswer}
			if err := f.Inject(t.Context(), &Field{System: s}); err != nil {
				t.Fatal(err)
			}
			if s.names.wrong[c.kind] != NoAnswer {
				t.Errorf("%v", s.names.wrong)
			}
			for i, l := range links {
				if l.cuts != c.cut[i] {
					t.Errorf("%s was cut %d times, want %d", l.name, l.cuts, c.cut[i])
				}
			}
			if err := f.Heal(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n, err := f.Bites(); n != 1 || err != nil || s.names.wrong[c.kind] != "" {
				t.Errorf("%d bites, %v, left %v", n, err, s.names.wrong)
			}
		})
	}
	if err := (&name{kind: "psp", how: NoAnswer}).Inject(t.Context(), &Field{System: &fakeSystem{}}); err == nil {
		t.Error("there are no names, and nothing is said of it")
	}
}

// clockedPart is a fakePart whose clock can be set.
type clockedPart struct {
	*fakePart
	wrong time.Duration
	shown int64
}

func (p *clockedPart) Shown() (int64, error) { return p.shown, nil }
func (p *clockedPart) SetClock(wrong time.Duration) error {
	p.wrong = wrong
	if wrong != 0 {
		p.shown += 3
	}
	return nil
}

// TestJump: the clock of one replica is wrong for a while, and what it showed is counted.
func TestJump(t *testing.T) {
	t.Parallel()
	settable, other := &clockedPart{fakePart: newPart("order-2", "order"), shown: 7}, newPart("order-1", "order")
	f := &jump{kind: "order", by: back}
	field := &Field{System: &fakeSystem{parts: []Part{other, settable}}, Rand: draws(1, "")}
	if err := f.Inject(t.Context(), field); err != nil || settable.wrong != back {
		t.Fatalf("%v, it is wrong by %s", err, settable.wrong)
	}
	if got := f.Describe(); got != "the clock of order-2 is 5m0s behind" {
		t.Error(got)
	}
	if err := f.Heal(t.Context()); err != nil || settable.wrong != 0 {
		t.Errorf("%v, it is left wrong by %s", err, settable.wrong)
	}
	if n, err := f.Bites(); n != 3 || err != nil {
		t.Errorf("%d bites, %v; want 3", n, err)
	}
	field.System = &fakeSystem{parts: []Part{other}}
	if err := (&jump{kind: "order", by: ahead}).Inject(t.Context(), field); err == nil {
		t.Error("no clock can be set, and nothing is said of it")
	}
}

// TestCells: every cell has a name of its own and one fault, and promises nothing but safety.
func TestCells(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	list := Cells(time.Second, 1)
	for _, e := range list {
		if names[e.Name] || e.Hypothesis == "" || len(e.Phases) != 3 || len(e.Phases[1].Faults) != 1 || e.Target != (Target{}) || e.Least != (Availability{}) || e.SafetyOnly || !e.Runs(Split) {
			t.Errorf("%+v", e)
		}
		names[e.Name] = true
	}
	if want := len(ways)*len(wrongWays) + 6*6 + 5*3 + 2*len(wrongAnswers) + 8*3 + 5; len(list) != want {
		t.Errorf("%d cells, want %d", len(list), want)
	}
}

// TestRounds: a fault that comes again is a value of its own each time, and nothing is wrong in between.
func TestRounds(t *testing.T) {
	t.Parallel()
	for _, e := range Cells(3*time.Second, 3) {
		var wrong int
		faults := map[Fault]bool{}
		for i, p := range e.Phases {
			if len(p.Faults) != i%2 {
				t.Fatalf("%s: phase %d, %s, has %d faults", e.Name, i, p.Name, len(p.Faults))
			}
			for _, f := range p.Faults {
				wrong++
				faults[f] = true
			}
		}
		if wrong != 3 || len(faults) != 3 {
			t.Errorf("%s: %d faults come %d times, want 3", e.Name, len(faults), wrong)
		}
	}
}

// TestWays: a proxy is needed on a way that fails, and on all where a name does. Each costs what the product could use.
func TestWays(t *testing.T) {
	t.Parallel()
	all := []string{"payment>psp", "payment>postgres", "order>kafka", "saga>kafka"}
	known := map[string]Experiment{}
	for _, e := range Experiments(time.Second) {
		known[e.Name] = e
	}
	for _, c := range []struct{ experiments, want string }{
		{"restart-kafka kill-order clock-back-order poison psp-errors", ""},
		{"psp-partition", "payment>psp"},
		{"bus-partition kill-order", "order>kafka saga>kafka"},
		{"psp-partition store-partition", "payment>psp payment>postgres"},
		{"dns-bus", strings.Join(all, " ")},
	} {
		var list []Experiment
		for _, name := range strings.Fields(c.experiments) {
			e, ok := known[name]
			if !ok {
				t.Fatalf("there is no %s", name)
			}
			list = append(list, e)
		}
		var got []string
		ways := Ways(list)
		for _, way := range all {
			if ways != nil && ways(way) {
				got = append(got, way)
			}
		}
		if strings.Join(got, " ") != c.want || (ways == nil) != (c.want == "") {
			t.Errorf("%s: proxies on %v, want %s", c.experiments, got, c.want)
		}
	}
}
