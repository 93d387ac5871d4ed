package field_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/app/local"
	"holdfast/check/chaos"
	"holdfast/client"
	"holdfast/resilience"
	"holdfast/shop"
	"holdfast/test/harness"
)

// accepted places n orders one after the other and returns the longest that one took.
func accepted(t *testing.T, s *harness.System, n int) (ids []shop.OrderID, longest time.Duration) {
	t.Helper()
	for range n {
		began := time.Now()
		ids = append(ids, s.Place(t, harness.Command("tok_ok", "00005", harness.Line("TEA", 1))).ID)
		longest = max(longest, time.Since(began))
	}
	return ids, longest
}

// opened tells whether a breaker keeps calls back. One that is switched off is not closed either.
func opened(t *testing.T, s *harness.System, name string) bool {
	t.Helper()
	state := s.Policy(t, name, "breaker").State
	return state == "open" || state == "half_open"
}

func TestField_boutique3474_PaymentDelay(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		cfg.Payment.Provider.CallTimeout = 3 * time.Second
		s := started(t, cfg)
		accepted(t, s, 10)
		s.Faults(t, s.Addresses.PSP, chaos.Wrong{Operation: "authorise", Latency: "2s"})
		slow, took := accepted(t, s, 20)
		if took >= 2*time.Second {
			t.Errorf("2 s more at the provider made an order take %s", took)
		}
		for _, id := range slow {
			s.Until(t, id, shop.Confirmed)
		}
		s.Faults(t, s.Addresses.PSP, chaos.Wrong{Status: 503})
		lost, took := accepted(t, s, 40)
		if took >= 2*time.Second {
			t.Errorf("with the provider gone an order took %s", took)
		}
		harness.Eventually(t, "the breaker opens", func() bool { return opened(t, s, "psp.authorise") })
		for _, id := range lost {
			if o, err := s.GetOrder(t.Context(), id); err != nil || o.Status != shop.Pending {
				t.Errorf("%s is %s: %v", id, o.Status, err)
			}
		}
		s.Faults(t, s.Addresses.PSP)
		for _, id := range lost {
			s.Until(t, id, shop.Confirmed)
		}
		s.Verify(t)
	})
}

// Each first attempt takes longer than an attempt may; the next ones are answered at once.
func TestField_watermill467_DeadContextRetry(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		cfg.Payment.Provider.CallTimeout, cfg.Shipping.Carrier.CallTimeout = 300*time.Millisecond, 300*time.Millisecond
		s := started(t, cfg)
		slow := chaos.Wrong{Latency: "2s", Count: 3}
		s.Faults(t, s.Addresses.PSP, slow)
		s.Faults(t, s.Addresses.Carrier, slow)
		began := time.Now()
		for range 3 {
			s.Until(t, s.Place(t, harness.Command("tok_ok", "10115", harness.Line("TEA", 1))).ID, shop.Fulfilled)
		}
		if n := harness.Arrivals(t, s.Addresses.PSP, "authorise", ""); n < 4 {
			t.Errorf("%d authorisations reached the provider, and the first three calls are not answered in time", n)
		}
		t.Logf("fulfilled after %s", time.Since(began))
		s.Verify(t)
	})
	// Calls that move money or parcels are repeated by way of the store, each as a call of its own. The question
	// for the rates is repeated at once: here it is asked once only, and its first attempt is never answered.
	t.Run("rates", func(t *testing.T) {
		var asked atomic.Int64
		carrier := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/rates" && asked.Add(1) == 1 {
				<-r.Context().Done()
				return
			}
			_, _ = io.WriteString(w, `{"rates":[{"country":"*","amount":777}]}`)
		}))
		t.Cleanup(carrier.Close)
		cfg := harness.Quick(t, "sqlite")
		cfg.Shipping.CarrierURL, cfg.Shipping.RatesEvery = carrier.URL, time.Hour
		cfg.Shipping.Carrier.Rates.Timeout = resilience.TimeoutConfig{Attempt: time.Second, Total: 10 * time.Second}
		s := started(t, cfg)
		// Orders that this carrier answers with nonsense would use up the budget of retries that it has in common with
		// the question, so there are none before.
		harness.Eventually(t, "the second attempt is made", func() bool { return asked.Load() >= 2 })
		harness.Eventually(t, "the carrier's fee is known by it", func() bool {
			return s.Place(t, harness.Command("tok_ok", "10115", harness.Line("TEA", 1))).Shipping == 777
		})
	})
}

