package resilience_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/resilience"
)

// TestField09_TimeoutDoesNotReturn has a function that ignores its context and succeeds in the end.
// The bubble sees that its goroutine ends.
func TestField09_TimeoutDoesNotReturn(t *testing.T) {
	scopes := map[resilience.Scope]resilience.TimeoutConfig{
		resilience.ScopeAttempt: {Attempt: time.Second},
		resilience.ScopeTotal:   {Total: time.Second},
		resilience.ScopeCaller:  {Attempt: time.Minute, Total: time.Hour},
	}
	for scope, timeout := range scopes {
		t.Run(scope.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var r recorder
				c := bare()
				c.Timeout = timeout
				c.Breaker.ProbeLease = time.Hour
				p := newPolicy(resilience.IdempotentCommand, c, resilience.Deps{Bulkhead: newBulkhead(1, 0, 0, nil), Observer: &r})
				ctx := t.Context()
				if scope == resilience.ScopeCaller {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, time.Second)
					defer cancel()
				}
				late := make(chan string, 1)
				began := time.Now()
				_, err := resilience.DoCall(ctx, p, resilience.Call[string]{
					Func: func(context.Context) (string, error) { time.Sleep(time.Minute / 2); return "captured", nil },
					Late: func(v string, err error) { isErr(t, err, nil); late <- v },
				})
				if d := time.Since(began); d < time.Second || d > time.Second+50*time.Millisecond {
					t.Errorf("returned after %v", d)
				}
				isErr(t, err, resilience.ErrTimeout)
				isErr(t, err, context.DeadlineExceeded)
				var timeout *resilience.TimeoutError
				if !errors.As(err, &timeout) || timeout.Scope != scope {
					t.Errorf("error %v, want scope %v", err, scope)
				}
				is(t, "failures at the deadline", p.Stats().Breaker.Counts, resilience.Counts{Calls: 1, Failures: 1})
				is(t, "slots at the deadline", p.Stats().Bulkhead.InUse, 1)
				is(t, "late", <-late, "captured")
				synctest.Wait()
				is(t, "slots at the end", p.Stats().Bulkhead.InUse, 0)
				is(t, "late outcome", r.late[0].Outcome, resilience.Success)
				is(t, "late duration", r.late[0].Duration, time.Minute/2)
				is(t, "counts at the end", p.Stats().Breaker.Counts, resilience.Counts{Calls: 1, Failures: 1})
			})
		})
	}
}

// TestField14_RetryAmplification fails every call of a dependency with two operations.
func TestField14_RetryAmplification(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const calls = 5000
		c := retrying(bare(), 3)
		c.Breaker.Off = true // it would help
		var r recorder
		budget := must(resilience.NewBudget(resilience.BudgetDefaults(), resilience.Options{Observer: &r}))
		a := newPolicy(resilience.IdempotentCommand, c, resilience.Deps{Budget: budget})
		b := newPolicy(resilience.Read, c, resilience.Deps{Budget: budget, Observer: &r})
		arrived := 0
		for i := range calls {
			_ = []*resilience.Policy{a, b}[i%2].Run(t.Context(), func(context.Context) error { arrived++; return errDown })
		}
		if most := calls + calls/10 + 10; arrived > most || arrived < most-2 {
			t.Errorf("%d arrived of %d calls, want %d", arrived, calls, most)
		}
		if r.exhausted == 0 || r.gaveUp[len(r.gaveUp)-1].Reason != resilience.GiveUpBudget {
			t.Errorf("the budget was exhausted %d times, last gave up for %v", r.exhausted, r.gaveUp[len(r.gaveUp)-1].Reason)
		}
	})
}

func TestField16_RetryWithADeadContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, respects := range []bool{true, false} {
			c := retrying(bare(), 3)
			c.Timeout.Attempt = time.Second
			p := must(resilience.NewPolicy(resilience.Operation{Kind: resilience.Read, RespectsContext: respects}, c, resilience.Deps{}))
			var seen []context.Context
			got, err := resilience.Do(t.Context(), p, func(ctx context.Context) (int, error) {
				seen = append(seen, ctx)
				isErr(t, ctx.Err(), nil)
				deadline, _ := ctx.Deadline()
				is(t, "time left", time.Until(deadline), time.Second)
				if len(seen) < 3 {
					<-ctx.Done()
					return 0, ctx.Err()
				}
				return 42, nil
			})
			isErr(t, err, nil)
			is(t, "result", got, 42)
			is(t, "attempts", len(seen), 3)
			isErr(t, seen[2].Err(), context.Canceled) // or its timer would leak
		}
	})
}

