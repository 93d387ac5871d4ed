package upstream_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"holdfast/platform/telemetry"
	"holdfast/platform/upstream"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// enough is longer than all that an Upstream does by itself.
const enough = 5 * time.Second

// replica is a process on a network of pipes. It answers with what it was sent.
type replica struct {
	server http.Server
	conns  chan net.Conn // to be accepted
	got    atomic.Int64
	broken atomic.Bool  // it cuts each connection after it has read the request
	full   atomic.Bool  // it refuses each request
	gone   atomic.Bool  // nobody listens
	takes  atomic.Int64 // how long an answer takes, in nanoseconds

	mu    sync.Mutex
	stops chan struct{} // closed where the process runs
	open  []net.Conn

	closed sync.Once
}

func newReplica(t *testing.T) *replica {
	t.Helper()
	r := &replica{conns: make(chan net.Conn), stops: make(chan struct{})}
	close(r.stops)
	r.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		r.got.Add(1)
		if r.broken.Load() {
			panic(http.ErrAbortHandler)
		}
		if r.full.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		time.Sleep(time.Duration(r.takes.Load()))
		_, _ = w.Write(b)
	})
	var serving sync.WaitGroup
	serving.Go(func() { _ = r.server.Serve(r) })
	t.Cleanup(func() { _ = r.server.Close(); serving.Wait() })
	return r
}

// Accept, Close and Addr are those of a net.Listener.
func (r *replica) Accept() (net.Conn, error) {
	c, ok := <-r.conns
	if !ok {
		return nil, net.ErrClosed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = append(r.open, c)
	return &conn{c, r}, nil
}

// leave ends the process; come starts it anew.
func (r *replica) leave() {
	r.gone.Store(true)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.open {
		_ = c.Close()
	}
}

func (r *replica) come() { r.gone.Store(false) }

func (r *replica) Close() error   { r.closed.Do(func() { close(r.conns) }); return nil }
func (r *replica) Addr() net.Addr { return &net.TCPAddr{} }

// pause stops the process as SIGSTOP does; resume lets it go on.
func (r *replica) pause() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stops = make(chan struct{})
}

func (r *replica) resume() { close(r.running()) }

func (r *replica) running() chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stops
}

// conn is the process's end of a connection.
type conn struct {
	net.Conn
	of *replica
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	<-c.of.running()
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	<-c.of.running()
	return c.Conn.Write(p)
}

// network has a replica at each host.
type network struct {
	shop.Net
	at map[string]*replica
}

func (n network) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(address)
	r := n.at[host]
	if r.gone.Load() {
		return nil, io.EOF
	}
	here, there := net.Pipe()
	select {
	case r.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// bubble runs a test of two replicas in virtual time.
func bubble(t *testing.T, test func(t *testing.T, u *upstream.Upstream, a, b *replica)) {
	t.Helper()
	bubbleWith(t, telemetry.Nop(), test)
}

func bubbleWith(t *testing.T, tel *telemetry.Telemetry, test func(t *testing.T, u *upstream.Upstream, a, b *replica)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := newReplica(t), newReplica(t)
		deps := fakes.Deps(t)
		deps.Net = network{at: map[string]*replica{"a": a, "b": b}}
		u, err := upstream.New(upstream.Config{Name: "service", URLs: []string{"http://a:80", "http://b:80"}, Repeatable: upstream.Idempotent}, deps, tel)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = u.Run(ctx) })
		defer func() { cancel(); running.Wait() }()
		test(t, u, a, b)
	})
}

// errFull is what ask returns where a replica has refused.
var errFull = errors.New("refused")

// ask sends a POST, with a key or without, and returns how long the answer took; the client gives up after a minute.
func ask(t *testing.T, u *upstream.Upstream, key string) (time.Duration, error) {
	t.Helper()
	const body = "a body"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://service/x", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	began := time.Now()
	resp, err := u.RoundTrip(req)
	if err != nil {
		return time.Since(began), err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable {
		return time.Since(began), errFull
	}
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != body {
		t.Errorf("answered %q %v, want %q", b, err, body)
	}
	return time.Since(began), nil
}

// answers are those to a number of requests.
type answers struct {
	failed  int
	slowest time.Duration
}

// load sends n requests, one each time that every has passed, or all at once, and returns a wait for their answers.
func load(t *testing.T, u *upstream.Upstream, key string, n int, every time.Duration) func() answers {
	t.Helper()
	var mu sync.Mutex
	var sum answers
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			took, err := ask(t, u, key)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				sum.failed++
			}
			sum.slowest = max(sum.slowest, took)
		})
		time.Sleep(every)
	}
	return func() answers { all.Wait(); return sum }
}

