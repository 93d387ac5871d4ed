package bench_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"
)

// oneBreakerForSeveral is row 2.
func oneBreakerForSeveral(s *scene) {
	sp := spec{failures: 4, openFor: s.unit, probes: 1}
	a, ok := s.guard(sp)
	if !ok {
		return
	}
	b, _ := s.guard(sp)
	s.open(a)
	ran, err := s.do(b, succeed)
	s.want(ran && err == nil && b.state() == "closed", "an outage of A stopped calls to B")
}

// staleResult is row 3: calls that were admitted before the breaker opened end while it is half-open, and
// after it has closed again.
func staleResult(s *scene) {
	staleSuccess(s)
	if s.lacks == "" {
		staleFailure(s)
	}
}

// stale is a breaker with a probe under way, and calls from before it opened.
type stale struct {
	guard            guard
	old, later, test *gate
}

func newStale(s *scene, result error) (st stale, ok bool) {
	st = stale{old: newGate(), later: newGate(), test: newGate()}
	if st.guard, ok = s.guard(spec{failures: 4, openFor: s.unit, probes: 2}); !ok {
		return st, false
	}
	for range 3 {
		spawn(context.Background(), st.guard, st.old.hang(result))
	}
	for range 6 {
		spawn(context.Background(), st.guard, st.later.hang(result))
	}
	s.until(func() bool { return st.old.calls() == 3 && st.later.calls() == 6 })
	s.open(st.guard)
	time.Sleep(s.unit + s.unit/10)
	st.tryProbes(s)
	return st, s.want(st.test.calls() >= 1, "no probe was admitted")
}

// tryProbes tries for more probes than are allowed.
func (st stale) tryProbes(s *scene) {
	for range 5 {
		spawn(context.Background(), st.guard, st.test.hang(nil))
	}
	s.settle()
}

func (st stale) end() {
	for _, g := range []*gate{st.old, st.later, st.test} {
		select {
		case <-g.release:
		default:
			close(g.release)
		}
	}
}

func staleSuccess(s *scene) {
	st, ok := newStale(s, nil)
	defer st.end()
	if !ok {
		return
	}
	before, probes := st.guard.state(), st.test.calls()
	close(st.old.release)
	if !s.want(s.stays(func() bool { return st.guard.state() == before }), "successes from before it opened closed a breaker with probes under way") {
		return
	}
	st.tryProbes(s)
	if probes <= 2 { // row 6 has those that do not count them
		s.want(st.test.calls() == probes, "results from before it opened made room for more probes")
	}
}

func staleFailure(s *scene) {
	st, ok := newStale(s, errDown)
	defer st.end()
	if !ok {
		return
	}
	before := st.guard.state()
	close(st.old.release)
	s.want(s.stays(func() bool { return st.guard.state() == before }), "failures from before it opened opened it again, with probes under way")
	close(st.test.release)
	closed := func() bool { return st.guard.state() == "closed" }
	for i := 0; i < 10 && !closed(); i++ {
		s.admitted(st.guard, 3)
		s.settle()
	}
	if s.want(closed(), "it did not close any more") {
		close(st.later.release)
		s.want(s.stays(closed), "failures from before it opened opened it again, after it had recovered")
	}
}

// vanishing is row 4: what is not counted must be seen somewhere.
func vanishing(s *scene) {
	g, ok := s.guard(spec{failures: 4, openFor: s.unit, probes: 1})
	if !ok {
		return
	}
	if g.trace == nil {
		s.lacks = "fence"
		return
	}
	old := newGate()
	c := spawn(context.Background(), g, old.hang(nil))
	s.until(func() bool { return old.calls() == 1 })
	s.open(g)
	before := g.trace()
	close(old.release)
	s.wait(c, s.unit)
	s.want(g.trace() != before, "a stale result is ignored, and neither counts nor callbacks show it")
}

// leakingProbe is row 5.
func leakingProbe(s *scene) {
	gates := newGate()
	defer close(gates.release)
	cancelled := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for _, way := range []struct {
		name  string
		probe func(context.Context) error
	}{{"a panic", nil}, {"Goexit", goexit}, {"a hang", gates.hang(nil)}, {"a cancellation", cancelled}} {
		sp := spec{failures: 4, openFor: s.unit, probes: 1}
		if way.name == "a hang" && s.lib.parts&timeouts != 0 {
			sp.timeout = s.unit / 2
		}
		g, ok := s.guard(sp)
		if !ok {
			return
		}
		if way.probe == nil {
			way.probe = func(context.Context) error { panic("probe") }
			if s.killed() {
				continue
			}
		}
		s.open(g)
		time.Sleep(s.unit + s.unit/10)
		ctx, cancel := context.WithCancel(context.Background())
		c := spawn(ctx, g, way.probe)
		s.settle()
		cancel()
		if way.name != "a hang" {
			s.want(s.wait(c, 5*s.unit), "%s of the probe leaves its caller waiting for ever", way.name)
		}
		s.want(s.admitted(g, 30), "%s of the probe wedges the breaker: no call is admitted any more", way.name)
	}
}

