package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/resilience"
)

func TestField01_BulkheadPerCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const limit = 5
		shared := newBulkhead(limit, 0, 0, nil)
		operations := []*resilience.Policy{newPolicy(resilience.Command, bare(), resilience.Deps{Bulkhead: shared}),
			newPolicy(resilience.Command, bare(), resilience.Deps{Bulkhead: shared})}
		g := newGate()
		errs := make(chan error, limit+1)
		for i := range limit + 1 {
			go func() { errs <- operations[i%2].Run(t.Context(), g.call) }()
		}
		synctest.Wait()
		running, _ := g.now()
		is(t, "running", running, limit)
		is(t, "refused at once", len(errs), 1)
		isErr(t, <-errs, resilience.ErrFull)
		close(g.open)
		for range limit {
			isErr(t, <-errs, nil)
		}
	})
}

// TestField01_BulkheadOverHTTP counts at the server.
func TestField01_BulkheadOverHTTP(t *testing.T) {
	t.Parallel()
	const limit = 3
	g := newGate()
	var arrived sync.WaitGroup
	arrived.Add(limit)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived.Done()
		_ = g.call(r.Context())
	}))
	defer server.Close()
	client := &http.Client{Transport: &guardedTransport{newPolicy(resilience.Command, bare(), resilience.Deps{Bulkhead: newBulkhead(limit, 0, 0, nil)})}}
	errs := make(chan error, limit)
	for range limit {
		go func() { errs <- get(client, server.URL) }()
	}
	arrived.Wait() // one more would be below nothing, and panic
	isErr(t, get(client, server.URL), resilience.ErrFull)
	close(g.open)
	for range limit {
		isErr(t, <-errs, nil)
	}
	_, most := g.now()
	is(t, "most at once at the server", most, limit)
}

// guardedTransport sends requests through a policy.
type guardedTransport struct{ policy *resilience.Policy }

func (g *guardedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := resilience.DoCall(req.Context(), g.policy, resilience.Call[*http.Response]{
		Func:     func(ctx context.Context) (*http.Response, error) { return send(ctx, req) },
		Classify: byStatus,
		Discard:  func(resp *http.Response) { _ = resp.Body.Close() },
		Hold: func(resp *http.Response, release func()) *http.Response {
			resp.Body = &heldBody{resp.Body, release}
			return resp
		},
	})
	return res.Value, err
}

// get makes a request and closes the answer.
func get(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// TestField07_PermitsLeak takes and gives slots in all ways at random, and counts.
func TestField07_PermitsLeak(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := dice(t)
		const limit = 7
		b := newBulkhead(limit, 5, 20*time.Millisecond, nil)
		var mu sync.Mutex
		held, most := 0, 0
		work := func(end int, d time.Duration) func(ctx context.Context) error {
			return func(ctx context.Context) error {
				mu.Lock()
				held++
				most = max(most, held)
				is(t, "in use", b.Stats().InUse >= held, true)
				mu.Unlock()
				defer func() {
					mu.Lock()
					held--
					mu.Unlock()
				}()
				time.Sleep(d)
				switch end {
				case 0:
					panic("work")
				case 1:
					return errDown
				case 2:
					return ctx.Err()
				}
				return nil
			}
		}
		var all sync.WaitGroup
		for range 5000 {
			end, d, patience := r.IntN(5), time.Duration(r.IntN(20))*time.Millisecond, time.Duration(1+r.IntN(40))*time.Millisecond
			all.Go(func() {
				defer func() { _ = recover() }()
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				_ = b.Run(ctx, work(end, d))
			})
			time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond)
		}
		all.Wait()
		is(t, "most at once", most, limit)
		capacity(t, b, limit)
	})
}

// capacity checks that an idle bulkhead has exactly limit slots.
func capacity(t *testing.T, b *resilience.Bulkhead, limit int) {
	t.Helper()
	s := b.Stats()
	is(t, "in use when idle", s.InUse, 0)
	is(t, "queued when idle", s.Queued, 0)
	var slots []resilience.Slot
	for {
		slot, ok := b.TryAcquire()
		if !ok {
			break
		}
		slots = append(slots, slot)
	}
	is(t, "slots", len(slots), limit)
	for i := range slots {
		slots[i].Release()
		slots[i].Release() // a second time does nothing
	}
	is(t, "in use afterwards", b.Stats().InUse, 0)
}

