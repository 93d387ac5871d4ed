package remote

import (
	"context"

	"holdfast/platform/httpx"
	"holdfast/resilience"
	"holdfast/shop"
)

// The paths of the operations. Those that several services have begin with the service's name.
const (
	pathPrices        = "inventory/prices"
	pathAllowDispatch = "order/allow-dispatch"
	pathExpire        = "order/expire"
	pathRates         = "shipping/rates"
	pathTimeline      = "/timeline"
	pathDo            = "/step/do"
	pathUndo          = "/step/undo"
)

// ofOrder is a question about an order.
type ofOrder struct {
	OrderID shop.OrderID `json:"order_id"`
}

// nothing is an answer that says yes, or a question without a content.
type nothing struct{}

// ServeCatalogue serves what other services ask of the inventory.
func ServeCatalogue(s *Server, svc shop.Catalogue) {
	handle(s, pathPrices, resilience.Normal, func(ctx context.Context, in pricesQuestion) (pricesAnswer, error) {
		items, err := svc.Prices(ctx, in.SKUs)
		return pricesAnswer{items}, err
	})
}

type pricesQuestion struct {
	SKUs []shop.SKU `json:"skus"`
}

type pricesAnswer struct {
	Items map[shop.SKU]shop.Item `json:"items"`
}

// Catalogue is the inventory of another process.
type Catalogue struct{ c *Client }

// NewCatalogue makes a Catalogue.
func NewCatalogue(c *Client) Catalogue { return Catalogue{c} }

// Prices implements shop.Catalogue.
func (r Catalogue) Prices(ctx context.Context, skus []shop.SKU) (map[shop.SKU]shop.Item, error) {
	out, err := call[pricesQuestion, pricesAnswer](ctx, r.c, pathPrices, pricesQuestion{skus})
	return out.Items, err
}

// ServeDecisions serves what other services ask of the orders.
func ServeDecisions(s *Server, svc shop.Decisions) {
	handle(s, pathAllowDispatch, resilience.Critical, func(ctx context.Context, in ofOrder) (nothing, error) {
		return nothing{}, svc.AllowDispatch(httpx.WithOrder(ctx, in.OrderID), in.OrderID)
	})
	handle(s, pathExpire, resilience.Critical, func(ctx context.Context, in ofOrder) (expireAnswer, error) {
		kept, err := svc.Expire(httpx.WithOrder(ctx, in.OrderID), in.OrderID)
		return expireAnswer{kept}, err
	})
}

type expireAnswer struct {
	Kept bool `json:"kept"`
}

// Decisions is the order service of another process.
type Decisions struct{ c *Client }

// NewDecisions makes a Decisions.
func NewDecisions(c *Client) Decisions { return Decisions{c} }

// AllowDispatch implements shop.Decisions.
func (r Decisions) AllowDispatch(ctx context.Context, id shop.OrderID) error {
	_, err := call[ofOrder, nothing](ctx, r.c, pathAllowDispatch, ofOrder{id})
	return err
}

// Expire implements shop.Decisions.
func (r Decisions) Expire(ctx context.Context, id shop.OrderID) (bool, error) {
	out, err := call[ofOrder, expireAnswer](ctx, r.c, pathExpire, ofOrder{id})
	return out.Kept, err
}

// ServeTimeline serves what a service has to add to timelines.
func ServeTimeline(s *Server, service string, svc shop.TimelineSource) {
	handle(s, service+pathTimeline, resilience.Sheddable, func(ctx context.Context, in ofOrder) (timelineAnswer, error) {
		items, err := svc.OrderTimeline(httpx.WithOrder(ctx, in.OrderID), in.OrderID)
		return timelineAnswer{items}, err
	})
}

type timelineAnswer struct {
	Items []shop.TimelineItem `json:"items"`
}

// Timeline is the shop.TimelineSource of another process.
type Timeline struct{ c *Client }

// NewTimeline makes a Timeline.
func NewTimeline(c *Client) Timeline { return Timeline{c} }

// OrderTimeline implements shop.TimelineSource.
func (r Timeline) OrderTimeline(ctx context.Context, id shop.OrderID) ([]shop.TimelineItem, error) {
	out, err := call[ofOrder, timelineAnswer](ctx, r.c, r.c.service+pathTimeline, ofOrder{id})
	return out.Items, err
}

// ServeStep serves a service's step of orchestrated sagas.
func ServeStep(s *Server, service string, svc shop.Step) {
	handle(s, service+pathDo, resilience.Normal, func(ctx context.Context, b shop.Brief) (shop.StepOutcome, error) {
		return svc.Do(httpx.WithOrder(ctx, b.OrderID), b)
	})
	handle(s, service+pathUndo, resilience.Undo, func(ctx context.Context, in ofOrder) (shop.StepOutcome, error) {
		return svc.Undo(httpx.WithOrder(ctx, in.OrderID), in.OrderID)
	})
}

// Step is the shop.Step of another process.
type Step struct{ c *Client }

// NewStep makes a Step.
func NewStep(c *Client) Step { return Step{c} }

// Do implements shop.Step.
func (r Step) Do(ctx context.Context, b shop.Brief) (shop.StepOutcome, error) {
	out, err := call[shop.Brief, shop.StepOutcome](ctx, r.c, r.c.service+pathDo, b)
	return pending(ctx, out, err)
}

// Undo implements shop.Step.
func (r Step) Undo(ctx context.Context, id shop.OrderID) (shop.StepOutcome, error) {
	out, err := call[ofOrder, shop.StepOutcome](ctx, r.c, r.c.service+pathUndo, ofOrder{id})
	return pending(ctx, out, err)
}

// pending is the answer where ctx ended before there was one, as the contract has it.
func pending(ctx context.Context, out shop.StepOutcome, err error) (shop.StepOutcome, error) {
	if err != nil && ctx.Err() != nil {
		return shop.StepOutcome{State: shop.StepPending}, nil
	}
	return out, err
}
