package bench_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"
)

// contender is a library in one case: a call, and whether its error is the one that the case is about.
type contender struct {
	lib  string
	call func() error
	want error // nil for a success
	stop func()
}

// race benchmarks contenders, each with 1, 8 and 64 goroutines. The names are for benchstat.
func race(b *testing.B, contenders ...func() contender) {
	for _, newContender := range contenders {
		c := newContender()
		b.Run("lib="+c.lib, func(b *testing.B) {
			check(b, c) // or a mistake in the configuration would be measured
			for _, n := range []int{1, 8, 64} {
				b.Run(fmt.Sprintf("goroutines=%d", n), func(b *testing.B) { calls(b, c.call, n) })
			}
			check(b, c) // nothing has tripped meanwhile
		})
		if c.stop != nil {
			c.stop()
		}
	}
}

func check(b *testing.B, c contender) {
	b.Helper()
	if err := c.call(); err != c.want { //nolint:errorlint // a wrapped error would be another
		b.Fatalf("%s: %v, want %v", c.lib, err, c.want)
	}
}

func calls(b *testing.B, call func() error, goroutines int) {
	b.ReportAllocs()
	if goroutines == 1 {
		for b.Loop() {
			_ = call()
		}
		return
	}
	procs := runtime.GOMAXPROCS(0)
	if goroutines%procs != 0 {
		b.Skipf("%d goroutines cannot be had on %d processors", goroutines, procs)
	}
	b.SetParallelism(goroutines / procs)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_ = call()
		}
	})
}

// The same for all libraries that have it: a window of 10 s in steps of 1 s, at least 10 calls, half of
// them failures. In the case Failure every call fails, and the minimum is out of reach instead.
const (
	window   = 10 * time.Second
	buckets  = 10
	minCalls = 10
	rate     = 0.5
	slots    = 1000 // more than there are goroutines
	retries3 = 3    // attempts
	openFor  = time.Hour
)

// The functions under guard do nothing, so that the guard is what is measured. Each library calls the
// form that its own interface asks for.
func yes() error                           { return nil }
func no() error                            { return errDown }
func yesValue() (int, error)               { return 1, nil }
func noValue() (int, error)                { return 0, errDown }
func yesContext(context.Context) error     { return nil }
func noContext(context.Context) error      { return errDown }
func yesBoth(context.Context) (int, error) { return 1, nil }
func noBoth(context.Context) (int, error)  { return 0, errDown }

// trip opens a breaker by failures.
func trip(call func() error) {
	for range 4 * minCalls {
		_ = call()
	}
}

// BenchmarkSuccess is a breaker alone, and a call that succeeds.
func BenchmarkSuccess(b *testing.B) {
	race(b, holdfastBreaker(minCalls, yesContext, nil), failsafeBreakerAlone(minCalls, yes, nil), gobreakerAlone(minCalls, yesValue, nil),
		eapacheBreakerAlone(minCalls, yes, nil), hystrixAlone(minCalls, yesContext, nil))
}

// BenchmarkFailure is a closed breaker, and a call that fails.
func BenchmarkFailure(b *testing.B) {
	race(b, holdfastBreaker(never, noContext, errDown), failsafeBreakerAlone(never, no, errDown), gobreakerAlone(never, noValue, errDown),
		eapacheBreakerAlone(never, no, errDown), hystrixAlone(never, noContext, errDown))
}

// BenchmarkOpen is an open breaker, which refuses.
func BenchmarkOpen(b *testing.B) {
	race(b, holdfastOpen, failsafeOpen, gobreakerOpen, eapacheOpen, hystrixOpen)
}

// BenchmarkPermit is a breaker alone again, by what a library offers to those who have no function to
// give it: a permit is taken, and a success recorded. Eapache and hystrix have no such thing.
func BenchmarkPermit(b *testing.B) {
	race(b, holdfastPermit, failsafePermit, gobreakerPermit)
}

// BenchmarkFull is a bulkhead of one slot, which is taken. Nobody waits. Gobreaker has none. Eapache's
// semaphore has no way but to wait, here for no time. Hystrix passes its breaker as well.
func BenchmarkFull(b *testing.B) {
	race(b, holdfastFull, failsafeFull, eapacheFull, hystrixFull)
}

// BenchmarkComposed is a call that succeeds, with a deadline of the caller's own in its context, through
// what a library has of: retry with a budget, breaker with a sliding window, bulkhead.
//
//	holdfast     all
//	failsafe-go  all
//	gobreaker    the breaker; it has nothing else, and does not look at the context
//	eapache      retry without a budget, breaker without a window, semaphore
//	hystrix-go   breaker, bulkhead and, because it cannot be left out, a timeout; no retry
func BenchmarkComposed(b *testing.B) {
	race(b, holdfastComposed, failsafeComposed, gobreakerComposed, eapacheComposed, hystrixComposed)
}

// BenchmarkComposedOpen is the same with an open breaker.
func BenchmarkComposedOpen(b *testing.B) {
	race(b, holdfastComposedOpen, failsafeComposedOpen, gobreakerComposedOpen, eapacheComposedOpen, hystrixComposedOpen)
}
