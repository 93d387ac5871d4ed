package simulation

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/client"
	"holdfast/shop"
	"holdfast/test/harness"
)

// The variables that change the test.
const (
	seedsVariable = "HOLDFAST_TEST_SEEDS" // how many
	seedVariable  = "HOLDFAST_TEST_SEED"  // the first one
	keepVariable  = "HOLDFAST_TEST_KEEP"  // a directory for what is left of seeds that failed
)

// fewSeeds is how many are run where nothing is said.
const fewSeeds = 20

// manySeeds are enough to have seen every race.
const manySeeds = 300

// again runs the calling test in a process that is built with the tag.
func again(t *testing.T) {
	t.Helper()
	args := []string{"test", "-tags", "synctests", "-count=1", "-v", "-run", "^" + t.Name() + "$"}
	timeout := time.Duration(0) // none
	if end, ok := t.Deadline(); ok {
		timeout = time.Until(end)
	}
	args = append(args, "-timeout", timeout.String())
	out, err := exec.CommandContext(t.Context(), "go", append(args, "holdfast/test/simulation")...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- PASS") {
			t.Log(line)
		}
	}
	if err != nil {
		t.Errorf("with the tag synctests: %v", err)
	}
}

func number(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	v := os.Getenv(variable)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// scratch is a directory in memory, where the machine has one.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "holdfast-simulation-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestSeeds runs a Holdfast for each seed, and judges it. Virtual time stands still while somebody waits for
// a mutex, and franz-go holds some of its own while it waits for the network; its build tag synctests
// replaces them. So without the tag this runs itself once more, with it.
func TestSeeds(t *testing.T) {
	if !tagged {
		t.Parallel()
		again(t)
		return
	}
	first, n := number(t, seedVariable, 1), number(t, seedsVariable, fewSeeds)
	dir := scratch(t)
	template := filepath.Join(dir, "template")
	synctest.Test(t, func(t *testing.T) { makeTemplate(t, template) })
	races := map[string]int{}
	orders := 0
	var virtual time.Duration
	var mu sync.Mutex
	var next atomic.Uint64
	next.Store(first)
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	began, processor := time.Now(), processorTime(t)
	t.Run("seeds", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(worker), func(t *testing.T) {
				t.Parallel()
				for seed := next.Add(1) - 1; seed < first+n && !enough(t); seed = next.Add(1) - 1 {
					r := runSeed(t, seed, template, dir)
					mu.Lock()
					for race, k := range r.Races {
						if k > 0 {
							races[race]++
						}
					}
					orders += r.Orders
					virtual += r.Virtual
					mu.Unlock()
				}
			})
		}
	})
	took := time.Since(began)
	t.Logf("%d seeds, %d orders, %s of virtual time in %s: %.0f seeds a minute, %.2f s of a processor for each", n, orders, virtual.Round(time.Second), took.Round(time.Second),
		float64(n)/took.Minutes(), (processorTime(t)-processor).Seconds()/float64(n))
	for _, race := range slices.Sorted(maps.Keys(Must)) {
		t.Logf("%4d seeds saw %s: %s", races[race], race, Must[race])
		if races[race] == 0 && n >= manySeeds {
			t.Errorf("no seed of %d saw %s", n, race)
		}
	}
}

// gcPercent has the collector run less often than usual: what a seed has made is all garbage soon.
const gcPercent = 400

// processorTime is what this process has used.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// enough tells whether a seed has failed and -failfast says that one is enough.
func enough(t *testing.T) bool {
	t.Helper()
	return t.Failed() && flag.Lookup("test.failfast").Value.String() == "true"
}

// runSeed runs one seed in a bubble of its own.
func runSeed(t *testing.T, seed uint64, template, dir string) (r *Result) {
	t.Helper()
	home := filepath.Join(dir, fmt.Sprintf("seed-%d", seed))
	defer func() {
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	}()
	var err error
	t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
		number := ""
		defer func() {
			// synctest panics over goroutines that are left. What they wait for is kept, and the other seeds go on.
			if p := recover(); p != nil && r == nil {
				panic(p)
			} else if p != nil {
				r.World.violate("X1", "", "%v:\n%s", p, strings.Join(leftIn(number), "\n\n"))
				r.Violations = r.World.found
			}
		}()
		synctest.Test(t, func(*testing.T) {
			number = bubbleNumber()
			r, err = simulate(NewPlan(seed), template, home)
		})
	})
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if len(r.Violations) > 0 {
		for _, v := range r.Violations {
			t.Errorf("seed %d: violated: %s", seed, v)
		}
		t.Errorf("repeat it with: %s=%d %s=1 go test -tags synctests -count=1 -run TestSeeds ./test/simulation", seedVariable, seed, seedsVariable)
		keep(t, r, home)
	}
	r.World = nil
	return r
}

// keep keeps what is left of a seed that failed.
func keep(t *testing.T, r *Result, home string) {
	t.Helper()
	to := os.Getenv(keepVariable)
	if to == "" {
		to = filepath.Join(os.TempDir(), "holdfast-simulation")
	}
	to = filepath.Join(to, fmt.Sprintf("seed-%d", r.Plan.Seed))
	if err := os.RemoveAll(to); err != nil {
		t.Error(err)
	}
	if err := copyTree(home, to, ""); err != nil {
		t.Error(err)
	}
	var history []byte
	for _, e := range r.World.history {
		history = append(history, marshal(t, e)...)
		history = append(history, '\n')
	}
	for name, b := range map[string][]byte{"plan.json": marshal(t, r.Plan), "history.ndjson": history, "log": r.World.log.Bytes(), "violations.json": marshal(t, r.Violations)} {
		if err := os.WriteFile(filepath.Join(to, name), b, 0o600); err != nil {
			t.Error(err)
		}
	}
	t.Logf("its plan, history, log and data are in %s", to)
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Error(err)
	}
	return b
}

// makeTemplate makes the data directory that all seeds begin with: migrated, with the items and their stock.
func makeTemplate(t *testing.T, dir string) {
	t.Helper()
	w := &World{dir: filepath.Dir(dir), net: NewNetwork(ports()), procs: map[string]*process{}, lives: map[string]int{}}
	w.operator = w.newClient("operator")
	w.start("holdfast", dir)
	var err error
	if _, w.key, err = harness.ReadSecrets(dir); err != nil {
		t.Fatal(err)
	}
	api, err := client.New(url(portAPI), w.key, w.operator)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stock {
		if _, err := api.PutItem(t.Context(), s.sku, 0, shop.PutItem{Name: string(s.sku), UnitPrice: s.price, Currency: "EUR"}); err != nil {
			t.Fatal(err)
		}
		if _, err := api.Receive(t.Context(), "stock-"+string(s.sku), s.sku, shop.Receipt{Quantity: s.count}); err != nil {
			t.Fatal(err)
		}
	}
	p := w.procs["holdfast"]
	p.cancel()
	<-p.done
	if p.err != nil {
		t.Fatal(p.err)
	}
	for _, c := range w.closers {
		c()
	}
	for _, v := range w.found {
		t.Errorf("violated: %s", v)
	}
}
