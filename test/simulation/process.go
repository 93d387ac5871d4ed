package simulation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing/synctest"
	"time"

	"holdfast/app/local"
	"holdfast/platform/httpx"
	"holdfast/platform/run"
	"holdfast/shop"
	"holdfast/sim/carrier"
	"holdfast/sim/psp"
	"holdfast/svc/payment"
)

// The ports. Everybody is on the loopback of one network.
const (
	portAPI     = 8080
	portAdmin   = 8081
	portBus     = 9092
	portPSP     = 7001
	portCarrier = 7002
)

func ports() map[int]string {
	return map[int]string{portAPI: "api", portAdmin: "admin", portBus: "bus", portPSP: "psp", portCarrier: "carrier"}
}

func at(port int) string  { return fmt.Sprintf("127.0.0.1:%d", port) }
func url(port int) string { return "http://" + at(port) }

// restartAfter is how soon a process that ended by itself is started again.
const restartAfter = time.Second

// process is one life of a process.
type process struct {
	host   *host
	dir    string
	cancel context.CancelFunc
	ready  chan struct{}
	done   chan struct{}
	killed atomic.Bool
	err    error // once done
}

// launch starts a life of a process.
func (w *World) launch(name, dir string, work func(context.Context, shop.Deps, func()) error) *process {
	ctx, cancel := context.WithCancel(context.Background())
	w.lives[name]++
	p := &process{host: w.net.host(name), dir: dir, cancel: cancel, ready: make(chan struct{}), done: make(chan struct{})}
	deps := w.machine(p.host, w.lives[name])
	w.all.Go(func() {
		defer close(p.done)
		p.err = work(ctx, deps, func() { close(p.ready) })
		p.host.kill()
		if p.killed.Load() {
			w.remove(p.dir)
		}
	})
	return p
}

func (w *World) remove(dir string) {
	if err := os.RemoveAll(dir); err != nil {
		w.note("remove %s: %v", dir, err)
	}
}

// holdfast starts a Holdfast on a data directory.
func (w *World) holdfast(dir string) *process {
	cfg := w.config(dir)
	return w.launch("holdfast", dir, func(ctx context.Context, deps shop.Deps, ready func()) error {
		return local.Run(ctx, cfg, deps, func(local.Ready) { ready() })
	})
}

// config is that of `holdfast up`, with the outside parties where they are and what the plan sets.
func (w *World) config(dir string) local.Config {
	cfg, s := local.Defaults(), w.plan.Settings
	cfg.Data, cfg.Addr, cfg.AdminAddr, cfg.Seed = dir, at(portAPI), at(portAdmin), false
	cfg.Embedded.Addr = at(portBus)
	cfg.Payment.ProviderURL, cfg.Shipping.CarrierURL = url(portPSP), url(portCarrier)
	if s.CaptureAtOnce {
		cfg.Payment.Capture = payment.CaptureImmediate
	}
	if s.FewFailures {
		cfg.Payment.UndoFailures, cfg.Shipping.CancelFailures = fewFailures, fewFailures
	}
	if s.ReservationTTL > 0 {
		cfg.Inventory.ReservationTTL, cfg.Order.RedriveAfter = s.ReservationTTL, s.RedriveAfter
	}
	return cfg
}

// fewFailures is how often an undo may fail before an operator must act, where that is to happen.
const fewFailures = 3

// simulator is what both outside parties are.
type simulator interface {
	Handler() http.Handler
	Run(ctx context.Context) error
	Close() error
}

// party starts an outside party on its directory.
func (w *World) party(name string) *process {
	dir := filepath.Join(w.dir, name)
	return w.launch(name, dir, func(ctx context.Context, deps shop.Deps, ready func()) (err error) {
		sim, port, err := w.newParty(name, dir, deps)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, sim.Close()) }()
		server, err := httpx.NewServer(httpx.ServerConfig{Name: name, Addr: at(port)}, sim.Handler(), deps)
		if err != nil {
			return err
		}
		return run.Group(ctx, deps, []run.Component{{Name: name + " server", Run: server.Run, Ready: server.Ready}, {Name: name + " messages", Run: sim.Run}}, ready)
	})
}

