package bench_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/afex/hystrix-go/hystrix"
	eapachebreaker "github.com/eapache/go-resiliency/breaker"
	"github.com/eapache/go-resiliency/deadline"
	"github.com/eapache/go-resiliency/retrier"
	"github.com/eapache/go-resiliency/semaphore"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/sony/gobreaker/v2"
)

func failsafeGo() library {
	return library{name: "failsafe-go", module: "github.com/failsafe-go/failsafe-go", parts: breakers | bulkheads | timeouts | retries,
		order: "with the bulkhead outside of the breaker", guard: failsafeGuard, transport: failsafeTransport, fallback: failsafeFallback}
}

// failsafeGuard composes as the library's own pages do: retry, circuit breaker, bulkhead, timeout.
func failsafeGuard(s spec) guard {
	var policies []failsafe.Policy[int]
	var g guard
	add := func(wanted bool, p failsafe.Policy[int]) {
		if wanted {
			policies = append(policies, p)
		}
	}
	if s.attempts > 1 {
		policies = append(policies, failsafeRetry(s))
	}
	full := bulkhead.New[int](uint(s.slots))
	add(s.slots > 0 && s.swapped, full)
	if s.failures > 0 {
		breaker := failsafeBreaker(s)
		policies = append(policies, breaker)
		g.state = func() string { return breaker.State().String() }
		g.counted = func() int { return int(breaker.Metrics().Executions()) }
	}
	add(s.slots > 0 && !s.swapped, full)
	add(s.timeout > 0, timeout.New[int](s.timeout))
	g.answer = func(ctx context.Context, f func(context.Context) (int, error)) (int, error) {
		return failsafe.With(policies...).WithContext(ctx).GetWithExecution(func(e failsafe.Execution[int]) (int, error) { return f(e.Context()) })
	}
	return g
}

func failsafeRetry(s spec) failsafe.Policy[int] {
	b := retrypolicy.NewBuilder[int]().WithMaxAttempts(s.attempts).WithBackoff(s.backoff, 10*s.backoff)
	if s.budget {
		b.WithBudget(budget.NewBuilder().WithMaxRate(0.1).WithMinConcurrency(0).Build())
	}
	if s.tuned {
		b.WithJitterFactor(1).AbortOnErrors(circuitbreaker.ErrOpen, bulkhead.ErrFull, context.Canceled, errDeclined)
	}
	return b.Build()
}

func failsafeBreaker(s spec) circuitbreaker.CircuitBreaker[int] {
	b := circuitbreaker.NewBuilder[int]().WithFailureThresholdRatio(uint(s.failures), uint(s.window())).WithDelay(s.openFor).
		WithSuccessThreshold(uint(s.probes)).OnStateChanged(func(e circuitbreaker.StateChangedEvent) { s.tell(func() { _ = e.Metrics().FailureRate() }) })
	if s.tuned {
		b.HandleIf(func(status int, err error) bool {
			if err == nil {
				return status >= http.StatusInternalServerError
			}
			return !errors.Is(err, errDeclined) && !errors.Is(err, context.Canceled) && !errors.Is(err, bulkhead.ErrFull)
		})
	}
	return b.Build()
}

func failsafeTransport(s spec, next http.RoundTripper) http.RoundTripper {
	var policies []failsafe.Policy[*http.Response]
	policies = append(policies, failsafehttp.NewRetryPolicyBuilder().WithMaxAttempts(s.attempts).Build())
	if s.timeout > 0 {
		policies = append(policies, timeout.New[*http.Response](s.timeout))
	}
	return failsafehttp.NewRoundTripper(next, policies...)
}

func failsafeFallback() (int, string, error) {
	answer, err := failsafe.With[int](fallback.NewWithResult(499)).Get(func() (int, error) { return 0, errDown })
	return answer, "", err
}

func gobreakerV2() library {
	return library{name: "gobreaker", module: "github.com/sony/gobreaker/v2", parts: breakers, guard: gobreakerGuard}
}

func gobreakerGuard(s spec) guard {
	settings := gobreaker.Settings{MaxRequests: uint32(s.probes), Interval: 10 * time.Second, BucketPeriod: time.Second, Timeout: s.openFor,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.Requests >= uint32(s.failures) && float64(c.TotalFailures)/float64(c.Requests) >= 0.5
		},
		OnStateChange: func(string, gobreaker.State, gobreaker.State) { s.tell(func() {}) }}
	if s.tuned {
		settings.IsSuccessful = func(err error) bool { return err == nil || errors.Is(err, errDeclined) }
		settings.IsExcluded = func(err error) bool { return errors.Is(err, context.Canceled) }
	}
	breaker := gobreaker.NewCircuitBreaker[int](settings)
	return guard{
		answer: func(ctx context.Context, f func(context.Context) (int, error)) (int, error) {
			return breaker.Execute(func() (int, error) { return f(ctx) })
		},
		state: func() string { return breaker.State().String() },
		trace: func() string { return fmt.Sprint(breaker.Counts()) },
	}
}

