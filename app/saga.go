package app

import (
	"context"
	"path/filepath"

	"holdfast/platform/temporal"
	"holdfast/shop"
	"holdfast/svc/saga"
)

// orchestrates tells whether there is a Temporal, so that orders may be orchestrated.
func (c Config) orchestrates() bool { return c.Temporald.Run || c.Temporal.Address != "" }

// temporald starts a Temporal of this machine's own where that is configured. Everything that uses it
// starts after it and stops before it.
func (a *App) temporald(ctx context.Context) error {
	if !a.cfg.Temporald.Run {
		a.addresses.Temporal = a.cfg.Temporal.Address
		return nil
	}
	server, err := temporal.NewServer(ctx, a.cfg.Temporald, a.cfg.Temporal.Namespace, filepath.Join(a.cfg.Data, "temporal"), a.deps)
	if err != nil {
		return err
	}
	a.component("temporald", server.Run, server.Ready)
	a.components[len(a.components)-1].StopAfter = temporal.ServerStop
	a.cfg.Temporal.Address = server.Addr()
	a.addresses.Temporal, a.addresses.TemporalUI = server.Addr(), server.UI()
	return nil
}

// saga makes the module that drives orchestrated orders, where there is a Temporal.
func (a *App) saga(inventory, payment, shipping shop.Step) error {
	if !a.cfg.orchestrates() {
		return nil
	}
	client, err := temporal.NewClient(a.cfg.Temporal, a.deps)
	if err != nil {
		return err
	}
	a.closers = append(a.closers, func() error { client.Close(); return nil })
	st := a.store(saga.Name)
	a.cfg.Saga.Calls.Owner = a.secrets.Instance
	s, err := saga.New(a.cfg.Saga, saga.Parts{DB: st.db, Outbox: st.outbox, Bus: a.cfg.Bus, Temporal: client,
		Inventory: inventory, Payment: payment, Shipping: shipping, Deps: a.deps, Tel: a.tel, Policies: a.policies})
	if err != nil {
		return err
	}
	a.components = append(a.components, s.Components()...)
	a.reload = append(a.reload, func(c Config) error { return s.Reconfigure(c.Saga) })
	return nil
}
