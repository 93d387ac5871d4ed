package local

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"holdfast/platform/httpx"
	"holdfast/platform/run"
	"holdfast/shop"
	"holdfast/sim/carrier"
	"holdfast/sim/psp"
)

// SimConfig describes an outside party that runs by itself.
type SimConfig struct {
	Party         string // psp or carrier
	Data          string // its ledger is in the folder Party of this directory
	Addr          string
	WebhookURL    string // "": it sends no messages
	WebhookSecret string
	DispatchAfter time.Duration // carrier
}

// simulator is what both outside parties are.
type simulator interface {
	Handler() http.Handler
	Run(ctx context.Context) error
	Close() error
}

// RunSim runs an outside party until ctx ends. onReady gets its address.
func RunSim(ctx context.Context, cfg SimConfig, deps shop.Deps, onReady func(url string)) (err error) {
	dir := filepath.Join(cfg.Data, cfg.Party)
	lock, err := run.LockDir(dir)
	if err != nil {
		return shop.Wrap(shop.Unavailable, "app.lock", "the data directory cannot be used", err)
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	sim, err := newSim(cfg, dir, deps)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sim.Close()) }()
	server, err := httpx.NewServer(httpx.ServerConfig{Name: cfg.Party, Addr: cfg.Addr, Flag: "--addr"}, sim.Handler(), deps)
	if err != nil {
		return err
	}
	return run.Group(ctx, deps, []run.Component{
		{Name: cfg.Party + " server", Run: server.Run, Ready: server.Ready},
		{Name: cfg.Party + " messages", Run: sim.Run},
	}, func() { onReady("http://" + server.Addr()) })
}

func newSim(cfg SimConfig, dir string, deps shop.Deps) (simulator, error) {
	switch cfg.Party {
	case "psp":
		c := psp.Defaults()
		c.Dir, c.WebhookURL, c.WebhookSecret = dir, cfg.WebhookURL, cfg.WebhookSecret
		return psp.New(c, deps)
	case "carrier":
		c := carrier.Defaults()
		c.Dir, c.WebhookURL, c.WebhookSecret, c.DispatchAfter = dir, cfg.WebhookURL, cfg.WebhookSecret, cfg.DispatchAfter
		return carrier.New(c, deps)
	default:
		return nil, fmt.Errorf("there is no outside party %q; there are psp and carrier", cfg.Party)
	}
}
