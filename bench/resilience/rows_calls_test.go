package bench_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sharedBulkhead is row 1: more calls than slots.
func sharedBulkhead(s *scene) {
	const slots = 5
	g, ok := s.guard(spec{slots: slots})
	if !ok {
		return
	}
	hanging := newGate()
	calls := make([]*call, slots)
	for i := range calls {
		calls[i] = spawn(context.Background(), g, hanging.hang(nil))
	}
	s.want(s.until(func() bool { return hanging.calls() == slots }), "%d of %d calls ran", hanging.calls(), slots)
	ran, err := s.do(g, succeed)
	s.want(!ran && err != nil, "a call more than there are slots was not refused")
	close(hanging.release)
	for _, c := range calls {
		s.want(s.wait(c, s.unit) && c.err == nil, "a call with a slot failed")
	}
}

// throttleTooLate is row 15: the dependency hangs, and no answer comes that could be counted.
func throttleTooLate(s *scene) {
	const slots, load = 10, 100
	g, ok := s.guard(spec{slots: slots})
	if !ok {
		return
	}
	hanging := newGate()
	var refused atomic.Int64
	for range load {
		go func() {
			if g.run(context.Background(), hanging.hang(nil)) != nil {
				refused.Add(1)
			}
		}()
	}
	s.until(func() bool { return hanging.calls() >= slots })
	time.Sleep(s.unit / 10) // a semaphore may have a wait of its own
	s.until(func() bool { return int(refused.Load()) >= load-slots })
	s.want(int(refused.Load()) == load-slots, "%d of %d calls were refused before the first answer", refused.Load(), load)
	close(hanging.release)
	s.settle()
}

