package bench_test

import (
	"context"
	"errors"
	"net/http"
	"time"
)

var (
	errDown     = errors.New("down")
	errDeclined = errors.New("declined") // the dependency's answer, and no failure of it
)

// part is what a library may have.
type part uint

const (
	breakers part = 1 << iota
	bulkheads
	timeouts
	retries
)

// String names the first of the parts.
func (p part) String() string {
	for i, name := range []string{"breaker", "bulkhead", "timeout", "retry"} {
		if p&(1<<i) != 0 {
			return name
		}
	}
	return "part"
}

// spec is what a scenario wants of a guard. Parts whose fields are zero are not wanted.
type spec struct {
	failures int           // in a row, at which the breaker opens
	openFor  time.Duration // until it lets probes through
	probes   int           // at once while half-open; as many successes close it
	slots    int           // of a bulkhead where nobody waits
	timeout  time.Duration // of an attempt
	attempts int           // the first included
	backoff  time.Duration // before the second attempt

	// tuned uses what the library documents beyond its defaults: the classification of errors and results
	// (a decline, a cancellation and a rejection are no failures, an answer of 500 or more is one), jitter.
	tuned bool
	// budget bounds retries to a tenth, where the library can.
	budget bool
	// swapped uses the library's other order, see there.
	swapped bool
	// command declares that the operation must not be repeated, where that can be said.
	command bool
	// changed is called by the library's listener for changes of the breaker's state, with a function that
	// reads what the listener was given. It may be nil.
	changed func(read func())
}

// tell calls changed, if it is set.
func (s spec) tell(read func()) {
	if s.changed != nil {
		s.changed(read)
	}
}

func (s spec) parts() (p part) {
	for part, wanted := range map[part]bool{breakers: s.failures > 0, bulkheads: s.slots > 0, timeouts: s.timeout > 0, retries: s.attempts > 1} {
		if wanted {
			p |= part
		}
	}
	return p
}

// window is how many calls a count window has.
func (s spec) window() int { return max(10, s.failures) }

// guard is a library's parts around one operation of one dependency, in the order retry, breaker,
// bulkhead, timeout where the caller is to choose.
type guard struct {
	// answer makes a call whose result is a status, as of an HTTP response.
	answer func(ctx context.Context, f func(context.Context) (int, error)) (int, error)
	// state is that of the breaker. A library without a half-open state is open while it probes.
	state func() string
	// trace is all that a breaker shows besides its state; nil where stale results are not fenced, so that
	// the question of their trace does not arise.
	trace func() string
	// counted is how many results the breaker has counted; nil where it does not say.
	counted func() int
	// late is how many late successes the library has told of; nil where it tells of none.
	late func() int
}

// run makes a call.
func (g guard) run(ctx context.Context, f func(context.Context) error) error {
	_, err := g.answer(ctx, func(ctx context.Context) (int, error) { return 0, f(ctx) })
	return err
}

// carry adapts a library whose functions return an error only: the answer comes out by closure.
func carry(run func(context.Context, func(context.Context) error) error) func(context.Context, func(context.Context) (int, error)) (int, error) {
	return func(ctx context.Context, f func(context.Context) (int, error)) (answer int, err error) {
		answers := make(chan int, 16) // functions that were left to themselves answer later
		err = run(ctx, func(ctx context.Context) error {
			a, err := f(ctx)
			select {
			case answers <- a:
			default:
			}
			return err
		})
		select {
		case answer = <-answers:
		default:
		}
		return answer, err
	}
}

// library is one of those that are compared.
type library struct {
	name string
	// module is its path, by which go.mod knows the version.
	module string
	parts  part
	// resident says that it starts goroutines that never end, so that it cannot run in a bubble of
	// testing/synctest and is given real time.
	resident bool
	// order is the other order of parts that scenes may try, in words. Empty: the order is fixed.
	order string
	// fixed says that there is nothing to tune.
	fixed bool
	guard func(spec) guard
	// transport guards HTTP requests, where the library does; attempts and a timeout of each are given.
	transport func(s spec, next http.RoundTripper) http.RoundTripper
	// fallback makes a call that fails and has a fallback. It returns the answer, and what tells it from
	// one of the dependency; nil where there is no such part.
	fallback func() (answer int, told string, err error)
}

func libraries() []library {
	return []library{holdfast(), failsafeGo(), gobreakerV2(), goResiliency(), hystrixGo()}
}