func goResiliency() library {
	return library{name: "go-resiliency", module: "github.com/eapache/go-resiliency", parts: breakers | bulkheads | timeouts | retries,
		order: "with the timeout outermost, then the bulkhead, then the breaker", guard: eapacheGuard}
}

// layer is a part as the caller nests it; the library has no composition of its own.
type layer = func(ctx context.Context, f func(context.Context) error) error

func eapacheGuard(s spec) guard {
	var layers []layer
	var g guard
	if s.attempts > 1 {
		layers = append(layers, eapacheRetry(s))
	}
	limited, slots := eapacheDeadline(s.timeout), eapacheSemaphore(s.slots)
	add := func(wanted bool, l layer) {
		if wanted {
			layers = append(layers, l)
		}
	}
	add(s.swapped && s.timeout > 0, limited)
	add(s.swapped && s.slots > 0, slots)
	if s.failures > 0 {
		b := eapachebreaker.New(s.failures, s.probes, s.openFor)
		layers = append(layers, func(ctx context.Context, f func(context.Context) error) error {
			return b.Run(func() error { return f(ctx) })
		})
		g.state = func() string {
			return map[eapachebreaker.State]string{eapachebreaker.Closed: "closed", eapachebreaker.HalfOpen: "half-open", eapachebreaker.Open: "open"}[b.GetState()]
		}
	}
	add(!s.swapped && s.slots > 0, slots)
	add(!s.swapped && s.timeout > 0, limited)
	g.answer = carry(func(ctx context.Context, f func(context.Context) error) error {
		for i := len(layers) - 1; i >= 0; i-- {
			outer, inner := layers[i], f
			f = func(ctx context.Context) error { return outer(ctx, inner) }
		}
		return f(ctx)
	})
	return g
}

func eapacheRetry(s spec) layer {
	var classes retrier.Classifier
	if s.tuned {
		classes = retrier.BlacklistClassifier{eapachebreaker.ErrBreakerOpen, semaphore.ErrNoTickets, context.Canceled, errDeclined}
	}
	r := retrier.New(retrier.ExponentialBackoff(s.attempts-1, s.backoff), classes)
	if s.tuned {
		r.SetJitter(1)
	}
	return r.RunCtx
}

// eapacheSemaphore waits a little for a ticket: without a wait, it may miss one that is free.
func eapacheSemaphore(slots int) layer {
	sem := semaphore.New(slots, time.Millisecond)
	return func(ctx context.Context, f func(context.Context) error) error {
		if err := sem.Acquire(); err != nil {
			return err
		}
		defer sem.Release()
		return f(ctx)
	}
}

// eapacheDeadline makes a context of the channel that tells a function to stop.
func eapacheDeadline(d time.Duration) layer {
	limited := deadline.New(d)
	return func(ctx context.Context, f func(context.Context) error) error {
		return limited.Run(func(stopper <-chan struct{}) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			go func() {
				select {
				case <-stopper:
					cancel()
				case <-ctx.Done():
				}
			}()
			return f(ctx)
		})
	}
}

func hystrixGo() library {
	return library{name: "hystrix-go", module: "github.com/afex/hystrix-go", parts: breakers | bulkheads | timeouts, resident: true,
		fixed: true, guard: hystrixGuard, fallback: hystrixFallback}
}

// hystrixCommands numbers commands: the library keeps them by name, for ever.
var hystrixCommands atomic.Int64

// never is so many that it does not happen: the library has no way to leave a part out.
const never = 1 << 30

func hystrixCommand(c hystrix.CommandConfig) string {
	name := fmt.Sprint("command ", hystrixCommands.Add(1))
	hystrix.ConfigureCommand(name, c)
	return name
}

func hystrixGuard(s spec) guard {
	c := hystrix.CommandConfig{Timeout: int(time.Minute.Milliseconds()), MaxConcurrentRequests: 2000, RequestVolumeThreshold: never,
		SleepWindow: int(s.openFor.Milliseconds()), ErrorPercentThreshold: 50}
	if s.failures > 0 {
		c.RequestVolumeThreshold = s.failures
	}
	if s.slots > 0 {
		c.MaxConcurrentRequests = s.slots
	}
	if s.timeout > 0 {
		c.Timeout = int(s.timeout.Milliseconds())
	}
	name := hystrixCommand(c)
	return guard{
		answer: carry(func(ctx context.Context, f func(context.Context) error) error { return hystrix.DoC(ctx, name, f, nil) }),
		state: func() string {
			circuit, _, _ := hystrix.GetCircuit(name)
			if circuit.IsOpen() {
				return "open"
			}
			return "closed"
		},
	}
}

func hystrixFallback() (answer int, told string, err error) {
	answers := make(chan int, 2)
	err = hystrix.DoC(context.Background(), hystrixCommand(hystrix.CommandConfig{}),
		func(context.Context) error { return errDown },
		func(context.Context, error) error { answers <- 499; return nil })
	return <-answers, "", err
}
