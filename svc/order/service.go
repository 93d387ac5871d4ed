// Package order is the order service: it takes orders, folds what the other services say of their
// steps into each order's status, and has an order undone where a customer, a clock or a failure asks
// for it.
package order

import (
	"cmp"
	"context"
	"embed"
	"encoding/base64"
	"errors"
	"io/fs"
	"slices"
	"time"

	"holdfast/platform/bus"
	"holdfast/platform/idem"
	"holdfast/platform/outbox"
	"holdfast/platform/run"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

// Name is the service's name everywhere: folder, event source, consumer group, telemetry.
const Name = "order"

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations returns every migration that the service's database needs.
func Migrations() (fs.FS, error) {
	own, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return sqldb.Merge(outbox.Migrations(), idem.Migrations(), own)
}

// Parts are what the service stands on.
type Parts struct {
	DB        *sqldb.DB // migrated
	Outbox    *outbox.Outbox
	Bus       bus.Config
	Inventory shop.Catalogue
	Rates     shop.Rates
	Timelines []shop.TimelineSource // what other services have to add to a timeline
	// Orchestrates tells that there is a Temporal, so that orders may be orchestrated.
	Orchestrates bool
	Deps         shop.Deps
	Tel          *telemetry.Telemetry
}

// Service implements shop.Orders.
type Service struct {
	cfg          Config
	db           *sqldb.DB
	outbox       *outbox.Outbox
	inventory    shop.Catalogue
	rates        shop.Rates
	copies       *copies
	timelines    []shop.TimelineSource
	orchestrates bool
	deps         shop.Deps
	metrics      *metrics
	hub          *hub
	shedder      *shedder
	consumer     *outbox.Consumer
	placing      *sqldb.Batcher[placement, *placed]
	dispatching  *sqldb.Batcher[dispatch, error]
	reading      *sqldb.Batcher[shop.OrderID, *row]
}

var _ shop.Orders = (*Service)(nil)

// New makes the service; its Components run it.
func New(cfg Config, p Parts) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Saga.OrchestratedPercent > 0 && !p.Orchestrates {
		return nil, errors.New("order.saga.orchestrated_percent is set, but there is no Temporal: set temporal.address, or start it along with --temporal")
	}
	s := &Service{cfg: cfg, db: p.DB, outbox: p.Outbox, inventory: p.Inventory, rates: p.Rates, copies: newCopies(cfg.CopiesMax), timelines: p.Timelines, orchestrates: p.Orchestrates, deps: p.Deps, hub: newHub(cfg.WaitersMax),
		shedder: newShedder(cfg, p.Outbox.Backlog, run.ProcessorWait(), p.Deps.Rand.Float64)}
	var err error
	if s.metrics, err = newMetrics(p.Tel.Meter, s); err != nil {
		return nil, err
	}
	s.placing, s.dispatching = sqldb.NewBatcher(p.DB, s.placeAll), sqldb.NewBatcher(p.DB, s.allowAll)
	s.reading = sqldb.NewReader(p.DB, readAll)
	s.consumer, err = outbox.NewConsumer(outbox.ConsumerConfig{Name: Name, Topics: topics, Types: types},
		outbox.ConsumerParts{DB: p.DB, Outbox: p.Outbox, Bus: p.Bus, Deps: p.Deps, Tel: p.Tel}, s.consume)
	return s, err
}

// Components returns what has to run, in the order of starting.
func (s *Service) Components() []run.Component {
	return []run.Component{
		{Name: Name + " outbox", Run: s.outbox.Run},
		{Name: Name + " consumer", Run: s.consumer.Run, Intake: true},
		{Name: Name + " watchdog", Run: s.watch},
		{Name: Name + " load", Run: func(ctx context.Context) error { return s.shedder.watch(ctx, s.deps.Clock) }},
		{Name: Name + " purge", Run: idem.Purger(s.db, s.deps)},
	}
}

// Admit tells whether an order may be placed now: *shop.Error of kind Overloaded where it would only wait. It
// is asked before the order is even read.
func (s *Service) Admit(by shop.Request) error { return s.shedder.admit(by.Caller, by.Key) }

// committed tells those who wait, and the metrics, of orders that changed.
func (s *Service) committed(events []shop.Event, rows []*row) {
	now := s.deps.Clock.Now()
	for _, r := range rows {
		s.copies.keep(r.caller, r.Order, now)
		s.hub.changed(r.Order.ID)
	}
	for i := range events {
		if e := &events[i]; e.Type == shop.EventOrderNeedsAttention {
			s.deps.Log.Warn("an order needs an operator: see GET /admin/v1/stuck-orders", "order_id", e.OrderID, "trace_id", telemetry.TraceID(e.TraceParent))
		}
	}
	s.metrics.committed(events, rows)
}