// send makes one attempt at a request, with a body of its own.
func send(ctx context.Context, req *http.Request) (*http.Response, error) {
	again := req.Clone(ctx)
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		again.Body = body
	}
	return http.DefaultTransport.RoundTrip(again)
}

// heldBody is a response's body that gives back what the call holds when it is closed.
type heldBody struct {
	io.ReadCloser
	release func()
}

func (b *heldBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

// TestField16_BodyOverHTTP needs a second attempt for a request with a body, and reads the answer when
// the call has returned, although each attempt has a timeout.
func TestField16_BodyOverHTTP(t *testing.T) {
	t.Parallel()
	answer := strings.Repeat("body ", 100_000)
	attempts := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := string(must(io.ReadAll(r.Body)))
		is(t, "body at the server", body, "order")
		if attempts++; attempts == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	c := retrying(bare(), 2)
	c.Timeout = resilience.TimeoutConfig{Attempt: time.Minute, Total: time.Hour}
	c.Breaker.ProbeLease = time.Hour
	c.Retry.Backoff.Base = 1
	bulkhead := newBulkhead(1, 0, 0, nil)
	p := newPolicy(resilience.IdempotentCommand, c, resilience.Deps{Bulkhead: bulkhead})
	client := &http.Client{Transport: &guardedTransport{p}}
	resp, err := client.Post(server.URL, "text/plain", strings.NewReader("order"))
	if err != nil {
		t.Fatal(err)
	}
	is(t, "in use while the body is read", bulkhead.Stats().InUse, 1)
	got, err := io.ReadAll(resp.Body)
	isErr(t, err, nil)
	is(t, "answer", string(got) == answer, true)
	isErr(t, resp.Body.Close(), nil)
	is(t, "in use afterwards", bulkhead.Stats().InUse, 0)
	is(t, "attempts", attempts, 2)
}

func TestField18_RetryingWhatIsNotIdempotent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, err := resilience.NewRetry(resilience.RetryDefaults(), resilience.Command, nil, resilience.Options{})
		isErr(t, err, resilience.ErrNotAllowed)
		hedged := bare()
		hedged.Hedge = resilience.HedgeDefaults()
		for _, k := range []resilience.Kind{resilience.Command, resilience.IdempotentCommand} {
			_, err := resilience.NewPolicy(resilience.Operation{Kind: k}, hedged, resilience.Deps{})
			isErr(t, err, resilience.ErrNotAllowed)
			isErr(t, newPolicy(k, bare(), resilience.Deps{}).Reconfigure(hedged), resilience.ErrNotAllowed)
		}
		var r recorder
		c := retrying(bare(), 3)
		c.Breaker.Off = true
		p := newPolicy(resilience.Command, c, resilience.Deps{Observer: &r})
		for idempotent, want := range map[bool]int{false: 1, true: 3} {
			calls := 0
			res, err := resilience.DoCall(t.Context(), p, resilience.Call[int]{Idempotent: idempotent,
				Func: func(context.Context) (int, error) { calls++; return 0, errDown }})
			isErr(t, err, errDown)
			is(t, "calls", calls, want)
			is(t, "attempts", res.Attempts, want)
		}
		lean := newPolicy(resilience.Command, c, resilience.Deps{})
		calls := 0
		_ = lean.Run(t.Context(), func(context.Context) error { calls++; return errDown })
		is(t, "calls without an observer", calls, 1)
	})
}

