package e2e_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write docs/scenarios.md from the end states that were seen")

const document = "../../docs/scenarios.md"

// matrix is what was seen: end states by scenario and column. Columns that were not run are not there.
type matrix struct {
	mu     sync.Mutex
	states map[string]map[string]string
}

// run runs the scenarios on a Holdfast, and notes how each has ended.
func (m *matrix) run(t *testing.T, column string, s *system) {
	t.Helper()
	s.item(t, "MANY", 450, 100)
	s.item(t, "FEW", 450, 3)
	s.item(t, "NONE", 450, 0)
	ends := map[string]func(*testing.T) string{}
	for _, c := range scenarios() {
		if !picked() {
			ends[c.name] = c.begin(t, s)
		}
	}
	for _, c := range scenarios() {
		t.Run(c.name, func(t *testing.T) {
			end := ends[c.name]
			if end == nil {
				end = c.begin(t, s)
			}
			m.note(c.name, column, end(t))
		})
	}
}

// picked tells whether some of the scenarios may be meant alone: then none is begun before its turn.
func picked() bool {
	return strings.Count(flag.Lookup("test.run").Value.String(), "/") > 2 || flag.Lookup("test.skip").Value.String() != ""
}

func (m *matrix) note(row, column, state string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.states[row] == nil {
		m.states[row] = map[string]string{}
	}
	m.states[row][column] = state
}

func columns() (all []string) {
	for _, style := range styles {
		for _, c := range cells {
			all = append(all, column(style, c))
		}
	}
	return all
}

// judge wants one end state in all columns of a row, and after a run of everything the document to have it.
func (m *matrix) judge(t *testing.T) {
	complete := !t.Failed()
	for _, c := range scenarios() {
		row := m.states[c.name]
		complete = complete && len(row) == len(columns())
		first := ""
		for _, column := range columns() {
			state, ran := row[column]
			switch {
			case !ran:
			case first == "":
				first = column
			case state != row[first]:
				complete = false
				t.Errorf("%s ends otherwise:\n%s: %s\n%s: %s", c.name, first, row[first], column, state)
			}
		}
	}
	got := m.render()
	t.Logf("\n%s", got)
	if !complete {
		return // a part of it says nothing of the document
	}
	if *update {
		if err := os.WriteFile(document, got, 0o644); err != nil {
			t.Error(err)
		}
		return
	}
	if want, err := os.ReadFile(document); err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/scenarios.md is not what was seen: run go test ./test/e2e -run TestScenarios -update, and look at the difference (%v)", err)
	}
}

// render writes the document: a number for each state that a row has been seen to end in.
func (m *matrix) render() []byte {
	var b bytes.Buffer
	b.WriteString("# Scenarios\n\nHow each scenario ends: a whole Holdfast, through its public API, in both styles of saga, in one process and split over processes, on embedded and on real\n" +
		"engines. `TestScenarios` of `test/e2e` runs them all, writes this table (`-update`), and fails where two columns of a row differ. [testing.md](testing.md) says which test proves\nwhat is not in it.\n\n")
	fmt.Fprintf(&b, "| scenario | end state | %s |\n|---|---|%s\n", strings.Join(columns(), " | "), strings.Repeat("---|", len(columns())))
	for _, c := range scenarios() {
		var states []string
		marks := make([]string, len(columns()))
		for i, column := range columns() {
			state, ran := m.states[c.name][column]
			if !ran {
				marks[i] = "not run"
				continue
			}
			if !slices.Contains(states, state) {
				states = append(states, state)
			}
			marks[i] = strings.Repeat("≠", slices.Index(states, state))
			if marks[i] == "" {
				marks[i] = "="
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", c.name, strings.Join(states, " ≠ "), strings.Join(marks, " | "))
	}
	return b.Bytes()
}
