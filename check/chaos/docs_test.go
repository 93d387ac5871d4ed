package chaos

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the list of docs/chaos.md from the experiments")

const (
	listFile  = "../../docs/chaos.md"
	listBegin = "<!-- the list begins -->\n"
	listEnd   = "<!-- the list ends -->\n"
)

// TestList sees that the document has every experiment as it is.
func TestList(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(listFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), listBegin)
	_, after, ok2 := strings.Cut(rest, listEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the list", listFile)
	}
	want := before + listBegin + list() + listEnd + after
	if *update {
		if err := os.WriteFile(listFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(b) {
		t.Errorf("%s is not what the experiments are: go test ./check/chaos -run TestList -update", listFile)
	}
}

func list() string {
	var b strings.Builder
	b.WriteString("| experiment | runs on | hypothesis | it may hurt | promised: create / cancel / read | as before within |\n|---|---|---|---|---|---|\n")
	promise := func(share float64) string {
		if share == 0 {
			return "–"
		}
		return percent(share)
	}
	for _, e := range Experiments(0) {
		within := "–"
		if e.Target.Within > 0 {
			within = e.Target.Within.Round(time.Second).String()
			if e.Target.FromFault {
				within += " of the fault"
			}
		}
		where := string(e.Where)
		if e.Needs != "" {
			where += "; needs " + string(e.Needs)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s / %s / %s | %s |\n", e.Name, where, e.Hypothesis, e.Blast, promise(e.Least.Create), promise(e.Least.Cancel), promise(e.Least.Read), within)
	}
	return b.String()
}
