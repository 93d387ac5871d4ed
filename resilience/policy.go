package resilience

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Operation is one operation of one dependency, as far as the code knows it and a configuration must not
// change it. The zero Kind is the careful one.
type Operation struct {
	Dependency string
	Name       string
	Kind       Kind
	// Criticality is that of calls that do not say otherwise; see also WithCriticality.
	Criticality Criticality
	// RespectsContext declares that the function returns soon after its context has ended. It is then
	// called on the caller's goroutine; others are called on their own where the policy has a timeout.
	RespectsContext bool
	// Classify judges errors; nil is the function Classify. It is not asked about a caller's own
	// cancellation, nor about a function that was left to itself.
	Classify func(error) Verdict
}

// Label returns the operation's name in events.
func (o Operation) Label() Label { return Label{Dependency: o.Dependency, Operation: o.Name} }

// PolicyConfig sets the parts of a Policy that belong to one operation.
type PolicyConfig struct {
	Timeout TimeoutConfig `koanf:"timeout"`
	Retry   RetryConfig   `koanf:"retry"`
	Breaker BreakerConfig `koanf:"breaker"`
	Hedge   HedgeConfig   `koanf:"hedge"`
}

// PolicyDefaults returns the defaults of the parts, without hedging.
func PolicyDefaults() PolicyConfig {
	return PolicyConfig{Timeout: TimeoutDefaults(), Retry: RetryDefaults(), Breaker: BreakerDefaults()}
}

// Validate names the first field that makes no sense, with its section: "breaker.min_calls".
func (c PolicyConfig) Validate() error {
	if err := under("timeout", c.Timeout.Validate()); err != nil {
		return err
	}
	if err := under("retry", c.Retry.Validate()); err != nil {
		return err
	}
	if err := under("breaker", c.Breaker.Validate()); err != nil {
		return err
	}
	if !c.Breaker.Off && c.Timeout.Attempt > 0 && c.Breaker.ProbeLease <= c.Timeout.Attempt {
		return fmt.Errorf("breaker.probe_lease must be longer than timeout.attempt, or slow probes never count")
	}
	return under("hedge", c.Hedge.Validate())
}

// Deps are what a Policy works with. All may be missing.
type Deps struct {
	// Bulkhead, Budget and Admission are shared by the operations of a dependency. Without a bulkhead or
	// an admission there is none; without a budget the policy has one of its own, with the defaults.
	Bulkhead  *Bulkhead
	Budget    *Budget
	Admission *Admission
	Observer  Observer
	Random    func() float64 // see Options
}

// Policy guards the calls to one operation of one dependency, with all policies in their order: total
// deadline, admission, retry, breaker, bulkhead, timeout of the attempt. See Do, DoCall, DoOr and Try.
type Policy struct {
	op        Operation
	options   Options
	admission *Admission
	retry     *Retry
	breaker   *Breaker
	bulkhead  *Bulkhead
	latency   quantiles
	set       atomic.Pointer[policySet]
	mu        sync.Mutex // one Reconfigure at a time
}

// policySet is a configuration with what follows from it for each call.
type policySet struct {
	config   PolicyConfig
	total    time.Duration
	attempt  time.Duration
	measures bool // when calls begin and end
	detaches bool // runs functions on goroutines of their own
	hedges   bool
	lean     bool // nothing but breaker, bulkhead and retry: see lean
}

// NewPolicy makes a policy. It refuses a hedge of what is not a read with ErrNotAllowed.
func NewPolicy(op Operation, c PolicyConfig, d Deps) (*Policy, error) {
	p := &Policy{op: op, options: Options{Label: op.Label(), Observer: d.Observer, Random: d.Random}, admission: d.Admission, bulkhead: d.Bulkhead}
	if p.op.Classify == nil {
		p.op.Classify = Classify
	}
	set, err := p.newSet(c)
	if err != nil {
		return nil, err
	}
	if d.Budget == nil {
		if d.Budget, err = NewBudget(BudgetDefaults(), p.options); err != nil {
			return nil, err
		}
	}
	p.retry = &Retry{options: p.options, budget: d.Budget}
	if err := p.retry.Reconfigure(c.Retry); err != nil {
		return nil, err
	}
	if p.breaker, err = NewBreaker(c.Breaker, p.options); err != nil {
		return nil, err
	}
	p.set.Store(set)
	return p, nil
}

