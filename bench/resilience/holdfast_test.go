package bench_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"holdfast/resilience"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func holdfast() library {
	return library{name: "holdfast", parts: breakers | bulkheads | timeouts | retries, guard: holdfastGuard,
		transport: holdfastTransport, fallback: holdfastFallback}
}

// observer counts late successes, and tells of changes.
type observer struct {
	resilience.NopObserver
	spec spec
	late atomic.Int64
}

func (l *observer) Transitioned(e resilience.TransitionEvent) {
	l.spec.tell(func() { _ = e.Counts.FailureRate() })
}

func (l *observer) Late(e resilience.LateEvent) {
	if e.Outcome == resilience.Success {
		l.late.Add(1)
	}
}

func holdfastPolicy(s spec, o resilience.Observer) *resilience.Policy {
	op := resilience.Operation{Dependency: "dependency", Name: "operation", Kind: resilience.IdempotentCommand}
	c := resilience.PolicyConfig{Breaker: resilience.BreakerConfig{Off: true}, Retry: resilience.RetryConfig{Off: true},
		Timeout: resilience.TimeoutConfig{Attempt: s.timeout}}
	if s.failures > 0 {
		c.Breaker = resilience.BreakerConfig{WindowCalls: s.window(), MinCalls: s.failures, FailureRate: 0.5, OpenFor: s.openFor,
			Probes: s.probes, ProbeSuccesses: s.probes, ProbeLease: 10 * s.openFor}
	}
	d := resilience.Deps{Observer: o, Budget: must(resilience.NewBudget(resilience.BudgetConfig{Off: true}, resilience.Options{}))}
	if s.attempts > 1 {
		c.Retry = resilience.RetryConfig{Attempts: s.attempts, Backoff: resilience.Backoff{Base: s.backoff, Max: 10 * s.backoff}}
	}
	if s.slots > 0 {
		d.Bulkhead = must(resilience.NewBulkhead(resilience.BulkheadConfig{Limit: s.slots}, resilience.Options{}))
	}
	if s.command {
		op.Kind = resilience.Command
	}
	if s.budget {
		d.Budget = must(resilience.NewBudget(resilience.BudgetDefaults(), resilience.Options{}))
	}
	if s.tuned {
		op.Classify = func(err error) resilience.Verdict {
			if errors.Is(err, errDeclined) {
				return resilience.Verdict{Outcome: resilience.Success}
			}
			return resilience.Classify(err)
		}
	}
	return must(resilience.NewPolicy(op, c, d))
}

func holdfastGuard(s spec) guard {
	seen := observer{spec: s}
	p := holdfastPolicy(s, &seen)
	byStatus := func(status int, err error) resilience.Verdict {
		if err == nil && status >= http.StatusInternalServerError {
			return resilience.Verdict{Outcome: resilience.Failure, Retryable: true}
		}
		return p.Operation().Classify(err)
	}
	return guard{
		answer: func(ctx context.Context, f func(context.Context) (int, error)) (int, error) {
			r, err := resilience.DoCall(ctx, p, resilience.Call[int]{Func: f, Classify: byStatus})
			return r.Value, err
		},
		state: func() string {
			return map[resilience.State]string{resilience.Closed: "closed", resilience.HalfOpen: "half-open", resilience.Open: "open"}[p.Breaker().State()]
		},
		trace:   func() string { s := p.Breaker().Stats(); return fmt.Sprint(s.Counts, s.Stale) },
		counted: func() int { return p.Breaker().Stats().Counts.Calls },
		late:    func() int { return int(seen.late.Load()) },
	}
}

// guardedTransport sends requests through a policy. Each attempt has a body of its own, and the call
// holds what it holds until the answer's body is closed.
type guardedTransport struct {
	policy *resilience.Policy
	next   http.RoundTripper
}

func (g *guardedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := resilience.DoCall(req.Context(), g.policy, resilience.Call[*http.Response]{
		Func: func(ctx context.Context) (*http.Response, error) {
			attempt := req.Clone(ctx)
			if req.GetBody != nil {
				body, err := req.GetBody()
				if err != nil {
					return nil, err
				}
				attempt.Body = body
			}
			return g.next.RoundTrip(attempt)
		},
		Classify: func(resp *http.Response, err error) resilience.Verdict {
			if err == nil && resp.StatusCode >= http.StatusInternalServerError {
				return resilience.Verdict{Outcome: resilience.Failure, Retryable: true}
			}
			return resilience.Classify(err)
		},
		Discard: func(resp *http.Response) { _ = resp.Body.Close() },
		Hold: func(resp *http.Response, release func()) *http.Response {
			resp.Body = &heldBody{resp.Body, release}
			return resp
		},
	})
	return res.Value, err
}

type heldBody struct {
	io.ReadCloser
	release func()
}

func (b *heldBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

func holdfastTransport(s spec, next http.RoundTripper) http.RoundTripper {
	return &guardedTransport{policy: holdfastPolicy(s, nil), next: next}
}

func holdfastFallback() (int, string, error) {
	cached := func(context.Context, error) (int, error) { return 499, nil }
	f := must(resilience.NewFallback(resilience.Read, "last known", cached, resilience.Options{}))
	p := must(resilience.NewReadPolicy(resilience.Operation{Kind: resilience.Read}, resilience.PolicyConfig{
		Breaker: resilience.BreakerConfig{Off: true}, Retry: resilience.RetryConfig{Off: true}}, resilience.Deps{}))
	r, err := resilience.DoOr(context.Background(), p, resilience.Call[int]{Func: func(context.Context) (int, error) { return 0, errDown }}, f)
	if r.Source != resilience.FromFallback {
		return r.Value, "", err
	}
	return r.Value, r.Source.String(), err
}
