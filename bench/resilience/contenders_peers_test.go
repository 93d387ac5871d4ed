package bench_test

import (
	"context"
	"time"

	"github.com/afex/hystrix-go/hystrix"
	eapachebreaker "github.com/eapache/go-resiliency/breaker"
	"github.com/eapache/go-resiliency/retrier"
	"github.com/eapache/go-resiliency/semaphore"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/sony/gobreaker/v2"
)

// failsafeStandard has the same rate and minimum over the same window, which the library divides by ten
// as well.
func failsafeStandard(minimum int) circuitbreaker.CircuitBreaker[int] {
	return circuitbreaker.NewBuilder[int]().WithFailureRateThreshold(rate, uint(minimum), window).WithDelay(openFor).WithSuccessThreshold(1).Build()
}

func failsafeBreakerAlone(minimum int, f func() error, want error) func() contender {
	return func() contender {
		guarded := failsafe.With[int](failsafeStandard(minimum))
		return contender{lib: "failsafe-go", want: want, call: func() error { return guarded.Run(f) }}
	}
}

func failsafeOpen() contender {
	c := failsafeBreakerAlone(minCalls, no, circuitbreaker.ErrOpen)()
	trip(c.call)
	return c
}

func failsafePermit() contender {
	b := failsafeStandard(minCalls)
	return contender{lib: "failsafe-go", call: func() error {
		if !b.TryAcquirePermit() {
			return circuitbreaker.ErrOpen
		}
		b.RecordSuccess()
		return nil
	}}
}

func failsafeFull() contender {
	guarded := failsafe.With[int](bulkhead.New[int](1))
	return contender{lib: "failsafe-go", want: bulkhead.ErrFull, stop: held(guarded.Run), call: func() error { return guarded.Run(yes) }}
}

// failsafePolicies composes as the library's pages do. The executor is made once; the context is the
// call's, so it is given to each.
func failsafePolicies(f func() (int, error)) contender {
	retry := retrypolicy.NewBuilder[int]().WithMaxAttempts(retries3).WithBackoff(1, 2).AbortOnErrors(circuitbreaker.ErrOpen, bulkhead.ErrFull).
		WithBudget(budget.NewBuilder().WithMaxRate(0.1).Build()).Build()
	guarded := failsafe.With(retry, failsafe.Policy[int](failsafeStandard(minCalls)), failsafe.Policy[int](bulkhead.New[int](slots)))
	ctx, cancel := hour()
	return contender{lib: "failsafe-go", stop: cancel, call: func() error {
		_, err := guarded.WithContext(ctx).Get(f)
		return err
	}}
}

func failsafeComposed() contender { return failsafePolicies(yesValue) }

func failsafeComposedOpen() contender {
	c := failsafePolicies(noValue)
	trip(c.call)
	c.want = circuitbreaker.ErrOpen
	return c
}

func gobreakerStandard(minimum int) gobreaker.Settings {
	return gobreaker.Settings{MaxRequests: 1, Interval: window, BucketPeriod: window / buckets, Timeout: openFor,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.Requests >= uint32(minimum) && float64(c.TotalFailures)/float64(c.Requests) >= rate
		}}
}

func gobreakerAlone(minimum int, f func() (int, error), want error) func() contender {
	return func() contender {
		b := gobreaker.NewCircuitBreaker[int](gobreakerStandard(minimum))
		return contender{lib: "gobreaker", want: want, call: func() error {
			_, err := b.Execute(f)
			return err
		}}
	}
}

func gobreakerOpen() contender {
	c := gobreakerAlone(minCalls, noValue, gobreaker.ErrOpenState)()
	trip(c.call)
	return c
}

func gobreakerPermit() contender {
	b := gobreaker.NewTwoStepCircuitBreaker[int](gobreakerStandard(minCalls))
	return contender{lib: "gobreaker", call: func() error {
		done, err := b.Allow()
		if err != nil {
			return err
		}
		done(nil)
		return nil
	}}
}

