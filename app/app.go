// Package app puts Holdfast together: it reads the configuration, opens the stores, decides which
// implementation each interface gets, and runs the parts in order.
package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/check/audit"
	embedded "holdfast/embedded/bus"
	"holdfast/platform/bus"
	"holdfast/platform/httpx"
	"holdfast/platform/outbox"
	"holdfast/platform/policy"
	"holdfast/platform/run"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/svc/gateway"
	"holdfast/svc/inventory"
	"holdfast/svc/order"
	"holdfast/svc/payment"
	"holdfast/svc/saga"
	"holdfast/svc/shipping"
)

// DevCaller is whom the development key stands for.
const DevCaller = shop.Caller("dev")

// telemetryStop is how long the last spans may take to leave.
const telemetryStop = 3 * time.Second

// Ready is told when everything runs.
type Ready struct {
	Addresses Addresses
	KeyPath   string
	Key       string
	Took      time.Duration
	// Reload takes the policies from the configuration again; see App.reloadPolicies.
	Reload func() error
}

// App is a Holdfast that is put together and not yet running.
type App struct {
	cfg        Config
	deps       shop.Deps
	tel        *telemetry.Telemetry
	policies   *policy.Set
	reload     []func(Config) error // each changes some of the policies
	audit      audit.Config         // where the stores and ledgers are
	secrets    secrets
	key        string
	broker     *embedded.Broker
	producer   *bus.Producer
	sender     *policy.Bus
	stores     []store
	orders     *order.Service
	inventory  *inventory.Service
	components []run.Component
	closers    []func() error // in reverse, after the components
	addresses  Addresses
	started    atomic.Bool
	stopping   atomic.Bool
}

// store is one service's database.
type store struct {
	service string
	db      *sqldb.DB
	outbox  *outbox.Outbox
}

// Run runs all of Holdfast in this process until ctx ends, and then stops it in order. onReady is called
// once everything runs.
func Run(ctx context.Context, cfg Config, deps shop.Deps, onReady func(Ready)) (err error) {
	began := deps.Clock.Now()
	lock, err := run.LockDir(cfg.Data)
	if err != nil {
		return shop.Wrap(shop.Unavailable, "app.lock", "the data directory cannot be used", err)
	}
	a := &App{cfg: cfg, deps: deps, audit: AuditConfig(cfg), closers: []func() error{lock.Release}}
	defer func() { err = errors.Join(err, a.close()) }()
	if err := a.build(ctx); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { a.stopping.Store(true) })
	defer stop()
	return run.Group(ctx, deps, a.components, func() {
		a.started.Store(true)
		onReady(Ready{Addresses: a.addresses, KeyPath: filepath.Join(cfg.Data, KeyFile), Key: a.key, Took: deps.Clock.Now().Sub(began), Reload: a.reloadPolicies})
	})
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
func (a *App) build(ctx context.Context) error {
	if err := a.basics(ctx); err != nil {
		return err
	}
	admin, err := a.listen(ctx, httpx.ServerConfig{Name: "admin", Addr: a.cfg.AdminAddr, Flag: "--admin-addr"})
	if err != nil {
		return err
	}
	api, err := a.listen(ctx, httpx.ServerConfig{Name: "api", Addr: a.cfg.Addr, Flag: "--addr"})
	if err != nil {
		return err
	}
	a.addresses.API, a.addresses.Admin = "http://"+api.Addr(), "http://"+admin.Addr()
	if err := a.temporald(ctx); err != nil {
		return err
	}
	if err := a.bus(ctx); err != nil {
		return err
	}
	if err := a.simulators(ctx); err != nil {
		return err
	}
	if err := a.openStores(ctx); err != nil {
		return err
	}
	handler, err := a.services()
	if err != nil {
		return err
	}
	api.Handle(handler)
	if err := a.operations(admin); err != nil {
		return err
	}
	if a.cfg.Seed {
		if err := seed(ctx, a.inventory, DevCaller); err != nil {
			return fmt.Errorf("seed the catalogue: %w", err)
		}
	}
	a.components = append([]run.Component{{Name: "admin server", Run: admin.Run}}, a.components...)
	a.components = append(a.components, run.Component{Name: "api server", Run: api.Run, StopAfter: httpx.DefaultDrain + time.Second})
	return a.addresses.write(a.deps.Files, a.cfg.Data)
}

// basics are telemetry, keys and secrets.
func (a *App) basics(ctx context.Context) (err error) {
	if a.tel, err = telemetry.New(ctx, "holdfast", a.deps); err != nil {
		return err
	}
	a.closers = append(a.closers, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), telemetryStop)
		defer cancel()
		return a.tel.Close(ctx)
	})
	if a.policies, err = policy.New(a.deps, a.tel); err != nil {
		return err
	}
	if a.secrets, err = loadSecrets(a.deps, a.cfg.Data); err != nil {
		return unusable(err)
	}
	a.key, err = loadKey(a.deps, a.cfg.Data)
	return unusable(err)
}

// unusable says what to do about a data directory that cannot be read or written.
func unusable(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return shop.Wrap(shop.Unavailable, "app.data", "the data directory is not ours to use; mend its owner and mode, or choose another one with --data", err)
	default:
		return shop.Wrap(shop.Unavailable, "app.data", "the data directory cannot be used; see the cause, or choose another one with --data", err)
	}
}

// listen takes an address before anything is built on knowing it.
func (a *App) listen(ctx context.Context, cfg httpx.ServerConfig) (*httpx.Server, error) {
	s, err := httpx.NewServer(cfg, nil, a.deps)
	if err != nil {
		return nil, err
	}
	if err := s.Listen(ctx); err != nil {
		return nil, err
	}
	a.closers = append(a.closers, func() error { return ignoreClosed(s.Close()) })
	return s, nil
}

