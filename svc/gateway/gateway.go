// Package gateway is the edge of Holdfast in one process: it puts the services' operations behind one
// handler with authentication, limits and load shedding, holds the public contract as an OpenAPI
// document, and keeps the route table from which an outside edge (Envoy) can be configured. The
// operator's routes are a handler of their own, for a listener of their own.
package gateway

import (
	"context"
	"net/http"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"holdfast/platform/httpx"
	"holdfast/platform/telemetry"
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

// Parts are what the gateway stands on.
type Parts struct {
	Deps shop.Deps
	Tel  *telemetry.Telemetry
	Keys httpx.Keys
	// WebhookSecrets are those of the outside parties, by name; see httpx.Config.
	WebhookSecrets map[string][]string
	// Mount are the services' RegisterHTTP, each with its service.
	Mount []func(*httpx.API)
}

// Gateway is the public edge.
type Gateway struct {
	api      *httpx.API
	requests limit
	waiting  limit
	shed     metric.Int64Counter
}

// New makes the edge with all operations mounted.
func New(cfg Config, p Parts) (*Gateway, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	g := &Gateway{
		requests: limit{name: "requests", most: cfg.MaxInFlight},
		waiting:  limit{name: "waiting", most: cfg.MaxWaiting},
	}
	if err := g.measure(p.Tel.Meter); err != nil {
		return nil, shop.Wrap(shop.Internal, "gateway.New", "the metrics could not be made", err)
	}
	var err error
	g.api, err = httpx.New(httpx.Config{
		Title: "Holdfast", Version: Version, Description: description,
		Keys: p.Keys, WebhookSecrets: p.WebhookSecrets, MaxBody: cfg.MaxBody, Timeout: cfg.Timeout,
	}, httpx.Parts{Deps: p.Deps, Tel: p.Tel, Admit: g.admit})
	if err != nil {
		return nil, err
	}
	for _, mount := range p.Mount {
		mount(g.api)
	}
	if err := g.api.ServeDocument(); err != nil {
		return nil, shop.Wrap(shop.Internal, "gateway.New", "the document could not be made", err)
	}
	return g, nil
}

// Handler serves the public listener.
func (g *Gateway) Handler() http.Handler { return g.api }

// Routes is the route table.
func (g *Gateway) Routes() []httpx.Route { return g.api.Routes() }

// Document is the OpenAPI document, as api/openapi.yaml holds it.
func (g *Gateway) Document() ([]byte, error) { return g.api.Document() }

// admit sheds load: beyond a limit a request is refused at once, while there is still the strength
// to. What waits costs little and would fill the other limit, so it has its own.
func (g *Gateway) admit(route httpx.Route, r *http.Request) (func(), error) {
	l := &g.requests
	if route.Class == httpx.ClassStream || httpx.Waits(r) {
		l = &g.waiting
	}
	if l.now.Add(1) > l.most {
		l.now.Add(-1)
		g.shed.Add(r.Context(), 1, metric.WithAttributes(attribute.String("limit", l.name)))
		return nil, shop.E(shop.Overloaded, "gateway.admit", "There are too many requests at once. Try again shortly, and more slowly each time.")
	}
	return func() { l.now.Add(-1) }, nil
}

// limit counts what is under way against the most that may be.
type limit struct {
	name string
	most int64
	now  atomic.Int64
}

func (g *Gateway) measure(m metric.Meter) error {
	var err error
	if g.shed, err = m.Int64Counter("holdfast.gateway.shed", metric.WithDescription("Requests refused as overloaded, by limit.")); err != nil {
		return err
	}
	_, err = m.Int64ObservableGauge("holdfast.gateway.in_flight",
		metric.WithDescription("Requests under way, by limit."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			for _, l := range []*limit{&g.requests, &g.waiting} {
				o.Observe(l.now.Load(), metric.WithAttributes(attribute.String("limit", l.name)))
			}
			return nil
		}))
	return err
}
