package policy

import (
	"context"
	"errors"
	"slices"
	"time"

	"holdfast/resilience"
	"holdfast/shop"
)

// InternalConfig sets the policy of the calls from one of our services to another. There is no retry in
// it: whoever asked from outside repeats its request, and so does the bus, and the carrier its webhook. Admission bounds
// the calls at once that a service takes from the others' processes.
type InternalConfig struct {
	Timeout   time.Duration              `koanf:"timeout"`
	Bulkhead  resilience.BulkheadConfig  `koanf:"bulkhead"`
	Breaker   resilience.BreakerConfig   `koanf:"breaker"`
	Admission resilience.AdmissionConfig `koanf:"admission"`
}

// InternalDefaults returns 1,024 calls at once, of 10 s at most, a breaker that looks again after half a second, and
// 4,096 calls at once that a process takes: those of four callers.
func InternalDefaults() InternalConfig {
	b := resilience.BreakerDefaults()
	b.OpenFor = storeOpenFor
	return InternalConfig{Timeout: 10 * time.Second, Bulkhead: resilience.BulkheadConfig{Limit: 1024}, Breaker: b,
		Admission: resilience.AdmissionConfig{Limit: 4096, SheddableShare: 0.5, NormalShare: 0.9, UndoLane: 256, RetryAfter: retryAfter}}
}

// Validate names the first setting that cannot work.
func (c InternalConfig) Validate() error {
	if err := section("admission", c.Admission.Validate()); err != nil {
		return err
	}
	return c.config(nil).Validate()
}

func (c InternalConfig) config(of []resilience.Operation) Config {
	all := Config{Bulkhead: c.Bulkhead, UndoBulkhead: c.Bulkhead, Budget: resilience.BudgetDefaults(), Operations: map[string]resilience.PolicyConfig{}}
	for _, op := range append(slices.Clone(of), resilience.Operation{Name: "any"}) {
		all.Operations[op.Name] = resilience.PolicyConfig{Timeout: resilience.TimeoutConfig{Attempt: c.Timeout}, Retry: resilience.RetryConfig{Off: true}, Breaker: c.Breaker}
	}
	return all
}

// Internal are the policies in front of the services, for those of them that other services call.
type Internal struct{ services map[string]*Dependency }

// The operations of the services that others call.
var (
	step = []resilience.Operation{
		{Name: "do", Kind: resilience.IdempotentCommand, RespectsContext: true, Classify: Classify},
		{Name: "undo", Kind: resilience.IdempotentCommand, Criticality: resilience.Undo, RespectsContext: true, Classify: Classify},
	}
	timeline   = resilience.Operation{Name: "timeline", Kind: resilience.Read, RespectsContext: true, Classify: Classify}
	operations = map[string][]resilience.Operation{
		"inventory": append([]resilience.Operation{{Name: "prices", Kind: resilience.ExactRead, RespectsContext: true, Classify: Classify}}, step...),
		"order": {
			{Name: "allow-dispatch", Kind: resilience.IdempotentCommand, Criticality: resilience.Critical, RespectsContext: true, Classify: Classify},
			{Name: "expire", Kind: resilience.IdempotentCommand, Criticality: resilience.Critical, RespectsContext: true, Classify: Classify},
		},
		"payment":  append([]resilience.Operation{timeline}, step...),
		"shipping": append([]resilience.Operation{timeline}, step...),
	}
)

// Internal adds the policies in front of some of our own services.
func (s *Set) Internal(cfg InternalConfig, names ...string) (*Internal, error) {
	i := &Internal{services: make(map[string]*Dependency, len(names))}
	for _, name := range names {
		if i.services[name] != nil {
			continue
		}
		d, err := s.Dependency(name, cfg.config(operations[name]), operations[name]...)
		if err != nil {
			return nil, err
		}
		i.services[name] = d
	}
	return i, nil
}

// Reconfigure changes the policies without losing their state.
func (i *Internal) Reconfigure(cfg InternalConfig) error {
	var errs []error
	for name, d := range i.services {
		errs = append(errs, d.Reconfigure(cfg.config(operations[name])))
	}
	return errors.Join(errs...)
}

// Inventory puts the policies before what other services ask of the inventory.
func (i *Internal) Inventory(next shop.Catalogue) shop.Catalogue {
	return inventoryGuard{next, i.services["inventory"].Policy("prices")}
}

// Orders puts the policies before what other services ask of the orders.
func (i *Internal) Orders(next shop.Decisions) shop.Decisions {
	return ordersGuard{next, i.services["order"].Policy("allow-dispatch"), i.services["order"].Policy("expire")}
}

// Timeline puts the policies before what a service adds to a timeline.
func (i *Internal) Timeline(name string, next shop.TimelineSource) shop.TimelineSource {
	return timelineGuard{name, next, i.services[name].Policy("timeline")}
}

// Step puts the policies before a service's step of a saga.
func (i *Internal) Step(name string, next shop.Step) shop.Step {
	return stepGuard{name, next, i.services[name].Policy("do"), i.services[name].Policy("undo")}
}

type inventoryGuard struct {
	next   shop.Catalogue
	prices *resilience.Policy
}

func (g inventoryGuard) Prices(ctx context.Context, skus []shop.SKU) (map[shop.SKU]shop.Item, error) {
	items, err := resilience.Do(ctx, g.prices, func(ctx context.Context) (map[shop.SKU]shop.Item, error) { return g.next.Prices(ctx, skus) })
	return items, refused("inventory.Prices", err)
}

type ordersGuard struct {
	next                  shop.Decisions
	allowDispatch, expire *resilience.Policy
}

func (g ordersGuard) AllowDispatch(ctx context.Context, id shop.OrderID) error {
	return refused("orders.AllowDispatch", g.allowDispatch.Run(ctx, func(ctx context.Context) error { return g.next.AllowDispatch(ctx, id) }))
}

func (g ordersGuard) Expire(ctx context.Context, id shop.OrderID) (bool, error) {
	kept, err := resilience.Do(ctx, g.expire, func(ctx context.Context) (bool, error) { return g.next.Expire(ctx, id) })
	return kept, refused("orders.Expire", err)
}

type timelineGuard struct {
	name   string
	next   shop.TimelineSource
	policy *resilience.Policy
}

func (g timelineGuard) OrderTimeline(ctx context.Context, id shop.OrderID) ([]shop.TimelineItem, error) {
	items, err := resilience.Do(ctx, g.policy, func(ctx context.Context) ([]shop.TimelineItem, error) { return g.next.OrderTimeline(ctx, id) })
	return items, refused(g.name+".OrderTimeline", err)
}

type stepGuard struct {
	name     string
	next     shop.Step
	do, undo *resilience.Policy
}

func (g stepGuard) Do(ctx context.Context, b shop.Brief) (shop.StepOutcome, error) {
	o, err := resilience.Do(ctx, g.do, func(ctx context.Context) (shop.StepOutcome, error) { return g.next.Do(ctx, b) })
	return o, refused(g.name+".Do", err)
}

func (g stepGuard) Undo(ctx context.Context, id shop.OrderID) (shop.StepOutcome, error) {
	o, err := resilience.Do(ctx, g.undo, func(ctx context.Context) (shop.StepOutcome, error) { return g.next.Undo(ctx, id) })
	return o, refused(g.name+".Undo", err)
}

// refused tells a refusal of a policy, or its timeout, as our callers know it.
func refused(op string, err error) error {
	switch {
	case err == nil || isShop(err):
		return err
	case isRejected(err):
		return shop.Wrap(shop.Unavailable, op, "A service that is needed for this does not answer at present. Try again shortly.", err)
	default:
		return err
	}
}
