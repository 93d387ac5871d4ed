package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/app"
	"holdfast/app/local"
	"holdfast/check/chaos"
	"holdfast/client"
	"holdfast/platform/policy"
	"holdfast/resilience"
	"holdfast/shop"
	"holdfast/test/harness"
)

// faults makes an outside party fail, and well again with none.
func (s *system) faults(t *testing.T, url string, faults ...chaos.Wrong) {
	t.Helper()
	s.Faults(t, url, faults...)
}

func arrivals(t *testing.T, url, operation string) int {
	t.Helper()
	return harness.Arrivals(t, url, operation, "")
}

func (s *system) policy(t *testing.T, name, kind string) policy.State {
	t.Helper()
	return s.Policy(t, name, kind)
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	harness.Eventually(t, what, holds)
}

// embeddedOnly is a Holdfast on SQLite whose configuration was changed.
func embeddedOnly(t *testing.T, change func(*local.Config)) *system {
	t.Helper()
	cfg := quick(t, "sqlite")
	change(&cfg)
	s := start(t, cfg)
	s.item(t, "TEA", 450, 100_000)
	return s
}

// orders places n orders at once and returns them.
func (s *system) orders(t *testing.T, n int, payment, postal string) []shop.Order {
	t.Helper()
	placed := make([]shop.Order, n)
	var wg sync.WaitGroup
	for i := range placed {
		wg.Go(func() { placed[i] = s.place(t, command(payment, postal, line("TEA", 1))) })
	}
	wg.Wait()
	return placed
}

// TestBreaker: a provider that fails is left alone after a few attempts, whatever comes in; once it is
// well again it is found out, and everything is confirmed. Without the breaker each of the orders would
// reach the provider, several times.
func TestBreaker(t *testing.T) {
	t.Parallel()
	s := embeddedOnly(t, func(*local.Config) {})
	s.faults(t, s.addresses.PSP, chaos.Wrong{Operation: "authorise", Status: 500})
	first := s.orders(t, 20, "tok_ok", "10115")
	eventually(t, "the breaker opens", func() bool { return s.policy(t, "psp.authorise", "breaker").State == "open" })
	const n = 300
	more := s.orders(t, n, "tok_ok", "10115")
	for _, o := range more {
		eventually(t, "the payment of "+string(o.ID)+" is asked for", func() bool {
			_, err := s.GetPayment(t.Context(), o.ID)
			return err == nil
		})
	}
	// Whoever would let them all through has done so by the time of some probes.
	seen := arrivals(t, s.addresses.PSP, "authorise")
	eventually(t, "there were some probes", func() bool { return arrivals(t, s.addresses.PSP, "authorise") > seen+3 })
	if got := arrivals(t, s.addresses.PSP, "authorise"); got > n/2 {
		t.Errorf("the provider got %d requests for %d orders while it failed", got, n+len(first))
	}
	s.faults(t, s.addresses.PSP)
	for _, o := range append(first, more...) {
		s.until(t, o.ID, shop.Fulfilled)
	}
	if st := s.policy(t, "psp.authorise", "breaker"); st.State != "closed" {
		t.Errorf("after the recovery: %+v", st)
	}
	if got := arrivals(t, s.addresses.PSP, "authorise"); got > 2*(n+len(first)) {
		t.Errorf("the provider got %d requests for %d orders", got, n+len(first))
	}
	s.verify(t)
}

// TestDeclinesDoNotOpen: a storm of declined cards says nothing about the provider.
func TestDeclinesDoNotOpen(t *testing.T) {
	t.Parallel()
	s := embeddedOnly(t, func(*local.Config) {})
	for _, o := range s.orders(t, 200, "tok_declined", "10115") {
		s.until(t, o.ID, shop.Rejected)
	}
	if st := s.policy(t, "psp.authorise", "breaker"); st.State != "closed" || st.Why != "" || 2*st.Failures > st.Calls {
		t.Errorf("%+v", st)
	}
}