// counts are all that an Upstream counts: "retries service=service".
func counts(t *testing.T, reader sdkmetric.Reader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
				name := strings.TrimPrefix(m.Name, "holdfast_upstream_")
				for _, a := range p.Attributes.ToSlice() {
					name += " " + string(a.Key) + "=" + a.Value.AsString()
				}
				got[name] = p.Value
			}
		}
	}
	return got
}

// TestReplicas: both get their share; one that is gone, or breaks connections, is passed over and asked again
// later; what may not be repeated is not.
func TestReplicas(t *testing.T) {
	bubble(t, func(t *testing.T, u *upstream.Upstream, a, b *replica) {
		all := func(key string, n int) (failed int) {
			for range n {
				if _, err := ask(t, u, key); err != nil {
					failed++
				}
			}
			return failed
		}
		if failed := all("", 10); failed > 0 || a.got.Load() != 5 || b.got.Load() != 5 {
			t.Errorf("both well: %d failed, %d and %d", failed, a.got.Load(), b.got.Load())
		}
		a.broken.Store(true)
		if failed := all("key", 10); failed > 0 || b.got.Load() != 15 || a.got.Load() != 6 {
			t.Errorf("one breaks, with keys: %d failed, %d and %d", failed, a.got.Load(), b.got.Load())
		}
		time.Sleep(enough)
		if failed := all("", 10); failed != 1 {
			t.Errorf("one breaks, without keys: %d failed, want the one that reached it", failed)
		}
		time.Sleep(enough)
		a.leave()
		if failed := all("", 10); failed > 0 {
			t.Errorf("one is gone: %d failed, though nothing was sent", failed)
		}
		b.leave()
		if failed := all("key", 3); failed != 3 {
			t.Errorf("both are gone: %d failed", failed)
		}
		a.come()
		a.broken.Store(false)
		time.Sleep(enough)
		if failed := all("", 3); failed > 0 {
			t.Errorf("one is back, which was ejected: %d failed", failed)
		}
	})
}

// TestRefusedInDoubt: a replica that refuses a request says nothing of the one that had it before, and may have done it.
func TestRefusedInDoubt(t *testing.T) {
	for name, c := range map[string]struct {
		first   func(a *replica)
		refused int // of two, of which one goes to each replica first
	}{
		"nothing was sent":    {(*replica).leave, 2},
		"the connection ends": {func(a *replica) { a.broken.Store(true) }, 1},
		"it stands still":     {(*replica).pause, 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, u *upstream.Upstream, a, b *replica) {
				b.full.Store(true)
				c.first(a)
				errs := make(chan error, 2)
				for range 2 {
					go func() {
						_, err := ask(t, u, "key")
						errs <- err
					}()
				}
				time.Sleep(100 * time.Millisecond)
				for range 40 { // so that it is seen if it stands still
					go func() { _, _ = ask(t, u, "key") }()
					time.Sleep(50 * time.Millisecond)
				}
				refused := 0
				for range 2 {
					if err := <-errs; errors.Is(err, errFull) {
						refused++
					} else if err == nil {
						t.Error("it was done")
					}
				}
				if refused != c.refused {
					t.Errorf("%d of 2 were refused, want %d", refused, c.refused)
				}
				if name == "it stands still" {
					a.resume()
				}
			})
		})
	}
}

// TestSentOnceEach: net/http repeats no POST by itself, not even one with a key and without a body.
func TestSentOnceEach(t *testing.T) {
	bubble(t, func(t *testing.T, u *upstream.Upstream, a, b *replica) {
		cancel := func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://service/cancel", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Idempotency-Key", "key")
			req.Header.Set("X-Idempotency-Key", "key")
			if resp, err := u.RoundTrip(req); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}
		cancel()
		cancel() // so that both have a connection that was used before
		a.broken.Store(true)
		b.broken.Store(true)
		cancel()
		if a.got.Load() != 2 || b.got.Load() != 2 {
			t.Errorf("the replicas got the last request %d and %d times, want once each", a.got.Load()-1, b.got.Load()-1)
		}
	})
}