// TestField08_TimeoutFreesTheSlot has functions that ignore their context. Callers leave, and the slots
// stay with the functions.
func TestField08_TimeoutFreesTheSlot(t *testing.T) {
	for _, kind := range []resilience.Kind{resilience.Command, resilience.Read} {
		t.Run(kind.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const limit = 4
				c := bare()
				c.Breaker.Off = true
				c.Timeout.Attempt = 100 * time.Millisecond
				if kind == resilience.Read {
					c.Hedge = resilience.HedgeConfig{Quantile: 0.9, MaxDelay: 10 * time.Millisecond}
				}
				b := newBulkhead(limit, 10, 50*time.Millisecond, nil)
				p := newPolicy(kind, c, resilience.Deps{Bulkhead: b})
				g := newGate()
				var all sync.WaitGroup
				for range 100 {
					all.Go(func() {
						if err := p.Run(t.Context(), g.call); !errors.Is(err, resilience.ErrTimeout) && !errors.Is(err, resilience.ErrFull) {
							t.Errorf("got %v", err)
						}
					})
					time.Sleep(10 * time.Millisecond)
				}
				all.Wait() // all callers have left
				running, most := g.now()
				is(t, "running", running, limit)
				is(t, "most at once", most, limit)
				is(t, "in use", b.Stats().InUse, limit)
				close(g.open)
				synctest.Wait()
				capacity(t, b, limit)
			})
		})
	}
}

func TestField12_OwnRejectionsFeedBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var r recorder
		b := newBulkhead(1, 0, 0, &r)
		p := newPolicy(resilience.IdempotentCommand, retrying(bare(), 3), resilience.Deps{Bulkhead: b, Observer: &r})
		slot, _ := b.TryAcquire()
		for range 100 {
			isErr(t, p.Run(t.Context(), func(context.Context) error { return nil }), resilience.ErrFull)
		}
		s := p.Stats().Breaker
		is(t, "state", s.State, resilience.Closed)
		is(t, "counts", s.Counts, resilience.Counts{})
		is(t, "retries", len(r.retried), 0)
		slot.Release()

		// The fourth failure opens the breaker, in the middle of a call that has attempts left.
		calls := 0
		for range 3 {
			result(t, p.Breaker(), resilience.Failure)
		}
		err := p.Run(t.Context(), func(context.Context) error { calls++; return errDown })
		isErr(t, err, errDown)
		is(t, "calls", calls, 1)
		is(t, "gave up", r.gaveUp[0].Reason, resilience.GiveUpOpen)
		before := time.Now()
		isErr(t, p.Run(t.Context(), func(context.Context) error { calls++; return nil }), resilience.ErrOpen)
		is(t, "calls while open", calls, 1)
		is(t, "time for a refusal", time.Since(before), time.Duration(0))
		is(t, "tokens", p.Budget().Stats().Tokens, 10.0)
	})
}

// TestField13_EverythingAtOnce is for the race detector: all operations of all policies, and
// Reconfigure, on many goroutines, in virtual time. Afterwards all is given back.
func TestField13_EverythingAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var r recorder
		b := newBulkhead(8, 4, 5*time.Millisecond, &r)
		admission := must(resilience.NewAdmission(resilience.AdmissionDefaults(), resilience.Options{Observer: &r}))
		budget := must(resilience.NewBudget(resilience.BudgetDefaults(), resilience.Options{Observer: &r}))
		limit := must(resilience.NewRateLimit(resilience.RateLimitConfig{Rate: 1000, Burst: 10, MaxKeys: 40}, resilience.Options{}))
		p := newPolicy(resilience.Read, configs()[0], resilience.Deps{Bulkhead: b, Budget: budget, Admission: admission, Observer: &r})
		seed := dice(t).Uint64()
		var all sync.WaitGroup
		for i := range 32 {
			all.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(i)))
				for n := range 200 {
					limit.Allow(fmt.Sprint("key", r.IntN(100)))
					one(t, r, p)
					if n%20 == i%20 {
						reconfigure(t, r, p, b, admission, budget, limit)
					}
				}
			})
		}
		all.Wait()
		time.Sleep(time.Minute) // the functions that ignore their context
		is(t, "slots", b.Stats().InUse+b.Stats().Queued, 0)
		is(t, "tickets", admission.Stats().InUse+admission.Stats().Undoing, 0)
		is(t, "called", len(r.calls), 32*200)
	})
}