func (w *World) newParty(name, dir string, deps shop.Deps) (simulator, int, error) {
	if name == "psp" {
		c := psp.Defaults()
		c.Dir, c.WebhookURL, c.WebhookSecret, c.Slow = dir, url(portAPI)+"/webhooks/psp", w.secrets.PSP, w.plan.Settings.Slow
		switch {
		case w.plan.Settings.NoWebhooks:
			c.WebhookURL, c.WebhookSecret = "", ""
		case w.plan.Settings.AllWebhooks:
			c.Webhooks = psp.WebhooksAll
		}
		s, err := psp.New(c, deps)
		return s, portPSP, err
	}
	c := carrier.Defaults()
	c.Dir, c.WebhookURL, c.WebhookSecret, c.DispatchAfter = dir, url(portAPI)+"/webhooks/carrier", w.secrets.Carrier, w.plan.Settings.DispatchAfter
	c.Rates = map[string]int64{"*": 500, "AT": 0}
	s, err := carrier.New(c, deps)
	return s, portCarrier, err
}

// stop carries out one of the plan's stops, and starts the process again.
func (w *World) stop(s Stop) error {
	old := w.procs[s.Process]
	switch {
	case s.Process != "holdfast" || s.Gently:
		if s.Gently {
			old.host.waitRunning() // or it does not hear of it
		} else {
			old.host.kill()
		}
		asked := time.Now()
		old.cancel()
		<-old.done
		if s.Gently && old.err != nil && !old.host.hungSince(asked) { // one that hangs over its time to stop cannot
			w.violate("X1", "", "%s did not stop in order: %v", s.Process, old.err)
		}
		time.Sleep(s.Down)
		w.start(s.Process, old.dir)
		return nil
	case s.Link != "":
		w.waitTrap(s)
	}
	// Now everybody waits for something: nobody is in the middle of a write to a file.
	synctest.Wait()
	w.crashes++
	dir := filepath.Join(w.dir, fmt.Sprintf("holdfast-%d", w.crashes))
	skip := ""
	if s.NoBus {
		skip = "bus"
		w.seen.busLost++
	}
	if err := copyTree(old.dir, dir, skip); err != nil {
		return err
	}
	w.lookAtCrash(dir)
	old.killed.Store(true)
	old.host.kill()
	old.cancel()
	time.Sleep(s.Down)
	w.start(s.Process, dir)
	return nil
}

// maxTrap is how long a process waits for the write that it is to die at.
const maxTrap = 5 * time.Second

// waitTrap waits for the write that the process is to die at, or for a while.
func (w *World) waitTrap(s Stop) {
	sprung := make(chan struct{})
	w.net.setTrap(&trap{link: s.Link, dir: s.Dir, left: s.Nth, drop: s.Drop, host: w.procs[s.Process].host, sprung: sprung})
	t := time.NewTimer(maxTrap)
	defer t.Stop()
	select {
	case <-sprung:
		w.seen.trapped++
	case <-t.C:
		w.net.setTrap(nil)
	}
}

// start starts a process, and again where it ends by itself, until it is ready.
func (w *World) start(name, dir string) {
	for try := 0; ; try++ {
		var p *process
		if name == "holdfast" {
			p = w.holdfast(dir)
		} else {
			p = w.party(name)
		}
		w.procs[name] = p
		select {
		case <-p.ready:
			return
		case <-p.done:
			w.note("%s ended while it started: %v", name, p.err)
			if try >= maxStarts {
				w.violate("X1", "", "%s does not start: %v", name, p.err)
				return
			}
			time.Sleep(restartAfter)
		}
	}
}

// maxStarts is how often a process that does not start is started again.
const maxStarts = 90