// TestHang: a replica that stands still is missed for a second or two by the requests that may be repeated. While it
// stands still no other request is sent to it, and when it goes on it gets its share again.
func TestHang(t *testing.T) {
	reader, tel := sdkmetric.NewManualReader(), telemetry.Nop()
	tel.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	bubbleWith(t, tel, func(t *testing.T, u *upstream.Upstream, a, b *replica) {
		if got := load(t, u, "key", 20, 50*time.Millisecond)(); got.failed > 0 || got.slowest > 0 {
			t.Errorf("both well: %+v", got)
		}
		a.pause()
		single := make(chan answers)
		go func() { single <- load(t, u, "", 2, 0)() }()
		synctest.Wait() // one for each, before others take turns
		if got := load(t, u, "key", 40, 50*time.Millisecond)(); got.failed > 0 || got.slowest > 2*time.Second {
			t.Errorf("one stands still: %+v", got)
		}
		if got := load(t, u, "key", 400, 50*time.Millisecond)(); got.failed > 0 || got.slowest > 0 {
			t.Errorf("it is ejected: %+v", got)
		}
		retries := counts(t, reader)["retries service=service"]
		if retries < 10 || retries > 20 { // ten a second
			t.Errorf("%d requests were moved", retries)
		}
		want := map[string]int64{"ejections reason=silent replica=a:80 service=service": 1, "ejections reason=silent replica=b:80 service=service": 0,
			"ejections reason=connection replica=a:80 service=service": 0, "ejections reason=connection replica=b:80 service=service": 0,
			"ejected replica=a:80 service=service": 1, "ejected replica=b:80 service=service": 0,
			"retries service=service": retries, "budget_exhausted service=service": 0}
		if got := counts(t, reader); !maps.Equal(got, want) {
			t.Errorf("counted %v, want %v", got, want)
		}
		a.resume()
		if got := <-single; got.failed > 0 || got.slowest < 20*time.Second {
			t.Errorf("what may not be repeated waited no longer than %v, and %d failed", got.slowest, got.failed)
		}
		time.Sleep(enough)
		before := a.got.Load()
		if got := load(t, u, "", 20, 50*time.Millisecond)(); got.failed > 0 || got.slowest > 0 || a.got.Load() != before+10 {
			t.Errorf("it has gone on: %+v, and it got %d of 20", got, a.got.Load()-before)
		}
		want["ejected replica=a:80 service=service"] = 0
		if got := counts(t, reader); !maps.Equal(got, want) {
			t.Errorf("it has gone on: counted %v, want %v", got, want)
		}
	})
}

// TestSlow: replicas that take their time, for a held answer or because of what is behind them, stay in, and are sent
// everything once.
func TestSlow(t *testing.T) {
	for name, slow := range map[string]struct{ a, b time.Duration }{
		"one, as for a held answer": {20 * time.Second, 0}, "both, as for what is behind them": {3 * time.Second, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, u *upstream.Upstream, a, b *replica) {
				a.takes.Store(int64(slow.a))
				b.takes.Store(int64(slow.b))
				got := load(t, u, "key", 100, 50*time.Millisecond)()
				if longest := max(slow.a, slow.b); got.failed > 0 || got.slowest != longest || a.got.Load() != 50 || b.got.Load() != 50 {
					t.Errorf("%+v, and they got %d and %d of 100", got, a.got.Load(), b.got.Load())
				}
			})
		})
	}
}

// TestAllHang: the last replica is not left out, so that everything goes to it, and is answered as soon as it goes on.
func TestAllHang(t *testing.T) {
	bubble(t, func(t *testing.T, u *upstream.Upstream, a, b *replica) {
		a.pause()
		time.Sleep(enough)
		wait := load(t, u, "key", 100, 50*time.Millisecond)
		b.pause()
		waitLast := load(t, u, "key", 100, 50*time.Millisecond)
		b.resume()
		if got := load(t, u, "", 20, 0)(); got.failed > 0 || got.slowest > 0 {
			t.Errorf("the last has gone on: %+v", got)
		}
		a.resume()
		if got, last := wait(), waitLast(); got.failed > 0 || last.failed > 0 || last.slowest < 4*time.Second {
			t.Errorf("before: %+v, and then %+v", got, last)
		}
		time.Sleep(enough)
		before := a.got.Load()
		if got := load(t, u, "key", 20, 0)(); got.failed > 0 || a.got.Load() != before+10 {
			t.Errorf("both have gone on: %+v, and one got %d of 20", got, a.got.Load()-before)
		}
	})
}

// TestBudget: of what waits for a silent replica so much is sent twice, and no more.
func TestBudget(t *testing.T) {
	const n, saved, most = 1000, 100, 100 + 1000/10 // what can be saved up, and a tenth
	bubble(t, func(t *testing.T, u *upstream.Upstream, a, b *replica) {
		a.pause()
		wait := load(t, u, "key", n, 0)
		time.Sleep(enough)
		moved := b.got.Load() - n/2
		a.resume()
		if got := wait(); got.failed > 0 || moved < saved || moved > most {
			t.Errorf("%+v; %d were moved, want up to %d", got, moved, most)
		}
	})
}