// TestField19_OrderOfPolicies counts what each layer sees of a call with three attempts that waits for
// its slot longer than a slow call takes.
func TestField19_OrderOfPolicies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var r recorder
		c := retrying(bare(), 3)
		c.Breaker.SlowCall, c.Breaker.SlowRate = time.Second, 1
		c.Timeout = resilience.TimeoutConfig{Attempt: 500 * time.Millisecond, Total: time.Minute}
		bulkhead := newBulkhead(1, 1, time.Minute, &r)
		admission := must(resilience.NewAdmission(resilience.AdmissionConfig{Limit: 1, SheddableShare: 1, NormalShare: 1}, resilience.Options{}))
		budget := must(resilience.NewBudget(resilience.BudgetConfig{Ratio: 0.5, Burst: 100}, resilience.Options{}))
		p := newPolicy(resilience.IdempotentCommand, c, resilience.Deps{Bulkhead: bulkhead, Admission: admission, Budget: budget, Observer: &r})
		slot, _ := bulkhead.TryAcquire()
		time.AfterFunc(2*time.Second, slot.Release)
		calls := 0
		err := p.Run(t.Context(), func(ctx context.Context) error {
			is(t, "admitted", admission.Stats().InUse, 1)
			is(t, "in use", bulkhead.Stats().InUse, 1)
			switch calls++; calls {
			case 1:
				return errDown
			case 2:
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		isErr(t, err, nil)
		s := p.Stats()
		is(t, "the breaker sees", s.Breaker.Counts, resilience.Counts{Calls: 3, Failures: 2})
		is(t, "the budget sees", s.Budget.Tokens, 98.0) // full when the call came, and two retries
		is(t, "called", len(r.calls), 1)
		is(t, "attempted", len(r.attempts), 3)
		is(t, "attempts", r.calls[0].Attempts, 3)
		is(t, "retried", len(r.retried), 2)
		is(t, "duration of an attempt", r.attempts[1].Duration, 500*time.Millisecond)
		is(t, "duration", r.calls[0].Duration, 2*time.Second+500*time.Millisecond+300*time.Millisecond)
		is(t, "admitted at the end", admission.Stats().InUse, 0)
		is(t, "in use between and after", bulkhead.Stats().InUse, 0)
	})
}

func TestField20_FallbackHidesLoss(t *testing.T) {
	bubble(t, func(t *testing.T) {
		rates := func(_ context.Context, cause error) (int, error) { isErr(t, cause, errDown); return 499, nil }
		for _, k := range []resilience.Kind{resilience.Command, resilience.IdempotentCommand, resilience.ExactRead} {
			_, err := resilience.NewFallback(k, "last known", rates, resilience.Options{})
			isErr(t, err, resilience.ErrNotAllowed)
			_, err = resilience.NewReadPolicy(resilience.Operation{Kind: k}, bare(), resilience.Deps{})
			isErr(t, err, resilience.ErrNotAllowed)
		}
		var r recorder
		f := must(resilience.NewFallback(resilience.Read, "last known", rates, resilience.Options{Observer: &r}))
		p := must(resilience.NewReadPolicy(resilience.Operation{Kind: resilience.Read}, bare(), resilience.Deps{}))
		res, err := resilience.DoOr(t.Context(), p, resilience.Call[int]{Func: func(context.Context) (int, error) { return 0, errDown }}, f)
		isErr(t, err, nil)
		is(t, "value", res.Value, 499)
		is(t, "source", res.Source, resilience.FromFallback)
		is(t, "fallback", res.Fallback, "last known")
		isErr(t, res.Cause, errDown)
		is(t, "event", r.fellBack[0], resilience.FallbackEvent{Source: "last known", Cause: errDown})
		is(t, "failures", p.Policy().Stats().Breaker.Counts.Failures, 1) // it is still one
	})
}

// TestGoexitOnTheOtherGoroutine sees that a test's FailNow inside of a guarded function ends the caller.
func TestGoexitOnTheOtherGoroutine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := bare()
		c.Timeout.Attempt = time.Second
		p := newPolicy(resilience.Command, c, resilience.Deps{Bulkhead: newBulkhead(1, 0, 0, nil)})
		returned := false
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = p.Run(t.Context(), func(context.Context) error { runtime.Goexit(); return nil })
			returned = true
		}()
		<-done
		is(t, "returned", returned, false)
		is(t, "in use", p.Stats().Bulkhead.InUse, 0)
		is(t, "failures", p.Stats().Breaker.Counts.Failures, 1)
	})
}
