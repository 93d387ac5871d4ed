package cluster

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/check/engine"
)

const (
	// lookEvery is how often the balancer asks who is ready.
	lookEvery = 50 * time.Millisecond
	// lookTimeout is how long a gateway may take to say so. One that hangs is left out then.
	lookTimeout = 500 * time.Millisecond
)

// balancer stands before the gateways as a load balancer does: it asks each whether it is ready, sends requests
// in turn to those that are, or were last where none is, and repeats nothing: what is on its way to a gateway that
// hangs is lost.
type balancer struct {
	addr     string
	gateways []place
	ready    atomic.Pointer[[]*url.URL]
	turn     atomic.Uint64
	server   *http.Server
	stop     func()
	running  sync.WaitGroup
}

func newBalancer(gateways []place) (*balancer, error) {
	addr, err := engine.Address()
	if err != nil {
		return nil, err
	}
	b := &balancer{addr: addr, gateways: gateways}
	b.ready.Store(&[]*url.URL{})
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	b.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: &httputil.ReverseProxy{
		ErrorLog: log.New(io.Discard, "", 0), // clients that give up are no news
		Rewrite: func(p *httputil.ProxyRequest) {
			if to := *b.ready.Load(); len(to) > 0 {
				p.SetURL(to[b.turn.Add(1)%uint64(len(to))])
			}
		},
		Transport:     &http.Transport{MaxIdleConnsPerHost: 256},
		FlushInterval: -1,
	}}
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	b.look(ctx)
	b.running.Go(func() {
		for ctx.Err() == nil {
			<-time.After(lookEvery)
			b.look(ctx)
		}
	})
	b.running.Go(func() { _ = b.server.Serve(listener) }) // until close
	return b, nil
}

func (b *balancer) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	well := make([]bool, len(b.gateways))
	var looks sync.WaitGroup
	for i, p := range b.gateways {
		looks.Go(func() { well[i] = answers(ctx, "http://"+p.admin+"/readyz") == nil })
	}
	looks.Wait()
	var all []*url.URL
	for i, p := range b.gateways {
		if well[i] {
			all = append(all, &url.URL{Scheme: "http", Host: p.api})
		}
	}
	if len(all) > 0 {
		b.ready.Store(&all)
	}
}

func (b *balancer) close() error {
	b.stop()
	err := b.server.Close()
	b.running.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
