package e2e_test

import (
	"fmt"
	"testing"

	"holdfast/app"
	"holdfast/shop"
	"holdfast/test/engines"
	"holdfast/test/harness"
	"holdfast/test/split"
)

// cell is a way of running a Holdfast.
type cell struct {
	name   string
	driver string
	kafka  bool
	split  bool // a process for each service
}

var cells = []cell{
	{name: "sqlite", driver: "sqlite"},
	{name: "postgres", driver: "postgres"},
	{name: "postgres and kafka", driver: "postgres", kafka: true},
	{name: "split", driver: "postgres", kafka: true, split: true},
}

var styles = []shop.SagaStyle{shop.Choreographed, shop.Orchestrated}

// scenario is a row of the table: what is done to a running Holdfast, and the end state that comes of it. Scenarios share
// one, so each has items and customers of its own.
type scenario struct {
	name string
	// begin does what can be done at once, and returns what waits for the end.
	begin func(t *testing.T, s *system) (end func(t *testing.T) string)
}

// now is a scenario that does everything at its turn.
func now(run func(t *testing.T, s *system) string) func(*testing.T, *system) func(*testing.T) string {
	return func(_ *testing.T, s *system) func(*testing.T) string {
		return func(t *testing.T) string { return run(t, s) }
	}
}

// scenarios are the rows. Those with outages come last, when nothing else is under way.
func scenarios() []scenario {
	return append(payments(), []scenario{
		{"no stock", short(line("NONE", 1))},
		{"one of two lines is short", short(line("MANY", 1), line("FEW", 4))},
		{"two lines of one item are short", short(line("FEW", 2), line("FEW", 2))},
		{"all that there is", exact},
		{"zero total", zeroTotal},
		{"largest order", largestOrder},
		{"cancel before dispatch", now(cancelBeforeDispatch)},
		{"cancel at any time", now(cancelAtAnyTime)},
		{"void fails for ever", now(voidFailsForEver)},
		{"same key at once", now(sameKeyAtOnce)},
		{"hot SKU", now(hotSKU)},
		{"same event twice", now(sameEventTwice)},
		{"events out of order", now(eventsOutOfOrder)},
		{"poison event", now(poisonEvent)},
		{"late success after compensation", lateSuccess},
		{"reservation expires while paying", now(expiresWhilePaying)},
		{"provider down", now(providerDown)},
		{"carrier down", now(carrierDown)},
	}...)
}

// TestScenarios runs every scenario in both styles of saga and in every way of running: each ends in the same state
// everywhere, with the stock and the provider's money where they belong. docs/scenarios.md has the states.
func TestScenarios(t *testing.T) {
	t.Parallel()
	m := &matrix{states: map[string]map[string]string{}}
	t.Cleanup(func() { m.judge(t) }) // when all cells have ended
	for _, style := range styles {
		t.Run(string(style), func(t *testing.T) {
			temporal := ""
			if style == shop.Orchestrated {
				temporal = engines.StartTemporald(t, "--data", t.TempDir(), "--namespace", "default").Addr()
			}
			for _, c := range cells {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					s := c.start(t, temporal)
					m.run(t, column(style, c), s)
					s.verify(t, s.waiting...)
					if c.split {
						t.Run("verifies itself", func(t *testing.T) { verifiesItself(t, s) })
					}
					if c.split && style == shop.Choreographed {
						t.Run("reads", func(t *testing.T) { reads(t, s) })
						t.Run("pages", func(t *testing.T) { pages(t, s) })
						t.Run("bad input", func(t *testing.T) { badInput(t, s) })
					}
				})
			}
		})
	}
}

func column(style shop.SagaStyle, c cell) string { return fmt.Sprintf("%s, %s", style, c.name) }

// start runs a Holdfast until the test ends. With a Temporal every order is orchestrated.
func (c cell) start(t *testing.T, temporal string) *system {
	t.Helper()
	prefix := ""
	if c.kafka {
		prefix = engines.SharedKafka(t).Prefix()
	}
	s := c.run(t, temporal, prefix)
	s.prefix, s.orchestrated = prefix, temporal != ""
	return s
}

func (c cell) run(t *testing.T, temporal, prefix string) *system {
	t.Helper()
	if c.split {
		if testing.Short() {
			t.Skip("it starts eight processes")
		}
		settings := map[string]string{"bus.prefix": prefix}
		if temporal != "" {
			settings["order.saga.orchestrated_percent"] = "100"
		}
		at := split.Start(t, split.Options{SharedKafka: c.kafka, Temporal: temporal, Settings: settings})
		return wrap(harness.Attach(t, app.Addresses(at.Addresses), at.Key, at.Stores))
	}
	cfg := quick(t, c.driver)
	if c.kafka {
		cfg.Bus.Seeds, cfg.Bus.Prefix = engines.SharedKafka(t).Addrs(), prefix
	}
	if temporal != "" {
		cfg.Temporal.Address, cfg.Saga.Queue, cfg.Order.Saga.OrchestratedPercent = temporal, t.Name(), 100
	}
	return start(t, cfg)
}
