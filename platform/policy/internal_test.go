package policy_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"holdfast/platform/policy"
	"holdfast/resilience"
	"holdfast/shop"
)

// inventory and orders are services whose only calls are those that others make.
type inventory struct {
	shop.Inventory
	err   error
	hang  bool
	calls int
}

func (s *inventory) Prices(ctx context.Context, skus []shop.SKU) (map[shop.SKU]shop.Item, error) {
	s.calls++
	if s.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if s.err != nil {
		return nil, s.err
	}
	return map[shop.SKU]shop.Item{skus[0]: {SKU: skus[0]}}, nil
}

type orders struct {
	shop.Orders
	err   error
	calls int
}

func (s *orders) AllowDispatch(context.Context, shop.OrderID) error {
	s.calls++
	return s.err
}

func (s *orders) Expire(context.Context, shop.OrderID) (bool, error) {
	s.calls++
	return s.err == nil, s.err
}

func internalConfig() policy.InternalConfig {
	return policy.InternalConfig{Timeout: 2 * time.Second, Bulkhead: resilience.BulkheadConfig{Limit: 8}, Breaker: quiet()}
}

func (w *world) internal(t *testing.T) *policy.Internal {
	t.Helper()
	i, err := w.Internal(internalConfig(), "inventory", "order", "order")
	return must(t, i, err)
}

// between is the calls between services, by the name of their breakers, with the services behind them.
func between(t *testing.T, w *world) (calls map[string]func(context.Context) error, i *inventory, o *orders) {
	t.Helper()
	policies := w.internal(t)
	i, o = &inventory{}, &orders{}
	stock, placed := policies.Inventory(i), policies.Orders(o)
	return map[string]func(context.Context) error{
		"inventory.prices": func(ctx context.Context) error {
			items, err := stock.Prices(ctx, []shop.SKU{"a"})
			is(t, "an answer", items["a"].SKU == "a", err == nil)
			return err
		},
		"order.allow-dispatch": func(ctx context.Context) error { return placed.AllowDispatch(ctx, "ord_1") },
		"order.expire": func(ctx context.Context) error {
			kept, err := placed.Expire(ctx, "ord_1")
			is(t, "an answer", kept, err == nil)
			return err
		},
	}, i, o
}

func TestInternalRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		calls, i, o := between(t, w)
		for name, call := range calls {
			i.err, o.err = errDown, errDown
			for range 4 {
				is(t, name, call(t.Context()), error(errDown))
			}
			made := i.calls + o.calls
			time.Sleep(300 * time.Millisecond)
			err := call(t.Context())
			wait, _ := resilience.RetryAfter(err)
			if shop.KindOf(err) != shop.Unavailable || !errors.Is(err, resilience.ErrOpen) || wait != 700*time.Millisecond {
				t.Errorf("%s: %v, to try again in %s", name, err, wait)
			}
			is(t, name+" made", i.calls+o.calls, made)
			for other := range calls {
				if other != name {
					is(t, other+" beside "+name, w.state(t, other, "breaker").State, "closed")
				}
			}
			time.Sleep(700 * time.Millisecond)
			i.err, o.err = nil, nil
			is(t, name+" after a while", call(t.Context()), nil)
			is(t, name, w.state(t, name, "breaker").State, "closed")
		}
	})
}

// TestInternalErrors sees which errors of a service open its breaker.
func TestInternalErrors(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name  string
		err   error
		state string
	}{
		{"not found", shop.E(shop.NotFound, "t", ""), "closed"},
		{"conflict", shop.E(shop.Conflict, "t", ""), "closed"},
		{"invalid", shop.E(shop.Invalid, "t", ""), "closed"},
		{"unknown sku", shop.E(shop.UnknownSKU, "t", ""), "closed"},
		{"dispatched", shop.E(shop.OrderDispatched, "t", ""), "closed"},
		{"too many of one caller", shop.E(shop.RateLimited, "t", ""), "closed"},
		{"unavailable", shop.E(shop.Unavailable, "t", ""), "open"},
		{"overloaded", shop.E(shop.Overloaded, "t", ""), "open"},
		{"too late", shop.E(shop.DeadlineExceeded, "t", ""), "open"},
		{"internal", shop.E(shop.Internal, "t", ""), "open"},
		{"a plain error", errors.New("plain"), "open"},
		{"a refusal further in", shop.Wrap(shop.Unavailable, "t", "", &resilience.Rejection{}), "closed"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			calls, i, o := between(t, w)
			for name, call := range calls {
				i.err, o.err = c.err, c.err
				for range 20 {
					err := call(t.Context())
					if err != c.err && (c.state == "closed" || !errors.Is(err, resilience.ErrOpen)) { //nolint:errorlint // the same error, not one like it
						t.Fatal(err)
					}
				}
				is(t, name, w.state(t, name, "breaker").State, c.state)
			}
		})
	}
}

// TestInternalTimeout has a service hang, for the time of one call and for that of its caller.
func TestInternalTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		calls, i, _ := between(t, w)
		i.hang = true
		start := time.Now()
		if err := calls["inventory.prices"](t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		is(t, "gave up after", time.Since(start), 2*time.Second)
		for range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Millisecond, cancel)
			if err := calls["inventory.prices"](ctx); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		s := w.state(t, "inventory.prices", "breaker")
		is(t, "calls", s.Calls, 1) // those who left are not counted
		is(t, "failures", s.Failures, 1)
	})
}

func TestInternalReconfigure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	policies := w.internal(t)
	o := &orders{err: errDown}
	guarded := policies.Orders(o)
	_ = guarded.AllowDispatch(t.Context(), "ord_1")
	cfg := internalConfig()
	cfg.Breaker.MinCalls = 2
	if err := policies.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	_ = guarded.AllowDispatch(t.Context(), "ord_1")
	is(t, "state", w.state(t, "order.allow-dispatch", "breaker").State, "open")
	cfg.Breaker.MinCalls = 0
	if policies.Reconfigure(cfg) == nil {
		t.Error("a breaker without a minimum was taken")
	}
}
