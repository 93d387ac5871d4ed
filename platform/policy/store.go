package policy

import (
	"context"
	"errors"
	"sync/atomic"

	"holdfast/resilience"
	"holdfast/shop"
)

// StoreConfig sets what stands before the connections of a service's store: an admission, so that more
// transactions than it can serve are refused instead of waiting, and a breaker each for reading and
// writing, since a full disk fails the one and not the other.
type StoreConfig struct {
	Admission resilience.AdmissionConfig `koanf:"admission"`
	Read      resilience.BreakerConfig   `koanf:"read"`
	Write     resilience.BreakerConfig   `koanf:"write"`
}

// StoreDefaults returns breakers that open for half a second, since asking a store on this machine costs
// nothing, and an admission that leaves room for undoing when everything else is taken.
func StoreDefaults() StoreConfig {
	b := resilience.BreakerDefaults()
	b.OpenFor, b.ProbeLease = storeOpenFor, storeProbeLease
	return StoreConfig{Read: b, Write: b, Admission: resilience.AdmissionConfig{Limit: storeLimit, SheddableShare: 0.5, NormalShare: 0.9, UndoLane: 256, RetryAfter: retryAfter}}
}

// Validate names the first setting that cannot work.
func (c StoreConfig) Validate() error {
	return errors.Join(section("admission", c.Admission.Validate()), section("read", c.Read.Validate()), section("write", c.Write.Validate()))
}

// Store guards a service's store; it is a sqldb.Guard.
type Store struct {
	clock       shop.Clock
	admission   *resilience.Admission
	read, write *resilience.Breaker
	why         atomic.Pointer[string] // what the latest failure said, for those who are refused because of it
}

// Store adds the guard of a service's store under the name "<service> store".
func (s *Set) Store(service string, cfg StoreConfig) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	name := service + "-store"
	g := &Store{clock: s.deps.Clock}
	var err error
	if g.admission, err = s.admission(name, cfg.Admission); err != nil {
		return nil, err
	}
	if g.read, err = s.breaker(name, "read", cfg.Read); err != nil {
		return nil, err
	}
	if g.write, err = s.breaker(name, "write", cfg.Write); err != nil {
		return nil, err
	}
	return g, nil
}

// Reconfigure changes the configuration without losing state.
func (g *Store) Reconfigure(cfg StoreConfig) error {
	return errors.Join(g.admission.Reconfigure(cfg.Admission), g.read.Reconfigure(cfg.Read), g.write.Reconfigure(cfg.Write))
}

// Enter lets a transaction in where the store is up and has room. The criticality is that of the
// context; what says nothing is work that goes on behind the requests, and critical.
func (g *Store) Enter(ctx context.Context, write bool) (func(error), error) {
	criticality, ok := resilience.CriticalityFrom(ctx)
	if !ok {
		criticality = resilience.Critical
	}
	ticket, err := g.admission.Admit(criticality)
	if err != nil {
		return nil, shop.Wrap(shop.Overloaded, "policy.Store", "The store has too much to do. Try again shortly.", err)
	}
	breaker := g.read
	if write {
		breaker = g.write
	}
	permit, err := breaker.Acquire()
	if err != nil {
		ticket.Done(resilience.Neutral)
		return nil, shop.Wrap(shop.Unavailable, "policy.Store", g.refusal(err), err)
	}
	begun := g.clock.Now()
	return func(err error) {
		o := storeOutcome(ctx, err)
		if o == resilience.Failure && errors.Is(err, context.DeadlineExceeded) && g.clock.Now().Sub(begun) < storePatience {
			o = resilience.Neutral // of a caller in a hurry, who could open the breaker for all others
		}
		if o == resilience.Failure {
			g.note(err)
		}
		permit.Done(o)
		ticket.Done(o)
	}, nil
}

// note keeps what a failure says is wrong.
func (g *Store) note(err error) {
	why := "it does not answer in time"
	var e *shop.Error
	if errors.As(err, &e) {
		why = e.Msg
	}
	g.why.Store(&why)
}

// refusal is the message for those who find the breaker open.
func (g *Store) refusal(err error) string {
	why := "an operator has closed it"
	var r *resilience.Rejection
	if known := g.why.Load(); known != nil && errors.As(err, &r) && r.Reason != resilience.ReasonForcedOpen {
		why = *known
	}
	return "The store is not used at present: " + why + ". Try again shortly."
}

// storeOutcome is what a transaction's end tells about its store. Errors of the transaction's own
// function tell that it was reached.
func storeOutcome(ctx context.Context, err error) resilience.Outcome {
	switch {
	case err == nil:
		return resilience.Success
	case errors.Is(ctx.Err(), context.Canceled):
		return resilience.Neutral
	case shop.KindOf(err) == shop.Unavailable, errors.Is(err, context.DeadlineExceeded):
		return resilience.Failure
	default:
		return resilience.Success
	}
}
