package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTable: every mutant fits the product as it is, and docs/mutants.md tells of them all.
func TestTable(t *testing.T) {
	t.Parallel()
	root, err := findRoot()
	if err != nil {
		t.Fatal(err)
	}
	all := table()
	if err := validate(root, all); err != nil {
		t.Error(err)
	}
	doc, err := os.ReadFile(filepath.Join(root, "docs", "mutants.md"))
	if err != nil {
		t.Fatal(err)
	}
	if string(doc) != document(all) {
		t.Error("docs/mutants.md is not what the table says: go run ./test/mutants -doc docs/mutants.md")
	}
}

// TestPolicies: of each policy there is a mutant without it, which a test of the whole must catch.
func TestPolicies(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"breaker", "bulkhead", "retry budget", "timeout of an attempt", "total deadline", "admission", "admission by criticality",
		"rate limit per caller", "backlog shedding", "undo lane", "store guard", "bus breaker", "between services", "fallback of reads by id",
		"fallback of rates", "deadline header"} {
		found := false
		for _, m := range table() {
			found = found || m.Proves == "policy: "+policy && m.Check.Package == "./test/e2e"
		}
		if !found {
			t.Errorf("no test of the whole is shown to fail without the policy %s", policy)
		}
	}
}

// toy is a module with a product of one line and a test of it, in a folder of its own.
func toy(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":   "module toy\n\ngo 1.26\n",
		"toy.go":   "package toy\n\n// Add adds.\nfunc Add(a, b int) int { return a + b }\n",
		"one.txt":  "1",
		"embed.go": "package toy\n\nimport _ \"embed\"\n\n//go:embed one.txt\nvar One string\n",
		"toy_test.go": "package toy\n\nimport \"testing\"\n\nfunc TestAdd(t *testing.T) {\n\tif n := Add(2, 3); n != 5 {\n\t\tt.Errorf(\"I1: %d\", n)\n\t}\n}\n" +
			"\nfunc TestOne(t *testing.T) {\n\tif One != \"1\" {\n\t\tt.Errorf(\"I2: %s\", One)\n\t}\n}\n\nfunc TestBroken(t *testing.T) { t.Error(\"always\") }\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// TestVerdicts runs the tool itself on mutants of the toy that it must not call caught, and on some that
// it must.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	root := toy(t)
	add := Check{Package: ".", Run: "^TestAdd$", Says: "I1: "}
	tests := map[string]struct {
		edits []Edit
		check Check
		word  string
	}{
		"caught":              {edit("toy.go", "a + b", "a - b"), add, "caught"},
		"an embedded file":    {edit("one.txt", "1", "2"), Check{Package: ".", Run: "^TestOne$", Says: "I2: 2"}, "caught"},
		"equivalent":          {edit("toy.go", "a + b", "b + a"), add, "survived"},
		"another test":        {edit("toy.go", "a + b", "a - b"), Check{Package: ".", Run: "^TestOne$", Says: "I2: "}, "survived"},
		"another reason":      {edit("toy.go", "a + b", "a - b"), Check{Package: ".", Run: "^TestAdd$", Says: "I9: "}, "unnamed"},
		"no name":             {edit("toy.go", "{ return a + b }", "{ panic(a + b) }"), add, "unnamed"},
		"does not compile":    {edit("toy.go", "a + b", "a + c"), add, "no build"},
		"fails anyhow":        {edit("toy.go", "a + b", "a - b"), Check{Package: ".", Run: "^TestBroken$"}, "alarm"},
		"there is no test":    {edit("toy.go", "a + b", "a - b"), Check{Package: ".", Run: "^TestNothing$"}, "no test"},
		"the product as such": {edit("toy.go", "a + b", "a+b"), add, "survived"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			w := &workshop{root: root, command: goTest, out: &out, known: map[string]verdict{}}
			err := w.mutate(t.Context(), []Mutant{{Name: "m", Breaks: "it", Proves: "I1", Edits: test.edits, Check: test.check}})
			if !strings.HasPrefix(out.String(), test.word+" ") || (err == nil) != (test.word == "caught") {
				t.Errorf("%v\n%s\nwant %s", err, &out, test.word)
			}
		})
	}
}

// TestWithin: when its time is over the tool begins no further mutant, and says which.
func TestWithin(t *testing.T) {
	t.Parallel()
	root := toy(t)
	var out bytes.Buffer
	w := &workshop{root: root, out: &out, within: time.Nanosecond, known: map[string]verdict{}, command: func(context.Context, string, string, Check, int) (result, error) {
		t.Error("a mutant was begun")
		return result{}, nil
	}}
	late := Mutant{Name: "late", Breaks: "it", Proves: "I1", Edits: edit("toy.go", "a + b", "a - b"), Check: Check{Package: ".", Run: "^TestAdd$"}}
	if err := w.mutate(t.Context(), []Mutant{late}); err != nil || !strings.Contains(out.String(), "left out          late") || !strings.Contains(out.String(), "0 of 0") {
		t.Errorf("%v\n%s", err, &out)
	}
}

// TestOnce: the old text must be in the file once, or the product has moved on.
func TestOnce(t *testing.T) {
	t.Parallel()
	root := toy(t)
	for _, old := range []string{"a * b", "n"} {
		m := Mutant{Name: "m", Breaks: "it", Proves: "I1", Edits: edit("toy.go", old, "x"), Check: Check{Package: ".", Run: "TestAdd"}}
		if err := validate(root, []Mutant{m}); err == nil || !strings.Contains(err.Error(), "want once") {
			t.Errorf("%q: %v", old, err)
		}
	}
}

// TestClean counts the failures of checks on the product as it is.
func TestClean(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	w := &workshop{root: "/", out: &out, command: func(_ context.Context, _, overlay string, c Check, n int) (result, error) {
		if overlay != "" || n != 20 {
			t.Errorf("run with %q %d times", overlay, n)
		}
		if c.Run == "TestFlaky" {
			return result{failed: 3}, nil
		}
		return result{passed: true}, nil
	}}
	quiet, flaky := Mutant{Check: Check{Run: "TestQuiet"}}, Mutant{Check: Check{Run: "TestFlaky"}}
	if err := w.clean(t.Context(), []Mutant{quiet, quiet}, 20); err != nil || !strings.Contains(out.String(), "0 false alarms in 20 clean runs of 1 checks") {
		t.Errorf("%v\n%s", err, &out)
	}
	if err := w.clean(t.Context(), []Mutant{quiet, flaky}, 20); err == nil || !strings.Contains(out.String(), "3 false alarms in 40 clean runs of 2 checks") {
		t.Errorf("%v\n%s", err, &out)
	}
}

// TestChoose selects by folder and name.
func TestChoose(t *testing.T) {
	t.Parallel()
	all := []Mutant{{Name: "one", Edits: edit("a/b/c.go", "", "")}, {Name: "two", Edits: edit("a/bc/d.go", "", "")}}
	for _, test := range []struct {
		o    options
		want string
	}{{options{}, "one two"}, {options{area: "a/b/"}, "one"}, {options{area: "a"}, "one two"}, {options{name: "^t"}, "two"}, {options{area: "x"}, ""}} {
		chosen, err := choose(t.Context(), ".", all, test.o)
		var names []string
		for _, m := range chosen {
			names = append(names, m.Name)
		}
		if got := strings.Join(names, " "); err != nil || got != test.want {
			t.Errorf("%+v chooses %q, want %q: %v", test.o, got, test.want, err)
		}
	}
}
