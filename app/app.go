// Package app puts a process of Holdfast together: it reads the configuration, opens the stores, decides which
// implementation each interface gets, and runs the parts in order. It links no engine: a bus, a database file
// and outside parties inside the process come from package local.
package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/platform/bus"
	"holdfast/platform/httpx"
	"holdfast/platform/outbox"
	"holdfast/platform/policy"
	"holdfast/platform/remote"
	"holdfast/platform/run"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/svc/gateway"
	"holdfast/svc/inventory"
	"holdfast/svc/order"
	"holdfast/svc/payment"
	"holdfast/svc/shipping"
)

// telemetryStop is how long the last spans may take to leave.
const telemetryStop = 3 * time.Second

// Embedded are the parts that a Holdfast on one machine brings along, in the order in which they are asked for.
type Embedded struct {
	// Temporal starts a Temporal where one is to be brought along, and configures it; it may be nil.
	Temporal func(context.Context, *Host) error
	// Bus starts a bus where none is configured, and configures it. It may return nil.
	Bus func(context.Context, *Host) (outbox.Broker, error)
	// Parties starts the outside parties that are not configured as real ones, and configures them.
	Parties func(context.Context, *Host) error
	// Verifier makes what checks the invariants over the stores. It may be nil, and may return nil.
	Verifier func(*Host) (Verifier, error)
	// Built is called when everything is made and nothing runs yet.
	Built func(context.Context, *Host, shop.Inventory) error
}

// Verifier checks the invariants over the stores when it is asked, or by itself while it runs; see
// gateway.AdminParts.
type Verifier interface {
	Run(ctx context.Context) error
	Verify(ctx context.Context, atRest bool) (json.RawMessage, error)
	Verified() json.RawMessage
}

// Host is what an embedded part may use of the process.
type Host struct {
	Config    *Config
	Deps      shop.Deps
	Tel       *telemetry.Telemetry
	Addresses *Addresses
	app       *App
}

// Run adds a component that is ready when ready says so; it starts after those that were added before it.
func (h *Host) Run(name string, work, ready func(context.Context) error) {
	h.app.component(name, work, ready)
}

// RunComponent adds a component as it is.
func (h *Host) RunComponent(c run.Component) { h.app.components = append(h.app.components, c) }

// Close adds what is to be closed in the end, last first.
func (h *Host) Close(close func() error) { h.app.closers = append(h.app.closers, close) }

// Listen takes an address before anything is built on knowing it.
func (h *Host) Listen(ctx context.Context, cfg httpx.ServerConfig) (*httpx.Server, error) {
	return h.app.listen(ctx, cfg)
}

// Addresses are where the parts of a running Holdfast listen.
type Addresses struct {
	API     string `json:"api"`
	Admin   string `json:"admin"`
	PSP     string `json:"psp"`
	Carrier string `json:"carrier"`
	Kafka   string `json:"kafka"`

	Temporal   string `json:"temporal,omitempty"`    // where there is one
	TemporalUI string `json:"temporal_ui,omitempty"` // the web page of our own
}

// Ready is told when everything runs.
type Ready struct {
	Addresses Addresses
	Internal  string // where other services call; "" in a process that none calls
	Took      time.Duration
	// Reload takes the policies from the configuration again; see App.reloadPolicies.
	Reload func() error
}

// App is a process of Holdfast that is put together and not yet running.
type App struct {
	cfg      Config
	deps     shop.Deps
	embedded Embedded
	host     *Host

	tel      *telemetry.Telemetry
	policies *policy.Set
	reload   []func(Config) error // each changes some of the policies
	broker   outbox.Broker
	producer *bus.Producer
	sender   *policy.Bus
	stores   []store

	order      *order.Service
	inventory  *inventory.Service
	payment    *payment.Service
	shipping   *shipping.Service
	ordersHere ordersRef
	between    *policy.Internal
	clients    map[string]*remote.Client
	whole      *gateway.Gateway         // with the routes of all services; nil where this process is not a gateway
	mounts     []func(*httpx.API) error // the public routes
	components []run.Component
	closers    []func() error // in reverse, after the components
	addresses  Addresses
	internal   string
	servers    servers
	started    atomic.Bool
	stopping   atomic.Bool
}

// store is one service's database.
type store struct {
	service string
	db      *sqldb.DB
	outbox  *outbox.Outbox
}