func configs() []resilience.PolicyConfig {
	a, b, c := resilience.PolicyDefaults(), resilience.PolicyDefaults(), resilience.PolicyDefaults()
	a.Timeout = resilience.TimeoutConfig{Attempt: 20 * time.Millisecond, Total: 60 * time.Millisecond}
	a.Retry.Backoff.Base = time.Millisecond
	b.Timeout = resilience.TimeoutConfig{}
	b.Breaker.WindowCalls, b.Breaker.WindowTime = 50, 0
	b.Hedge = resilience.HedgeConfig{Quantile: 0.5, MaxDelay: time.Millisecond}
	c.Breaker.Off = true
	c.Retry.Off = true
	return []resilience.PolicyConfig{a, b, c}
}

// one makes a call that ends in some way.
func one(t *testing.T, r *rand.Rand, p *resilience.Policy) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+r.IntN(100))*time.Millisecond)
	defer cancel()
	defer func() { _ = recover() }()
	d, end := time.Duration(r.IntN(30))*time.Millisecond, r.IntN(10)
	ctx = resilience.WithCriticality(ctx, resilience.Criticality(r.IntN(5)))
	_ = p.Run(ctx, func(ctx context.Context) error {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
		switch end {
		case 0:
			panic("call")
		case 1, 2, 3:
			return errDown
		case 4:
			time.Sleep(30 * time.Millisecond) // whatever the context says
		}
		return ctx.Err()
	})
}

func reconfigure(t *testing.T, r *rand.Rand, p *resilience.Policy, b *resilience.Bulkhead, a *resilience.Admission, budget *resilience.Budget, l *resilience.RateLimit) {
	adaptive := resilience.BulkheadConfig{Queue: r.IntN(10), MaxWait: time.Millisecond, Adaptive: resilience.AdaptiveDefaults()}
	fixed := resilience.BulkheadConfig{Limit: 1 + r.IntN(10), Queue: r.IntN(10), MaxWait: time.Millisecond}
	admission := resilience.AdmissionDefaults()
	admission.Adaptive.Initial, admission.Off = 4+r.IntN(100), r.IntN(4) == 0
	for _, err := range []error{
		p.Reconfigure(configs()[r.IntN(3)]),
		b.Reconfigure([]resilience.BulkheadConfig{adaptive, fixed, {Off: true}}[r.IntN(3)]),
		a.Reconfigure(admission),
		budget.Reconfigure(resilience.BudgetConfig{Ratio: r.Float64(), Burst: 1 + r.IntN(100), PerSecond: r.Float64()}),
		l.Reconfigure(resilience.RateLimitConfig{Rate: 1 + r.Float64(), Burst: 1 + r.IntN(100), MaxKeys: 1 + r.IntN(100)}),
	} {
		isErr(t, err, nil)
	}
	switch r.IntN(6) {
	case 0:
		p.Breaker().ForceOpen("test")
	case 1:
		p.Breaker().ForceClose("test")
	default:
		p.Breaker().Auto("test")
	}
	_ = p.Stats()
	_ = p.Ready()
	_ = l.Stats()
}

// TestField15_ThrottleCountsAfterCompletion hangs the dependency: what is too much is refused before the
// first answer.
func TestField15_ThrottleCountsAfterCompletion(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGate()
		b := newBulkhead(10, 0, 0, nil)
		c := resilience.AdmissionDefaults()
		c.Adaptive.Initial = 20
		a := must(resilience.NewAdmission(c, resilience.Options{}))
		p := newPolicy(resilience.Command, bare(), resilience.Deps{Bulkhead: b})
		all := newPolicy(resilience.Command, bare(), resilience.Deps{Admission: a})
		l := must(resilience.NewRateLimit(resilience.RateLimitConfig{Rate: 1, Burst: 5, MaxKeys: 10}, resilience.Options{}))
		var full, shed, limited int
		for range 100 {
			errs := [2]error{}
			go func() { errs[0] = p.Run(t.Context(), g.call) }()
			go func() { errs[1] = all.Run(t.Context(), g.call) }()
			synctest.Wait()
			if errors.Is(errs[0], resilience.ErrFull) {
				full++
			}
			if errors.Is(errs[1], resilience.ErrShed) {
				shed++
			}
			if !l.Allow("caller").Allowed {
				limited++
			}
		}
		is(t, "refused by the bulkhead", full, 90)
		is(t, "shed", shed, 100-18) // normal calls have 90 % of 20
		is(t, "limited", limited, 95)
		close(g.open)
	})
}