func (p *Policy) newSet(c PolicyConfig) (*policySet, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", p.options.Label, err)
	}
	if !c.Hedge.Off() && !p.op.Kind.Hedgeable() {
		return nil, fmt.Errorf("hedge of %s (%s): %w", p.options.Label, p.op.Kind, ErrNotAllowed)
	}
	s := &policySet{config: c, total: c.Timeout.Total, attempt: c.Timeout.Attempt, hedges: !c.Hedge.Off()}
	s.measures = p.options.Observer != nil || s.hedges || c.Breaker.SlowRate > 0
	s.detaches = !p.op.RespectsContext && (s.total > 0 || s.attempt > 0)
	s.lean = p.options.Observer == nil && !s.hedges && s.total == 0 && s.attempt == 0 && p.admission == nil
	return s, nil
}

// Reconfigure changes the configuration of the operation's own parts. Calls under way keep their
// timeouts; nothing else of the state is lost, see Breaker.Reconfigure. Where c is not valid nothing
// changes.
func (p *Policy) Reconfigure(c PolicyConfig) error {
	set, err := p.newSet(c)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.retry.Reconfigure(c.Retry); err != nil {
		return err
	}
	if err := p.breaker.Reconfigure(c.Breaker); err != nil {
		return err
	}
	p.set.Store(set)
	return nil
}

// Operation returns what the policy guards.
func (p *Policy) Operation() Operation { return p.op }

// Breaker returns the operation's breaker, for operators and for Ready.
func (p *Policy) Breaker() *Breaker { return p.breaker }

// Budget returns the dependency's budget.
func (p *Policy) Budget() *Budget { return p.retry.budget }

// Readiness says whether a call would be admitted now.
type Readiness struct {
	Ready  bool
	Reason Reason // where it is not
	// Wait is until a probe may go, where the breaker is the reason; 0 where it is not known.
	Wait time.Duration
}

// Ready tells whether an attempt would find the breaker closed or a probe's place free, and a slot. It
// changes nothing, so it promises nothing to two callers at once. Whoever keeps calls in a database can
// leave them there for as long.
func (p *Policy) Ready() Readiness {
	if ready, wait := p.breaker.Ready(); !ready {
		reason := ReasonOpen
		switch p.breaker.State() {
		case ForcedOpen:
			reason = ReasonForcedOpen
		case HalfOpen:
			reason = ReasonProbing
		}
		return Readiness{Reason: reason, Wait: wait}
	}
	if p.bulkhead != nil && !p.bulkhead.Ready() {
		return Readiness{Reason: ReasonFull}
	}
	return Readiness{Ready: true}
}

// PolicyStats is a policy at one instant. Bulkhead, Budget and Admission are those of the dependency.
type PolicyStats struct {
	Label     Label
	Kind      Kind
	Breaker   BreakerStats
	Bulkhead  *BulkheadStats // nil where there is none
	Budget    BudgetStats
	Admission *AdmissionStats // nil where there is none
	// HedgeDelay is the wait before a second attempt; 0 where there is no hedging.
	HedgeDelay time.Duration
	Config     PolicyConfig
}

// Stats returns the state of all parts and the configuration in force.
func (p *Policy) Stats() PolicyStats {
	s := p.set.Load()
	out := PolicyStats{Label: p.options.Label, Kind: p.op.Kind, Breaker: p.breaker.Stats(), Budget: p.retry.budget.Stats(), Config: s.config}
	if p.bulkhead != nil {
		b := p.bulkhead.Stats()
		out.Bulkhead = &b
	}
	if p.admission != nil {
		a := p.admission.Stats()
		out.Admission = &a
	}
	if s.hedges {
		out.HedgeDelay = p.latency.delay(&s.config.Hedge)
	}
	return out
}

func (p *Policy) hedged(stage HedgeStage, delay time.Duration) {
	if p.options.Observer != nil {
		p.options.Observer.Hedged(HedgeEvent{Label: p.options.Label, Stage: stage, Delay: delay})
	}
}

// Run is Do for a function without a value.
func (p *Policy) Run(ctx context.Context, f func(context.Context) error) error {
	_, err := Do(ctx, p, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}
