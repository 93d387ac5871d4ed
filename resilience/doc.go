// Package resilience guards calls to dependencies that fail, hang, or are too much loaded, and guards them
// from us. It has no dependency but the standard library, never logs, and starts no goroutine of its own.
//
// # One call
//
// A [Policy] guards one operation of one dependency. [Do] passes a call through its parts in this order,
// the outermost first:
//
//	total deadline      Timeout.Total, or the caller's own where that is sooner
//	admission           Admission: the least critical calls are refused first
//	retry               Retry, within the dependency's Budget; here and in no other layer
//	  breaker           Breaker: one for each operation
//	    bulkhead        Bulkhead: one for the dependency
//	      timeout       Timeout.Attempt
//	        the call
//
// A [Fallback] is asked after all that, where the caller has one ([DoOr]); a hedge (HedgeConfig) makes two
// attempts of one, each through breaker, bulkhead and timeout.
//
// The order matters. The breaker is inside of the retry, so that it sees each attempt; a retry that it
// would refuse is not made. The bulkhead is inside of the breaker, so that an open breaker holds no slots.
// The timeout is inside of the bulkhead, so that the wait for a slot is not taken for the dependency's
// slowness. What a policy of ours refuses is neutral for all policies outside of it: it tells nothing
// about the dependency.
//
// Make the shared parts once, and a policy for each operation:
//
//	bulkhead, err := resilience.NewBulkhead(resilience.BulkheadDefaults(), resilience.Options{Label: psp})
//	budget, err := resilience.NewBudget(resilience.BudgetDefaults(), resilience.Options{Label: psp})
//	authorise, err := resilience.NewPolicy(
//		resilience.Operation{Dependency: "psp", Name: "authorise", Kind: resilience.IdempotentCommand},
//		resilience.PolicyDefaults(),
//		resilience.Deps{Bulkhead: bulkhead, Budget: budget})
//	...
//	answer, err := resilience.Do(ctx, authorise, func(ctx context.Context) (Answer, error) { ... })
//
// Each part can be used on its own as well: [Breaker], [Bulkhead], [AdaptiveLimit], [Admission], [Retry],
// [Backoff], [Budget], [Timeout], [Fallback], [RateLimit]. Most have a Run for a function, and a way to
// acquire and give back for everything else.
//
// # The breaker
//
//	                  failure or slow-call rate reached
//	        +--------+ ------------------------------> +------+ <-------------+
//	------> | Closed |                                 | Open |               |
//	        +--------+ <----------+        +---------- +------+               |
//	                              |        | OpenFor is over, and a call      |
//	              ProbeSuccesses  |        v comes: it is the first probe     |
//	              are reached     +- +----------+                             |
//	                                 | HalfOpen | ----------------------------+
//	                                 +----------+   a probe fails or is slow
//
// Each state is a generation, and a result counts only in the generation that its call was admitted in. A
// probe has a lease, so that one that hangs does not keep the others out. All of it is derived from the
// monotonic clock when a call comes.
//
// # What a result means
//
// A classifier (Operation.Classify, Call.Classify) makes a [Verdict] of a result: success, failure or
// neutral; worth another attempt or not; and how long the dependency asks to wait. A declined card is a
// success of the payment provider. Without a classifier nil is a success and an error a failure, see
// [Classify]. The caller's own cancellation is always neutral.
//
// # What may be done about a failure
//
// The [Kind] of an operation says that, in code. A Command has one attempt. An IdempotentCommand, which
// carries its idempotency key, may be retried. An ExactRead, of money or stock, may be hedged as well. Only
// a Read may have a fallback: that needs a [ReadPolicy], so the others do not compile.
//
// # Functions that do not return
//
// Where a policy has a timeout, a function runs on a goroutine of its own, unless its operation declares
// that it respects its context. The caller returns 10 ms after the deadline at the latest. The function
// keeps its slot of the bulkhead until it really ends, so that the dependency never sees more calls than
// the limit, and then its result is given to Call.Late and Observer.Late: it may be money. The breaker is
// told of a failure at the deadline, since a dependency that hangs must open it.
//
// # Cost
//
// A call that succeeds, through a breaker with a sliding window, a bulkhead and a retry with its budget,
// allocates nothing and takes 80 ns with a time window, 50 with a count window, and 105 with a slow-call
// rate. A rejection by an open breaker takes 28 ns. A reading of the clock is 25 of them (EPYC, 2.6 GHz).
// Durations are measured only where they are needed: with an Observer, a slow-call rate, hedging, or an
// adaptive limit, at two readings for a call; with an Observer that does nothing a call takes 150 ns. A
// timeout of ours costs a context and, where the operation does not respect contexts, a goroutine: 1 to
// 3 us.
//
// # Configuration
//
// Configurations are plain structs with defaults and a Validate that names the field. Each policy takes a
// new one while it runs, with Reconfigure, and keeps its state. Each has a way to be off, so that it can
// be turned off by a configuration file and stay in the code.
package resilience