func gobreakerComposed() contender     { return gobreakerAlone(minCalls, yesValue, nil)() }
func gobreakerComposedOpen() contender { return gobreakerOpen() }

// eapacheBreakerAlone counts errors without a window; where it must not open, the threshold is out of
// reach. Its success threshold and timeout are those of the others.
func eapacheBreakerAlone(threshold int, f func() error, want error) func() contender {
	return func() contender {
		b := eapachebreaker.New(threshold, 1, openFor)
		return contender{lib: "go-resiliency", want: want, call: func() error { return b.Run(f) }}
	}
}

func eapacheOpen() contender {
	c := eapacheBreakerAlone(minCalls, no, eapachebreaker.ErrBreakerOpen)()
	trip(c.call)
	return c
}

func eapacheFull() contender {
	s := semaphore.New(1, 0)
	for s.Acquire() != nil { // with no time to wait it may miss the ticket that is there
		continue
	}
	return contender{lib: "go-resiliency", want: semaphore.ErrNoTickets, stop: s.Release, call: s.Acquire}
}

func eapacheParts(f func() error) contender {
	r := retrier.New(retrier.ExponentialBackoff(retries3-1, 1), retrier.BlacklistClassifier{eapachebreaker.ErrBreakerOpen, semaphore.ErrNoTickets})
	b := eapachebreaker.New(minCalls, 1, openFor)
	s := semaphore.New(slots, time.Second)
	limited := func() error {
		if err := s.Acquire(); err != nil {
			return err
		}
		defer s.Release()
		return f()
	}
	ctx, cancel := hour()
	return contender{lib: "go-resiliency", stop: cancel, call: func() error {
		return r.RunCtx(ctx, func(context.Context) error { return b.Run(limited) })
	}}
}

func eapacheComposed() contender { return eapacheParts(yes) }

func eapacheComposedOpen() contender {
	c := eapacheParts(no)
	trip(c.call)
	c.want = eapachebreaker.ErrBreakerOpen
	return c
}

// hystrixCase is all that the library has, in each case: its parts cannot be had one by one. Its window
// is 10 s in steps of 1 s by itself.
func hystrixCase(minimum, slots int) string {
	return hystrixCommand(hystrix.CommandConfig{Timeout: int(time.Hour.Milliseconds()), MaxConcurrentRequests: slots, RequestVolumeThreshold: minimum,
		SleepWindow: int(openFor.Milliseconds()), ErrorPercentThreshold: rate * 100})
}

func hystrixAlone(minimum int, f func(context.Context) error, want error) func() contender {
	return func() contender {
		name := hystrixCase(minimum, slots)
		ctx := context.Background()
		return contender{lib: "hystrix-go", want: want, call: func() error { return hystrix.DoC(ctx, name, f, nil) }}
	}
}

// hystrixTripped opens a breaker, which learns of results a little later than its callers.
func hystrixTripped(c contender) contender {
	for c.call() != hystrix.ErrCircuitOpen { //nolint:errorlint // it is never wrapped
		time.Sleep(time.Millisecond)
	}
	c.want = hystrix.ErrCircuitOpen
	return c
}

func hystrixOpen() contender { return hystrixTripped(hystrixAlone(minCalls, noContext, nil)()) }

func hystrixFull() contender {
	name := hystrixCase(never, 1)
	ctx := context.Background()
	stop := held(func(f func() error) error {
		return hystrix.DoC(ctx, name, func(context.Context) error { return f() }, nil)
	})
	return contender{lib: "hystrix-go", want: hystrix.ErrMaxConcurrency, stop: stop, call: func() error { return hystrix.DoC(ctx, name, yesContext, nil) }}
}

func hystrixDeadline(f func(context.Context) error) contender {
	name := hystrixCase(minCalls, slots)
	ctx, cancel := hour()
	return contender{lib: "hystrix-go", stop: cancel, call: func() error { return hystrix.DoC(ctx, name, f, nil) }}
}

func hystrixComposed() contender     { return hystrixDeadline(yesContext) }
func hystrixComposedOpen() contender { return hystrixTripped(hystrixDeadline(noContext)) }
