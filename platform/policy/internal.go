package policy

import (
	"context"
	"time"

	"holdfast/resilience"
	"holdfast/shop"
)

// InternalConfig sets the policy of the calls from one of our services to another. There is no retry in
// it: whoever asked from outside repeats its request, and so does the bus, and the carrier its webhook.
type InternalConfig struct {
	Timeout  time.Duration             `koanf:"timeout"`
	Bulkhead resilience.BulkheadConfig `koanf:"bulkhead"`
	Breaker  resilience.BreakerConfig  `koanf:"breaker"`
}

// InternalDefaults returns 1,024 calls at once, of 10 s at most, and a breaker that looks again after
// half a second.
func InternalDefaults() InternalConfig {
	b := resilience.BreakerDefaults()
	b.OpenFor = storeOpenFor
	return InternalConfig{Timeout: 10 * time.Second, Bulkhead: resilience.BulkheadConfig{Limit: 1024}, Breaker: b}
}

// Validate names the first setting that cannot work.
func (c InternalConfig) Validate() error { return c.config(nil).Validate() }

func (c InternalConfig) config(operations []resilience.Operation) Config {
	all := Config{Bulkhead: c.Bulkhead, UndoBulkhead: c.Bulkhead, Budget: resilience.BudgetDefaults(), Operations: map[string]resilience.PolicyConfig{}}
	for _, op := range append(operations, resilience.Operation{Name: "any"}) {
		all.Operations[op.Name] = resilience.PolicyConfig{Timeout: resilience.TimeoutConfig{Attempt: c.Timeout}, Retry: resilience.RetryConfig{Off: true}, Breaker: c.Breaker}
	}
	return all
}

// Internal are the policies in front of the services, for those of them that other services call.
type Internal struct {
	inventory, orders *Dependency
}

// The operations of services that others call.
var (
	inventoryOps = []resilience.Operation{{Name: "prices", Kind: resilience.ExactRead, RespectsContext: true, Classify: Classify}}
	ordersOps    = []resilience.Operation{
		{Name: "allow-dispatch", Kind: resilience.IdempotentCommand, Criticality: resilience.Critical, RespectsContext: true, Classify: Classify},
		{Name: "expire", Kind: resilience.IdempotentCommand, Criticality: resilience.Critical, RespectsContext: true, Classify: Classify},
	}
)

// Internal adds the policies in front of our own services.
func (s *Set) Internal(cfg InternalConfig) (*Internal, error) {
	i := &Internal{}
	var err error
	if i.inventory, err = s.Dependency("inventory", cfg.config(inventoryOps), inventoryOps...); err != nil {
		return nil, err
	}
	i.orders, err = s.Dependency("order", cfg.config(ordersOps), ordersOps...)
	return i, err
}

// Reconfigure changes the policies without losing their state.
func (i *Internal) Reconfigure(cfg InternalConfig) error {
	if err := i.inventory.Reconfigure(cfg.config(inventoryOps)); err != nil {
		return err
	}
	return i.orders.Reconfigure(cfg.config(ordersOps))
}

// Inventory puts the policies before what other services ask of the inventory.
func (i *Internal) Inventory(next shop.Inventory) shop.Inventory {
	return inventoryGuard{next, i.inventory.Policy("prices")}
}

// Orders puts the policies before what other services ask of the orders.
func (i *Internal) Orders(next shop.Orders) shop.Orders {
	return ordersGuard{next, i.orders.Policy("allow-dispatch"), i.orders.Policy("expire")}
}

type inventoryGuard struct {
	shop.Inventory
	prices *resilience.Policy
}

func (g inventoryGuard) Prices(ctx context.Context, skus []shop.SKU) (map[shop.SKU]shop.Item, error) {
	items, err := resilience.Do(ctx, g.prices, func(ctx context.Context) (map[shop.SKU]shop.Item, error) { return g.Inventory.Prices(ctx, skus) })
	return items, refused("inventory.Prices", err)
}

type ordersGuard struct {
	shop.Orders
	allowDispatch, expire *resilience.Policy
}

func (g ordersGuard) AllowDispatch(ctx context.Context, id shop.OrderID) error {
	return refused("orders.AllowDispatch", g.allowDispatch.Run(ctx, func(ctx context.Context) error { return g.Orders.AllowDispatch(ctx, id) }))
}

func (g ordersGuard) Expire(ctx context.Context, id shop.OrderID) (bool, error) {
	kept, err := resilience.Do(ctx, g.expire, func(ctx context.Context) (bool, error) { return g.Orders.Expire(ctx, id) })
	return kept, refused("orders.Expire", err)
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
