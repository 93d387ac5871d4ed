package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/resilience"
)

var errDown = errors.New("down")

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// admitted is the permit of a breaker that must give one.
func admitted(t *testing.T, b *resilience.Breaker) resilience.Permit {
	t.Helper()
	p, err := b.Acquire()
	if err != nil {
		t.Fatalf("a call is refused: %v", err)
	}
	return p
}

// bubble runs a test in virtual time, beside others.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// dice returns a source of chance, and prints how to have the same again.
func dice(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("HOLDFAST_TEST_SEED"); s != "" {
		seed = must(strconv.ParseUint(s, 10, 64))
	}
	t.Logf("replay with: HOLDFAST_TEST_SEED=%d go test ./resilience -run '^%s$'", seed, t.Name())
	return rand.New(rand.NewPCG(seed, 0))
}

func is(t *testing.T, what string, got, want any) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func isErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

// quiet is a breaker's configuration without chance: ten calls, half of them failures, a second.
func quiet() resilience.BreakerConfig {
	return resilience.BreakerConfig{WindowCalls: 10, MinCalls: 4, FailureRate: 0.5, OpenFor: time.Second, Probes: 2, ProbeSuccesses: 2,
		ProbeLease: 10 * time.Second}
}

// bare is a policy's configuration with a breaker and nothing else.
func bare() resilience.PolicyConfig {
	return resilience.PolicyConfig{Breaker: quiet(), Retry: resilience.RetryConfig{Off: true}}
}

// retrying adds retries without chance.
func retrying(c resilience.PolicyConfig, attempts int) resilience.PolicyConfig {
	c.Retry = resilience.RetryConfig{Attempts: attempts, Backoff: resilience.Backoff{Base: 100 * time.Millisecond, Max: time.Second, Jitter: resilience.NoJitter}}
	return c
}

func newBreaker(c resilience.BreakerConfig, o resilience.Observer) *resilience.Breaker {
	return must(resilience.NewBreaker(c, resilience.Options{Label: resilience.Label{Dependency: "psp", Operation: "authorise"}, Observer: o}))
}

func newBulkhead(limit, queue int, wait time.Duration, o resilience.Observer) *resilience.Bulkhead {
	return must(resilience.NewBulkhead(resilience.BulkheadConfig{Limit: limit, Queue: queue, MaxWait: wait},
		resilience.Options{Label: resilience.Label{Dependency: "psp"}, Observer: o}))
}

func newPolicy(k resilience.Kind, c resilience.PolicyConfig, d resilience.Deps) *resilience.Policy {
	return must(resilience.NewPolicy(resilience.Operation{Dependency: "psp", Name: "authorise", Kind: k}, c, d))
}

// result runs one call with an outcome through a breaker.
func result(t *testing.T, b *resilience.Breaker, o resilience.Outcome) {
	t.Helper()
	p, err := b.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	p.Done(o)
}

// open opens a breaker by failures.
func open(t *testing.T, b *resilience.Breaker) {
	t.Helper()
	for i := 0; b.State() == resilience.Closed; i++ {
		if i > 1000 {
			t.Fatal("does not open")
		}
		result(t, b, resilience.Failure)
	}
	is(t, "state", b.State(), resilience.Open)
}

// recorder keeps all events, as text and by kind.
type recorder struct {
	mu          sync.Mutex
	calls       []resilience.CallEvent
	attempts    []resilience.AttemptEvent
	rejected    []resilience.RejectEvent
	retried     []resilience.RetryEvent
	gaveUp      []resilience.GiveUpEvent
	exhausted   int
	transitions []resilience.TransitionEvent
	stale       []resilience.StaleEvent
	late        []resilience.LateEvent
	fellBack    []resilience.FallbackEvent
	hedged      []resilience.HedgeEvent
	queued      []resilience.QueueEvent
	limited     []resilience.LimitEvent
}

func keep[E any](r *recorder, to *[]E, e E) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*to = append(*to, e)
}

func (r *recorder) Called(e resilience.CallEvent)             { keep(r, &r.calls, e) }
func (r *recorder) Attempted(e resilience.AttemptEvent)       { keep(r, &r.attempts, e) }
func (r *recorder) Rejected(e resilience.RejectEvent)         { keep(r, &r.rejected, e) }
func (r *recorder) Retried(e resilience.RetryEvent)           { keep(r, &r.retried, e) }
func (r *recorder) GaveUp(e resilience.GiveUpEvent)           { keep(r, &r.gaveUp, e) }
func (r *recorder) Transitioned(e resilience.TransitionEvent) { keep(r, &r.transitions, e) }
func (r *recorder) Stale(e resilience.StaleEvent)             { keep(r, &r.stale, e) }
func (r *recorder) Late(e resilience.LateEvent)               { keep(r, &r.late, e) }
func (r *recorder) FellBack(e resilience.FallbackEvent)       { keep(r, &r.fellBack, e) }
func (r *recorder) Hedged(e resilience.HedgeEvent)            { keep(r, &r.hedged, e) }
func (r *recorder) Queued(e resilience.QueueEvent)            { keep(r, &r.queued, e) }
func (r *recorder) Limited(e resilience.LimitEvent)           { keep(r, &r.limited, e) }

func (r *recorder) BudgetExhausted(resilience.BudgetEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exhausted++
}

// moves tells the transitions in the order of their generations.
func (r *recorder) moves() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.SortedFunc(slices.Values(r.transitions), func(a, b resilience.TransitionEvent) int { return int(a.Generation) - int(b.Generation) })
	for _, e := range all {
		out = append(out, fmt.Sprintf("%s>%s: %s", e.From, e.To, e.Why))
	}
	return out
}

// gate is a function that runs until it is let go, whatever its context says.
type gate struct {
	running, most int
	mu            sync.Mutex
	open          chan struct{}
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) call(context.Context) error {
	g.mu.Lock()
	g.running++
	g.most = max(g.most, g.running)
	g.mu.Unlock()
	<-g.open
	g.mu.Lock()
	g.running--
	g.mu.Unlock()
	return nil
}

func (g *gate) now() (running, most int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running, g.most
}
