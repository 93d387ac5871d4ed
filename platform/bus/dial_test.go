package bus_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/platform/bus"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// noRoute never connects, and notes how long it was given.
type noRoute struct {
	fakes.Net
	waited chan time.Duration
}

func (n noRoute) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	began := time.Now()
	select {
	case <-ctx.Done():
	case <-time.After(time.Hour):
	}
	select {
	case n.waited <- time.Since(began):
	default:
	}
	return nil, errors.New("no route")
}

// TestDialIsBounded: a broker that cannot be found is given up after a while, and tried again.
func TestDialIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		deps, dials := fakes.Deps(t), noRoute{waited: make(chan time.Duration, 1)}
		deps.Net = dials
		p, err := bus.NewProducer(bus.Config{Seeds: []string{"kafka.example:9092"}, SendTimeout: 10 * time.Minute}, deps, telemetry.Nop())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		sent := make(chan []error)
		go func() { sent <- p.Send(ctx, []shop.Event{event("one", 1, 1)}) }()
		if waited := <-dials.waited; waited > 10*time.Second {
			t.Errorf("it was given %s", waited)
		}
		cancel()
		<-sent
		p.Close()
	})
}