// Run runs the modules that the configuration names until ctx ends, and then stops them in order. onReady is
// called once everything runs. What embedded does not bring has to be configured.
func Run(ctx context.Context, cfg Config, deps shop.Deps, embedded Embedded, onReady func(Ready)) (err error) {
	began := deps.Clock.Now()
	a := &App{cfg: cfg, deps: deps, embedded: embedded, clients: map[string]*remote.Client{}}
	a.host = &Host{Config: &a.cfg, Deps: deps, Addresses: &a.addresses, app: a}
	defer func() { err = errors.Join(err, a.close()) }()
	if err := a.build(ctx); err != nil {
		return err
	}
	running, release := a.drain(ctx)
	defer release()
	return run.Group(running, deps, run.InOrder(a.components), func() {
		a.located(a.servers)
		a.started.Store(true)
		onReady(Ready{Addresses: a.addresses, Internal: a.internal, Took: deps.Clock.Now().Sub(began), Reload: a.reloadPolicies})
	})
}

// drain returns a context that outlives ctx by the time that it takes until everybody has noticed that this
// process is not ready any more.
func (a *App) drain(ctx context.Context) (context.Context, func()) {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	release := context.AfterFunc(ctx, func() {
		a.stopping.Store(true)
		if a.started.Load() {
			_ = a.deps.Clock.Sleep(running, a.cfg.DrainWait) // it ends early where a part has failed
		}
		stop()
	})
	return running, func() { release(); stop() }
}

// close gives back what build took, last first.
func (a *App) close() error {
	var errs []error
	for i := len(a.closers) - 1; i >= 0; i-- {
		errs = append(errs, a.closers[i]())
	}
	return errors.Join(errs...)
}

// build makes every part. What has to be closed goes to closers, what has to run to components, in the
// order of starting.
func (a *App) build(ctx context.Context) (err error) {
	if err := a.basics(ctx); err != nil {
		return err
	}
	if a.servers, err = a.listeners(ctx); err != nil {
		return err
	}
	if a.embedded.Temporal != nil {
		if err := a.embedded.Temporal(ctx, a.host); err != nil {
			return err
		}
	}
	a.addresses.Temporal = a.cfg.Temporal.Address
	if err := a.bus(ctx); err != nil {
		return err
	}
	if a.embedded.Parties != nil {
		if err := a.embedded.Parties(ctx, a.host); err != nil {
			return err
		}
	}
	if err := a.openStores(ctx); err != nil {
		return err
	}
	if err := a.modules(); err != nil {
		return err
	}
	if err := a.handlers(a.servers); err != nil {
		return err
	}
	if a.embedded.Built != nil {
		if err := a.embedded.Built(ctx, a.host, a.inventory); err != nil {
			return err
		}
	}
	s := a.servers
	a.components = append([]run.Component{{Name: "admin server", Run: s.admin.Run, Ready: s.admin.Ready}}, a.components...)
	if s.internal != nil {
		a.components = append(a.components, run.Component{Name: "internal server", Run: s.internal.Run, Ready: s.internal.Ready, StopAfter: httpx.DefaultDrain + time.Second})
	}
	a.components = append(a.components, run.Component{Name: "api server", Run: s.api.Run, Ready: s.api.Ready, StopAfter: a.apiDrain() + time.Second})
	return nil
}

// basics are telemetry and policies.
func (a *App) basics(ctx context.Context) (err error) {
	name := "holdfast"
	if len(a.cfg.Target) == 1 && a.cfg.Target[0] != All {
		name = a.cfg.Target[0]
	}
	if a.tel, err = telemetry.New(ctx, name, a.deps); err != nil {
		return err
	}
	a.host.Tel = a.tel
	a.closers = append(a.closers, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), telemetryStop)
		defer cancel()
		return a.tel.Close(ctx)
	})
	if a.cfg.Instance == "" {
		a.cfg.Instance = a.deps.IDs.New("run")
	}
	// The leases of calls and of the outbox are this process's.
	a.cfg.Bus.SASL.Password = cmp.Or(a.cfg.Bus.SASL.Password, a.cfg.Secrets.BusPassword)
	a.cfg.Payment.Calls.Owner, a.cfg.Shipping.Calls.Owner, a.cfg.Saga.Calls.Owner = a.cfg.Instance, a.cfg.Instance, a.cfg.Instance
	if a.cfg.Outbox.Owner == "" {
		a.cfg.Outbox.Owner = a.cfg.Instance
	}
	if a.cfg.Bus.ClientID == "" {
		a.cfg.Bus.ClientID = "holdfast"
	}
	a.policies, err = policy.New(a.deps, a.tel)
	return err
}

