package saga_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/worker"

	"holdfast/platform/bus"
	"holdfast/platform/run"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/platform/temporal"
	"holdfast/shop"
	"holdfast/svc/saga"
	"holdfast/test/fakes"
	"holdfast/test/flow"
	"holdfast/test/steps"
	"holdfast/test/stores"
)

const limit = 30 * time.Second

// cluster is a Temporal that notes what it is told, and can be away.
type cluster struct {
	mu      sync.Mutex
	away    int // how many more times it does not answer
	lose    int // how many more times its answer is lost
	told    []string
	changed chan struct{}
}

func (c *cluster) take(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away > 0 {
		c.away--
		return shop.Wrap(shop.Unavailable, "test", "it is away", errors.New("connection refused"))
	}
	c.told = append(c.told, what)
	select {
	case c.changed <- struct{}{}:
	default:
	}
	if c.lose > 0 {
		c.lose--
		return shop.Wrap(shop.Unavailable, "test", "its answer is lost", errors.New("deadline exceeded"))
	}
	return nil
}

func (c *cluster) Start(_ context.Context, r temporal.Run) error {
	return c.take(fmt.Sprintf("start %s %+v", r.ID, r.Input))
}

func (c *cluster) Signal(_ context.Context, r temporal.Run, signal string, value any) error {
	return c.take(fmt.Sprintf("%s %s %+v", signal, r.ID, value))
}

func (c *cluster) Component(string, string, func(worker.Registry)) run.Component {
	return run.Component{Name: "worker"}
}

// leave has it be away.
func (c *cluster) leave(times int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = times
}

// hears waits until it was told so much, in any order.
func (c *cluster) hears(t *testing.T, want ...string) {
	t.Helper()
	late := time.NewTimer(limit)
	defer late.Stop()
	for {
		c.mu.Lock()
		told := slices.Clone(c.told)
		c.mu.Unlock()
		slices.Sort(told)
		slices.Sort(want)
		if slices.Equal(told, want) {
			return
		}
		if len(told) > len(want) {
			t.Fatalf("it was told %q, want %q", told, want)
		}
		select {
		case <-c.changed:
		case <-late.C:
			t.Fatalf("it was told %q, want %q", told, want)
		}
	}
}

// each runs test on both stores, with a service whose calls are made.
func each(t *testing.T, test func(t *testing.T, s *saga.Service, db *sqldb.DB, c *cluster)) {
	t.Helper()
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		migrations, err := saga.Migrations()
		if err != nil {
			t.Fatal(err)
		}
		db, deps, c := open(t, migrations), fakes.Deps(t), &cluster{changed: make(chan struct{}, 1)}
		cfg := saga.Defaults()
		cfg.RetryMin, cfg.RetryMax, cfg.Calls.Poll = time.Millisecond, 10*time.Millisecond, 5*time.Millisecond
		s, err := saga.New(cfg, saga.Parts{DB: db, Outbox: flow.Outbox(t, db, saga.Name, deps), Bus: bus.Config{Seeds: []string{"127.0.0.1:1"}, ClientID: "test"},
			Temporal: c, Deps: deps, Tel: telemetry.Nop(), Policies: flow.Policies(t, deps)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Calls(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		test(t, s, db, c)
	})
}

func event(t *testing.T, kind shop.EventType, style shop.SagaStyle, status shop.OrderStatus, undo bool) shop.Event {
	d := shop.OrderData{Order: shop.Order{ID: id, Saga: style, Status: status}, Undo: undo}
	if kind == shop.EventOrderPlaced || kind == shop.EventOrderRedriven {
		b := steps.Brief(id, style)
		d.Brief = &b
	}
	return flow.Event(t, kind, shop.TopicOrders, id, 1, d)
}

// TestTold: Temporal is told of the events of orchestrated orders that ask for something, by the order's id
// alone, also where it is away for a while; and it is told nothing of others.
func TestTold(t *testing.T) {
	each(t, func(t *testing.T, s *saga.Service, _ *sqldb.DB, c *cluster) {
		start := "start order/" + string(id) + " {OrderID:" + string(id) + " Undo:false}"
		for i, e := range []shop.Event{
			event(t, shop.EventOrderPlaced, shop.Choreographed, shop.Pending, false),
			event(t, shop.EventOrderPlaced, "", shop.Pending, false),
			event(t, shop.EventOrderPlaced, shop.Orchestrated, shop.Pending, false),
			event(t, shop.EventOrderUndoRequested, shop.Orchestrated, shop.Cancelling, true),
			event(t, shop.EventOrderRedriven, shop.Orchestrated, shop.Cancelling, true),
			event(t, shop.EventOrderRedriven, shop.Orchestrated, shop.Cancelled, true), // it has ended
		} {
			if err := s.Consume(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			if i == 2 {
				c.hears(t, start)
				c.leave(5)
			}
		}
		c.hears(t, start, "undo order/"+string(id)+" <nil>", "redrive order/"+string(id)+" {Undo:true}")
	})
}

// TestRedriveBesideStart: what a start that waits will ask for is not asked for beside it; an undo is.
func TestRedriveBesideStart(t *testing.T) {
	each(t, func(t *testing.T, s *saga.Service, db *sqldb.DB, c *cluster) {
		c.away = 1 << 30
		for _, step := range []struct {
			event shop.Event
			waits int
		}{
			{event(t, shop.EventOrderPlaced, shop.Orchestrated, shop.Pending, false), 1},
			{event(t, shop.EventOrderRedriven, shop.Orchestrated, shop.Pending, false), 1},
			{event(t, shop.EventOrderRedriven, shop.Orchestrated, shop.Cancelling, true), 2},
		} {
			if err := s.Consume(t.Context(), step.event); err != nil {
				t.Fatal(err)
			}
			var n int
			err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				return tx.QueryRow(ctx, `SELECT count(*) FROM calls`).Scan(&n)
			})
			if err != nil || n != step.waits {
				t.Errorf("after %s of an order that is %s %d calls wait, want %d: %v", step.event.Type, step.event.Data, n, step.waits, err)
			}
		}
	})
}

