package field_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"

	"holdfast/app/local"
	"holdfast/test/harness"
)

var update = flag.Bool("update", false, "write docs/field-bugs.md from the rows and what their tests have shown")

const document = "../../docs/field-bugs.md"

// seen collects what the tests of this run have shown.
var seen = &results{of: map[string][]string{}}

// results are, by test, the stores that it has passed on. A test that is not there has not passed.
type results struct {
	mu sync.Mutex
	of map[string][]string
}

func (r *results) passed(test, store string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of[test] = append(r.of[test], store)
}

// atOnce is how many tests run at once unless the command says so: they wait much more than they compute.
const atOnce = "8"

// TestMain compares the document with the rows and the results, after a run of everything.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", atOnce); err != nil {
		panic(err)
	}
	flag.Parse() // what the command says comes later, and holds
	code := m.Run()
	if flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" && flag.Lookup("test.list").Value.String() == "" {
		if err := compare(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func compare() error {
	got := render(rows, seen.of)
	if *update {
		return os.WriteFile(document, got, 0o644)
	}
	want, err := os.ReadFile(document)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("docs/field-bugs.md is not what the tests have shown: run go test ./test/field -update, and look at the difference")
	}
	return err
}

// each runs a row's test with each kind of store.
func each(t *testing.T, test func(t *testing.T, cfg local.Config)) {
	t.Helper()
	t.Parallel()
	on(t, "SQLite", test)
	on(t, "PostgreSQL", test)
}

// one runs a row's test on SQLite, where the kind of store makes no difference.
func one(t *testing.T, test func(t *testing.T, cfg local.Config)) {
	t.Helper()
	t.Parallel()
	on(t, "SQLite", test)
}

func on(t *testing.T, store string, test func(t *testing.T, cfg local.Config)) {
	t.Helper()
	row := t.Name()
	t.Run(store, func(t *testing.T) {
		t.Parallel()
		t.Cleanup(func() { // the first to be registered is the last to run
			if !t.Failed() && !t.Skipped() {
				seen.passed(row, store)
			}
		})
		cfg := harness.Quick(t, map[string]string{"SQLite": "sqlite", "PostgreSQL": "postgres"}[store])
		test(t, cfg)
	})
}

// started is a Holdfast with plenty of tea.
func started(t *testing.T, cfg local.Config) *harness.System {
	t.Helper()
	s := harness.Start(t, cfg)
	s.Item(t, "TEA", 450, 100_000)
	return s
}
