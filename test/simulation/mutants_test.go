package simulation

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mutantsVariable has the broken programs built and simulated, with that many seeds each at most.
const mutantsVariable = "HOLDFAST_TEST_MUTANTS"

// mutant is a way to break the product, and the invariants of which one must be violated then.
type mutant struct {
	name, file, old, new string
	breaks               []string
}

var mutants = []mutant{
	{"an event that comes again takes effect again", "platform/outbox/inbox.go",
		"if len(fresh) == len(items) {", "if len(fresh) <= len(items) {", []string{"I14"}},
	{"a payment whose answer did not come is asked for again as a new one, and nobody asks", "svc/payment/provider.go",
		"answer = a.provider.Post(ctx, c.Kind, \"/v1/authorisations\", c.Key, map", "answer = a.provider.Post(ctx, c.Kind, \"/v1/authorisations\", c.Key+string(rune('a'+c.Attempts)), map", []string{"I4", "I6"}},
	{"an answer that was lost is taken for a no", "platform/calls/attempt.go",
		"	switch {\n\tcase lastTry && c.Unknown:", "	if v.Outcome == Lost {\n\t\treturn a.end(op.GivenUp(v))\n\t}\n\tswitch {\n\tcase lastTry && c.Unknown:", []string{"I6"}},
	{"a payment that was closed before it was asked for leaves no tombstone", "svc/payment/steps.go",
		"p.undo, p.saga = true, saga\n\t\treturn b.emit(p, traceParent, nil)", "p.undo, p.saga = true, saga\n\t\tdelete(b.payments, id)\n\t\treturn b.emit(p, traceParent, nil)", []string{"I6", "I12"}},
	{"a stock reservation that was released before it was made leaves no tombstone", "svc/inventory/consumer.go",
		"r.Status = shop.StockReleased\n\t\treturn b.emit(r, e, nil)", "r.Status = shop.StockReleased\n\t\tdelete(b.reservations, e.OrderID)\n\t\treturn b.emit(r, e, nil)", []string{"I8"}},
	{"a cancel does not look at whether the parcel may have left", "svc/order/commands.go",
		"case r.DispatchBegun || r.Order.Status == shop.Fulfilled:", "case r.Order.Status == shop.Fulfilled:", []string{"I9", "I16"}},
	{"a call that was put off while the clock was ahead waits for that time", "platform/calls/lanes.go",
		"if r.looks++; r.looks%looksPerHurry == 1 {", "if r.looks++; r.looks < 0 {", []string{"I10"}},
}

// TestMutants: each broken program is found out.
func TestMutants(t *testing.T) {
	seeds := os.Getenv(mutantsVariable)
	if seeds == "" {
		t.Skipf("it builds and simulates %d programs; ask for it with %s=200", len(mutants), mutantsVariable)
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) { m.findOut(t, seeds) })
	}
}

// findOut simulates the mutant until a seed fails.
func (m mutant) findOut(t *testing.T, seeds string) {
	t.Helper()
	file, err := filepath.Abs(filepath.Join("..", "..", m.file))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		t.Fatalf("%s has %q %d times: bring this mutant up to date", m.file, m.old, n)
	}
	dir := t.TempDir()
	broken, overlay := filepath.Join(dir, "broken.go"), filepath.Join(dir, "overlay.json")
	b, err := json.Marshal(map[string]map[string]string{"Replace": {file: broken}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{broken: strings.Replace(string(source), m.old, m.new, 1), overlay: string(b)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-tags", "synctests", "-overlay", overlay, "-count=1", "-failfast", "-v", "-run", "^TestSeeds$", "holdfast/test/simulation")
	cmd.Env = append(os.Environ(), seedsVariable+"="+seeds, keepVariable+"="+filepath.Join(dir, "kept"))
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("not found out by %s seeds\n%s", seeds, out[max(0, len(out)-3000):])
	}
	all := violated.FindAllStringSubmatch(string(out), -1)
	for _, found := range all {
		if slices.Contains(m.breaks, found[2]) {
			t.Logf("found out by seed %s: violated: %s%s", found[1], found[2], found[3])
			return
		}
	}
	for _, found := range all {
		t.Log(found[0])
	}
	t.Errorf("it violates none of %v:\n%s", m.breaks, out[max(0, len(out)-3000):])
}

// violated finds the violations in the output of TestSeeds.
var violated = regexp.MustCompile(`seed (\d+): violated: (\w+)(.*)`)
