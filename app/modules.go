package app

import (
	"io/fs"

	"holdfast/platform/httpx"
	"holdfast/platform/upstream"
	"holdfast/svc/gateway"
	"holdfast/svc/inventory"
	"holdfast/svc/order"
	"holdfast/svc/payment"
	"holdfast/svc/saga"
	"holdfast/svc/shipping"
)

// module is a part of Holdfast that may run in a process of its own.
type module struct {
	name       string
	migrations func() (fs.FS, error) // of its store; nil: it keeps no state
	needs      []string              // the services that it calls
	public     bool                  // it has routes in the public API
	validate   func(Config) error
	build      func(*App) error
}

// modules are all of them, in the order in which they are made: a service before those that call it while they
// are made. What orchestrates them belongs before the gateway.
func modules() []module {
	return []module{
		{name: inventory.Name, migrations: inventory.Migrations, needs: []string{order.Name}, public: true,
			validate: func(c Config) error { return c.Inventory.Validate() }, build: (*App).buildInventory},
		{name: payment.Name, migrations: payment.Migrations, public: true,
			validate: func(c Config) error { return c.Payment.Validate() }, build: (*App).buildPayment},
		{name: shipping.Name, migrations: shipping.Migrations, needs: []string{order.Name}, public: true,
			validate: func(c Config) error { return c.Shipping.Validate() }, build: (*App).buildShipping},
		{name: order.Name, migrations: order.Migrations, needs: []string{inventory.Name, payment.Name, shipping.Name}, public: true,
			validate: func(c Config) error { return c.Order.Validate() }, build: (*App).buildOrder},
		{name: saga.Name, migrations: saga.Migrations, needs: []string{inventory.Name, payment.Name, shipping.Name},
			validate: func(c Config) error { return c.Saga.Validate() }, build: (*App).buildSaga},
		{name: gateway.Name, validate: func(c Config) error { return c.Gateway.Validate() }, build: (*App).buildGateway},
	}
}

func (a *App) buildInventory() (err error) {
	st := a.store(inventory.Name)
	a.inventory, err = inventory.New(a.cfg.Inventory, inventory.Parts{DB: st.db, Outbox: st.outbox, Bus: a.cfg.Bus, Orders: a.orders(), Deps: a.deps, Tel: a.tel})
	if err != nil {
		return err
	}
	a.serve(a.inventory.Components(), func(api *httpx.API) error { inventory.RegisterHTTP(api, a.inventory); return nil })
	return nil
}

func (a *App) buildPayment() (err error) {
	st := a.store(payment.Name)
	a.payment, err = payment.New(a.cfg.Payment, payment.Parts{DB: st.db, Outbox: st.outbox, Bus: a.cfg.Bus, Deps: a.deps, Tel: a.tel, Policies: a.policies})
	if err != nil {
		return err
	}
	a.reload = append(a.reload, func(c Config) error { return a.payment.Reconfigure(c.Payment) })
	a.serve(a.payment.Components(), func(api *httpx.API) error { payment.RegisterHTTP(api, a.payment); return nil })
	return nil
}

func (a *App) buildShipping() (err error) {
	st := a.store(shipping.Name)
	a.shipping, err = shipping.New(a.cfg.Shipping, shipping.Parts{DB: st.db, Outbox: st.outbox, Bus: a.cfg.Bus, Orders: a.orders(), Deps: a.deps, Tel: a.tel, Policies: a.policies})
	if err != nil {
		return err
	}
	a.reload = append(a.reload, func(c Config) error { return a.shipping.Reconfigure(c.Shipping) })
	a.serve(a.shipping.Components(), func(api *httpx.API) error { shipping.RegisterHTTP(api, a.shipping); return nil })
	return nil
}

func (a *App) buildOrder() (err error) {
	st := a.store(order.Name)
	a.order, err = order.New(a.cfg.Order, order.Parts{DB: st.db, Outbox: st.outbox, Bus: a.cfg.Bus, Inventory: a.prices(), Rates: a.rates(),
		Timelines: a.timelines(), Orchestrates: a.cfg.orchestrates(), Deps: a.deps, Tel: a.tel})
	if err != nil {
		return err
	}
	a.ordersHere.Decisions = a.order
	a.serve(a.order.Components(), func(api *httpx.API) error {
		return order.RegisterHTTP(api, a.order, order.Edge{Watch: a.policies.Observer(order.Name, "get", order.LastKnownCopy), Admit: a.order.Admit})
	})
	return nil
}

// buildGateway has the edge forward what the modules of this process do not serve.
func (a *App) buildGateway() error {
	whole, err := a.wholeEdge()
	if err != nil {
		return err
	}
	a.whole = whole
	for _, m := range modules() {
		if !m.public || a.cfg.Has(m.name) {
			continue
		}
		to, err := upstream.New(upstream.Config{Name: m.name, URLs: a.cfg.Gateway.Upstreams[m.name], Repeatable: upstream.Idempotent}, a.deps, a.tel)
		if err != nil {
			return err
		}
		a.component("public replicas of "+m.name, to.Run, nil)
		a.mounts = append(a.mounts, func(api *httpx.API) error {
			gateway.Forward(api, m.name, whole.Routes(), to, a.deps)
			return nil
		})
	}
	return nil
}
