// Package policy keeps the resilience policies of a process: makes them from the configuration, counts
// what they do, and lets an operator see and steer them.
package policy

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"holdfast/platform/telemetry"
	"holdfast/resilience"
	"holdfast/shop"
)

const (
	storeOpenFor    = 500 * time.Millisecond
	storeProbeLease = 10 * time.Second
	storeLimit      = 2048
	storePatience   = time.Second
	retryAfter      = time.Second
)

// Set is the policies of a process. It is filled while the process is put together, and read afterwards.
type Set struct {
	deps        shop.Deps
	log         *slog.Logger
	instruments *instruments

	mu         sync.Mutex
	policies   []*resilience.Policy // each with its breaker, which stands in breakers, too
	breakers   []*resilience.Breaker
	bulkheads  []*resilience.Bulkhead
	budgets    []*resilience.Budget
	admissions []*resilience.Admission
	limits     []*resilience.RateLimit
	watchers   map[resilience.Label]*watcher
	retried    map[*resilience.Budget]uint64 // as the metrics showed it last
}

// New makes an empty set.
func New(deps shop.Deps, tel *telemetry.Telemetry) (*Set, error) {
	s := &Set{deps: deps, log: deps.Log, watchers: make(map[resilience.Label]*watcher), retried: make(map[*resilience.Budget]uint64)}
	var err error
	if s.instruments, err = newInstruments(tel.Meter); err != nil {
		return nil, fmt.Errorf("metrics of the policies: %w", err)
	}
	return s, s.gauges(tel.Meter)
}

// options are what a policy of the set is made with.
func (s *Set) options(dependency, operation string) resilience.Options {
	label := resilience.Label{Dependency: dependency, Operation: operation}
	return resilience.Options{Label: label, Observer: s.watcher(label), Random: s.deps.Rand.Float64}
}

// watcher returns the observer of a label, the same one each time.
func (s *Set) watcher(label resilience.Label) *watcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.watchers[label]
	if w == nil {
		w = newWatcher(s.instruments, s.log, label)
		s.watchers[label] = w
	}
	return w
}

func (s *Set) breaker(dependency, operation string, cfg resilience.BreakerConfig) (*resilience.Breaker, error) {
	b, err := resilience.NewBreaker(cfg, s.options(dependency, operation))
	add(&s.mu, &s.breakers, b, err)
	return b, section(operation, err)
}

func (s *Set) bulkhead(dependency, operation string, cfg resilience.BulkheadConfig) (*resilience.Bulkhead, error) {
	b, err := resilience.NewBulkhead(cfg, s.options(dependency, operation))
	add(&s.mu, &s.bulkheads, b, err)
	return b, section("bulkhead", err)
}

func (s *Set) budget(dependency string, cfg resilience.BudgetConfig) (*resilience.Budget, error) {
	b, err := resilience.NewBudget(cfg, s.options(dependency, ""))
	add(&s.mu, &s.budgets, b, err)
	return b, section("budget", err)
}

func (s *Set) admission(dependency string, cfg resilience.AdmissionConfig) (*resilience.Admission, error) {
	a, err := resilience.NewAdmission(cfg, s.options(dependency, ""))
	add(&s.mu, &s.admissions, a, err)
	return a, section("admission", err)
}

// Observer counts for a policy that is made elsewhere. A fallback of it is named, so that its series are there from the
// start, too.
func (s *Set) Observer(dependency, operation string, fallbacks ...string) resilience.Observer {
	o := s.options(dependency, operation).Observer
	if w, counts := o.(*watcher); counts {
		for _, source := range fallbacks {
			w.set.fallbacks.Add(context.Background(), 0, w.fallback(source, resilience.Success))
			w.set.fallbacks.Add(context.Background(), 0, w.fallback(source, resilience.Failure))
		}
	}
	return o
}

// Admission adds the admission of a server.
func (s *Set) Admission(name string, cfg resilience.AdmissionConfig) (*resilience.Admission, error) {
	return s.admission(name, cfg)
}

// RateLimit adds the rate limit of a server's callers.
func (s *Set) RateLimit(name string, cfg resilience.RateLimitConfig) (*resilience.RateLimit, error) {
	l, err := resilience.NewRateLimit(cfg, s.options(name, ""))
	add(&s.mu, &s.limits, l, err)
	return l, section("rate_limit", err)
}

func add[P any](mu *sync.Mutex, all *[]P, p P, err error) {
	if err != nil {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	*all = append(slices.Clip(*all), p) // a copy: List reads the old one
}

// section says in which part of the configuration an error is.
func section(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s.%w", name, err)
}
