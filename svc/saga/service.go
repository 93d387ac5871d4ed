// Package saga drives orchestrated orders: a Temporal workflow for each asks the services for their steps,
// one after the other, and has them undone backwards where one is refused or the order is cancelled. What
// becomes of the order is folded by the order service from the same events as ever.
package saga

import (
	"context"
	"embed"
	"io/fs"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"holdfast/platform/bus"
	"holdfast/platform/calls"
	"holdfast/platform/outbox"
	"holdfast/platform/policy"
	"holdfast/platform/run"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/platform/temporal"
	"holdfast/shop"
)

// Name is the service's name everywhere: folder, consumer group, telemetry.
const Name = "saga"

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

// Temporal is what the service needs of a Temporal; *temporal.Client has it.
type Temporal interface {
	// Start runs a workflow; one that is or was run is left alone, and no error.
	Start(ctx context.Context, r temporal.Run) error
	// Signal tells a workflow something, and runs it again if it has ended.
	Signal(ctx context.Context, r temporal.Run, signal string, value any) error
	// Component is what runs the workflows and activities that register names.
	Component(name, queue string, register func(worker.Registry)) run.Component
}

// Parts are what the service stands on.
type Parts struct {
	DB       *sqldb.DB // migrated
	Outbox   *outbox.Outbox
	Bus      bus.Config
	Temporal Temporal
	// Inventory, Payment and Shipping are the steps, in their order.
	Inventory, Payment, Shipping shop.Step
	Deps                         shop.Deps
	Tel                          *telemetry.Telemetry
	// Policies is where the policies in front of Temporal are added.
	Policies *policy.Set
}

// Service starts, signals and runs the workflows.
type Service struct {
	cfg      Config
	db       *sqldb.DB
	outbox   *outbox.Outbox
	temporal Temporal
	steps    map[string]shop.Step
	deps     shop.Deps
	tel      *telemetry.Telemetry
	policies *policy.Dependency
	runner   *calls.Runner[none]
	consumer *outbox.Consumer
	briefs   *sqldb.Batcher[shop.OrderID, *shop.Brief]
}

// New makes the service; its Components run it.
func New(cfg Config, p Parts) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, db: p.DB, outbox: p.Outbox, temporal: p.Temporal, deps: p.Deps, tel: p.Tel, briefs: sqldb.NewReader(p.DB, briefsOf),
		steps: map[string]shop.Step{stepInventory: p.Inventory, stepPayment: p.Payment, stepShipping: p.Shipping}}
	var err error
	if s.policies, err = p.Policies.Dependency("temporal", cfg.Policies(), operations()...); err != nil {
		return nil, err
	}
	nothing := calls.Store[none]{
		Load: func(context.Context, *sqldb.Tx, []shop.OrderID) (none, error) { return none{}, nil },
		Save: func(context.Context, *sqldb.Tx, none) error { return nil },
	}
	if s.runner, err = calls.New(cfg.Calls, calls.Parts{DB: p.DB, Deps: p.Deps, Tel: p.Tel, Operations: s.policies.For(opStart, opUndo, opRedrive)}, s.tell, nothing); err != nil {
		return nil, err
	}
	s.consumer, err = outbox.NewConsumer(outbox.ConsumerConfig{Name: Name, Topics: topics, Types: types, Asks: asks},
		outbox.ConsumerParts{DB: p.DB, Outbox: p.Outbox, Bus: p.Bus, Deps: p.Deps, Tel: p.Tel}, s.consume)
	return s, err
}

// Reconfigure changes the policies in front of Temporal without losing their state.
func (s *Service) Reconfigure(cfg Config) error { return s.policies.Reconfigure(cfg.Policies()) }

// Components returns what has to run, in the order of starting.
func (s *Service) Components() []run.Component {
	return []run.Component{
		{Name: Name + " outbox", Run: s.outbox.Run}, // of dead letters
		{Name: Name + " calls", Run: s.runner.Run},
		s.temporal.Component(Name+" worker", s.cfg.Queue, s.Register),
		{Name: Name + " consumer", Run: s.consumer.Run},
	}
}

// Register names the workflow and its activities to a worker.
func (s *Service) Register(r worker.Registry) {
	RegisterWorkflow(r)
	r.RegisterActivityWithOptions(s.do, activity.RegisterOptions{Name: activityDo})
	r.RegisterActivityWithOptions(s.undo, activity.RegisterOptions{Name: activityUndo})
}

// RegisterWorkflow names the workflow alone, as it takes to replay a history.
func RegisterWorkflow(r worker.WorkflowRegistry) {
	r.RegisterWorkflowWithOptions(order, workflow.RegisterOptions{Name: WorkflowName})
}
