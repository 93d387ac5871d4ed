package resilience

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// maxAttempts bounds what can be configured: more attempts are an outage of one's own making.
const maxAttempts = 10

// RetryConfig sets a Retry.
type RetryConfig struct {
	// Off makes one attempt.
	Off bool `koanf:"off"`
	// Attempts is how many there may be, the first included.
	Attempts int `koanf:"attempts"`
	// MaxElapsed is how long after the first attempt the last may begin; 0 sets no such bound.
	MaxElapsed time.Duration `koanf:"max_elapsed"`
	// Backoff is the wait between attempts.
	Backoff Backoff `koanf:"backoff"`
}

// RetryDefaults returns three attempts with the default backoff.
func RetryDefaults() RetryConfig { return RetryConfig{Attempts: 3, Backoff: BackoffDefaults()} }

// Validate names the first field that makes no sense. A retry that is off may have any values.
func (c RetryConfig) Validate() error {
	switch {
	case c.Off:
		return nil
	case c.Attempts < 1 || c.Attempts > maxAttempts:
		return fmt.Errorf("attempts must be in [1,%d]", maxAttempts)
	case c.MaxElapsed < 0:
		return fmt.Errorf("max_elapsed must not be negative")
	}
	return under("backoff", c.Backoff.Validate())
}

// Retry makes further attempts after failures that may pass. It belongs in one layer of a system only:
// three attempts in each of three layers are 27.
//
// There is no further attempt past the context's deadline, without a token of the budget, before the
// dependency's own Retry-After, or of an operation that is not safe to repeat. Where one is not made, the
// caller gets the last attempt's own error.
type Retry struct {
	options Options
	budget  *Budget
	config  atomic.Pointer[RetryConfig]
}

// NewRetry makes a retry for operations of a kind, and refuses Command with ErrNotAllowed. The budget is
// that of the dependency; without one (nil) the only bound is the number of attempts.
func NewRetry(c RetryConfig, k Kind, budget *Budget, o Options) (*Retry, error) {
	if !k.Repeatable() {
		return nil, fmt.Errorf("retry of %s (%s): %w", o.Label, k, ErrNotAllowed)
	}
	r := &Retry{options: o, budget: budget}
	return r, r.Reconfigure(c)
}

// Reconfigure changes the configuration, from the next decision on.
func (r *Retry) Reconfigure(c RetryConfig) error {
	if err := c.Validate(); err != nil {
		return err
	}
	r.config.Store(&c)
	return nil
}

// Config returns the configuration in force.
func (r *Retry) Config() RetryConfig { return *r.config.Load() }

// Run calls f until it succeeds or there is no further attempt, and returns its last error. Errors are
// classified with Classify.
func (r *Retry) Run(ctx context.Context, f func(context.Context) error) error {
	if r.budget != nil {
		r.budget.Call()
	}
	tries := tries{began: now()}
	deadline := deadlineOf(ctx)
	for {
		tries.made++
		err := f(ctx)
		v := Classify(err)
		if left(ctx, err) {
			v = Verdict{}
		}
		delay, more := r.next(&tries, v, deadline, err, nil)
		if !more || !r.pause(ctx, &tries, delay, err) {
			return err
		}
	}
}

// tries are the attempts of one call.
type tries struct {
	made     int
	previous time.Duration // wait
	began    instant
}

// next decides whether there is a further attempt, and takes its token. The breaker may be nil.
func (r *Retry) next(t *tries, v Verdict, deadline instant, err error, b *Breaker) (delay time.Duration, more bool) {
	if v.Outcome != Failure || !v.Retryable {
		return 0, false
	}
	delay, why := r.decide(r.config.Load(), t, v, deadline, b)
	if why == GiveUpNot {
		return delay, true
	}
	r.gaveUp(why, t.made, err)
	return 0, false
}

func (r *Retry) gaveUp(why GiveUp, attempts int, err error) {
	if r.options.Observer != nil {
		r.options.Observer.GaveUp(GiveUpEvent{Label: r.options.Label, Reason: why, Attempts: attempts, Err: err})
	}
}

func (r *Retry) decide(c *RetryConfig, t *tries, v Verdict, deadline instant, b *Breaker) (time.Duration, GiveUp) {
	if c.Off || t.made >= c.Attempts {
		return 0, GiveUpAttempts
	}
	delay := max(v.RetryAfter, c.Backoff.Delay(t.made, t.previous, r.options.Random))
	at := now()
	then := at.add(delay)
	switch {
	case then >= deadline:
		return 0, GiveUpDeadline
	case c.MaxElapsed > 0 && then.sub(t.began) > c.MaxElapsed:
		return 0, GiveUpElapsed
	}
	if b != nil {
		if ready, wait := b.readyAt(at); !ready && wait > delay {
			return 0, GiveUpOpen
		}
	}
	if r.budget != nil && !r.budget.TryRetry() {
		return 0, GiveUpBudget
	}
	return delay, GiveUpNot
}

// pause waits before a further attempt. It is false where the context ended, and then the token goes back.
func (r *Retry) pause(ctx context.Context, t *tries, delay time.Duration, err error) bool {
	if r.options.Observer != nil {
		r.options.Observer.Retried(RetryEvent{Label: r.options.Label, Number: t.made + 1, Delay: delay, Err: err})
	}
	t.previous = delay
	if sleep(ctx, delay) == nil {
		return true
	}
	r.giveBack()
	return false
}

// giveBack returns the token of a retry that was not made.
func (r *Retry) giveBack() {
	if r.budget != nil {
		r.budget.Return()
	}
}