// bus starts the embedded bus or points at the configured one. A process without state needs none.
func (a *App) bus(ctx context.Context) (err error) {
	if !a.cfg.stateful() {
		return nil
	}
	if len(a.cfg.Bus.Seeds) == 0 && a.embedded.Bus != nil {
		if a.broker, err = a.embedded.Bus(ctx, a.host); err != nil {
			return err
		}
	}
	a.addresses.Kafka = strings.Join(a.cfg.Bus.Seeds, ",")
	if err := a.topics(ctx); err != nil {
		return err
	}
	if a.producer, err = bus.NewProducer(a.cfg.Bus, a.deps, a.tel); err != nil {
		return err
	}
	if a.sender, err = a.policies.Bus(a.cfg.BusPolicy, a.producer); err != nil {
		return err
	}
	a.reload = append(a.reload, func(c Config) error { return a.sender.Reconfigure(c.BusPolicy) })
	a.component("producer", func(ctx context.Context) error {
		<-ctx.Done()
		a.producer.Close() // after the relays, before the broker
		return nil
	}, nil)
	return nil
}

// topics makes the topics that are missing, or sees that none is.
func (a *App) topics(ctx context.Context) error {
	replicas := 0
	if a.broker != nil {
		replicas = 1
	}
	specs := bus.Topics(a.cfg.Partitions, replicas)
	if a.cfg.Bus.CreateTopics {
		return bus.EnsureTopics(ctx, a.cfg.Bus, a.deps, specs)
	}
	return bus.CheckTopics(ctx, a.cfg.Bus, a.deps, specs)
}

// component adds one that is ready when ready says so.
func (a *App) component(name string, work func(context.Context) error, ready func(context.Context) error) {
	a.components = append(a.components, run.Component{Name: name, Run: work, Ready: ready})
}

// openStores opens and migrates a database for each service of this process.
func (a *App) openStores(ctx context.Context) error {
	for _, m := range modules() {
		if m.migrations == nil || !a.cfg.Has(m.name) {
			continue
		}
		migrations, err := m.migrations()
		if err != nil {
			return err
		}
		if err := a.openStore(ctx, m.name, migrations); err != nil {
			return err
		}
	}
	return nil
}

func (a *App) openStore(ctx context.Context, service string, migrations fs.FS) error {
	guard, err := a.policies.Store(service, a.cfg.Store.Policies)
	if err != nil {
		return err
	}
	a.reload = append(a.reload, func(c Config) error { return guard.Reconfigure(c.Store.Policies) })
	cfg := a.cfg.Store.of(service, a.cfg.Secrets.StorePassword)
	cfg.Guard = guard
	db, err := sqldb.Open(ctx, cfg, a.deps)
	if err != nil {
		return fmt.Errorf("open the store of %s: %w", service, err)
	}
	a.closers = append(a.closers, db.Close)
	if err := db.Migrate(ctx, service, migrations); err != nil {
		return fmt.Errorf("migrate the store of %s: %w", service, err)
	}
	parts := outbox.Parts{DB: db, Producer: a.sender, Deps: a.deps, Tel: a.tel, Source: service, Broker: a.broker}
	ob, err := outbox.New(a.cfg.Outbox, parts)
	if err != nil {
		return err
	}
	a.stores = append(a.stores, store{service, db, ob})
	return nil
}

// modules makes the modules of this process.
func (a *App) modules() (err error) {
	var needs []string
	for _, m := range modules() {
		if a.cfg.Has(m.name) {
			needs = append(needs, m.needs...)
		}
	}
	if a.between, err = a.policies.Internal(a.cfg.Internal, needs...); err != nil {
		return err
	}
	a.reload = append(a.reload, func(c Config) error { return a.between.Reconfigure(c.Internal) })
	for _, m := range modules() {
		if !a.cfg.Has(m.name) {
			continue
		}
		if err := m.build(a); err != nil {
			return err
		}
	}
	return nil
}

// store returns the store of a service.
func (a *App) store(service string) store {
	for _, s := range a.stores {
		if s.service == service {
			return s
		}
	}
	panic("no store for " + service) // a mistake in this package
}

// ignoreClosed drops the error of closing what has been closed.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
