package split

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// lookEvery is how often the balancer asks who is ready.
const lookEvery = 50 * time.Millisecond

// Balancer stands before the gateways as a load balancer does: it asks each whether it is ready, sends requests
// in turn to those that are, and repeats nothing. It returns its address.
func (s *System) Balancer(t testing.TB) string {
	t.Helper()
	var ready atomic.Pointer[[]*url.URL]
	look := func(ctx context.Context) {
		var all []*url.URL
		for _, p := range s.processes[Gateway] {
			if at, err := url.Parse(p.at.public()); err == nil && answersOK(ctx, p.at.url(p.at.admin)+"/readyz") {
				all = append(all, at)
			}
		}
		ready.Store(&all)
	}
	ctx, cancel := context.WithCancel(context.Background())
	look(ctx)
	var looking sync.WaitGroup
	looking.Go(func() {
		for ctx.Err() == nil {
			<-time.After(lookEvery) // as a balancer's health check has its interval
			look(ctx)
		}
	})
	var turn atomic.Uint64
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			if to := *ready.Load(); len(to) > 0 {
				p.SetURL(to[turn.Add(1)%uint64(len(to))])
			}
		},
		Transport:     &http.Transport{MaxIdleConnsPerHost: 256},
		FlushInterval: -1,
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(func() { cancel(); looking.Wait(); server.Close() })
	return server.URL
}

// Everything returns the names of all kinds of processes.
func Everything() []string { return append(slices.Clone(Services), Gateway) }
