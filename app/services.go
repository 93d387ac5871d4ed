package app

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"

	"holdfast/platform/httpx"
	"holdfast/platform/run"
	"holdfast/shop"
	"holdfast/sim/carrier"
	"holdfast/sim/psp"
	"holdfast/svc/gateway"
	"holdfast/svc/inventory"
	"holdfast/svc/order"
	"holdfast/svc/payment"
	"holdfast/svc/shipping"
)

// services makes the services, with direct calls between them, and the public handler.
func (a *App) services() (http.Handler, error) {
	between, err := a.policies.Internal(a.cfg.Internal)
	if err != nil {
		return nil, err
	}
	a.reload = append(a.reload, func(c Config) error { return between.Reconfigure(c.Internal) })
	ref := &ordersRef{}
	orders := between.Orders(ref)
	// The leases of calls are this installation's: after a restart it takes its own up at once.
	a.cfg.Payment.Calls.Owner, a.cfg.Shipping.Calls.Owner = a.secrets.Instance, a.secrets.Instance
	st := a.store(inventory.Name)
	a.inventory, err = inventory.New(a.cfg.Inventory, inventory.Parts{DB: st.db, Outbox: st.outbox, Bus: a.cfg.Bus, Orders: orders, Deps: a.deps, Tel: a.tel})
	if err != nil {
		return nil, err
	}
	st = a.store(payment.Name)
	pay, err := payment.New(a.cfg.Payment, payment.Parts{DB: st.db, Outbox: st.outbox, Bus: a.cfg.Bus, Deps: a.deps, Tel: a.tel, Policies: a.policies})
	if err != nil {
		return nil, err
	}
	st = a.store(shipping.Name)
	ship, err := shipping.New(a.cfg.Shipping, shipping.Parts{DB: st.db, Outbox: st.outbox, Bus: a.cfg.Bus, Orders: orders, Deps: a.deps, Tel: a.tel, Policies: a.policies})
	if err != nil {
		return nil, err
	}
	st = a.store(order.Name)
	a.orders, err = order.New(a.cfg.Order, order.Parts{DB: st.db, Outbox: st.outbox, Bus: a.cfg.Bus, Inventory: between.Inventory(a.inventory), Rates: ship,
		Timelines: []shop.TimelineSource{pay, ship}, Orchestrates: a.cfg.orchestrates(), Deps: a.deps, Tel: a.tel})
	if err != nil {
		return nil, err
	}
	ref.Orders = a.orders
	for _, parts := range [][]run.Component{a.orders.Components(), a.inventory.Components(), pay.Components(), ship.Components()} {
		a.components = append(a.components, parts...)
	}
	if err := a.saga(a.inventory, pay, ship); err != nil {
		return nil, err
	}
	callers := map[string]shop.Caller{a.key: DevCaller}
	for caller, key := range a.cfg.Callers {
		callers[key] = shop.Caller(caller)
	}
	keys, err := httpx.NewKeys(callers)
	if err != nil {
		return nil, err
	}
	edge, err := gateway.New(a.cfg.Gateway, gateway.Parts{Deps: a.deps, Tel: a.tel, Keys: keys, Policies: a.policies,
		WebhookSecrets: map[string][]string{payment.WebhookParty: {a.secrets.PSP}, shipping.WebhookParty: {a.secrets.Carrier}},
		Mount: []func(*httpx.API) error{
			func(api *httpx.API) error {
				return order.RegisterHTTP(api, a.orders, order.Edge{Watch: a.policies.Observer(order.Name, "get"), Admit: a.orders.Admit})
			},
			func(api *httpx.API) error { inventory.RegisterHTTP(api, a.inventory); return nil },
			func(api *httpx.API) error { payment.RegisterHTTP(api, pay); return nil },
			func(api *httpx.API) error { shipping.RegisterHTTP(api, ship); return nil },
		}})
	if err != nil {
		return nil, err
	}
	a.reload = append(a.reload, func(c Config) error { return pay.Reconfigure(c.Payment) },
		func(c Config) error { return ship.Reconfigure(c.Shipping) }, func(c Config) error { return edge.Reconfigure(c.Gateway) })
	return edge.Handler(), nil
}

// simulators starts the outside parties that are not configured as real ones.
func (a *App) simulators(ctx context.Context) error {
	a.addresses.PSP, a.addresses.Carrier = a.cfg.Payment.ProviderURL, a.cfg.Shipping.CarrierURL
	if a.addresses.PSP == "" {
		cfg := a.cfg.PSP
		cfg.Dir, cfg.WebhookURL, cfg.WebhookSecret = filepath.Join(a.cfg.Data, "psp"), a.addresses.API+"/webhooks/psp", a.secrets.PSP
		sim, err := psp.New(cfg, a.deps)
		if err != nil {
			return err
		}
		if a.addresses.PSP, err = a.simulator(ctx, "psp", a.cfg.PSPAddr, sim); err != nil {
			return err
		}
		a.cfg.Payment.ProviderURL = a.addresses.PSP
	}
	if a.addresses.Carrier == "" {
		cfg := a.cfg.Carrier
		cfg.Dir, cfg.WebhookURL, cfg.WebhookSecret = filepath.Join(a.cfg.Data, "carrier"), a.addresses.API+"/webhooks/carrier", a.secrets.Carrier
		sim, err := carrier.New(cfg, a.deps)
		if err != nil {
			return err
		}
		if a.addresses.Carrier, err = a.simulator(ctx, "carrier", a.cfg.CarrierAddr, sim); err != nil {
			return err
		}
		a.cfg.Shipping.CarrierURL = a.addresses.Carrier
	}
	return nil
}

func (a *App) simulator(ctx context.Context, name, addr string, sim simulator) (url string, err error) {
	a.closers = append(a.closers, sim.Close)
	s, err := a.listen(ctx, httpx.ServerConfig{Name: name + " simulator", Addr: addr, Flag: "--" + name + "-addr"})
	if err != nil {
		return "", err
	}
	s.Handle(sim.Handler())
	a.component(name+" simulator", s.Run, nil)
	a.component(name+" simulator's messages", sim.Run, nil)
	return "http://" + s.Addr(), nil
}

// ignoreClosed drops the error of closing what has been closed.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
