package policy

import (
	"time"

	"holdfast/resilience"
)

// Outside are the policies in front of an outside party whose calls are kept in a store, which also
// repeats them (platform/calls). What differs from operation to operation stands beside it.
type Outside struct {
	// CallTimeout is for one request.
	CallTimeout time.Duration `koanf:"call_timeout"`
	// Bulkhead bounds the requests under way; UndoBulkhead those that give back money or stock.
	Bulkhead     resilience.BulkheadConfig `koanf:"bulkhead"`
	UndoBulkhead resilience.BulkheadConfig `koanf:"undo_bulkhead"`
	// Budget bounds the repetitions of all operations together.
	Budget resilience.BudgetConfig `koanf:"budget"`
}

// OutsideDefaults returns 64 requests at once and 16 that undo something, each for 3 s at most, and a
// tenth of them again, but at least 10 a second: where few orders come, each of them counts.
func OutsideDefaults() Outside {
	queue := resilience.BulkheadConfig{Limit: 64, Queue: 64, MaxWait: time.Second}
	undo := queue
	undo.Limit, undo.Queue = 16, 16
	return Outside{CallTimeout: 3 * time.Second, Bulkhead: queue, UndoBulkhead: undo, Budget: resilience.BudgetConfig{Ratio: 0.1, Burst: 20, PerSecond: 10}}
}

// OutsideBreaker returns the breaker of an operation at an outside party: it opens at half failures of the
// last 50 calls, so that it does so as fast after a busy time as after a quiet one, and looks again after a
// second each time, so that a recovery is found within 5 s even where a probe has to time out first.
func OutsideBreaker() resilience.BreakerConfig {
	b := resilience.BreakerDefaults()
	b.WindowTime, b.WindowBuckets, b.WindowCalls = 0, 0, 50
	b.OpenFor, b.OpenMax = time.Second, time.Second
	return b
}

// Config joins o with the breakers of the operations.
func (o Outside) Config(breakers map[string]resilience.BreakerConfig) Config {
	c := Config{Bulkhead: o.Bulkhead, UndoBulkhead: o.UndoBulkhead, Budget: o.Budget, Operations: make(map[string]resilience.PolicyConfig, len(breakers))}
	for name, b := range breakers {
		c.Operations[name] = resilience.PolicyConfig{Timeout: resilience.TimeoutConfig{Attempt: o.CallTimeout}, Retry: resilience.RetryConfig{Off: true}, Breaker: b}
	}
	return c
}
