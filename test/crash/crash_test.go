package crash_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"holdfast/check"
	"holdfast/client"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// The variables that change the test.
const (
	cyclesVariable = "HOLDFAST_TEST_CYCLES" // how often the process is killed; 10 by default
	seedVariable   = "HOLDFAST_TEST_SEED"
)

const (
	rate   = 150  // orders per second
	maxRun = 1500 // milliseconds from a start of the load until the kill, at most
)

// restLimit is for everything to come to rest after a start.
var restLimit = fakes.Limit(90 * time.Second)

// payments and postals are what the orders draw from: mostly well, with every kind of trouble among them.
var (
	payments = []string{"tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_declined", "tok_error_once", "tok_webhook_twice", "tok_webhook_first", "tok_void_fails_2"}
	postals  = []string{"10115", "10115", "10115", "00001", "00002"}
	items    = []shop.SKU{"A", "B", "C"}
)

// stocked is how many there are of each item: C runs out.
var stocked = map[shop.SKU]int64{"A": 1_000_000, "B": 1_000_000, "C": 150}

// TestKillAtAnyTime is cycles of: load, SIGKILL at a random instant, restart, rest. After each rest
// the invariants of ARCHITECTURE.md hold.
func TestKillAtAnyTime(t *testing.T) {
	cycles := fakes.Number(t, cyclesVariable, 10)
	seed := uint64(fakes.Number(t, seedVariable, int(rand.Uint32())))
	t.Logf("repeat it with %s=%d %s=%d go test -run %s ./test/crash", seedVariable, seed, cyclesVariable, cycles, t.Name())
	c := &crasher{t: t, rng: rand.New(rand.NewPCG(seed, seed)), binary: build(t), dir: t.TempDir()}
	c.data = filepath.Join(c.dir, "data")
	p := c.start()
	c.stock(p)
	for i := range cycles {
		c.cycle(i, p)
		p = c.start()
		c.rest("cycle "+strconv.Itoa(i), p)
	}
	if err := p.Stop(30 * time.Second); err != nil {
		t.Errorf("the orderly stop: %v\n%s", err, c.log())
	}
	c.stores()
	t.Logf("%d kills, %d orders sent, %d of them twice since the first answer was lost, ready again after %s at most", cycles, len(c.sent), c.doubt, c.slowest.Round(time.Millisecond))
}

// build builds the program as its users run it.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "holdfast")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "holdfast/cmd/holdfast").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// crasher is the state of the test.
type crasher struct {
	t       *testing.T
	rng     *rand.Rand
	binary  string
	dir     string // of the log
	data    string
	sent    []check.Sent
	last    *check.History
	doubt   int // orders whose answer was lost
	slowest time.Duration
}

func (c *crasher) start() *check.Process {
	c.t.Helper()
	logFile, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer logFile.Close()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	p, err := check.Start(ctx, c.binary, c.data, logFile, "--no-seed", "--dispatch-after", "300ms")
	if err != nil {
		c.t.Fatalf("%v\n%s", err, c.log())
	}
	c.t.Cleanup(p.Kill)
	c.slowest = max(c.slowest, p.Took)
	return p
}

// log is the end of the children's log.
func (c *crasher) log() string {
	b, err := os.ReadFile(filepath.Join(c.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

func (c *crasher) client(p *check.Process) *client.Client {
	c.t.Helper()
	api, err := client.New(p.Addresses.API, p.Key, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return api
}

func (c *crasher) stock(p *check.Process) {
	c.t.Helper()
	api := c.client(p)
	for _, sku := range items {
		if _, err := api.PutItem(c.t.Context(), sku, 0, shop.PutItem{Name: string(sku), UnitPrice: 100, Currency: "EUR"}); err != nil {
			c.t.Fatal(err)
		}
		if _, err := api.Receive(c.t.Context(), "stock-"+string(sku), sku, shop.Receipt{Quantity: stocked[sku]}); err != nil {
			c.t.Fatal(err)
		}
	}
}

// cycle puts load on p, cancels some of the orders, and kills p at a random instant of it.
func (c *crasher) cycle(i int, p *check.Process) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	kill := time.Duration(c.rng.IntN(maxRun)) * time.Millisecond
	choices := rand.New(rand.NewPCG(c.rng.Uint64(), uint64(i)))
	pay, post := make([]string, 4096), make([]string, 4096)
	for k := range pay {
		pay[k], post[k] = payments[choices.IntN(len(payments))], postals[choices.IntN(len(postals))]
	}
	plan := check.Plan{URL: p.Addresses.API, Key: p.Key, Run: fmt.Sprintf("crash-%d", i), Rate: rate, Duration: 2 * maxRun * time.Millisecond,
		SKU: items[c.rng.IntN(len(items))], Quantity: 1 + c.rng.Int64N(3),
		Payment: func(k int) string { return pay[k] }, PostalCode: func(k int) string { return post[k] }}
	loaded := make(chan *check.History, 1)
	go func() {
		h, err := check.Run(ctx, plan)
		if err != nil && !errors.Is(err, context.Canceled) {
			c.t.Error(err)
		}
		loaded <- h
	}()
	cancelled := make(chan struct{})
	go func() {
		defer close(cancelled)
		c.cancelSome(ctx, p, plan.Run)
	}()
	<-time.After(kill) // the instant of the crash is the test's random choice
	p.Kill()
	cancel()
	c.last = <-loaded
	<-cancelled
}

// cancelSome cancels orders of a run as they appear, until ctx ends.
func (c *crasher) cancelSome(ctx context.Context, p *check.Process, run string) {
	api, err := client.New(p.Addresses.API, p.Key, nil)
	if err != nil {
		return
	}
	for ctx.Err() == nil {
		page, err := api.ListOrders(ctx, shop.OrderQuery{CustomerID: run, Limit: 5})
		if err != nil {
			continue // the crash
		}
		for k, o := range page.Items {
			if k%5 == 0 {
				_, _ = api.CancelOrder(ctx, client.NewKey(), o.ID) // any answer is good, and the invariants judge it
			}
		}
	}
}

// rest sends what is in doubt of the last load once more, waits until nothing moves, and checks.
func (c *crasher) rest(when string, p *check.Process) {
	c.t.Helper()
	api := c.client(p)
	ctx, cancel := context.WithTimeout(c.t.Context(), restLimit)
	defer cancel()
	for _, s := range c.last.Orders {
		if s.InDoubt() {
			c.doubt++
		}
	}
	plan := c.last.Plan
	plan.URL = p.Addresses.API
	if err := check.Resend(ctx, plan, c.last.Orders); err != nil {
		c.t.Fatalf("%s: %v\n%s", when, err, c.log())
	}
	c.sent, c.last.Orders = append(c.sent, c.last.Orders...), nil
	left, err := check.Rest(ctx, api, true)
	if err != nil || left > 0 {
		c.t.Fatalf("%s: I10: %d orders still move after %s: %v\n%s", when, left, restLimit, err, c.log())
	}
	w, err := check.Look(ctx, api, p.Addresses, "")
	if err != nil {
		c.t.Fatal(err)
	}
	w.Receipts = stocked
	violations := w.Verify(c.sent)
	for _, v := range violations {
		c.t.Errorf("%s: violated: %s", when, v)
	}
	if len(violations) > 0 {
		c.t.FailNow()
	}
}