// Get implements shop.Orders.
func (s *Service) Get(ctx context.Context, caller shop.Caller, id shop.OrderID) (shop.Order, error) {
	found, err := s.reading.Do(ctx, id)
	if err != nil {
		return shop.Order{}, err
	}
	if found == nil || found.caller != caller {
		return shop.Order{}, notFound("order.Get")
	}
	s.copies.keep(caller, found.Order, s.deps.Clock.Now())
	return found.Order, nil
}

// readAll returns the row of each order, or nil.
func readAll(ctx context.Context, tx *sqldb.Tx, ids []shop.OrderID) ([]*row, error) {
	rows, err := rowsOf(ctx, tx, ids, noLock)
	found := make([]*row, len(ids))
	for i, id := range ids {
		found[i] = rows[id]
	}
	return found, err
}

// LastKnown implements shop.Orders.
func (s *Service) LastKnown(caller shop.Caller, id shop.OrderID) (shop.Order, time.Time, bool) {
	return s.copies.get(caller, id)
}

// firstPoll is how soon a waiting request looks for another process's changes first; it doubles up to Config.WaitPoll.
const firstPoll = 50 * time.Millisecond

// Wait implements shop.Orders.
func (s *Service) Wait(ctx context.Context, caller shop.Caller, id shop.OrderID, done func(shop.Order) bool) (shop.Order, error) {
	woken, leave := s.hub.join(id)
	defer leave()
	// The order is read even when ctx has ended: it exists, and what is known of it is the answer.
	read := context.WithoutCancel(ctx)
	for pause := firstPoll; ; pause *= 2 {
		o, err := s.Get(read, caller, id)
		if err != nil || done(o) || ctx.Err() != nil {
			return o, err
		}
		pause = min(pause, s.cfg.WaitPoll)
		poll, stop := s.deps.Clock.Timer(pause)
		select {
		case <-woken:
		case <-poll:
		case <-ctx.Done():
		}
		stop()
	}
}

// List implements shop.Orders.
func (s *Service) List(ctx context.Context, caller shop.Caller, q shop.OrderQuery) (shop.OrderPage, error) {
	const op = "order.List"
	if q.Limit < 1 || q.Limit > 200 {
		return shop.OrderPage{}, fieldError(op, "query/limit", "must be from 1 to 200")
	}
	if q.Status != "" && !slices.Contains(shop.Statuses, q.Status) {
		return shop.OrderPage{}, fieldError(op, "query/status", "is not a status of an order")
	}
	before, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	if err != nil || q.Cursor != "" && !shop.OrderID(before).Valid() {
		return shop.OrderPage{}, fieldError(op, "query/cursor", "is not one that a list gave; leave it out to begin")
	}
	p := shop.OrderPage{Items: []shop.Order{}}
	err = s.db.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		p.Items, p.NextCursor = p.Items[:0], ""
		rows, err := page(ctx, tx, caller, q, shop.OrderID(before))
		if err != nil {
			return err
		}
		if len(rows) > q.Limit {
			rows = rows[:q.Limit]
			p.NextCursor = base64.RawURLEncoding.EncodeToString([]byte(rows[q.Limit-1].Order.ID))
		}
		for _, r := range rows {
			p.Items = append(p.Items, r.Order)
		}
		p.AsOf, err = tx.Now(ctx)
		return err
	})
	return p, err
}

func fieldError(op, pointer, detail string) error {
	e := shop.E(shop.Invalid, op, "the request is not valid; errors names each field at fault")
	e.Fields = []shop.Field{{Pointer: pointer, Detail: detail}}
	return e
}

// Timeline implements shop.Orders.
func (s *Service) Timeline(ctx context.Context, caller shop.Caller, id shop.OrderID) ([]shop.TimelineItem, error) {
	if _, err := s.Get(ctx, caller, id); err != nil {
		return nil, err
	}
	var items []shop.TimelineItem
	err := s.db.View(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		items, err = entriesOf(ctx, tx, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, t := range s.timelines {
		more, err := t.OrderTimeline(ctx, id)
		if err != nil {
			return nil, err
		}
		items = append(items, more...)
	}
	slices.SortStableFunc(items, func(a, b shop.TimelineItem) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Kind, b.Kind)) })
	return items, nil
}
