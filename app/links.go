package app

import (
	"fmt"

	"holdfast/platform/httpx"
	"holdfast/platform/remote"
	"holdfast/platform/run"
	"holdfast/shop"
	"holdfast/svc/inventory"
	"holdfast/svc/order"
	"holdfast/svc/payment"
	"holdfast/svc/shipping"
)

// The functions of this file decide which implementation each interface between services gets: the service
// itself where it is in this process, and a client of its internal address otherwise. Validate has seen to it
// that there is one of the two. The same policies stand before either.

// ordersRef stands for the order service, which is made after those that call it.
type ordersRef struct{ shop.Decisions }

func (a *App) orders() shop.Decisions {
	if a.cfg.Has(order.Name) {
		return a.between.Orders(&a.ordersHere)
	}
	return a.between.Orders(remote.NewDecisions(a.client(order.Name)))
}

func (a *App) prices() shop.Catalogue {
	if a.inventory != nil {
		return a.between.Inventory(a.inventory)
	}
	return a.between.Inventory(remote.NewCatalogue(a.client(inventory.Name)))
}

func (a *App) rates() shop.Rates {
	if a.shipping != nil {
		return a.shipping
	}
	r := remote.NewRates(a.client(shipping.Name), a.cfg.Shipping.Rates, a.cfg.Shipping.RatesEvery)
	a.component(order.Name+" rates", r.Run, nil)
	return r
}

func (a *App) timelines() []shop.TimelineSource {
	var pay, ship shop.TimelineSource
	if pay = a.payment; a.payment == nil {
		pay = remote.NewTimeline(a.client(payment.Name))
	}
	if ship = a.shipping; a.shipping == nil {
		ship = remote.NewTimeline(a.client(shipping.Name))
	}
	return []shop.TimelineSource{a.between.Timeline(payment.Name, pay), a.between.Timeline(shipping.Name, ship)}
}

// client returns the client of a service that is not in this process.
func (a *App) client(service string) *remote.Client {
	if c := a.clients[service]; c != nil {
		return c
	}
	token := ""
	if len(a.cfg.Secrets.InternalTokens) > 0 {
		token = a.cfg.Secrets.InternalTokens[0]
	}
	c, err := remote.NewClient(service, a.cfg.Services[service], token, a.deps, a.tel)
	if err != nil {
		panic(fmt.Sprintf("the address of %s was not validated: %v", service, err)) // a mistake in this package
	}
	a.clients[service] = c
	a.component("replicas of "+service, c.Run, nil)
	return c
}

// serve adds a module's components and its public routes.
func (a *App) serve(components []run.Component, routes func(*httpx.API) error) {
	a.components = append(a.components, components...)
	a.mounts = append(a.mounts, routes)
}

// offer serves to the other services what the modules of this process have for them.
func (a *App) offer(s *remote.Server) {
	if a.order != nil {
		remote.ServeDecisions(s, a.order)
	}
	if a.inventory != nil {
		remote.ServeCatalogue(s, a.inventory)
		offerStep(s, inventory.Name, a.inventory)
	}
	if a.payment != nil {
		remote.ServeTimeline(s, payment.Name, a.payment)
		offerStep(s, payment.Name, a.payment)
	}
	if a.shipping != nil {
		remote.ServeTimeline(s, shipping.Name, a.shipping)
		remote.ServeRates(s, a.shipping)
		offerStep(s, shipping.Name, a.shipping)
	}
}

// offerStep serves a service's step of orchestrated sagas where it has one.
func offerStep(s *remote.Server, name string, service any) {
	if step, ok := service.(shop.Step); ok {
		remote.ServeStep(s, name, step)
	}
}