// TestBulkhead: no more requests are under way at the provider than the bulkhead has slots, and a
// provider that hangs keeps neither the carrier nor a void from getting through.
func TestBulkhead(t *testing.T) {
	t.Parallel()
	const slots = 3
	s := embeddedOnly(t, func(c *local.Config) {
		c.Payment.Provider.Bulkhead = resilience.BulkheadConfig{Limit: slots, Queue: 64, MaxWait: 10 * time.Second}
		patient(c, 20*time.Second)
	})
	held := s.until(t, s.place(t, command("tok_ok", "00005", line("TEA", 1))).ID, shop.Confirmed)
	s.faults(t, s.addresses.PSP, chaos.Wrong{Operation: "authorise", Latency: "5s"})
	s.orders(t, 20, "tok_ok", "10115")
	eventually(t, "the bulkhead is full", func() bool { b := s.policy(t, "psp", "bulkhead"); return b.InUse == slots && b.Queued > 2*slots })
	if got := arrivals(t, s.addresses.PSP, "authorise"); got > 1+2*slots { // the first of them may have ended on a slow machine
		t.Errorf("%d requests reached the provider through %d slots", got, slots)
	}
	if _, err := s.CancelOrder(t.Context(), client.NewKey(), held.ID); err != nil {
		t.Fatal(err)
	}
	s.until(t, held.ID, shop.Cancelled) // its void has a lane of its own
	s.faults(t, s.addresses.PSP)
}

// TestRetryBudget: repetitions are few however many fail. Without the budget each of the orders would be
// tried again at once, and again.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	s := embeddedOnly(t, func(c *local.Config) {
		c.Payment.Provider.Authorise.Off = true // so that the breaker is not what keeps them back
		c.Payment.Provider.Budget = resilience.BudgetConfig{Ratio: 0.1, Burst: 1}
		c.Payment.AuthoriseFailures = 1000
	})
	s.faults(t, s.addresses.PSP, chaos.Wrong{Operation: "authorise", Status: 503})
	const n = 200
	s.orders(t, n, "tok_ok", "10115")
	eventually(t, "the budget is spent", func() bool { return s.policy(t, "psp", "budget").Rejected > 100 })
	if got := arrivals(t, s.addresses.PSP, "authorise"); got > n+n/10+1 {
		t.Errorf("%d requests for %d orders, want at most a tenth of them again", got, n)
	}
	s.faults(t, s.addresses.PSP)
}

// patient gives a request to the provider so long, and an attempt with all that belongs to it for ever.
func patient(c *local.Config, call time.Duration) {
	p := &c.Payment.Provider
	p.CallTimeout, c.Payment.Calls.Timeout, c.Payment.Calls.Lease = call, 10*time.Minute, 30*time.Minute
	for _, b := range []*resilience.BreakerConfig{&p.Authorise, &p.Capture, &p.Void, &p.Refund, &p.Query} {
		b.ProbeLease = time.Minute
	}
}

// TestTimeout: an answer that never comes is given up, and learnt another way.
func TestTimeout(t *testing.T) {
	t.Parallel()
	s := embeddedOnly(t, func(c *local.Config) {
		patient(c, 200*time.Millisecond) // nothing else gives up within the limit of this test
	})
	s.faults(t, s.addresses.PSP, chaos.Wrong{Operation: "authorise", Lose: "answer"})
	o := s.place(t, command("tok_ok", "10115", line("TEA", 1)))
	s.until(t, o.ID, shop.Fulfilled)
	if authorised := arrivals(t, s.addresses.PSP, "authorise"); authorised != 1 {
		t.Errorf("%d authorisations, want one", authorised)
	}
	s.verify(t)
}

// TestFallback: while the order store is down an order can be read from a copy, which says so; a list,
// and an order that nobody looked at, cannot. Money and stock have no fallback.
func TestFallback(t *testing.T) {
	t.Parallel()
	s := embeddedOnly(t, func(c *local.Config) { c.Order.CopiesMax = 1 })
	old := s.place(t, command("tok_ok", "00005", line("TEA", 1)))
	s.until(t, old.ID, shop.Confirmed)
	o := s.until(t, s.place(t, command("tok_ok", "00005", line("TEA", 1))).ID, shop.Confirmed)
	for _, name := range []string{"order-store.read", "inventory-store.read"} {
		s.admin(t, http.MethodPost, "/admin/v1/policies/"+name+"/force-open", nil)
	}
	get := func(path string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.addresses.API+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	resp := get("/v1/orders/" + string(o.ID))
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Stale-As-Of") == "" || !strings.Contains(string(b), string(o.ID)) {
		t.Errorf("%d, as of %q: %s %v", resp.StatusCode, resp.Header.Get("Stale-As-Of"), b, err)
	}
	for _, path := range []string{"/v1/orders/" + string(old.ID), "/v1/orders", "/v1/items/TEA"} {
		if resp := get(path); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d, Retry-After %q", path, resp.StatusCode, resp.Header.Get("Retry-After"))
		}
	}
	for _, name := range []string{"order-store.read", "inventory-store.read"} {
		s.admin(t, http.MethodPost, "/admin/v1/policies/"+name+"/auto", nil)
	}
	if resp := get("/v1/orders/" + string(o.ID)); resp.StatusCode != http.StatusOK || resp.Header.Get("Stale-As-Of") != "" {
		t.Errorf("well again: %d, as of %q", resp.StatusCode, resp.Header.Get("Stale-As-Of"))
	}
}

