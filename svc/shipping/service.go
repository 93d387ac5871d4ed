// Package shipping is the shipping service: it has parcels taken away by an outside carrier, and is
// the one that asks the order whether a parcel may still leave.
package shipping

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
const Name = "shipping"

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
	Orders shop.Decisions
	Deps   shop.Deps
	Tel    *telemetry.Telemetry
	// Policies is where the policies in front of the carrier are added.
	Policies *policy.Set
}

// Service implements shop.Shipments and the shipping's step of the saga.
type Service struct {
	cfg      Config
	db       *sqldb.DB
	outbox   *outbox.Outbox
	orders   shop.Decisions
	deps     shop.Deps
	carrier  *calls.Client
	policies *policy.Dependency
	rates    *rates
	runner   *calls.Runner[*batch]
	steps    *steps.Steps[*batch, shipment]
	consumer *outbox.Consumer

	dispatching *sqldb.Batcher[dispatch, struct{}]
	reading     *sqldb.Batcher[shop.OrderID, shop.ShipmentStatus]
}

var (
	_ shop.Shipments      = (*Service)(nil)
	_ shop.TimelineSource = (*Service)(nil)
	_ shop.RateTable      = (*Service)(nil)
)

// New makes the service; its Components run it.
func New(cfg Config, p Parts) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, db: p.DB, outbox: p.Outbox, orders: p.Orders, deps: p.Deps}
	s.steps = steps.New(p.DB, p.Deps.Clock, s.rows())
	var err error
	if s.policies, err = p.Policies.Dependency(WebhookParty, cfg.Policies(), operations()...); err != nil {
		return nil, err
	}
	s.carrier = calls.NewClient(cfg.CarrierURL, s.policies, p.Deps)
	s.rates = newRates(cfg, s.policies.Policy(opRates), p.Deps)
	if s.runner, err = calls.New(cfg.Calls, calls.Parts{DB: p.DB, Deps: p.Deps, Tel: p.Tel, Operations: s.policies.For(opSchedule, opCancel)}, s.perform, s.store()); err != nil {
		return nil, err
	}
	s.dispatching, s.reading = sqldb.NewBatcher(p.DB, s.dispatchAll), sqldb.NewReader(p.DB, statesOf)
	s.consumer, err = outbox.NewConsumer(outbox.ConsumerConfig{Name: Name, Topics: topics, Types: types, Asks: asks},
		outbox.ConsumerParts{DB: p.DB, Outbox: p.Outbox, Bus: p.Bus, Deps: p.Deps, Tel: p.Tel}, s.consume)
	return s, err
}

// Reconfigure changes the policies in front of the carrier without losing their state.
func (s *Service) Reconfigure(cfg Config) error { return s.policies.Reconfigure(cfg.Policies()) }

// Components returns what has to run, in the order of starting.
func (s *Service) Components() []run.Component {
	return []run.Component{
		{Name: Name + " outbox", Run: s.outbox.Run},
		{Name: Name + " calls", Run: s.runner.Run},
		{Name: Name + " consumer", Run: s.consumer.Run, Intake: true},
		{Name: Name + " rates", Run: s.rates.run},
	}
}

// Shipment implements shop.Shipments.
func (s *Service) Shipment(ctx context.Context, caller shop.Caller, id shop.OrderID) (found shop.Shipment, err error) {
	err = s.db.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		rows, err := shipmentsOf(ctx, tx, []shop.OrderID{id}, noLock)
		if err != nil {
			return err
		}
		sh := rows[id]
		if sh == nil || sh.caller != caller {
			return shop.E(shop.NotFound, "shipping.Shipment", "there is no shipment for such an order of yours yet")
		}
		found = sh.Shipment
		found.Attempts, err = calls.Attempts(ctx, tx, id)
		return err
	})
	return found, err
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

// CarrierWebhook implements shop.Shipments. A dispatch is first allowed by the order, whose row decides
// between it and a cancel, and then booked. A crash in between is mended by the carrier's next try.
func (s *Service) CarrierWebhook(ctx context.Context, w shop.Webhook) error {
	const op = "shipping.CarrierWebhook"
	if w.Type != "shipment.dispatched" {
		return nil // nothing that changes a shipment
	}
	var doc parcel
	if err := json.Unmarshal(w.Data, &doc); err != nil || !doc.Reference.Valid() {
		return shop.Wrap(shop.Invalid, op, "data is not a parcel of the carrier", err)
	}
	id := doc.Reference
	state, err := s.learn(ctx, id, doc)
	if err != nil || state == shop.ShipmentDispatched {
		return err
	}
	if state != shop.ShipmentScheduled {
		return shop.E(shop.Conflict, op, "the shipment was cancelled or refused; the parcel must not leave")
	}
	if err := s.orders.AllowDispatch(ctx, id); err != nil {
		return err
	}
	_, err = s.dispatching.Do(ctx, dispatch{message: w, order: id, traceParent: telemetry.TraceParent(ctx)})
	return err
}

// dispatch is a parcel that leaves, as the carrier's message says and the order has allowed.
type dispatch struct {
	message     shop.Webhook
	order       shop.OrderID
	traceParent string
}

// dispatchAll books parcels that leave.
func (s *Service) dispatchAll(ctx context.Context, tx *sqldb.Tx, dispatches []dispatch) ([]struct{}, error) {
	if err := insertWebhooks(ctx, tx, dispatches); err != nil {
		return nil, err
	}
	ids := make([]shop.OrderID, len(dispatches))
	for i, d := range dispatches {
		ids[i] = d.order
	}
	b, err := s.load(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	for _, d := range dispatches {
		if sh := b.shipments[d.order]; sh != nil {
			if err := b.dispatched(sh, d.traceParent); err != nil {
				return nil, err
			}
		}
	}
	return make([]struct{}, len(dispatches)), save(ctx, tx, b)
}

// statesOf returns the state of each order's shipment, empty where there is none.
func statesOf(ctx context.Context, tx *sqldb.Tx, ids []shop.OrderID) ([]shop.ShipmentStatus, error) {
	rows, err := shipmentsOf(ctx, tx, ids, noLock)
	states := make([]shop.ShipmentStatus, len(ids))
	for i, id := range ids {
		if sh := rows[id]; sh != nil {
			states[i] = sh.Status
		}
	}
	return states, err
}

// learn returns the state of a shipment. A dispatch that comes before the answer to its scheduling
// says that it is scheduled.
func (s *Service) learn(ctx context.Context, id shop.OrderID, doc parcel) (state shop.ShipmentStatus, err error) {
	if state, err = s.reading.Do(ctx, id); err != nil {
		return "", err
	}
	if state != scheduling && state != shop.ShipmentRejected && state != shop.ShipmentCancelled {
		return state, nil
	}
	err = s.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		b, err := s.load(ctx, tx, []shop.OrderID{id})
		if err != nil {
			return err
		}
		if err := b.scheduled(b.shipments[id], telemetry.TraceParent(ctx), doc); err != nil {
			return err
		}
		state = b.shipments[id].Status
		if err := calls.Done(ctx, tx, callKey(id, opSchedule)); err != nil {
			return err
		}
		return save(ctx, tx, b)
	})
	return state, err
}
