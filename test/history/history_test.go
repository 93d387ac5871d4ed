package history_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"holdfast/check"
	"holdfast/check/audit"
	"holdfast/check/history"
	"holdfast/check/sometimes"
	_ "holdfast/embedded/sqlite" // the audit opens its files by the driver
	"holdfast/test/fakes"
)

// The variables that change the tests.
const (
	seedVariable = "HOLDFAST_TEST_SEED"
	runsVariable = "HOLDFAST_TEST_CYCLES" // how often the process is killed; 4 by default
	keepVariable = "HOLDFAST_TEST_KEEP"   // where histories of failed runs are put; a temporary directory by default
)

const (
	readyLimit = 30 * time.Second
	perKill    = 2500 * time.Millisecond // of load, on average
	longest    = 2 * time.Minute         // of the load, on a machine that is busy otherwise
	// operations is how many it takes for everything to happen that happens sometimes.
	operations = 1500
)

// restLimit is for everything to come to its end after the load.
var restLimit = fakes.Limit(90 * time.Second)

// TestClean records a workload against a Holdfast that nothing happens to. No check raises an alarm.
func TestClean(t *testing.T) {
	r := newRun(t, 5*time.Second)
	r.start()
	r.workload()
	r.judge(history.Always())
}

// TestKilled records a workload against a Holdfast that is killed and started again, at random instants.
func TestKilled(t *testing.T) {
	kills := fakes.Number(t, runsVariable, 4)
	r := newRun(t, time.Duration(kills+1)*perKill)
	r.start()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.workload()
	}()
	for range kills {
		<-time.After(perKill/2 + time.Duration(r.rng.Int64N(int64(perKill)))) // the instant of a kill is the test's random choice
		r.process.Kill()
		r.start()
	}
	<-done
	sites := history.Always()
	for name, says := range history.Faulty() {
		sites[name] = says
	}
	r.judge(sites)
}

// run is a workload process against a Holdfast process.
type run struct {
	t       *testing.T
	rng     *rand.Rand
	seed    int
	length  time.Duration
	binary  string
	dir     string
	log     *os.File
	process *check.Process
}

func newRun(t *testing.T, length time.Duration) *run {
	t.Helper()
	seed := fakes.Number(t, seedVariable, int(rand.Uint32()))
	t.Logf("repeat it with %s=%d go test -count=1 -run '^%s$' ./test/history", seedVariable, seed, t.Name())
	r := &run{t: t, seed: seed, rng: rand.New(rand.NewPCG(uint64(seed), 0)), length: length, dir: t.TempDir()}
	r.binary = filepath.Join(r.dir, "holdfast")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", r.binary, "holdfast/cmd/holdfast").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if r.log, err = os.Create(filepath.Join(r.dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.keep)
	return r
}

func (r *run) data() string { return filepath.Join(r.dir, "data") }
func (r *run) file() string { return filepath.Join(r.dir, "history.ndjson") }

// start starts the Holdfast, again.
func (r *run) start() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), readyLimit)
	defer cancel()
	p, err := check.Start(ctx, r.binary, r.data(), r.log, "--no-seed", "--dispatch-after", "300ms")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(p.Kill)
	r.process = p
}

// workload runs the client process to its end.
func (r *run) workload() {
	ctx, cancel := context.WithTimeout(r.t.Context(), longest+restLimit)
	defer cancel()
	c := exec.CommandContext(ctx, r.binary, "--data", r.data(), "check", "run", "--history", r.file(), "--seed", strconv.Itoa(r.seed),
		"--for", r.length.String(), "--operations", strconv.Itoa(operations), "--rest", restLimit.String())
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if out, err := c.CombinedOutput(); err != nil {
		r.t.Errorf("the workload: %v\n%s", err, out)
	}
}

// judge judges the history, by itself, against the Holdfast as it is now, and against the stores once it has
// stopped. The workload must have come into all sites.
func (r *run) judge(sites sometimes.Sites) {
	t := r.t
	t.Helper()
	b, err := os.ReadFile(r.file())
	if err != nil {
		t.Fatal(err)
	}
	h, err := history.Parse(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	report := h.Judge(history.Options{})
	r.violated("", report.Violations())
	ctx, cancel := context.WithTimeout(t.Context(), restLimit)
	defer cancel()
	live, err := h.Live(ctx, r.process.Addresses, r.process.Key)
	if err != nil {
		t.Fatal(err)
	}
	r.violated("live: ", live)
	for _, line := range sites.Lines(report.Sites) {
		t.Log(line)
	}
	for _, site := range sites.Missing(report.Sites) {
		t.Errorf("the workload has not come into: %s (%s)", site, sites[site])
	}
	r.stores("bus", &audit.Bus{Name: r.process.Addresses.Kafka, Options: []kgo.Opt{kgo.SeedBrokers(r.process.Addresses.Kafka)}})
	if err := r.process.Stop(readyLimit); err != nil {
		t.Errorf("the orderly stop: %v", err)
	}
	r.stores("stores", nil)
	t.Logf("%d operations %v, %d orders, judged in %s", report.Operations, report.Outcomes, report.Orders, report.Took.Round(time.Millisecond))
}

// stores has the stores checked, and the bus with them where it is given.
func (r *run) stores(what string, bus *audit.Bus) {
	t := r.t
	t.Helper()
	cfg := audit.Config{Data: r.data(), AtRest: true, Grace: 100 * time.Millisecond, Bus: bus}
	cfg.PSP, cfg.Carrier = audit.SimulatorLedgers(r.data())
	report, err := audit.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range report.Results {
		if x.Verdict != audit.Pass && x.Verdict != audit.NotCheckable {
			t.Errorf("violated: %s: %s: %s, %d wrong: %v", x.ID, what, x.Verdict, x.Wrong, x.Items)
		}
	}
	if bus != nil {
		t.Logf("%d records on the bus, %d events in the outboxes, compared in %s", report.Counts.OnBus, report.Counts.Events, report.Took.Round(time.Millisecond))
	}
}

// maxTold bounds the violations that are printed.
const maxTold = 10

func (r *run) violated(how string, found []check.Violation) {
	r.t.Helper()
	for i, v := range found {
		if i == maxTold {
			r.t.Errorf("and %d more", len(found)-i)
			return
		}
		r.t.Errorf("violated: %s%s", how, v)
	}
}

// keep keeps the history and the log of a run that failed.
func (r *run) keep() {
	t := r.t
	_ = r.log.Close()
	if !t.Failed() {
		return
	}
	to := os.Getenv(keepVariable)
	if to == "" {
		to = filepath.Join(os.TempDir(), "holdfast-history")
	}
	to = filepath.Join(to, t.Name()+"-"+strconv.Itoa(r.seed))
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Error(err)
		return
	}
	for _, name := range []string{"history.ndjson", "log"} {
		b, err := os.ReadFile(filepath.Join(r.dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), b, 0o600)
		}
		if err != nil {
			t.Error(err)
		}
	}
	t.Logf("its history and log are in %s; judge it again with: holdfast check judge %s/history.ndjson", to, to)
}
