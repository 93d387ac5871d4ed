package simulation

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// mutantsVariable has the broken programs built and simulated, with that many seeds each at most.
const mutantsVariable = "HOLDFAST_TEST_MUTANTS"

// mutant is a way to break the product.
type mutant struct{ name, file, old, new string }

var mutants = []mutant{
	{"a payment that was closed before it was asked for leaves no tombstone", "svc/payment/steps.go",
		"p.undo, p.saga = true, saga\n\t\treturn b.emit(p, traceParent, nil)", "p.undo, p.saga = true, saga\n\t\tdelete(b.payments, id)\n\t\treturn b.emit(p, traceParent, nil)"},
	{"a stock reservation that was released before it was made leaves no tombstone", "svc/inventory/consumer.go",
		"r.Status = shop.StockReleased\n\t\treturn b.emit(r, e, nil)", "r.Status = shop.StockReleased\n\t\tdelete(b.reservations, e.OrderID)\n\t\treturn b.emit(r, e, nil)"},
	{"an answer that does not come is a failure, and nobody asks", "svc/payment/perform.go",
		"if c.Unknown {", "if c.Unknown && c.Kind != opAuthorise {"},
	{"a cancel does not look at whether the parcel may have left", "svc/order/commands.go",
		"case r.DispatchBegun || r.Order.Status == shop.Fulfilled:", "case r.Order.Status == shop.Fulfilled:"},
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
	found := violated.FindStringSubmatch(string(out))
	if err == nil || found == nil {
		t.Fatalf("not found out by %s seeds: %v\n%s", seeds, err, out[max(0, len(out)-3000):])
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("found out by seed %d: %s", n, found[2])
}

// violated finds the first violation in the output of TestSeeds.
var violated = regexp.MustCompile(`seed (\d+): violated: (.*)`)
