// Package local is a whole Holdfast on one machine, in one process: every module, with an event bus, databases
// and outside parties of its own where none are configured, and keys that it makes itself. Everything is kept
// in one directory.
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/app"
	"holdfast/app/verify"
	"holdfast/check/audit"
	embedded "holdfast/embedded/bus"
	"holdfast/embedded/sqlite"
	"holdfast/platform/httpx"
	"holdfast/platform/outbox"
	"holdfast/platform/run"
	"holdfast/platform/temporal"
	"holdfast/shop"
	"holdfast/sim/carrier"
	"holdfast/sim/psp"
	"holdfast/svc/inventory"
	"holdfast/svc/order"
	"holdfast/svc/payment"
	"holdfast/svc/saga"
	"holdfast/svc/shipping"
)

// DevCaller is whom the development key stands for.
const DevCaller = shop.Caller("dev")

// Config is everything that can be set.
type Config struct {
	app.Config `koanf:",squash"`

	Data string `koanf:"data"` // the directory that holds everything
	Seed bool   `koanf:"seed"` // put a small catalogue into an empty inventory

	// Callers are those that have an API key beside the development one, with their keys. Orders belong to
	// the caller that placed them.
	Callers map[string]string `koanf:"callers"`

	Embedded    embedded.Config `koanf:"embedded_bus"`
	PSP         psp.Config      `koanf:"psp_sim"` // unless payment.provider_url names a real one
	PSPAddr     string          `koanf:"psp_addr"`
	Carrier     carrier.Config  `koanf:"carrier_sim"` // unless shipping.carrier_url names a real one
	CarrierAddr string          `koanf:"carrier_addr"`

	Temporald temporal.ServerConfig `koanf:"temporald"` // a Temporal of this machine's own
}

// Defaults returns the configuration of `holdfast up` as it comes.
func Defaults() Config {
	c := Config{Config: app.Defaults(), Data: "data", Seed: true, PSP: psp.Defaults(), PSPAddr: "127.0.0.1:0", Carrier: carrier.Defaults(), CarrierAddr: "127.0.0.1:0"}
	c.LogLevel, c.Store.Driver, c.Partitions, c.InternalAddr, c.DrainWait = "warn", "sqlite", 1, "", 0
	c.Verify.Every = 0
	return c
}

// Load is app.Load for a Holdfast on one machine.
func Load(files shop.Files, file string, environ []string, flags map[string]any) (Config, error) {
	cfg := Defaults()
	if err := app.Read(&cfg, files, file, environ, flags); err != nil {
		return cfg, err
	}
	cfg.Again = func() (app.Config, error) {
		again, err := Load(files, file, environ, flags)
		return again.Config, err
	}
	return cfg, cfg.Validate()
}

// LoadToLook is Load for who only looks at stores and bus: the configuration may be that of a holdfastd, too.
func LoadToLook(files shop.Files, file string, environ []string, flags map[string]any) (Config, error) {
	flags = maps.Clone(flags)
	flags["target"] = app.All
	cfg, err := Load(files, file, environ, flags)
	if err != nil {
		return cfg, err
	}
	if cfg.Store.DSN != "" {
		cfg.Store.Driver = "postgres"
	}
	if err := cfg.Secrets.Load(files); err != nil {
		return cfg, err
	}
	cfg.Bus.SASL.Password = cmp.Or(cfg.Bus.SASL.Password, cfg.Secrets.BusPassword)
	return cfg, nil
}

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	if c.Data == "" {
		return errors.New("data must name a directory")
	}
	if c.Partitions < 1 {
		return errors.New("partitions must be at least 1")
	}
	if c.Bus.Prefix != "" && len(c.Bus.Seeds) == 0 {
		return errors.New("bus.prefix is for a Kafka that is shared: name its brokers in bus.seeds")
	}
	if c.Temporald.Run && c.Temporal.Address != "" {
		return errors.New("temporald.run and temporal.address (--temporal and --temporal-address) exclude one another: use a Temporal of this machine's own, or a cluster")
	}
	if !slices.Equal(c.Target, []string{app.All}) {
		return errors.New("target can be set for holdfastd only: holdfast up runs everything")
	}
	if err := c.validateCallers(); err != nil {
		return err
	}
	if c.Payment.ProviderURL == "" {
		c.Payment.ProviderURL = "http://simulator" // its address comes with the start
	}
	if c.Shipping.CarrierURL == "" {
		c.Shipping.CarrierURL = "http://simulator"
	}
	return c.Config.Validate()
}

// validateCallers says what is wrong with the API keys, without repeating one.
func (c Config) validateCallers() error {
	owners := map[string]string{}
	for _, caller := range slices.Sorted(maps.Keys(c.Callers)) {
		key := c.Callers[caller]
		switch other, taken := owners[key]; {
		case caller == "" || caller == string(DevCaller):
			return fmt.Errorf("callers has %q; each needs a name of its own, and %s is whom the development key stands for", caller, DevCaller)
		case len(key) < httpx.MinKey:
			return fmt.Errorf("callers.%s must be an API key of at least %d characters", caller, httpx.MinKey)
		case taken:
			return fmt.Errorf("callers.%s has the same API key as callers.%s", caller, other)
		}
		owners[key] = caller
	}
	return nil
}

// Ready is told when everything runs.
type Ready struct {
	app.Ready
	KeyPath string
	Key     string
}

