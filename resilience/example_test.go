package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"holdfast/resilience"
)

// All policies around one operation of a payment provider.
func Example() {
	psp := resilience.Label{Dependency: "psp"}
	bulkhead, err := resilience.NewBulkhead(resilience.BulkheadDefaults(), resilience.Options{Label: psp})
	if err != nil {
		fmt.Println(err)
		return
	}
	budget, err := resilience.NewBudget(resilience.BudgetDefaults(), resilience.Options{Label: psp})
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg := resilience.PolicyDefaults()
	cfg.Retry.Backoff.Base = time.Millisecond
	authorise, err := resilience.NewPolicy(
		resilience.Operation{Dependency: "psp", Name: "authorise", Kind: resilience.IdempotentCommand},
		cfg, resilience.Deps{Bulkhead: bulkhead, Budget: budget})
	if err != nil {
		fmt.Println(err)
		return
	}

	attempts := 0
	id, err := resilience.Do(context.Background(), authorise, func(context.Context) (string, error) {
		if attempts++; attempts == 1 {
			return "", errors.New("connection reset")
		}
		return "auth_1", nil
	})
	fmt.Println(id, err, "after", attempts, "attempts")
	// Output: auth_1 <nil> after 2 attempts
}

func ExampleBreaker() {
	cfg := resilience.BreakerDefaults()
	cfg.MinCalls, cfg.OpenFor = 2, time.Hour
	breaker, err := resilience.NewBreaker(cfg, resilience.Options{Label: resilience.Label{Dependency: "carrier", Operation: "rates"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	down := func(context.Context) error { return errors.New("no route to host") }
	for range 3 {
		fmt.Println(breaker.Run(context.Background(), down))
	}
	fmt.Println(breaker.State())
	// Output:
	// no route to host
	// no route to host
	// carrier/rates: breaker: circuit open (open)
	// open
}

// A permit, where there is no function to give to Run.
func ExampleBreaker_Acquire() {
	breaker, err := resilience.NewBreaker(resilience.BreakerDefaults(), resilience.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	permit, err := breaker.Acquire()
	if err != nil {
		fmt.Println("try again in", breaker.Stats().RetryAfter)
		return
	}
	defer permit.Done(resilience.Failure) // unless it is done before: a panic must not leave it out
	permit.Done(resilience.Success)
	fmt.Printf("%+v\n", breaker.Stats().Counts)
	// Output: {Calls:1 Failures:0 Slow:0}
}

func ExampleBulkhead() {
	bulkhead, err := resilience.NewBulkhead(resilience.BulkheadConfig{Limit: 1}, resilience.Options{Label: resilience.Label{Dependency: "psp"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = bulkhead.Run(context.Background(), func(ctx context.Context) error {
		_, err := bulkhead.Acquire(ctx) // a second call at the same time
		return err
	})
	fmt.Println(errors.Is(err, resilience.ErrFull), err)
	// Output: true psp: bulkhead: bulkhead full (full)
}

func ExampleAdaptiveLimit() {
	limit, err := resilience.NewAdaptiveLimit(resilience.AdaptiveDefaults(), resilience.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("at the start:", limit.Limit())
	limit.Observe(resilience.Success, 12*time.Millisecond, 20) // for each call that ends
	// Output: at the start: 32
}

func ExampleAdmission() {
	admission, err := resilience.NewAdmission(resilience.AdmissionConfig{Limit: 10, SheddableShare: 0.1, NormalShare: 0.2, UndoLane: 1,
		RetryAfter: 2 * time.Second}, resilience.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range []resilience.Criticality{resilience.Sheddable, resilience.Sheddable, resilience.Normal, resilience.Normal, resilience.Undo} {
		ticket, err := admission.Admit(c)
		defer ticket.Done(resilience.Success)
		after, _ := resilience.RetryAfter(err)
		fmt.Println(c, err == nil, after)
	}
	// Output:
	// sheddable true 0s
	// sheddable false 2s
	// normal true 0s
	// normal false 2s
	// undo true 0s
}

func ExampleRetry() {
	budget, err := resilience.NewBudget(resilience.BudgetDefaults(), resilience.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg := resilience.RetryDefaults()
	cfg.Backoff.Base = time.Millisecond
	retry, err := resilience.NewRetry(cfg, resilience.Read, budget, resilience.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	calls := 0
	err = retry.Run(context.Background(), func(context.Context) error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	fmt.Println(err, calls, "calls,", budget.Stats().Tokens, "retries left")
	// Output: <nil> 3 calls, 8 retries left
}

// Waits for someone who keeps attempts in a database.
func ExampleBackoff() {
	backoff := resilience.Backoff{Base: time.Second, Max: time.Minute, Jitter: resilience.NoJitter}
	for n := 1; n <= 3; n++ {
		fmt.Println(backoff.Delay(n, 0, nil))
	}
	// Output:
	// 1s
	// 2s
	// 4s
}

func ExampleBudget() {
	budget, err := resilience.NewBudget(resilience.BudgetConfig{Ratio: 0.1, Burst: 1}, resilience.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(budget.TryRetry(), budget.TryRetry())
	for range 10 {
		budget.Call()
	}
	fmt.Println(budget.TryRetry(), budget.TryRetry())
	// Output:
	// true false
	// true false
}

func ExampleTimeout() {
	timeout, err := resilience.NewTimeout(time.Millisecond, resilience.Options{Label: resilience.Label{Dependency: "carrier"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	deaf := make(chan struct{})
	err = timeout.Run(context.Background(), func(context.Context) error { <-deaf; return nil })
	fmt.Println(err, errors.Is(err, context.DeadlineExceeded))
	close(deaf)
	// Output: carrier: timed out: attempt true
}

func ExampleFallback() {
	op := resilience.Operation{Dependency: "carrier", Name: "rates", Kind: resilience.Read}
	cfg := resilience.PolicyDefaults()
	cfg.Retry.Off = true
	policy, err := resilience.NewReadPolicy(op, cfg, resilience.Deps{})
	if err != nil {
		fmt.Println(err)
		return
	}
	lastKnown, err := resilience.NewFallback(op.Kind, "last known rates", func(context.Context, error) (int, error) { return 499, nil },
		resilience.Options{Label: op.Label()})
	if err != nil {
		fmt.Println(err)
		return
	}
	res, err := resilience.DoOr(context.Background(), policy, resilience.Call[int]{
		Func: func(context.Context) (int, error) { return 0, errors.New("carrier is down") },
	}, lastKnown)
	fmt.Println(res.Value, err)
	fmt.Println(res.Source, res.Fallback, res.Cause)

	_, err = resilience.NewReadPolicy(resilience.Operation{Dependency: "psp", Name: "balance", Kind: resilience.ExactRead}, cfg, resilience.Deps{})
	fmt.Println(err)
	// Output:
	// 499 <nil>
	// fallback last known rates carrier is down
	// read policy of psp/balance (exact_read): not allowed for this kind of operation
}

// A hedge sends a read a second time where the first answer is late.
func ExampleHedgeConfig() {
	cfg := resilience.PolicyDefaults()
	cfg.Hedge = resilience.HedgeConfig{Quantile: 0.95, MaxDelay: time.Millisecond}
	policy, err := resilience.NewPolicy(resilience.Operation{Dependency: "reads", Name: "order", Kind: resilience.Read}, cfg, resilience.Deps{})
	if err != nil {
		fmt.Println(err)
		return
	}
	slow := make(chan struct{}, 1)
	slow <- struct{}{}
	answer, err := resilience.Do(context.Background(), policy, func(ctx context.Context) (string, error) {
		select {
		case <-slow: // the first replica hangs
			<-ctx.Done()
			return "", ctx.Err()
		default:
			return "from the second", nil
		}
	})
	fmt.Println(answer, err)
	// Output: from the second <nil>
}

func ExampleRateLimit() {
	limit, err := resilience.NewRateLimit(resilience.RateLimitConfig{Rate: 0.1, Burst: 2, MaxKeys: 1000}, resilience.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 {
		d := limit.Allow("client 7")
		fmt.Println(d.Allowed, d.Remaining, d.RetryAfter.Round(time.Second))
	}
	// Output:
	// true 1 0s
	// true 0 0s
	// false 0 10s
}

// One attempt at a time, for a runner that keeps its retries in a database.
func ExampleTry() {
	policy, err := resilience.NewPolicy(resilience.Operation{Dependency: "psp", Name: "capture", Kind: resilience.IdempotentCommand},
		resilience.PolicyDefaults(), resilience.Deps{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if r := policy.Ready(); !r.Ready {
		fmt.Println("leave it in the database for", r.Wait)
		return
	}
	res, err := resilience.Try(context.Background(), policy, resilience.Call[string]{
		Func: func(context.Context) (string, error) { return "captured", nil },
		Late: func(string, error) { /* the other party has an effect that nobody waited for */ },
	})
	fmt.Println(res.Value, err, res.Verdict.Outcome)
	// Output: captured <nil> success
}

// transport guards the requests of an http.Client. The answer of 503 is a failure, and is tried again; in
// the end the caller gets it as it is. The slot is held until the body is closed.
type transport struct {
	next   http.RoundTripper
	policy *resilience.Policy
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := resilience.DoCall(req.Context(), t.policy, resilience.Call[*http.Response]{
		Func: func(ctx context.Context) (*http.Response, error) {
			again := req.Clone(ctx)
			if req.GetBody != nil { // each attempt has the whole body
				body, err := req.GetBody()
				if err != nil {
					return nil, err
				}
				again.Body = body
			}
			return t.next.RoundTrip(again)
		},
		Classify: func(resp *http.Response, err error) resilience.Verdict {
			if err == nil && resp.StatusCode >= 500 {
				return resilience.Verdict{Outcome: resilience.Failure, Retryable: true}
			}
			return resilience.Classify(err)
		},
		Discard: func(resp *http.Response) { _ = resp.Body.Close() },
		Hold: func(resp *http.Response, release func()) *http.Response {
			resp.Body = &body{resp.Body, release}
			return resp
		},
	})
	return res.Value, err
}

type body struct {
	io.ReadCloser
	release func()
}

func (b *body) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

// An http.RoundTripper, of which transport is the whole:
//
//	func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
//		res, err := resilience.DoCall(req.Context(), t.policy, resilience.Call[*http.Response]{
//			Func:     ... // a clone of the request with the attempt's context and a body of its own
//			Classify: ... // by status
//			Discard:  func(resp *http.Response) { resp.Body.Close() },
//			Hold: func(resp *http.Response, release func()) *http.Response {
//				resp.Body = &body{resp.Body, release} // whose Close calls release
//				return resp
//			},
//		})
//		return res.Value, err
//	}
func ExampleDoCall_roundTripper() {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if requests++; requests == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, strings.ToUpper(string(b)))
	}))
	defer server.Close()
	cfg := resilience.PolicyDefaults()
	cfg.Retry.Backoff.Base = time.Millisecond
	policy, err := resilience.NewPolicy(resilience.Operation{Dependency: "echo", Name: "shout", Kind: resilience.IdempotentCommand, RespectsContext: true},
		cfg, resilience.Deps{})
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &http.Client{Transport: &transport{http.DefaultTransport, policy}}
	resp, err := client.Post(server.URL, "text/plain", strings.NewReader("hello"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(b), err, "after", requests, "requests")
	// Output: 200 HELLO <nil> after 2 requests
}
