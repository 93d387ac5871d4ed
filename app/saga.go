package app

import (
	"holdfast/platform/remote"
	"holdfast/platform/temporal"
	"holdfast/shop"
	"holdfast/svc/inventory"
	"holdfast/svc/payment"
	"holdfast/svc/saga"
	"holdfast/svc/shipping"
)

// orchestrates tells whether there is a Temporal, so that orders may be orchestrated.
func (c Config) orchestrates() bool { return c.Temporal.Address != "" }

// buildSaga makes the module that drives orchestrated orders.
func (a *App) buildSaga() error {
	client, err := temporal.NewClient(a.cfg.Temporal, a.deps)
	if err != nil {
		return err
	}
	a.closers = append(a.closers, func() error { client.Close(); return nil })
	st := a.store(saga.Name)
	s, err := saga.New(a.cfg.Saga, saga.Parts{DB: st.db, Outbox: st.outbox, Bus: a.cfg.Bus, Temporal: client,
		Inventory: a.step(inventory.Name), Payment: a.step(payment.Name), Shipping: a.step(shipping.Name), Deps: a.deps, Tel: a.tel, Policies: a.policies})
	if err != nil {
		return err
	}
	a.components = append(a.components, s.Components()...)
	a.reload = append(a.reload, func(c Config) error { return s.Reconfigure(c.Saga) })
	return nil
}

// step is a service's step of orchestrated sagas; see links.go.
func (a *App) step(service string) shop.Step {
	var here shop.Step
	switch {
	case service == inventory.Name && a.inventory != nil:
		here = a.inventory
	case service == payment.Name && a.payment != nil:
		here = a.payment
	case service == shipping.Name && a.shipping != nil:
		here = a.shipping
	default:
		here = remote.NewStep(a.client(service))
	}
	return a.between.Step(service, here)
}