// leakingSlots is row 7: calls end in every way, and then all slots must be free, and no more.
func leakingSlots(s *scene) {
	const slots = 3
	for _, way := range []struct {
		name string
		end  func(context.Context) error
	}{
		{"errors", fail},
		{"panics", func(context.Context) error { panic("call") }},
		{"Goexit", goexit},
		{"cancellations", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
		{"timeouts", func(context.Context) error { time.Sleep(2 * s.unit); return nil }},
	} {
		if way.name == "panics" && s.killed() {
			continue
		}
		sp := spec{slots: slots}
		if way.name == "timeouts" && s.lib.parts&timeouts != 0 {
			sp.timeout = s.unit / 2
		}
		g, ok := s.guard(sp)
		if !ok {
			return
		}
		for range 2 {
			ctx, cancel := context.WithCancel(context.Background())
			var calls [slots]*call
			for i := range calls {
				calls[i] = spawn(ctx, g, way.end)
			}
			s.settle()
			cancel()
			for _, c := range calls {
				s.want(s.wait(c, 5*s.unit), "%s leave their callers waiting for ever", way.name)
			}
			time.Sleep(3 * s.unit)
		}
		s.capacity(g, slots, way.name)
	}
}

// capacity counts the slots that are free.
func (s *scene) capacity(g guard, slots int, after string) {
	hanging := newGate()
	for range slots + 2 {
		spawn(context.Background(), g, hanging.hang(nil))
	}
	full := s.until(func() bool { return hanging.calls() >= slots }) && s.stays(func() bool { return hanging.calls() <= slots })
	s.want(full, "after %s %d of %d slots are left", after, hanging.calls(), slots)
	close(hanging.release)
	s.settle()
}

// slotFreedAtTimeout is row 8.
func slotFreedAtTimeout(s *scene) {
	const slots, rounds = 4, 3
	s.best(func(s *scene, sp spec) {
		g, ok := s.guard(sp)
		if !ok {
			return
		}
		hanging := newGate()
		for range rounds {
			var calls [slots]*call
			for i := range calls {
				calls[i] = spawn(context.Background(), g, hanging.hang(nil))
			}
			for _, c := range calls {
				s.wait(c, 5*s.unit)
			}
		}
		s.want(hanging.mostAtOnce() <= slots, "%d at once at the dependency where %d are allowed", hanging.mostAtOnce(), slots)
		close(hanging.release)
		s.settle()
	}, spec{slots: slots, timeout: s.unit}, byDefault, byOrder)
}

// timeoutDoesNotReturn is row 9.
func timeoutDoesNotReturn(s *scene) {
	g, ok := s.guard(spec{timeout: s.unit})
	if !ok {
		return
	}
	c := spawn(context.Background(), g, func(context.Context) error { time.Sleep(20 * s.unit); return nil })
	s.wait(c, 60*s.unit)
	s.want(c.returned && c.took < 5*s.unit, "the caller returned when the function did, at 20 times the timeout")
	s.want(c.err != nil, "the caller was told a success")
	time.Sleep(20 * s.unit)
	told := g.late != nil && s.until(func() bool { return g.late() == 1 })
	s.want(told, "the late success was told to nobody")
}

// ownRejections is row 12.
func ownRejections(s *scene) {
	sp := spec{failures: 4, openFor: time.Hour, probes: 1, slots: 1}
	if s.lib.parts&retries != 0 {
		sp.attempts, sp.backoff = 3, s.unit/10
	}
	s.best(func(s *scene, sp spec) {
		g, ok := s.guard(sp)
		if !ok {
			return
		}
		hanging := newGate()
		holder := spawn(context.Background(), g, hanging.hang(nil))
		s.until(func() bool { return hanging.calls() == 1 })
		for range 100 {
			c := spawn(context.Background(), g, succeed)
			s.want(s.wait(c, 5*s.unit), "a rejection hung")
			s.want(c.err != nil, "a full bulkhead refuses nothing")
			s.want(s.lib.resident || c.took < s.unit/20, "a full bulkhead is tried again")
		}
		s.want(s.stays(func() bool { return g.state() == "closed" }), "100 rejections of the bulkhead open the breaker")
		if g.counted != nil && g.state() == "closed" {
			s.want(g.counted() == 0, "they count as results of the dependency")
		}
		close(hanging.release)
		s.wait(holder, s.unit)
		for range 8 {
			c := spawn(context.Background(), g, fail)
			s.wait(c, 5*s.unit)
		}
		s.want(s.until(func() bool { return g.state() == "open" }), "failures did not open it")
		c := spawn(context.Background(), g, succeed)
		s.want(s.wait(c, 5*s.unit) && c.err != nil, "an open breaker refuses nothing")
		s.want(s.lib.resident || c.took < s.unit/20, "an open breaker is tried again")
	}, sp, byDefault, byOptions, byBoth)
}

// amplification is row 14: everything fails, and no breaker helps.
func amplification(s *scene) {
	s.best(func(s *scene, sp spec) {
		for _, load := range []struct {
			name          string
			calls, atOnce int
		}{{"one at a time", 1000, 1}, {"100 at a time", 1000, 100}} {
			g, ok := s.guard(sp)
			if !ok {
				return
			}
			var arrived atomic.Int64
			for range load.calls / load.atOnce {
				var all sync.WaitGroup
				for range load.atOnce {
					all.Go(func() {
						_ = g.run(context.Background(), func(context.Context) error {
							arrived.Add(1)
							time.Sleep(s.unit / 10)
							return errDown
						})
					})
				}
				all.Wait()
			}
			s.want(int(arrived.Load()) > load.calls, "nothing was tried again")
			ratio := "more than 1.1" // how much more is chance, where there is jitter
			if n := int(arrived.Load()); n > 2*load.calls {
				ratio = fmt.Sprintf("%.1f", float64(n)/float64(load.calls))
			}
			s.want(int(arrived.Load()) <= load.calls+load.calls/10+10, "%s attempts reach a dead dependency for each call, %s", ratio, load.name)
		}
	}, spec{attempts: 3, backoff: s.unit / 10, budget: true}, byDefault, byOptions)
}

// deadContext is row 16: a retry in a context that has ended; with a timeout for each attempt, in that
// of the attempt before; of a request whose body was read; and whose answer is read after the return.
func deadContext(s *scene) {
	g, ok := s.guard(spec{attempts: 3, backoff: s.unit, timeout: 10 * s.unit})
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.unit/2)
	defer cancel()
	var calls, dead, attempts atomic.Int64 // a deadline may leave a function behind
	s.wait(spawn(ctx, g, func(ctx context.Context) error { calls.Add(1); <-ctx.Done(); return ctx.Err() }), 20*s.unit)
	s.want(calls.Load() == 1, "an attempt was made after the caller's deadline")

	g, _ = s.guard(spec{attempts: 3, backoff: s.unit, timeout: s.unit})
	c := spawn(context.Background(), g, func(ctx context.Context) error {
		if ctx.Err() != nil {
			dead.Add(1)
		}
		if attempts.Add(1) < 3 {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	s.wait(c, 60*s.unit)
	s.want(dead.Load() == 0 && attempts.Load() == 3 && c.err == nil, "of 3 attempts with a timeout each, %d ran, %d in a dead context, and the call ended with %v",
		attempts.Load(), dead.Load(), c.err)
	if s.lib.transport == nil {
		s.note("errors only; there is no HTTP transport to try")
		return
	}
	s.bodies()
}

// wire is a network: it reads the request's body, and its answer's body cannot be read when the
// request's context has ended, which is how net/http behaves.
type wire struct {
	arrived []string
	answer  func(n int) (status int, err error)
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		_ = req.Body.Close()
	}
	w.arrived = append(w.arrived, string(body))
	status, err := w.answer(len(w.arrived))
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Body: &wireBody{req.Context(), strings.NewReader("answer")}, Request: req}, nil
}

type wireBody struct {
	ctx  context.Context
	text io.Reader
}

func (b *wireBody) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.text.Read(p)
}