// bus starts the embedded broker, or points at the configured one.
func (a *App) bus(ctx context.Context) error {
	if len(a.cfg.Bus.Seeds) == 0 {
		cfg := a.cfg.Embedded
		cfg.Dir = filepath.Join(a.cfg.Data, "bus")
		cfg.Readers = map[string][]string{order.Name: order.Topics(), inventory.Name: inventory.Topics(), payment.Name: payment.Topics(), shipping.Name: shipping.Topics()}
		if a.cfg.orchestrates() {
			cfg.Readers[saga.Name] = saga.Topics()
		}
		broker, err := embedded.New(cfg, a.deps)
		if err != nil {
			return shop.Wrap(shop.Unavailable, "app.bus", "the embedded bus cannot start", err)
		}
		a.broker = broker
		a.closers = append(a.closers, broker.Close)
		a.cfg.Bus.Seeds, a.cfg.Bus.Uncompressed = broker.Addrs(), true
		a.component("bus", broker.Run, broker.Ready)
	}
	if a.cfg.Bus.ClientID == "" {
		a.cfg.Bus.ClientID = "holdfast"
	}
	a.addresses.Kafka = strings.Join(a.cfg.Bus.Seeds, ",")
	replicas := 0
	if a.broker != nil {
		replicas = 1
	}
	if err := bus.EnsureTopics(ctx, a.cfg.Bus, a.deps, bus.Topics(a.cfg.Partitions, replicas)); err != nil {
		return err
	}
	var err error
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

// component adds one that is ready when ready says so.
func (a *App) component(name string, work func(context.Context) error, ready func(context.Context) error) {
	a.components = append(a.components, run.Component{Name: name, Run: work, Ready: ready})
}

// openStores opens and migrates a database for each service.
func (a *App) openStores(ctx context.Context) error {
	type service struct {
		name       string
		migrations func() (fs.FS, error)
	}
	services := []service{
		{order.Name, order.Migrations}, {inventory.Name, inventory.Migrations},
		{payment.Name, payment.Migrations}, {shipping.Name, shipping.Migrations},
	}
	if a.cfg.orchestrates() {
		services = append(services, service{saga.Name, saga.Migrations})
	}
	for _, s := range services {
		migrations, err := s.migrations()
		if err != nil {
			return err
		}
		guard, err := a.policies.Store(s.name, a.cfg.Store.Policies)
		if err != nil {
			return err
		}
		a.reload = append(a.reload, func(c Config) error { return guard.Reconfigure(c.Store.Policies) })
		cfg := a.cfg.Store.of(s.name, a.cfg.Data)
		cfg.Guard = guard
		db, err := sqldb.Open(ctx, cfg, a.deps)
		if err != nil {
			return fmt.Errorf("open the store of %s: %w", s.name, err)
		}
		a.closers = append(a.closers, db.Close)
		if err := db.Migrate(ctx, s.name, migrations); err != nil {
			return fmt.Errorf("migrate the store of %s: %w", s.name, err)
		}
		ob, err := a.newOutbox(s.name, db)
		if err != nil {
			return err
		}
		a.stores = append(a.stores, store{s.name, db, ob})
	}
	return nil
}

func (s Store) of(service, dir string) sqldb.Config {
	cfg := sqldb.Config{Driver: s.Driver, DSN: strings.ReplaceAll(s.DSN, "{service}", service), MaxConns: s.MaxConns}
	if s.Driver == "sqlite" {
		cfg.Path = filepath.Join(dir, service+".db")
	}
	return cfg
}

func (a *App) newOutbox(service string, db *sqldb.DB) (*outbox.Outbox, error) {
	cfg := a.cfg.Outbox
	if cfg.Owner == "" {
		cfg.Owner = a.secrets.Instance
	}
	parts := outbox.Parts{DB: db, Producer: a.sender, Deps: a.deps, Tel: a.tel, Source: service}
	if a.broker != nil {
		parts.Broker = a.broker
	}
	return outbox.New(cfg, parts)
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

// ordersRef stands for the order service where a part is made before it.
type ordersRef struct{ shop.Orders }

// operations makes the operator's handler.
func (a *App) operations(admin *httpx.Server) error {
	checks := []gateway.Check{{Name: "running", Check: func(context.Context) error {
		if a.stopping.Load() || !a.started.Load() {
			return errors.New("starting or stopping")
		}
		return nil
	}}, {Name: "bus", Check: a.producer.Ready}}
	for _, s := range a.stores {
		checks = append(checks, gateway.Check{Name: s.service + " store", Check: s.db.Ping})
	}
	verifier, err := newVerifier(a.cfg.Verify, a.audit, a.deps, a.tel)
	if err != nil {
		return err
	}
	a.component("verify", verifier.run, nil)
	handler, err := gateway.NewAdmin(gateway.AdminParts{Verify: verifier.verify, Verified: verifier.verified, Deps: a.deps, Tel: a.tel, Orders: a.orders, Ready: checks, Metrics: a.tel.MetricsHandler(), Policies: a.policies, Reload: a.reloadPolicies,
		Started: func() error {
			if !a.started.Load() {
				return errors.New("starting")
			}
			return nil
		}})
	if err != nil {
		return err
	}
	admin.Handle(handler)
	return nil
}

// Level is the log level of a configuration.
func (c Config) Level() (level slog.Level, err error) {
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return level, fmt.Errorf("log_level is %q; it may be debug, info, warn or error", c.LogLevel)
	}
	return level, nil
}
