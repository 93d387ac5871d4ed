package chaos

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/check"
)

// small is a report of two experiments, one of which failed.
func small() *Report {
	orders := history(func(o *request) {
		if during(o) {
			o.settled = faultEnds + time.Second
		}
	})
	good := &Result{Name: "psp-errors", Hypothesis: "It is <left> alone & waits.", Blast: "the payment step", Verdict: Holds, Failed: []string{},
		Faults:    []*FaultReport{{Fault: `psp does wrong: {"status":500}`, From: calmEnds, To: faultEnds, Bites: 91}},
		Available: Availabilities{Creates: 250, Cancels: 20, Reads: 50, Share: Availability{1, 0.9, 0.999}, Promised: Availability{all, all, none}},
		Recovery:  &Recovery{From: "heal", Accepts: 0, Confirm: 1800 * time.Millisecond, First: time.Second, Target: 15 * time.Second},
		Outcomes:  map[string]int{"fulfilled": 900, "needs_attention": 1}, Timeline: timeline(orders, ends),
		Changes: []Change{{6 * time.Second, "payment-1", "psp.authorise", "open"}, {12 * time.Second, "payment-1", "psp.authorise", "half_open"}, {13 * time.Second, "payment-1", "psp.authorise", "closed"}}}
	bad := &Result{Name: "poison", Hypothesis: "Dead letters.", Blast: "nobody", Verdict: Violated, Failed: []string{"I4 ord_1: captured twice"},
		Violations: []check.Violation{{Invariant: "I4", Order: "ord_1", Detail: "captured twice"}}, Faults: []*FaultReport{{Fault: "poison", Error: "no bus"}},
		Recovery: &Recovery{From: "fault", Never: true, Waited: 90 * time.Second, Target: time.Minute}, Outcomes: map[string]int{"pending": 3}}
	return &Report{Version: 1, At: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Took: 80 * time.Second, Machine: "2 CPUs", System: "holdfast up", Seed: 42,
		Repeat: "holdfast chaos run all --seed 42", Experiments: []*Result{good, bad}, NotRun: []string{"herd"}}
}

// TestPage looks at what a reader must find on the page, and that it stands alone.
func TestPage(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "report")
	if err := small().Write(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, PageFile))
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, want := range []string{
		"<b>1</b><span>invariants violated", "<b>904</b><span>orders", "<b>1 of 2</b>", "4 March 2026, 05:06 UTC", "42; the same draws again: <code>holdfast chaos run all --seed 42</code>",
		"It is &lt;left&gt; alone &amp; waits.", "psp does wrong: {&#34;status&#34;:500}", `class="verdict overall violated"`, "safety violated", "I4 ord_1: captured twice",
		`<td class="n miss">90 %<small>promised 99 %</small></td>`, `<td class="n">99.9 %</td>`, "1.8 s<small>target 15 s</small>", "not in 90.0 s", "900 fulfilled, 1 needs attention",
		"From second 5 to 15: psp does wrong", `aria-label="psp-errors, 40 seconds.`, "payment-1 psp.authorise half open", "no bus", "<dt>Not run</dt><dd>herd</dd>", "prefers-color-scheme: dark", "@media print",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	for _, alien := range []string{"<script", "<link", "http://", "https://", "@import", "url(", "NaN", "Inf", "ZgotmplZ", "%!"} {
		if strings.Contains(page, alien) {
			t.Errorf("the page has %q", alien)
		}
	}
	wellFormed(t, page)
}

// wellFormed reads the drawings as XML.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	_, rest, ok := strings.Cut(page, "<svg")
	drawing, _, ends := strings.Cut(rest, "</svg>")
	if !ok || !ends {
		t.Fatal("the page has no drawing")
	}
	for d := xml.NewDecoder(strings.NewReader("<svg" + drawing + "</svg>")); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestReportIsReadAgain: what was written as JSON is the report.
func TestReportIsReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := small()
	if err := want.Write(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, JSONFile))
	if err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if got.Seed != want.Seed || len(got.Experiments) != 2 || got.Verdict() != Violated || got.Totals() != want.Totals() || len(got.Experiments[0].Timeline) != 40 {
		t.Errorf("%+v", got)
	}
}