// A slow call is under way when the breaker opens, and succeeds while the probe, which is slow, too, is not back.
func TestField_polly216_StaleResult(t *testing.T) {
	one(t, func(t *testing.T, cfg local.Config) {
		p := &cfg.Payment.Provider
		p.CallTimeout, cfg.Payment.Calls.Timeout, cfg.Payment.Calls.Lease = 40*time.Second, 2*time.Minute, 5*time.Minute
		p.Authorise.MinCalls, p.Authorise.FailureRate, p.Authorise.Probes, p.Authorise.ProbeSuccesses = 2, 0.5, 1, 1
		p.Authorise.OpenFor = 200 * time.Millisecond
		for _, b := range []*resilience.BreakerConfig{&p.Authorise, &p.Capture, &p.Void, &p.Refund, &p.Query} {
			b.ProbeLease = time.Minute
		}
		s := started(t, cfg)
		state := func(is string) bool {
			return counted(t, s, `breaker_state\{dependency="psp",operation="authorise".*state="`+is+`"\}`) == 1
		}
		asked := func() int { return harness.Arrivals(t, s.Addresses.PSP, "authorise", "") }
		s.Faults(t, s.Addresses.PSP, chaos.Wrong{Operation: "authorise", Latency: "10s"})
		slow := s.Place(t, harness.Command("tok_ok", "00005", harness.Line("TEA", 1)))
		harness.Eventually(t, "the slow call is under way", func() bool { return asked() == 1 })
		s.Faults(t, s.Addresses.PSP, chaos.Wrong{Operation: "authorise", Status: 503, Count: 2}, chaos.Wrong{Operation: "authorise", Latency: "20s"})
		for range 3 {
			s.Place(t, harness.Command("tok_ok", "00005", harness.Line("TEA", 1)))
		}
		harness.Eventually(t, "a probe is under way", func() bool { return state("half_open") && asked() >= 4 })
		s.Until(t, slow.ID, shop.Confirmed)
		if !state("half_open") {
			t.Error("violated: policy: breaker: what was admitted before it opened has decided about it")
		}
		if counted(t, s, `stale_results_total\{dependency="psp",operation="authorise".*\}`) == 0 {
			t.Error("violated: policy: breaker: what came too late to count is not told")
		}
	})
}

// counted is the sum of the series of a metric that match.
func counted(t *testing.T, s *harness.System, series string) (sum float64) {
	t.Helper()
	found := regexp.MustCompile(`(?m)^holdfast_resilience_`+series+` (\S+)$`).FindAllStringSubmatch(s.Metrics(t), -1)
	if len(found) == 0 {
		t.Fatalf("there is no series %s", series)
	}
	for _, f := range found {
		v, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return sum
}

func TestField_awsretail_RetryNeverActs(t *testing.T) {
	one(t, func(t *testing.T, cfg local.Config) {
		cfg.Payment.Provider.CallTimeout = 300 * time.Millisecond
		cfg.Payment.Provider.Bulkhead = resilience.BulkheadConfig{Limit: 1, Queue: 1, MaxWait: 20 * time.Millisecond}
		cfg.Payment.Provider.Budget = resilience.BudgetConfig{Ratio: 0.1, Burst: 3}
		cfg.Payment.AuthoriseFailures = 1000
		cfg.Shipping.RatesEvery = 20 * time.Millisecond
		cfg.Gateway.RateLimit = resilience.RateLimitConfig{Rate: 20, Burst: 60, MaxKeys: 10}
		s := started(t, cfg)
		acts := func(what, series string, provoke func()) {
			t.Helper()
			before := counted(t, s, series)
			provoke()
			harness.Eventually(t, what+" acts", func() bool { return counted(t, s, series) > before })
		}
		place := func(token string) {
			for range 5 {
				_, _ = s.PlaceOrder(t.Context(), client.NewKey(), harness.Command(token, "00005", harness.Line("TEA", 1)), 0)
			}
		}
		acts("the retry", `retries_total\{dependency="psp".*\}`, func() { place("tok_error_once") })
		acts("the time-out", `attempt_duration_seconds_count\{dependency="psp",operation="authorise",outcome="failure".*\}`, func() { place("tok_timeout_ok") })
		s.Faults(t, s.Addresses.PSP, chaos.Wrong{Latency: "200ms"})
		acts("the bulkhead", `rejections_total\{dependency="psp".*policy="bulkhead".*\}`, func() { place("tok_ok") })
		s.Faults(t, s.Addresses.PSP, chaos.Wrong{Status: 503})
		acts("the budget", `budget_exhausted_total\{dependency="psp".*\}`, func() { place("tok_ok") })
		acts("the breaker", `breaker_transitions_total\{dependency="psp",operation="authorise",state="open".*\}`, func() { place("tok_ok"); place("tok_ok") })
		s.Faults(t, s.Addresses.PSP)
		s.Faults(t, s.Addresses.Carrier, chaos.Wrong{Operation: "rates", Status: 503})
		acts("the rates' retry", `retries_total\{dependency="carrier".*\}`, func() {})
		acts("the rates' breaker", `breaker_transitions_total\{dependency="carrier",operation="rates",state="open".*\}`, func() {})
		s.Faults(t, s.Addresses.Carrier)
		o := s.Place(t, harness.Command("tok_ok", "00005", harness.Line("TEA", 1)))
		s.Refuse(t, "order-store.read", true)
		acts("the fallback", `fallbacks_total\{dependency="order".*\}`, func() { _, _ = s.GetOrder(t.Context(), o.ID) })
		s.Refuse(t, "order-store.read", false)
		acts("the rate limit", `rejections_total\{.*policy="rate_limit".*\}`, func() {
			var group sync.WaitGroup
			for range 100 {
				group.Go(func() { _, _ = s.GetItem(t.Context(), "TEA") })
			}
			group.Wait()
		})
	})
}
