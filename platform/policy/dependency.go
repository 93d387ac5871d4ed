package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"holdfast/resilience"
	"holdfast/shop"
)

// Config is the configuration of the policies in front of one dependency.
type Config struct {
	// Bulkhead bounds the calls to it that are under way. UndoBulkhead is that of the operations that
	// give back money or stock: an outage that fills the one must not keep the others out.
	Bulkhead     resilience.BulkheadConfig
	UndoBulkhead resilience.BulkheadConfig
	Budget       resilience.BudgetConfig
	Operations   map[string]resilience.PolicyConfig
}

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	errs := []error{section("bulkhead", c.Bulkhead.Validate()), section("undo_bulkhead", c.UndoBulkhead.Validate()), section("budget", c.Budget.Validate())}
	for _, name := range slices.Sorted(maps.Keys(c.Operations)) {
		errs = append(errs, section(name, c.Operations[name].Validate()))
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Dependency is the policies in front of one dependency: one for each operation, with a bulkhead and a
// retry budget that the operations share.
type Dependency struct {
	name           string
	bulkhead, undo *resilience.Bulkhead
	budget         *resilience.Budget
	policies       map[string]*resilience.Policy
}

// Dependency adds the policies of a dependency. Each operation has a configuration of its name.
func (s *Set) Dependency(name string, cfg Config, operations ...resilience.Operation) (*Dependency, error) {
	d := &Dependency{name: name, policies: make(map[string]*resilience.Policy, len(operations))}
	var err error
	if d.bulkhead, err = s.bulkhead(name, "", cfg.Bulkhead); err != nil {
		return nil, section(name, err)
	}
	if d.undo, err = s.bulkhead(name, "undo", cfg.UndoBulkhead); err != nil {
		return nil, section(name, err)
	}
	if d.budget, err = s.budget(name, cfg.Budget); err != nil {
		return nil, section(name, err)
	}
	for _, op := range operations {
		op.Dependency = name
		c, ok := cfg.Operations[op.Name]
		if !ok {
			return nil, fmt.Errorf("%s has no configuration of its operation %s", name, op.Name)
		}
		bulkhead := d.bulkhead
		if op.Criticality == resilience.Undo {
			bulkhead = d.undo
		}
		o := s.options(name, op.Name)
		p, err := resilience.NewPolicy(op, c, resilience.Deps{Bulkhead: bulkhead, Budget: d.budget, Observer: o.Observer, Random: o.Random})
		if err != nil {
			return nil, err
		}
		d.policies[op.Name] = p
		add(&s.mu, &s.policies, p, nil)
		add(&s.mu, &s.breakers, p.Breaker(), nil)
	}
	return d, nil
}

// Policy returns the policy of an operation, which must be one of those that the dependency was made with.
func (d *Dependency) Policy(operation string) *resilience.Policy {
	p := d.policies[operation]
	if p == nil {
		panic(d.name + " has no operation " + operation) // a mistake in the program, found by its first call
	}
	return p
}

// For returns the policies of some operations by name.
func (d *Dependency) For(operations ...string) map[string]*resilience.Policy {
	found := make(map[string]*resilience.Policy, len(operations))
	for _, name := range operations {
		found[name] = d.Policy(name)
	}
	return found
}

// Budget is the retry budget that the operations share.
func (d *Dependency) Budget() *resilience.Budget { return d.budget }

// Reconfigure changes the configuration without losing state. Where one part is refused the others are
// changed all the same; validate first.
func (d *Dependency) Reconfigure(cfg Config) error {
	errs := []error{d.bulkhead.Reconfigure(cfg.Bulkhead), d.undo.Reconfigure(cfg.UndoBulkhead), d.budget.Reconfigure(cfg.Budget)}
	for name, c := range cfg.Operations {
		if p := d.policies[name]; p != nil {
			errs = append(errs, p.Reconfigure(c))
		}
	}
	return errors.Join(errs...)
}

func isShop(err error) bool {
	var e *shop.Error
	return errors.As(err, &e)
}

func isRejected(err error) bool { return errors.Is(err, resilience.ErrRejected) }

// Classify judges the errors of our own services, by their kind: what says that a service could not is a
// failure, and what says no is a success of the one that was asked.
func Classify(err error) resilience.Verdict {
	if err == nil {
		return resilience.Verdict{Outcome: resilience.Success}
	}
	if errors.Is(err, resilience.ErrRejected) {
		return resilience.Verdict{Outcome: resilience.Neutral} // also where it was in another process
	}
	switch shop.KindOf(err) {
	case shop.Unavailable, shop.Overloaded, shop.DeadlineExceeded, shop.Internal:
		v := resilience.Classify(err)
		v.Retryable = shop.KindOf(err).Retryable()
		return v
	default:
		return resilience.Verdict{Outcome: resilience.Success}
	}
}
