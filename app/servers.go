package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/platform/httpx"
	"holdfast/platform/policy"
	"holdfast/platform/remote"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/svc/gateway"
	"holdfast/svc/inventory"
	"holdfast/svc/order"
	"holdfast/svc/payment"
	"holdfast/svc/shipping"
)

// servers are the listeners of a process: public, internal and admin.
type servers struct {
	api, internal, admin *httpx.Server // internal may be nil
}

// listeners makes the servers. With embedded parts, which have to know the addresses, they listen at once;
// otherwise when they are ready to serve, so that nobody waits in a queue that is not served yet.
func (a *App) listeners(ctx context.Context) (s servers, err error) {
	make := func(cfg httpx.ServerConfig) (*httpx.Server, error) {
		if a.embedded.Parties != nil {
			return a.listen(ctx, cfg)
		}
		return httpx.NewServer(cfg, nil, a.deps)
	}
	if s.admin, err = make(httpx.ServerConfig{Name: "admin", Addr: a.cfg.AdminAddr, Flag: "--admin-addr"}); err != nil {
		return s, err
	}
	if s.api, err = make(httpx.ServerConfig{Name: "api", Addr: a.cfg.Addr, Flag: "--addr", Drain: a.apiDrain()}); err != nil {
		return s, err
	}
	if a.cfg.servesInside() {
		if s.internal, err = make(httpx.ServerConfig{Name: "internal", Addr: a.cfg.InternalAddr, Flag: "--internal-addr"}); err != nil {
			return s, err
		}
	}
	a.located(s)
	return s, nil
}

// located notes where the servers listen.
func (a *App) located(s servers) {
	a.addresses.API, a.addresses.Admin = "http://"+s.api.Addr(), "http://"+s.admin.Addr()
	if s.internal != nil {
		a.internal = "http://" + s.internal.Addr()
	}
}

// servesInside tells whether other processes may call the services of this one.
func (c Config) servesInside() bool {
	return c.InternalAddr != "" && c.stateful() && !slices.Contains(c.Target, All)
}

// apiDrain is how long requests may go on at a stop. A service ends those that are held at once; a gateway
// cannot, since it is others who hold them.
func (a *App) apiDrain() time.Duration {
	for _, m := range modules() {
		if m.public && a.cfg.Has(gateway.Name) && !a.cfg.Has(m.name) {
			return httpx.MaxWait + httpx.DefaultDrain/2
		}
	}
	return httpx.DefaultDrain
}

func (a *App) listen(ctx context.Context, cfg httpx.ServerConfig) (*httpx.Server, error) {
	s, err := httpx.NewServer(cfg, nil, a.deps)
	if err != nil {
		return nil, err
	}
	if err := s.Listen(ctx); err != nil {
		return nil, err
	}
	a.closers = append(a.closers, func() error { return ignoreClosed(s.Close()) })
	return s, nil
}

// handlers makes what the servers serve.
func (a *App) handlers(s servers) error {
	edge, err := a.edge(a.mounts, a.whole)
	if err != nil {
		return err
	}
	a.reload = append(a.reload, func(c Config) error { return edge.Reconfigure(c.Gateway) })
	s.api.Handle(edge.Handler())
	if s.internal != nil {
		admission, err := a.policies.Admission("internal", a.cfg.Internal.Admission)
		if err != nil {
			return err
		}
		a.reload = append(a.reload, func(c Config) error { return admission.Reconfigure(c.Internal.Admission) })
		inside, err := remote.NewServer(a.cfg.Secrets.InternalTokens, admission, a.deps, a.tel)
		if err != nil {
			return err
		}
		a.offer(inside)
		s.internal.Handle(inside.Handler())
	}
	return a.operations(s.admin)
}

func (a *App) edge(mounts []func(*httpx.API) error, whole *gateway.Gateway) (*gateway.Gateway, error) {
	keys, err := a.cfg.Secrets.keys()
	if err != nil {
		return nil, err
	}
	return gateway.New(a.cfg.Gateway, gateway.Parts{Deps: a.deps, Tel: a.tel, Keys: keys, Policies: a.policies,
		WebhookSecrets: a.cfg.Secrets.Webhooks, Mount: mounts, Whole: whole})
}

// The services of the route table: nobody calls them.
type (
	noOrders    struct{ shop.Orders }
	noInventory struct{ shop.Inventory }
	noPayments  struct{ shop.Payments }
	noShipments struct{ shop.Shipments }
)

// wholeEdge is the edge of a Holdfast in one process, for its route table and its document.
func (a *App) wholeEdge() (*gateway.Gateway, error) {
	nowhere := telemetry.Nop()
	policies, err := policy.New(a.deps, nowhere)
	if err != nil {
		return nil, err
	}
	return gateway.New(a.cfg.Gateway, gateway.Parts{Deps: a.deps, Tel: nowhere, Policies: policies, Mount: []func(*httpx.API) error{
		func(api *httpx.API) error { return order.RegisterHTTP(api, noOrders{}, order.Edge{}) },
		func(api *httpx.API) error { inventory.RegisterHTTP(api, noInventory{}); return nil },
		func(api *httpx.API) error { payment.RegisterHTTP(api, noPayments{}); return nil },
		func(api *httpx.API) error { shipping.RegisterHTTP(api, noShipments{}); return nil },
	}})
}

// operations makes the operator's handler. The bus is not among the checks: orders are taken without it, and a
// balancer that heeds them would send nobody any.
func (a *App) operations(admin *httpx.Server) error {
	checks := []gateway.Check{{Name: "running", Check: func(context.Context) error {
		if a.stopping.Load() || !a.started.Load() {
			return errors.New("starting or stopping")
		}
		return nil
	}}}
	for _, s := range a.stores {
		checks = append(checks, gateway.Check{Name: s.service + " store", Check: s.db.Ping})
	}
	parts := gateway.AdminParts{Deps: a.deps, Tel: a.tel, Ready: checks, Metrics: a.tel.MetricsHandler(), Policies: a.policies, Reload: a.reloadPolicies,
		Started: func() error {
			if !a.started.Load() {
				return errors.New("starting")
			}
			return nil
		}}
	if a.order != nil {
		parts.Orders = a.order
	}
	if a.embedded.Verifier != nil {
		v, err := a.embedded.Verifier(a.host)
		if err != nil {
			return err
		}
		if v != nil {
			parts.Verify, parts.Verified = v.Verify, v.Verified
			a.component("verify", v.Run, nil)
		}
	}
	handler, err := gateway.NewAdmin(parts)
	if err != nil {
		return fmt.Errorf("the operator's pages: %w", err)
	}
	admin.Handle(handler)
	return nil
}