// Run runs all of Holdfast in this process until ctx ends, and then stops it in order. onReady is called
// once everything runs.
func Run(ctx context.Context, cfg Config, deps shop.Deps, onReady func(Ready)) (err error) {
	lock, err := run.LockDir(cfg.Data)
	if err != nil {
		return shop.Wrap(shop.Unavailable, "local.lock", "the data directory cannot be used", err)
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	l := &host{cfg: cfg}
	if l.secrets, err = loadSecrets(deps, cfg.Data); err != nil {
		return unusable(err)
	}
	key, err := loadKey(deps, cfg.Data)
	if err != nil {
		return unusable(err)
	}
	parts := app.Embedded{Temporal: l.temporald, Bus: l.bus, Parties: l.parties, Verifier: l.verifier, Built: l.built}
	return app.Run(ctx, l.configured(key), deps, parts, func(r app.Ready) {
		onReady(Ready{Ready: r, KeyPath: filepath.Join(cfg.Data, KeyFile), Key: key})
	})
}

// unusable says what to do about a data directory that cannot be read or written.
func unusable(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return shop.Wrap(shop.Unavailable, "local.data", "the data directory is not ours to use; mend its owner and mode, or choose another one with --data", err)
	default:
		return shop.Wrap(shop.Unavailable, "local.data", "the data directory cannot be used; see the cause, or choose another one with --data", err)
	}
}

// host makes the embedded parts.
type host struct {
	cfg     Config
	secrets secrets
}

// configured is the configuration with the keys, secrets and names of the data directory.
func (l *host) configured(key string) app.Config {
	c := l.cfg.Config
	c.Store.Dir, c.Store.SQLite = l.cfg.Data, sqlite.Connector
	// The leases are this installation's: after a restart it takes its own up at once.
	if c.Instance == "" {
		c.Instance = l.secrets.Instance
	}
	c.Secrets.APIKeys = with(c.Secrets.APIKeys, string(DevCaller), key)
	maps.Copy(c.Secrets.APIKeys, l.cfg.Callers)
	c.Secrets.Webhooks = with(c.Secrets.Webhooks, payment.WebhookParty, []string{l.secrets.PSP})
	c.Secrets.Webhooks = with(c.Secrets.Webhooks, shipping.WebhookParty, []string{l.secrets.Carrier})
	return c
}

// with is m with a value where it has none.
func with[V any](m map[string]V, key string, value V) map[string]V {
	all := map[string]V{key: value}
	for k, v := range m {
		all[k] = v
	}
	return all
}

// temporald starts a Temporal of this machine's own where that is configured. Everything that uses it starts
// after it and stops before it.
func (l *host) temporald(ctx context.Context, h *app.Host) error {
	if !l.cfg.Temporald.Run {
		return nil
	}
	server, err := temporal.NewServer(ctx, l.cfg.Temporald, h.Config.Temporal.Namespace, filepath.Join(l.cfg.Data, "temporal"), h.Deps)
	if err != nil {
		return err
	}
	h.RunComponent(run.Component{Name: "temporald", Run: server.Run, Ready: server.Ready, StopAfter: temporal.ServerStop})
	h.Config.Temporal.Address, h.Addresses.TemporalUI = server.Addr(), server.UI()
	return nil
}

// bus starts the embedded broker.
func (l *host) bus(_ context.Context, h *app.Host) (outbox.Broker, error) {
	cfg := l.cfg.Embedded
	cfg.Dir = filepath.Join(l.cfg.Data, "bus")
	cfg.Readers = map[string][]string{order.Name: order.Topics(), inventory.Name: inventory.Topics(), payment.Name: payment.Topics(), shipping.Name: shipping.Topics()}
	if h.Config.Has(saga.Name) {
		cfg.Readers[saga.Name] = saga.Topics()
	}
	broker, err := embedded.New(cfg, h.Deps)
	if err != nil {
		return nil, shop.Wrap(shop.Unavailable, "local.bus", "the embedded bus cannot start", err)
	}
	h.Close(broker.Close)
	h.Config.Bus.Seeds, h.Config.Bus.Uncompressed = broker.Addrs(), true
	h.Run("bus", broker.Run, broker.Ready)
	return broker, nil
}

func (l *host) verifier(h *app.Host) (app.Verifier, error) {
	return verify.New(l.cfg.Verify, AuditConfig(l.cfg), h.Deps, h.Tel)
}

// built puts the catalogue into an empty inventory, and says where everything is.
func (l *host) built(ctx context.Context, h *app.Host, stock shop.Inventory) error {
	if l.cfg.Seed {
		if err := seed(ctx, stock, DevCaller); err != nil {
			return fmt.Errorf("seed the catalogue: %w", err)
		}
	}
	return writeAddresses(*h.Addresses, h.Deps.Files, l.cfg.Data)
}

// AuditConfig says where the stores and ledgers of a Holdfast with this configuration are. The ledgers are
// the simulators' files, where it has simulators.
func AuditConfig(cfg Config) audit.Config {
	c := audit.Config{Data: cfg.Data, Keep: cfg.Outbox.Keep, Grace: cfg.Verify.Grace}
	if cfg.Store.Driver == "postgres" {
		c.DSN, c.Password = cfg.Store.DSN, cfg.Secrets.StorePassword
	}
	psp, carrier := audit.SimulatorLedgers(cfg.Data)
	if cfg.Payment.ProviderURL == "" {
		c.PSP = psp
	}
	if cfg.Shipping.CarrierURL == "" {
		c.Carrier = carrier
	}
	return c
}

// AuditBus says how the bus of a Holdfast with this configuration is read: that of bus.seeds, or its own, which
// listens at kafka while it runs.
func AuditBus(cfg Config, kafka string, deps shop.Deps) (*audit.Bus, error) {
	c := cfg.Bus.Defaults()
	if len(c.Seeds) == 0 {
		c.Seeds = []string{kafka}
	}
	options, err := c.Options(deps)
	return &audit.Bus{Name: strings.Join(c.Seeds, ","), Prefix: c.Prefix, Options: options}, err
}