func (b *wireBody) Close() error { return nil }

func (s *scene) bodies() {
	net := &wire{answer: func(n int) (int, error) {
		if n == 1 {
			return http.StatusServiceUnavailable, nil
		}
		return http.StatusOK, nil
	}}
	client := &http.Client{Transport: s.lib.transport(spec{attempts: 3, backoff: 1, timeout: 10 * s.unit}, net)}
	req, err := http.NewRequest(http.MethodPut, "http://dependency/order", strings.NewReader("order"))
	if err != nil {
		s.seen("%v", err)
		return
	}
	resp, err := client.Do(req)
	if !s.want(err == nil, "the request failed: %v", err) {
		return
	}
	s.settle()
	answer, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	s.want(err == nil && string(answer) == "answer", "the answer's body cannot be read after the return: %v", err)
	s.want(len(net.arrived) == 2 && net.arrived[0] == "order" && net.arrived[1] == "order", "bodies that arrived: %q", net.arrived)
}

// noJitter is row 17: many clients fail at the same instant.
func noJitter(s *scene) {
	const clients = 5000
	s.best(func(s *scene, sp spec) {
		g, ok := s.guard(sp)
		if !ok {
			return
		}
		began := time.Now()
		var mu sync.Mutex
		slots := map[time.Duration]int{}
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				attempts := 0
				_ = g.run(context.Background(), func(context.Context) error {
					if attempts++; attempts == 2 {
						mu.Lock()
						defer mu.Unlock()
						slots[time.Since(began)/(s.unit/100)]++
					}
					return errDown
				})
			})
		}
		all.Wait()
		most, retried := 0, 0
		for _, n := range slots {
			most = max(most, n)
			retried += n
		}
		s.want(retried == clients, "%d of %d clients came back", retried, clients)
		s.want(most <= clients/10, "%d of %d clients come back within the same hundredth of the backoff", most, clients)
	}, spec{attempts: 2, backoff: s.unit}, byDefault, byOptions)
}

// notIdempotent is row 18: a request that is not safe to repeat gets no answer, and may have had its effect.
func notIdempotent(s *scene) {
	if s.lib.transport == nil {
		s.lacks = "notion of what is idempotent; not to retry is the caller's work"
		return
	}
	send := func(method string, command bool) int {
		net := &wire{answer: func(int) (int, error) { return 0, io.ErrUnexpectedEOF }}
		client := &http.Client{Transport: s.lib.transport(spec{attempts: 3, backoff: 1, command: command}, net)}
		req, err := http.NewRequest(method, "http://dependency/payments", strings.NewReader("pay"))
		s.want(err == nil, "%v", err)
		_, err = client.Do(req)
		s.want(err != nil, "the loss was not told")
		return len(net.arrived)
	}
	n := send(http.MethodPost, true)
	s.want(n == 1, "its HTTP retry policy sent a POST %d times, of which each may have had its effect", n)
	n = send(http.MethodPut, false)
	s.want(n == 3, "a PUT was sent %d times", n)
}

// orderOfPolicies is row 19: a call of three attempts, of which the first fails and the second hangs.
// The breaker must have seen both.
func orderOfPolicies(s *scene) {
	g, ok := s.guard(spec{failures: 2, openFor: time.Hour, probes: 1, attempts: 3, backoff: s.unit / 10, timeout: s.unit})
	if !ok {
		return
	}
	var attempts atomic.Int64
	c := spawn(context.Background(), g, func(ctx context.Context) error {
		switch attempts.Add(1) {
		case 1:
			return errDown
		case 2:
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	s.wait(c, 20*s.unit)
	s.want(attempts.Load() == 2 && c.err != nil && g.state() == "open", "the breaker saw less than each attempt: it is %s after %d", g.state(), attempts.Load())
}

// hiddenLoss is row 20.
func hiddenLoss(s *scene) {
	if s.lib.fallback == nil {
		s.lacks = "fallback"
		return
	}
	answer, told, err := s.lib.fallback()
	s.want(answer == 499 && err == nil, "the fallback was not served: %d, %v", answer, err)
	s.want(told != "", "the caller gets the fallback's answer without an error, and nothing that tells it from one of the dependency")
}
