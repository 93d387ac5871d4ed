// Package payment is the payment service: it holds, takes and gives back the money of orders at an
// outside provider, and keeps the double-entry ledger of it.
package payment

import (
	"context"
	"embed"
	"encoding/json"
	"io/fs"

	"holdfast/platform/bus"
	"holdfast/platform/calls"
	"holdfast/platform/outbox"
	"holdfast/platform/policy"
	"holdfast/platform/run"
	"holdfast/platform/sqldb"
	"holdfast/platform/steps"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

// Name is the service's name everywhere: folder, event source, consumer group, telemetry.
const Name = "payment"

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations returns every migration that the service's database needs.
func Migrations() (fs.FS, error) {
	own, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return sqldb.Merge(outbox.Migrations(), calls.Migrations(), own)
}

// Parts are what the service stands on.
type Parts struct {
	DB     *sqldb.DB // migrated
	Outbox *outbox.Outbox
	Bus    bus.Config
	Deps   shop.Deps
	Tel    *telemetry.Telemetry
	// Policies is where the policies in front of the provider are added.
	Policies *policy.Set
}

// Service implements shop.Payments and the payment's step of the saga.
type Service struct {
	cfg      Config
	db       *sqldb.DB
	outbox   *outbox.Outbox
	deps     shop.Deps
	provider *calls.Client
	policies *policy.Dependency
	runner   *calls.Runner[*batch]
	steps    *steps.Steps[*batch, payment]
	consumer *outbox.Consumer
}

var (
	_ shop.Payments       = (*Service)(nil)
	_ shop.TimelineSource = (*Service)(nil)
)

// New makes the service; its Components run it.
func New(cfg Config, p Parts) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, db: p.DB, outbox: p.Outbox, deps: p.Deps}
	s.steps = steps.New(p.DB, p.Deps.Clock, s.rows())
	var err error
	if s.policies, err = p.Policies.Dependency(WebhookParty, cfg.Policies(), operations()...); err != nil {
		return nil, err
	}
	s.provider = calls.NewClient(cfg.ProviderURL, s.policies, p.Deps)
	if s.runner, err = calls.New(cfg.Calls, calls.Parts{DB: p.DB, Deps: p.Deps, Tel: p.Tel, Operations: s.policies.For(opAuthorise, opCapture, opVoid, opRefund)}, s.perform, s.store()); err != nil {
		return nil, err
	}
	s.consumer, err = outbox.NewConsumer(outbox.ConsumerConfig{Name: Name, Topics: topics, Types: types, Asks: asks},
		outbox.ConsumerParts{DB: p.DB, Outbox: p.Outbox, Bus: p.Bus, Deps: p.Deps, Tel: p.Tel}, s.consume)
	return s, err
}

// Reconfigure changes the policies in front of the provider without losing their state.
func (s *Service) Reconfigure(cfg Config) error { return s.policies.Reconfigure(cfg.Policies()) }

// Components returns what has to run, in the order of starting.
func (s *Service) Components() []run.Component {
	return []run.Component{
		{Name: Name + " outbox", Run: s.outbox.Run},
		{Name: Name + " calls", Run: s.runner.Run},
		{Name: Name + " consumer", Run: s.consumer.Run, Intake: true},
	}
}

// Payment implements shop.Payments.
func (s *Service) Payment(ctx context.Context, caller shop.Caller, id shop.OrderID) (pay shop.Payment, err error) {
	err = s.db.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		found, err := paymentsOf(ctx, tx, []shop.OrderID{id}, noLock)
		if err != nil {
			return err
		}
		p := found[id]
		if p == nil || p.caller != caller {
			return shop.E(shop.NotFound, "payment.Payment", "there is no payment for such an order of yours yet")
		}
		pay = p.Payment
		pay.Status = public(p.Status)
		if pay.Attempts, err = calls.Attempts(ctx, tx, id); err != nil {
			return err
		}
		pay.Ledger, err = entriesOf(ctx, tx, id)
		return err
	})
	return pay, err
}

// public tells a state as the public API knows it: a step under way has not happened yet.
func public(state shop.PaymentStatus) shop.PaymentStatus {
	switch state {
	case authorising:
		return shop.PaymentNone
	case capturing, voiding:
		return shop.PaymentAuthorised
	case refunding:
		return shop.PaymentCaptured
	default:
		return state
	}
}

// OrderTimeline implements shop.TimelineSource.
func (s *Service) OrderTimeline(ctx context.Context, id shop.OrderID) (items []shop.TimelineItem, err error) {
	err = s.db.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		attempts, err := calls.Attempts(ctx, tx, id)
		if err != nil {
			return err
		}
		items = calls.Timeline(Name, attempts)
		hooks, err := webhooksOf(ctx, tx, id)
		items = append(items, hooks...)
		return err
	})
	return items, err
}

// ProviderWebhook implements shop.Payments. The message says what an answer would have said, so it goes
// the same way, whichever of the two comes first.
func (s *Service) ProviderWebhook(ctx context.Context, w shop.Webhook) error {
	const op = "payment.ProviderWebhook"
	var o operation
	if err := json.Unmarshal(w.Data, &o); err != nil || !o.Authorisation.Reference.Valid() {
		return shop.Wrap(shop.Invalid, op, "data is not an operation of the provider", err)
	}
	id := o.Authorisation.Reference
	if o.Key != callKey(id, o.Kind) {
		return nil // not an operation of ours
	}
	return s.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		fresh, err := insertWebhook(ctx, tx, w, id)
		if err != nil || !fresh {
			return err
		}
		b, err := s.load(ctx, tx, []shop.OrderID{id})
		if err != nil || b.payments[id] == nil {
			return err
		}
		c, pending, err := calls.Find(ctx, tx, o.Key)
		if err != nil {
			return err
		}
		if !pending {
			c = calls.Call{Key: o.Key, OrderID: id, Kind: o.Kind} // its answer came first, or it was given up
		}
		return s.applyWebhook(ctx, tx, b, c, o)
	})
}

func (s *Service) applyWebhook(ctx context.Context, tx *sqldb.Tx, b *batch, c calls.Call, o operation) error {
	p := b.payments[c.OrderID]
	var r request
	if len(c.Request) > 0 {
		if err := json.Unmarshal(c.Request, &r); err != nil {
			return err
		}
	}
	var err error
	switch {
	case o.Status == "succeeded":
		err = b.succeeded(p, c, r, o.Authorisation)
	case o.Status == "declined" && o.Kind == opAuthorise:
		err = b.declined(p, c, shop.ReasonPaymentDeclined, o.Authorisation.DeclineCode)
	default:
		return nil // the call's own attempts learn of it, and know whether to go on
	}
	if err != nil {
		return err
	}
	if err := calls.Done(ctx, tx, c.Key); err != nil {
		return err
	}
	return save(ctx, tx, b)
}
