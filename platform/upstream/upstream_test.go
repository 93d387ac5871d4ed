package upstream_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/platform/upstream"
	"holdfast/test/fakes"
)

// replica answers, unless it is broken: then it cuts each connection after it has read the request.
type replica struct {
	*httptest.Server
	got    atomic.Int64
	broken atomic.Bool
}

func newReplica(t *testing.T) *replica {
	t.Helper()
	r := &replica{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		r.got.Add(1)
		if r.broken.Load() {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(b)
	}))
	t.Cleanup(r.Close)
	return r
}

func send(t *testing.T, u *upstream.Upstream, method, key, body string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://service/x", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := u.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != body {
		t.Errorf("answered %q %v, want %q", b, err, body)
	}
	return nil
}

// TestReplicas: both get their share; one that is gone, or breaks connections, is passed over and asked again
// later; what may not be repeated is not.
func TestReplicas(t *testing.T) {
	t.Parallel()
	a, b := newReplica(t), newReplica(t)
	clock := fakes.NewClock(time.Unix(1_800_000_000, 0))
	deps := fakes.Deps(t)
	deps.Clock = clock
	u, err := upstream.New(upstream.Config{Name: "service", URLs: []string{a.URL, b.URL}, Repeatable: upstream.Idempotent}, deps)
	if err != nil {
		t.Fatal(err)
	}
	all := func(method, key string, n int) (failed int) {
		for range n {
			if send(t, u, method, key, "a body") != nil {
				failed++
			}
		}
		return failed
	}
	if failed := all(http.MethodPost, "", 10); failed > 0 || a.got.Load() != 5 || b.got.Load() != 5 {
		t.Errorf("both well: %d failed, %d and %d", failed, a.got.Load(), b.got.Load())
	}
	a.broken.Store(true)
	if failed := all(http.MethodPost, "key", 10); failed > 0 || b.got.Load() != 15 || a.got.Load() != 6 {
		t.Errorf("one breaks, with keys: %d failed, %d and %d", failed, a.got.Load(), b.got.Load())
	}
	clock.Advance(3 * time.Second)
	if failed := all(http.MethodPost, "", 10); failed != 1 {
		t.Errorf("one breaks, without keys: %d failed, want the one that reached it", failed)
	}
	clock.Advance(3 * time.Second)
	a.Close()
	if failed := all(http.MethodPost, "", 10); failed > 0 {
		t.Errorf("one is gone: %d failed, though nothing was sent", failed)
	}
	b.Close()
	if failed := all(http.MethodGet, "", 3); failed != 3 {
		t.Errorf("both are gone: %d failed", failed)
	}
}
