package saga

import (
	"fmt"
	"time"

	"holdfast/platform/calls"
	"holdfast/platform/policy"
	"holdfast/resilience"
)

// Config sets the service's limits.
type Config struct {
	// Queue is the task queue of the workers. Installations that share a namespace need one each.
	Queue string `koanf:"queue"`
	// AskFor is how long a step is waited for before its workflow lays it aside and asks again later. Meanwhile
	// it takes no signal, so this is also how long a cancel may wait.
	AskFor time.Duration `koanf:"ask_for"`

	RetryMin time.Duration   `koanf:"retry_min"` // between attempts to reach Temporal
	RetryMax time.Duration   `koanf:"retry_max"`
	Calls    calls.Config    `koanf:"calls"`
	Temporal policy.Outside  `koanf:"temporal"` // the policies in front of it
	Breaker  breakerSettings `koanf:"breaker"`
}

type breakerSettings = resilience.BreakerConfig

// Defaults returns the limits used where nothing is configured.
func Defaults() Config {
	c := calls.Defaults()
	// A start takes Temporal a few milliseconds. What more of them at once would only take from the workflows that are
	// under way, after an outage for so long that starts time out and are told twice.
	c.Workers, c.UndoWorkers = 4, 4
	return Config{Queue: "holdfast-saga", AskFor: 2 * time.Second, RetryMin: 100 * time.Millisecond, RetryMax: 3 * time.Second,
		Calls: c, Temporal: policy.OutsideDefaults(), Breaker: policy.OutsideBreaker()}
}

// Policies returns the configuration of the policies in front of Temporal.
func (c Config) Policies() policy.Config {
	return c.Temporal.Config(map[string]resilience.BreakerConfig{opStart: c.Breaker, opUndo: c.Breaker, opRedrive: c.Breaker})
}

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case c.Queue == "":
		return fmt.Errorf("saga.queue must not be empty")
	case c.AskFor <= 0 || c.AskFor > localTimeout/2:
		return fmt.Errorf("saga.ask_for must be positive and at most %s: a workflow task ends soon after that", localTimeout/2)
	case c.RetryMin <= 0 || c.RetryMax < c.RetryMin:
		return fmt.Errorf("saga.retry_min must be positive and retry_max not smaller")
	case c.Temporal.CallTimeout <= 0 || c.Temporal.CallTimeout > c.Calls.Timeout:
		return fmt.Errorf("saga.temporal.call_timeout must be positive and not above saga.calls.timeout")
	}
	if err := c.Policies().Validate(); err != nil {
		return fmt.Errorf("saga.temporal.%w", err)
	}
	return c.Calls.Validate()
}