// TestRates: orders are priced by the carrier's table as it was last known, also while the carrier is down.
func TestRates(t *testing.T) {
	t.Parallel()
	s := embeddedOnly(t, func(c *local.Config) {
		c.Carrier.Rates = map[string]int64{"*": 900, "DE": 390}
		c.Shipping.RatesEvery = 20 * time.Millisecond
	})
	fee := func() shop.Amount { return s.place(t, command("tok_ok", "10115", line("TEA", 1))).Shipping }
	eventually(t, "the carrier's fee is known", func() bool { return fee() == 390 })
	s.faults(t, s.addresses.Carrier, chaos.Wrong{Operation: "rates", Status: 503})
	asked := arrivals(t, s.addresses.Carrier, "rates")
	const round = 3 // attempts at most: what comes after them says that the carrier was asked in vain
	eventually(t, "the carrier was asked in vain", func() bool { return arrivals(t, s.addresses.Carrier, "rates") > asked+round })
	if got := fee(); got != 390 {
		t.Errorf("the fee is %d", got)
	}
	s.faults(t, s.addresses.Carrier)
}

// TestRateLimit: a caller that sends more than it may is told when to go on.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	s := embeddedOnly(t, func(c *local.Config) {
		c.Gateway.RateLimit = resilience.RateLimitConfig{Rate: 0.5, Burst: 5, MaxKeys: 10}
	})
	// Making the item has used two of the five.
	var refused *client.Problem
	for i := range 5 {
		_, err := s.GetItem(t.Context(), "TEA")
		if err != nil {
			refused = problem(t, err, "rate_limited")
			if i < 3 {
				t.Errorf("refused after %d", i)
			}
			break
		}
	}
	if refused == nil || refused.Status != http.StatusTooManyRequests || refused.RetryAfter < time.Second {
		t.Errorf("%+v", refused)
	}
}

// TestBacklog: orders that would only wait are refused while cancels and reads go on, and are taken again
// once those before them have been carried out.
func TestBacklog(t *testing.T) {
	t.Parallel()
	s := embeddedOnly(t, func(c *local.Config) { c.Order.BacklogFrom, c.Order.BacklogMax = 0, time.Nanosecond })
	o := s.place(t, command("tok_ok", "00005", line("TEA", 1)))
	var refusals, accepted int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			_, err := s.PlaceOrder(t.Context(), fmt.Sprint("backlog-", i), command("tok_ok", "10115", line("TEA", 1)), 0)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				problem(t, err, "overloaded")
				refusals++
				return
			}
			accepted++
		})
	}
	wg.Wait()
	if _, err := s.CancelOrder(t.Context(), client.NewKey(), o.ID); err != nil {
		t.Errorf("a cancel: %v", err)
	}
	if refusals == 0 {
		t.Errorf("none of %d orders was refused", accepted)
	}
	eventually(t, "orders are taken again", func() bool {
		_, err := s.PlaceOrder(t.Context(), client.NewKey(), command("tok_ok", "10115", line("TEA", 1)), 0)
		return err == nil
	})
}

// TestSteerAndReload: an operator holds a breaker open, and takes the policies from the configuration again
// without their losing that.
func TestSteerAndReload(t *testing.T) {
	t.Parallel()
	s := embeddedOnly(t, func(c *local.Config) {
		again := *c
		again.Payment.Provider.Bulkhead.Limit = 7
		c.Again = func() (app.Config, error) { return again.Config, nil }
	})
	s.admin(t, http.MethodPost, "/admin/v1/policies/psp.authorise/force-open", nil)
	o := s.place(t, command("tok_ok", "10115", line("TEA", 1)))
	s.admin(t, http.MethodPost, "/admin/v1/policies/reload", nil)
	if b, p := s.policy(t, "psp", "bulkhead"), s.policy(t, "psp.authorise", "breaker"); b.Limit != 7 || p.State != "forced_open" {
		t.Errorf("after the reload: %+v %+v", b, p)
	}
	if got := arrivals(t, s.addresses.PSP, "authorise"); got != 0 {
		t.Errorf("%d requests went through", got)
	}
	s.admin(t, http.MethodPost, "/admin/v1/policies/psp.authorise/auto", nil)
	s.until(t, o.ID, shop.Fulfilled)
}
