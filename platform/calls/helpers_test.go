package calls_test

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"holdfast/platform/calls"
	"holdfast/platform/policy"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/resilience"
	"holdfast/shop"
	"holdfast/test/fakes"
	"holdfast/test/flow"
	"holdfast/test/stores"
)

// patience bounds what a test waits for; none is expected to take it.
const patience = 30 * time.Second

// manyPolls is how often the runner looks for due calls where it must find none.
const manyPolls = 20

// notYet is how long a call waits that must not come again in the test.
const notYet = 5 * time.Minute

func is[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// steps is the real clock, but the runner's pauses between its looks and its signs of life last until the test
// ends them, and those before another try to store an outcome do not last at all.
type steps struct {
	fakes.RealClock
	poll, signs  time.Duration // the pauses: of a poll, and of a sign at most
	asleep, wake chan struct{}
	sign         chan time.Time
	ahead        atomic.Int64 // of the real time
}

func (s *steps) Now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

func (s *steps) Timer(d time.Duration) (<-chan time.Time, func()) {
	if d > s.signs { // until the end of a life
		return s.RealClock.Timer(d)
	}
	return s.sign, func() {}
}

func (s *steps) Sleep(ctx context.Context, d time.Duration) error {
	if d != s.poll {
		return ctx.Err()
	}
	select {
	case s.asleep <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-s.wake:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// book is what outcomes are applied to: it is saved as the rows of the table settled.
type book struct{ settled []string }

type result = calls.Result[*book]

// settle is an outcome that is written down under a name.
func settle(name string) result {
	return result{Settle: func(b *book) error {
		b.settled = append(b.settled, name)
		return nil
	}}
}

func bookStore() calls.Store[*book] {
	return calls.Store[*book]{
		Load: func(context.Context, *sqldb.Tx, []shop.OrderID) (*book, error) { return &book{}, nil },
		Save: func(ctx context.Context, tx *sqldb.Tx, b *book) error {
			for _, name := range b.settled {
				if _, err := tx.Exec(ctx, `INSERT INTO settled (name) VALUES (?)`, name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// migrations are those of the calls, and the table settled.
func migrations(t *testing.T) fs.FS {
	all := fstest.MapFS{"00300_settled.sql": {Data: []byte("-- +goose Up\nCREATE TABLE settled (pos {{.Serial}}, name TEXT NOT NULL);\n")}}
	names, err := fs.Glob(calls.Migrations(), "*.sql")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		b, err := fs.ReadFile(calls.Migrations(), name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = &fstest.MapFile{Data: b}
	}
	return all
}

// desk is a runner with its store, its policies, and a performer whose answers are the test's.
type desk struct {
	*calls.Runner[*book]
	t        *testing.T
	db       *sqldb.DB
	cfg      calls.Config
	policies *policy.Set
	psp      *policy.Dependency
	clock    *steps
	answer   func(ctx context.Context, c calls.Call, n int) result // n counts the attempts of the call, from 1

	mu   sync.Mutex
	made []calls.Call
	came chan calls.Call // each attempt when it begins

	gates []func()

	waited atomic.Int64 // for a processor, as the runner is told
}

func config(owner string) calls.Config {
	return calls.Config{Owner: owner, Workers: 4, Queue: 8, Timeout: time.Minute, Lease: time.Hour, Poll: time.Minute, UndoWorkers: 2, Alive: time.Minute}
}

// quiet is a breaker without chance: it opens at half failures of four calls, for an hour.
func quiet() resilience.BreakerConfig {
	return resilience.BreakerConfig{WindowCalls: 10, MinCalls: 4, FailureRate: 0.5, OpenFor: time.Hour, Probes: 2, ProbeSuccesses: 2, ProbeLease: time.Hour}
}

// limits are those of the policies: room for all that a test does.
func limits() policy.Config {
	all := resilience.BulkheadConfig{Limit: 64}
	call := resilience.PolicyConfig{Breaker: quiet(), Retry: resilience.RetryConfig{Off: true}}
	return policy.Config{Bulkhead: all, UndoBulkhead: all, Budget: resilience.BudgetConfig{Off: true},
		Operations: map[string]resilience.PolicyConfig{"authorise": call, "capture": call, "void": call, "query": call}}
}

// provider adds the policies of an outside party called psp.
func provider(t *testing.T, set *policy.Set, c policy.Config) *policy.Dependency {
	t.Helper()
	op := func(name string, c resilience.Criticality) resilience.Operation {
		return resilience.Operation{Name: name, Kind: resilience.IdempotentCommand, Criticality: c, RespectsContext: true}
	}
	d, err := set.Dependency("psp", c, op("authorise", resilience.Normal), op("capture", resilience.Critical), op("void", resilience.Undo), op("query", resilience.Critical))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// each runs test on both stores. The runner does not run yet.
func each(t *testing.T, cfg calls.Config, c policy.Config, test func(t *testing.T, d *desk)) {
	t.Helper()
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		test(t, newDesk(t, open(t, migrations(t)), cfg, c))
	})
}

func newDesk(t *testing.T, db *sqldb.DB, cfg calls.Config, c policy.Config) *desk {
	t.Helper()
	deps := fakes.Deps(t)
	d := &desk{t: t, db: db, cfg: cfg, came: make(chan calls.Call, 1000), clock: &steps{poll: cfg.Poll, signs: cfg.Alive / 4, asleep: make(chan struct{}), wake: make(chan struct{}), sign: make(chan time.Time)}}
	d.policies = flow.Policies(t, deps)
	d.psp = provider(t, d.policies, c)
	d.answer = func(_ context.Context, c calls.Call, _ int) result { return settle(c.Key) }
	deps.Clock = d.clock
	var err error
	d.Runner, err = calls.New(cfg, calls.Parts{DB: db, Deps: deps, Tel: telemetry.Nop(), Operations: d.psp.For("authorise", "capture", "void"), ProcessorWait: func() time.Duration { return time.Duration(d.waited.Load()) }}, d.perform, bookStore())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) perform(ctx context.Context, c calls.Call) result {
	d.mu.Lock()
	d.made = append(d.made, c)
	n := 0
	for _, m := range d.made {
		if m.Key == c.Key {
			n++
		}
	}
	d.mu.Unlock()
	d.came <- c
	return d.answer(ctx, c, n)
}

// gate is what attempts can wait at until it is opened.
func (d *desk) gate() (opened <-chan struct{}, open func()) {
	c := make(chan struct{})
	open = sync.OnceFunc(func() { close(c) })
	d.gates = append(d.gates, open)
	return c, open
}

// attempts is how many were made.
func (d *desk) attempts() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.made)
}

// within is a context that ends when the test has waited for too long.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	t.Cleanup(cancel)
	return ctx
}

// run starts the runner, which then has looked for due calls once. stop ends it, at the end of the test
// at the latest.
func (d *desk) run() (stop func()) {
	d.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			d.t.Error(err)
		}
	})
	d.t.Cleanup(func() {
		for _, open := range d.gates {
			open() // where the test failed before
		}
		stop()
	})
	d.wait(d.clock.asleep)
	return stop
}

func (d *desk) wait(c <-chan struct{}) {
	d.t.Helper()
	select {
	case <-c:
	case <-within(d.t).Done():
		d.t.Fatal("the runner does not look for due calls")
	}
}

// poll has the runner look for due calls n times.
func (d *desk) poll(n int) {
	d.t.Helper()
	for range n {
		select {
		case d.clock.wake <- struct{}{}:
		case <-within(d.t).Done():
			d.t.Fatal("the runner does not wait")
		}
		d.wait(d.clock.asleep)
	}
}

// sign has the runner give a sign of life n times; when it returns the last may be under way.
func (d *desk) sign(n int) {
	d.t.Helper()
	for range n {
		select {
		case d.clock.sign <- time.Time{}:
		case <-within(d.t).Done():
			d.t.Fatal("the runner gives no signs of life")
		}
	}
}

// drain has the runner look for due calls until there are none left.
func (d *desk) drain() {
	d.t.Helper()
	for ctx := within(d.t); d.number(left) > 0; d.poll(1) {
		if ctx.Err() != nil {
			d.t.Fatalf("%d calls are never made", d.number(left))
		}
	}
}

// next waits for n attempts to begin and returns them by key.
func (d *desk) next(n int) []calls.Call {
	d.t.Helper()
	var all []calls.Call
	for range n {
		select {
		case c := <-d.came:
			all = append(all, c)
		case <-within(d.t).Done():
			d.t.Fatalf("%d of %d attempts began", len(all), n)
		}
	}
	slices.SortFunc(all, func(a, b calls.Call) int { return cmp.Compare(a.Key, b.Key) })
	return all
}

// call is number n of a kind.
func call(kind string, n int) calls.Call {
	id := shop.OrderID(fmt.Sprintf("ord_%d", n))
	return calls.Call{Key: string(id) + ":" + kind, OrderID: id, Kind: kind, Request: []byte(`{"n":1}`)}
}

// some are the first n calls of a kind.
func some(kind string, n int) []calls.Call {
	all := make([]calls.Call, n)
	for i := range all {
		all[i] = call(kind, i)
	}
	return all
}

// enqueue commits calls.
func (d *desk) enqueue(all ...calls.Call) {
	d.t.Helper()
	d.update(func(ctx context.Context, tx *sqldb.Tx) error { return d.Enqueue(ctx, tx, all...) })
}

func (d *desk) update(fn func(ctx context.Context, tx *sqldb.Tx) error) {
	d.t.Helper()
	if err := d.db.Update(within(d.t), fn); err != nil {
		d.t.Fatal(err)
	}
}

// exec changes the store behind the runner's back.
func (d *desk) exec(query string, args ...any) {
	d.t.Helper()
	d.update(func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, query, args...)
		return err
	})
}

