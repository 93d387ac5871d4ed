package cluster

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestBalancer: a gateway that hangs is left out, also from being asked whether it is ready, and comes back.
func TestBalancer(t *testing.T) {
	t.Parallel()
	var hangs atomic.Pointer[chan struct{}] // closed where the second gateway runs
	runs := make(chan struct{})
	close(runs)
	hangs.Store(&runs)
	var gateways []place
	for _, name := range []string{"a", "b"} {
		g := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if name == "b" {
				select {
				case <-*hangs.Load():
				case <-r.Context().Done():
				}
			}
			_, _ = io.WriteString(w, name)
		}))
		t.Cleanup(g.Close)
		at := strings.TrimPrefix(g.URL, "http://")
		gateways = append(gateways, place{api: at, admin: at})
	}
	b, err := newBalancer(gateways)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	})
	// until asks until of ten requests so many are answered by each, or for a minute.
	until := func(fromA, fromB int) {
		t.Helper()
		c := http.Client{Timeout: time.Second}
		n := map[string]int{}
		for end := time.Now().Add(time.Minute); (n["a"] != fromA || n["b"] != fromB) && time.Now().Before(end); {
			n = map[string]int{}
			for range 10 {
				resp, err := c.Get("http://" + b.addr)
				if err != nil {
					continue
				}
				text, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				n[string(text)]++
			}
		}
		if n["a"] != fromA || n["b"] != fromB {
			t.Errorf("answered by %v, want %d and %d of ten", n, fromA, fromB)
		}
	}
	until(5, 5)
	stopped := make(chan struct{})
	hangs.Store(&stopped)
	until(10, 0)
	close(stopped)
	until(5, 5)
}
