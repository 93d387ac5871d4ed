// Package gateway is the edge of Holdfast in one process: it puts the services' operations behind one
// handler with authentication, limits and load shedding, holds the public contract as an OpenAPI
// document, and keeps the route table from which an outside edge (Envoy) can be configured. The
// operator's routes are a handler of their own, for a listener of their own.
package gateway

import (
	"errors"
	"net/http"

	"holdfast/platform/httpx"
	"holdfast/platform/policy"
	"holdfast/platform/telemetry"
	"holdfast/resilience"
	"holdfast/shop"
)

// Version is that of the public contract. Members and operations are added under the same number.
const Version = "1.0.0"

const description = "Orders with stock, payment and shipment, carried out or undone as a whole. " +
	"Money is an integer in minor units beside a currency; times are RFC 3339 in UTC. " +
	"Every POST needs an Idempotency-Key, except webhooks. Errors are problem+json with a code to switch on. " +
	"Request-Timeout, in seconds, says how long you will wait (at most 60); Traceparent is taken and given back; X-Request-Id names the request in our logs. " +
	"Clients must ignore members they do not know. " +
	"A Go client's own replay of a POST on a connection that broke is harmless, since it carries the key."

// The names of the edge's policies.
const (
	requests = Name
	waiting  = "gateway-waiting"
	callers  = "gateway-callers"
)

// Parts are what the gateway stands on.
type Parts struct {
	Deps shop.Deps
	Tel  *telemetry.Telemetry
	Keys httpx.Keys
	// Policies is where the edge's limits are added.
	Policies *policy.Set
	// WebhookSecrets are those of the outside parties, by name; see httpx.Config.
	WebhookSecrets map[string][]string
	// Mount are the services' RegisterHTTP, each with its service, or Forward.
	Mount []func(*httpx.API) error
	// Whole is an edge with all operations, whose document is shown where what is mounted is not all.
	Whole *Gateway
}

// Gateway is the public edge.
type Gateway struct {
	api      *httpx.API
	requests *resilience.Admission
	waiting  *resilience.Admission
	rate     *resilience.RateLimit
}

// New makes the edge with all operations mounted.
func New(cfg Config, p Parts) (*Gateway, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	g := &Gateway{}
	var err error
	if g.requests, err = p.Policies.Admission(requests, cfg.Admission); err != nil {
		return nil, err
	}
	if g.waiting, err = p.Policies.Admission(waiting, cfg.waiting()); err != nil {
		return nil, err
	}
	if g.rate, err = p.Policies.RateLimit(callers, cfg.RateLimit); err != nil {
		return nil, err
	}
	g.api, err = httpx.New(httpx.Config{
		Title: "Holdfast", Version: Version, Description: description,
		Keys: p.Keys, WebhookSecrets: p.WebhookSecrets, MaxBody: cfg.MaxBody, Timeout: cfg.Timeout,
	}, httpx.Parts{Deps: p.Deps, Tel: p.Tel, Admit: g.admit, Limit: func(c shop.Caller) resilience.Decision { return g.rate.Allow(string(c)) }})
	if err != nil {
		return nil, err
	}
	for _, mount := range p.Mount {
		if err := mount(g.api); err != nil {
			return nil, err
		}
	}
	whole := g
	if p.Whole != nil {
		whole = p.Whole
	}
	g.api.ServeDocument(whole.api)
	return g, nil
}

// Handler serves the public listener.
func (g *Gateway) Handler() http.Handler { return g.api }

// Routes is the route table.
func (g *Gateway) Routes() []httpx.Route { return g.api.Routes() }

// Document is the OpenAPI document, as api/openapi.yaml holds it.
func (g *Gateway) Document() ([]byte, error) { return g.api.Document() }

// admit sheds load: where there are too many requests, the least critical are refused at once, while
// there is still the strength to. What waits costs little and would fill the limit of the others, and its
// duration says nothing about the load, so it has a limit of its own that does not adapt.
func (g *Gateway) admit(route httpx.Route, r *http.Request) (func(int), error) {
	if route.Class == httpx.ClassPage {
		return func(int) {}, nil
	}
	admission := g.requests
	if route.Class == httpx.ClassStream || httpx.Waits(r) {
		admission = g.waiting
	}
	ticket, err := admission.Admit(route.Criticality)
	if err != nil {
		return nil, shop.Wrap(shop.Overloaded, "gateway.admit", "There are too many requests at once. Try again shortly, and more slowly each time.", err)
	}
	return func(status int) { ticket.Done(outcome(status)) }, nil
}

// outcome is what an answer tells an adaptive limit: that there is too much to do, or how long it took.
func outcome(status int) resilience.Outcome {
	switch status {
	case 0:
		return resilience.Neutral // the handler panicked
	case http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return resilience.Failure
	default:
		return resilience.Success
	}
}

// Reconfigure changes the limits without losing what they know.
func (g *Gateway) Reconfigure(cfg Config) error {
	return errors.Join(g.requests.Reconfigure(cfg.Admission), g.waiting.Reconfigure(cfg.waiting()), g.rate.Reconfigure(cfg.RateLimit))
}