// TestRedriveBesideLostStart: a start whose answer was lost is told again as a redrive, so that the redrive that came
// beside it reaches a run that has ended, too.
func TestRedriveBesideLostStart(t *testing.T) {
	each(t, func(t *testing.T, s *saga.Service, _ *sqldb.DB, c *cluster) {
		c.lose = 1
		err := s.Consume(t.Context(), event(t, shop.EventOrderPlaced, shop.Orchestrated, shop.Pending, false), event(t, shop.EventOrderRedriven, shop.Orchestrated, shop.Pending, false))
		if err != nil {
			t.Fatal(err)
		}
		c.hears(t, "start order/"+string(id)+" {OrderID:"+string(id)+" Undo:false}", "redrive order/"+string(id)+" {Undo:false}")
	})
}

// TestUnreadable: an event that cannot be read is handed on, and fails: it may be an orchestrated order's.
func TestUnreadable(t *testing.T) {
	each(t, func(t *testing.T, s *saga.Service, _ *sqldb.DB, _ *cluster) {
		for _, data := range []string{`{"order": "nonsense"}`, `{"order": {"saga": 1}}`, `{`, `{"order": {"saga": "orchestrated", "lines": 1}}`} {
			e := event(t, shop.EventOrderPlaced, shop.Orchestrated, shop.Pending, false)
			e.Data = []byte(data)
			if err := s.Consume(t.Context(), e); err == nil {
				t.Errorf("%s was passed over", data)
			}
		}
	})
}

// TestBriefs: what is personal is kept until the order has ended, and no longer.
func TestBriefs(t *testing.T) {
	each(t, func(t *testing.T, s *saga.Service, _ *sqldb.DB, _ *cluster) {
		steps := []struct {
			event shop.Event
			kept  bool
		}{
			{event(t, shop.EventOrderPlaced, shop.Choreographed, shop.Pending, false), false},
			{event(t, shop.EventOrderPlaced, shop.Orchestrated, shop.Pending, false), true},
			{event(t, shop.EventOrderRedriven, shop.Orchestrated, shop.Confirmed, false), true},
			{event(t, shop.EventOrderFulfilled, shop.Orchestrated, shop.Fulfilled, false), false},
			{event(t, shop.EventOrderRedriven, shop.Orchestrated, shop.Fulfilled, false), false},
		}
		for i, step := range steps {
			if err := s.Consume(t.Context(), step.event); err != nil {
				t.Fatal(err)
			}
			b, err := s.Brief(t.Context(), id)
			switch {
			case step.kept && (err != nil || b.ShipTo.City != "C"):
				t.Errorf("%d: %+v %v", i, b, err)
			case !step.kept && shop.KindOf(err) != shop.NotFound:
				t.Errorf("%d: it is kept: %v", i, err)
			}
		}
	})
}
