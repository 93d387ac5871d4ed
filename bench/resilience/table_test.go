package bench_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write TABLE.md as it was seen")

const tableFile = "TABLE.md"

// row is a bug from the field.
type row struct {
	number int
	bug    string
	play   func(*scene)
	// outside says that the row starts processes, which have no virtual time.
	outside bool
}

func rows() []row {
	return []row{
		{number: 1, bug: "the bulkhead bounds nothing", play: sharedBulkhead},
		{number: 2, bug: "one breaker for several dependencies", play: oneBreakerForSeveral},
		{number: 3, bug: "a stale result closes or opens the breaker", play: staleResult},
		{number: 4, bug: "fenced results vanish silently", play: vanishing},
		{number: 5, bug: "half-open permit leaks: panic, Goexit, hang, cancellation", play: leakingProbe},
		{number: 6, bug: "too many probes at the instant of half-open", play: tooManyProbes},
		{number: 7, bug: "bulkhead permits leak or are given back twice", play: leakingSlots},
		{number: 8, bug: "a timeout frees the slot while the work goes on", play: slotFreedAtTimeout},
		{number: 9, bug: "a timeout does not return; a late success is lost", play: timeoutDoesNotReturn},
		{number: 10, bug: "the caller's cancellation counts as a failure", play: cancellation},
		{number: 11, bug: "declines trip the breaker; 5xx counts as a success", play: businessAnswers},
		{number: 12, bug: "own rejections feed back", play: ownRejections},
		{number: 13, bug: "data races", play: dataRaces, outside: true},
		{number: 14, bug: "retry amplification", play: amplification},
		{number: 15, bug: "the throttle counts after completion", play: throttleTooLate},
		{number: 16, bug: "retry with a dead context or a consumed body", play: deadContext},
		{number: 17, bug: "no jitter", play: noJitter},
		{number: 18, bug: "retrying what is not idempotent", play: notIdempotent},
		{number: 19, bug: "the order of policies hides failures", play: orderOfPolicies},
		{number: 20, bug: "a fallback hides loss", play: hiddenLoss},
	}
}

// TestTable plays every row with every library, and compares what it saw with TABLE.md. It fails where
// Holdfast does not pass, or where a cell is not what the file says; not where a peer fails.
func TestTable(t *testing.T) {
	libs := libraries()
	cells := map[int][]*scene{}
	for _, r := range rows() {
		for _, lib := range libs {
			t.Run(fmt.Sprintf("%02d/%s", r.number, lib.name), func(t *testing.T) {
				s := play(t, r, lib)
				cells[r.number] = append(cells[r.number], s)
				t.Log(s.verdict(), s.footnote())
				if lib.name == holdfast().name && s.verdict() != "pass" {
					t.Errorf("%s: %s %s", r.bug, s.verdict(), s.footnote())
				}
			})
		}
	}
	for _, r := range rows() {
		if len(cells[r.number]) != len(libs) {
			t.Log("only a part of the table was run, so it is not compared")
			return
		}
	}
	page := markdown(cells)
	compare(t, page)
	shown(t, page)
}

// docsFile shows the table, without its footnotes, between the lines that begin and end it.
const (
	docsFile  = "../../docs/resilience.md"
	tableHead = "| # | bug |"
)

// shown sees that the documentation shows the table as it is.
func shown(t *testing.T, page string) {
	t.Helper()
	table := page[strings.Index(page, tableHead):]
	table = table[:strings.Index(table, "\n\n")]
	table = regexp.MustCompile(` \(\d+\) \|`).ReplaceAllString(table, " |")
	file, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	from := strings.Index(string(file), tableHead)
	if from < 0 {
		t.Fatalf("%s has no line that begins with %q", docsFile, tableHead)
	}
	before, rest := string(file[:from]), string(file[from:])
	old, after, _ := strings.Cut(rest, "\n\n")
	if old == table {
		return
	}
	if !*update {
		t.Errorf("%s shows another table than this run saw. Run: go test -run TestTable -update", docsFile)
		return
	}
	if err := os.WriteFile(docsFile, []byte(before+table+"\n\n"+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func compare(t *testing.T, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(tableFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	file, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(string(file), "\n")
	for i, line := range strings.Split(got, "\n") {
		if i >= len(want) || line != want[i] {
			t.Errorf("%s, line %d: this run saw\n%s\nIf that is right, run: go test -run TestTable -update", tableFile, i+1, line)
		}
	}
}

func (s *scene) verdict() string {
	switch {
	case s.lacks != "":
		return "n/a"
	case len(s.bad) > 0:
		return "FAIL"
	default:
		return "pass"
	}
}

func (s *scene) footnote() string {
	switch {
	case s.lacks != "":
		return "no " + s.lacks
	case len(s.bad) > 0:
		return strings.Join(s.bad, "; ")
	default:
		return strings.Join(s.notes, "; ")
	}
}

func markdown(cells map[int][]*scene) string {
	var out, notes strings.Builder
	out.WriteString("# The field bugs, run\n\n" +
		"Written by `go test -run TestTable -update`; each cell is what a run showed. A library passes where it can be used\n" +
		"so that it does, by its own options and by the order of its parts; README.md has the rules. n/a: it has no such part.\n\n| # | bug |")
	passes := map[string][2]int{}
	libs := libraries()
	for _, lib := range libs {
		fmt.Fprintf(&out, " %s%s |", lib.name, version(lib.module))
	}
	out.WriteString("\n|---|---|" + strings.Repeat("---|", len(libs)) + "\n")
	footnotes := 0
	for _, r := range rows() {
		fmt.Fprintf(&out, "| %d | %s |", r.number, r.bug)
		for i, s := range cells[r.number] {
			cell, note := s.verdict(), s.footnote()
			count := passes[libs[i].name]
			if cell == "pass" {
				count[0]++
			}
			if cell != "n/a" {
				count[1]++
			}
			passes[libs[i].name] = count
			if note != "" && cell != "n/a" {
				footnotes++
				cell = fmt.Sprintf("%s (%d)", cell, footnotes)
				fmt.Fprintf(&notes, "%d. Row %d, %s: %s.\n", footnotes, r.number, libs[i].name, note)
			}
			fmt.Fprintf(&out, " %s |", cell)
		}
		out.WriteString("\n")
	}
	out.WriteString("| | passed, of those that apply |")
	for _, lib := range libs {
		fmt.Fprintf(&out, " %d of %d |", passes[lib.name][0], passes[lib.name][1])
	}
	return out.String() + "\n\n" + notes.String()
}

// version reads from go.mod which version of a library was run.
func version(module string) string {
	if module == "" {
		return ""
	}
	file, err := os.ReadFile("go.mod")
	if err != nil {
		return ""
	}
	found := regexp.MustCompile(regexp.QuoteMeta(module) + ` (\S+)`).FindSubmatch(file)
	if found == nil {
		return ""
	}
	v := string(found[1])
	if parts := strings.Split(v, "-"); len(parts) == 3 { // a commit: its own name says more
		v = parts[2][:7]
	}
	return " " + v
}
