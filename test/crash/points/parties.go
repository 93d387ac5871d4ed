package points

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"holdfast/platform/httpx"
	"holdfast/platform/run"
	"holdfast/shop"
	"holdfast/sim/carrier"
	"holdfast/sim/psp"
	"holdfast/test/fakes"
	"holdfast/test/harness"
)

const (
	slowAnswer    = 250 * time.Millisecond // of a provider that is slow
	dispatchAfter = 60 * time.Millisecond
)

// simulator is what both outside parties are.
type simulator interface {
	Handler() http.Handler
	Run(ctx context.Context) error
	Close() error
}

// knock is a network that tells of the first connection to an address.
type knock struct {
	fakes.Net
	at   string
	once sync.Once
	told chan struct{}
}

// DialContext dials.
func (k *knock) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if address == k.at {
		k.once.Do(func() { close(k.told) })
	}
	return k.Net.DialContext(ctx, network, address)
}

// startParties starts the outside parties, which outlive every crash.
func (w *World) startParties(s harness.Secrets) error {
	deps := shop.Deps{Clock: fakes.RealClock{}, Rand: fakes.SeededRand(1), IDs: fakes.IDs{}, Net: fakes.Net{}, Files: fakes.Files{}, Log: w.logger()}
	p := psp.Defaults()
	p.Dir, p.WebhookURL, p.WebhookSecret, p.Slow = filepath.Join(w.dir, "psp"), w.life.url(portAPI)+"/webhooks/psp", s.PSP, slowAnswer
	provider, err := psp.New(p, deps)
	if err != nil {
		return err
	}
	if err := w.startParty("psp", portPSP, provider, deps); err != nil {
		return err
	}
	w.collects = &knock{at: w.life.at(portAPI), told: make(chan struct{})}
	deps.Net = w.collects
	c := carrier.Defaults()
	c.Dir, c.WebhookURL, c.WebhookSecret, c.DispatchAfter = filepath.Join(w.dir, "carrier"), w.life.url(portAPI)+"/webhooks/carrier", s.Carrier, dispatchAfter
	parcels, err := carrier.New(c, deps)
	if err != nil {
		return err
	}
	return w.startParty("carrier", portCarrier, parcels, deps)
}

func (w *World) startParty(name string, port int, sim simulator, deps shop.Deps) error {
	server, err := httpx.NewServer(httpx.ServerConfig{Name: name, Addr: w.life.at(port)}, sim.Handler(), deps)
	if err != nil {
		return errors.Join(err, sim.Close())
	}
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		err := run.Group(w.parties, deps, []run.Component{{Name: name + " server", Run: server.Run, Ready: server.Ready}, {Name: name + " messages", Run: sim.Run}}, func() { close(ready) })
		done <- errors.Join(err, sim.Close())
	}()
	w.ends = append(w.ends, done)
	select {
	case <-ready:
		return nil
	case err := <-done:
		done <- err
		return err
	}
}
