package bus_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/platform/bus"
	"holdfast/test/fakes"
)

// silentNet is a network on which, from a moment on, nothing arrives and nobody is told.
type silentNet struct {
	fakes.Net
	silent atomic.Bool
}

func (n *silentNet) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := n.Net.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &silentConn{c, n}, nil
}

type silentConn struct {
	net.Conn
	net *silentNet
}

func (c *silentConn) Write(b []byte) (int, error) {
	if c.net.silent.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *silentConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.net.silent.Load() {
			return n, err
		}
	}
}

// TestStopWhileTheBusIsSilent stops a consumer that has something to commit, and no bus to tell it to.
func TestStopWhileTheBusIsSilent(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	mustSend(t, producer(t, config(c)), event("one", 1, 1))
	deps, wire := fakes.Deps(t), &silentNet{}
	deps.Net = wire
	cfg := config(c)
	cfg.Commit, cfg.SendTimeout = time.Minute, 5*time.Second
	consumer, err := bus.NewConsumer(cfg, sub("one"), deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error)
	go func() {
		done <- consumer.Run(ctx, func(context.Context, bus.Batch) error {
			wire.silent.Store(true)
			cancel()
			return nil
		})
	}()
	<-ctx.Done()
	began := time.Now()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %s; a component is given up after 10s", took.Round(time.Second))
	}
}