// due makes all calls due, as if time had passed.
func (d *desk) due() { d.exec(`UPDATE calls SET next_at = 0`) }

// number returns what a query says.
func (d *desk) number(query string, args ...any) (n int) {
	d.t.Helper()
	err := d.db.View(within(d.t), func(ctx context.Context, tx *sqldb.Tx) error { return tx.QueryRow(ctx, query, args...).Scan(&n) })
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

// until waits for a row that another goroutine commits, of which no channel tells a test.
func (d *desk) until(want int, query string, args ...any) {
	d.t.Helper()
	for ctx := within(d.t); ; {
		got := d.number(query, args...)
		if got == want {
			return
		}
		if (fakes.RealClock{}).Sleep(ctx, 2*time.Millisecond) != nil {
			d.t.Fatalf("%s: %d, want %d", query, got, want)
		}
	}
}

const (
	left = `SELECT count(*) FROM calls`
	// idle are the calls that nobody works on.
	idle = `SELECT count(*) FROM calls WHERE lease_until = 0`
)

// settled waits until there are no more calls, and returns the outcomes that were written down.
func (d *desk) settled() []string {
	d.t.Helper()
	d.until(0, left)
	return d.outcomes()
}

func (d *desk) outcomes() (names []string) {
	d.t.Helper()
	err := d.db.View(within(d.t), func(ctx context.Context, tx *sqldb.Tx) error {
		names = nil
		rows, err := tx.Query(ctx, `SELECT name FROM settled`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			names = append(names, name)
		}
		return rows.Err()
	})
	if err != nil {
		d.t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// keys are those of calls, in order.
func keys(all ...calls.Call) []string {
	var names []string
	for _, c := range all {
		names = append(names, c.Key)
	}
	slices.Sort(names)
	return names
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