// killed tells whether a panic ends the process. Where it may, that is tried in a process of its own.
func (s *scene) killed() bool {
	if s.lib.resident {
		return !s.want(s.survives(false), "a panic of the function ends the process: it is on a goroutine that the caller cannot guard")
	}
	if s.lib.parts&timeouts != 0 && !s.survives(true) {
		s.note("with its timeout, a panic of the function ends the process: it is on a goroutine that the caller cannot guard")
	}
	return false
}

const (
	panicLibrary = "RESILIENCE_BENCH_PANIC"
	panicTimeout = "RESILIENCE_BENCH_PANIC_TIMEOUT"
)

// survives tells whether a process survives a panic in a call.
func (s *scene) survives(timeout bool) bool {
	child := exec.Command(os.Args[0], "-test.run=^TestPanicChild$")
	child.Env = append(os.Environ(), panicLibrary+"="+s.lib.name, fmt.Sprint(panicTimeout, "=", timeout))
	return child.Run() == nil
}

// TestPanicChild is run by survives.
func TestPanicChild(t *testing.T) {
	sp := spec{failures: 4, openFor: time.Second, probes: 1}
	if os.Getenv(panicTimeout) == "true" {
		sp.timeout = time.Second
	}
	for _, lib := range libraries() {
		if lib.name == os.Getenv(panicLibrary) {
			c := spawn(context.Background(), lib.guard(sp), func(context.Context) error { panic("call") })
			select {
			case <-c.done:
			case <-time.After(time.Second):
			}
		}
	}
}

// tooManyProbes is row 6.
func tooManyProbes(s *scene) {
	const limit, herd = 3, 1000
	g, ok := s.guard(spec{failures: 4, openFor: s.unit, probes: limit})
	if !ok {
		return
	}
	s.open(g)
	time.Sleep(s.unit + s.unit/10)
	probes := newGate()
	var refused atomic.Int64
	start := make(chan struct{})
	for range herd {
		go func() {
			<-start
			if err := g.run(context.Background(), probes.hang(nil)); err != nil {
				refused.Add(1)
			}
		}()
	}
	close(start)
	s.until(func() bool { return probes.calls()+int(refused.Load()) == herd })
	n := probes.calls()
	s.want(n >= 1 && n <= limit, "of %d calls at the instant of half-open, %d were admitted where %d are allowed", herd, n, limit)
	close(probes.release)
	s.settle()
}

// cancellation is row 10.
func cancellation(s *scene) {
	s.best(func(s *scene, sp spec) {
		g, ok := s.guard(sp)
		if !ok {
			return
		}
		giveUp := func(g guard) {
			ctx, cancel := context.WithCancel(context.Background())
			c := spawn(ctx, g, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
			time.Sleep(s.unit / 50)
			cancel()
			s.wait(c, s.unit)
		}
		for range 100 {
			giveUp(g)
		}
		if !s.want(s.stays(func() bool { return g.state() == "closed" }), "100 calls that the caller cancelled open it") {
			return
		}
		g, _ = s.guard(sp)
		s.open(g)
		time.Sleep(s.unit + s.unit/10)
		giveUp(g)
		s.want(s.stays(func() bool { return g.state() != "closed" }), "a cancelled probe closes it")
		s.want(s.admitted(g, 2), "a cancelled probe keeps others out")
	}, spec{failures: 4, openFor: s.unit, probes: 1}, byDefault, byOptions)
}

// businessAnswers is row 11.
func businessAnswers(s *scene) {
	s.best(func(s *scene, sp spec) {
		g, ok := s.guard(sp)
		if !ok {
			return
		}
		for range 100 {
			_, _ = s.do(g, func(context.Context) error { return errDeclined })
		}
		s.want(s.stays(func() bool { return g.state() == "closed" }), "100 declines open it")
		g, _ = s.guard(sp)
		for range 100 {
			c := spawnAnswer(context.Background(), g, func(context.Context) (int, error) { return http.StatusServiceUnavailable, nil })
			s.wait(c, s.unit)
		}
		s.want(s.until(func() bool { return g.state() == "open" }), "100 answers of 503 without an error leave it closed")
	}, spec{failures: 4, openFor: s.unit, probes: 1}, byDefault, byOptions)
}
