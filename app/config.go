package app

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"

	"holdfast/check/audit"
	embedded "holdfast/embedded/bus"
	"holdfast/platform/bus"
	"holdfast/platform/httpx"
	"holdfast/platform/outbox"
	"holdfast/platform/policy"
	"holdfast/platform/temporal"
	"holdfast/resilience"
	"holdfast/shop"
	"holdfast/sim/carrier"
	"holdfast/sim/psp"
	"holdfast/svc/gateway"
	"holdfast/svc/inventory"
	"holdfast/svc/order"
	"holdfast/svc/payment"
	"holdfast/svc/saga"
	"holdfast/svc/shipping"
)

// EnvPrefix begins the environment variables that set something: HOLDFAST_ADDR sets addr, and
// HOLDFAST_PAYMENT__CAPTURE sets payment.capture.
const EnvPrefix = "HOLDFAST_"

// notConfig are the variables with the prefix that belong to the command line and the tests.
var notConfig = []string{"HOLDFAST_URL", "HOLDFAST_API_KEY", "HOLDFAST_TEST_", "HOLDFAST_CONFIG", "HOLDFAST_WEBHOOK_SECRET"}

// Config is everything that can be set. Each service's part stands beside its user.
type Config struct {
	Data      string `koanf:"data"`       // the directory that holds everything
	Addr      string `koanf:"addr"`       // of the public API
	AdminAddr string `koanf:"admin_addr"` // of health, metrics and the operator's commands
	Seed      bool   `koanf:"seed"`       // put a small catalogue into an empty inventory
	LogLevel  string `koanf:"log_level"`  // debug, info, warn, error

	// Callers are those that have an API key beside the development one, with their keys. Orders belong to
	// the caller that placed them.
	Callers map[string]string `koanf:"callers"`

	Store      Store           `koanf:"store"`
	Bus        bus.Config      `koanf:"bus"` // with seeds: that Kafka instead of the embedded bus
	Partitions int             `koanf:"partitions"`
	Embedded   embedded.Config `koanf:"embedded_bus"`
	Outbox     outbox.Config   `koanf:"outbox"`

	// BusPolicy is the breaker before the bus; Internal are the policies of calls between our services.
	BusPolicy resilience.BreakerConfig `koanf:"bus_policy"`
	Internal  policy.InternalConfig    `koanf:"internal"`

	Verify      Verify           `koanf:"verify"` // the check of the invariants over the stores
	Gateway     gateway.Config   `koanf:"gateway"`
	Order       order.Config     `koanf:"order"`
	Inventory   inventory.Config `koanf:"inventory"`
	Payment     payment.Config   `koanf:"payment"`  // without provider_url: the simulator
	Shipping    shipping.Config  `koanf:"shipping"` // without carrier_url: the simulator
	PSP         psp.Config       `koanf:"psp_sim"`
	PSPAddr     string           `koanf:"psp_addr"`
	Carrier     carrier.Config   `koanf:"carrier_sim"`
	CarrierAddr string           `koanf:"carrier_addr"`

	Temporal  temporal.Config       `koanf:"temporal"`  // with an address: that cluster
	Temporald temporal.ServerConfig `koanf:"temporald"` // a Temporal of this machine's own
	Saga      saga.Config           `koanf:"saga"`

	// Again reads the configuration again from where it came; nil where it did not come from anywhere.
	Again func() (Config, error) `koanf:"-"`
}

// Store says where the services keep their state: a database each.
type Store struct {
	Driver   string `koanf:"driver"`    // sqlite or postgres
	DSN      string `koanf:"dsn"`       // of postgres; {service} in it stands for the service's name
	MaxConns int    `koanf:"max_conns"` // of each service

	// Policies stand before the connections of each service's store.
	Policies policy.StoreConfig `koanf:"policies"`
}

// Defaults returns the configuration of `holdfast up` as it comes.
func Defaults() Config {
	return Config{
		Data: "data", Addr: "127.0.0.1:8080", AdminAddr: "127.0.0.1:8081", Seed: true, LogLevel: "warn",
		Store: Store{Driver: "sqlite", Policies: policy.StoreDefaults()}, Partitions: 1,
		BusPolicy: policy.BusDefaults(), Internal: policy.InternalDefaults(),
		Verify: Verify{Grace: audit.DefaultGrace}, Gateway: gateway.Defaults(), Order: order.Defaults(), Inventory: inventory.Defaults(), Payment: payment.Defaults(), Shipping: shipping.Defaults(),
		PSP: psp.Defaults(), PSPAddr: "127.0.0.1:0", Carrier: carrier.Defaults(), CarrierAddr: "127.0.0.1:0",
		Temporal: temporal.Defaults(), Saga: saga.Defaults(),
	}
}

// Load returns the defaults, changed by the file if it is named, by the environment ("NAME=value") and by
// flags, in this order. Keys of flags are those of the file, "payment.capture".
func Load(files shop.Files, file string, environ []string, flags map[string]any) (Config, error) {
	cfg := Defaults()
	k := koanf.New(".")
	if file != "" {
		values, err := readFile(files, file)
		if err != nil {
			return cfg, err
		}
		if err := apply(k, values, &cfg, file); err != nil {
			return cfg, err
		}
	}
	if err := apply(k, fromEnv(environ), &cfg, "the environment ("+EnvPrefix+"*)"); err != nil {
		return cfg, err
	}
	if err := apply(k, flags, &cfg, "the flags"); err != nil {
		return cfg, err
	}
	cfg.Again = func() (Config, error) { return Load(files, file, environ, flags) }
	return cfg, cfg.Validate()
}

func readFile(files shop.Files, name string) (map[string]any, error) {
	b, err := files.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the configuration file %s does not exist; leave --config out to run without one", name)
	}
	if err != nil {
		return nil, fmt.Errorf("the configuration file cannot be read: %w", err)
	}
	values := map[string]any{}
	if err := yaml.Unmarshal(b, &values); err != nil {
		return nil, fmt.Errorf("the configuration file %s is not YAML: %w", name, err)
	}
	return values, nil
}

// apply lays values over cfg. Keys that nothing reads are an error that names them.
func apply(k *koanf.Koanf, values map[string]any, cfg *Config, from string) error {
	if err := k.Load(confmap.Provider(values, "."), nil); err != nil {
		return fmt.Errorf("configuration from %s: %w", from, err)
	}
	err := k.UnmarshalWithConf("", cfg, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		Result: cfg, TagName: "koanf", ErrorUnused: true, WeaklyTypedInput: true,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(mapstructure.StringToTimeDurationHookFunc(), mapstructure.StringToSliceHookFunc(",")),
	}})
	if err != nil {
		return fmt.Errorf("configuration from %s: %w", from, err)
	}
	return nil
}

func fromEnv(environ []string) map[string]any {
	values := map[string]any{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if rest, ours := strings.CutPrefix(name, EnvPrefix); ours && !reserved(name) {
			values[strings.ReplaceAll(strings.ToLower(rest), "__", ".")] = value
		}
	}
	return values
}

func reserved(name string) bool {
	for _, prefix := range notConfig {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case c.Data == "":
		return errors.New("data must name a directory")
	case c.Store.Driver != "sqlite" && c.Store.Driver != "postgres":
		return fmt.Errorf("store.driver is %q; it must be sqlite or postgres", c.Store.Driver)
	case c.Store.Driver == "postgres" && !strings.Contains(c.Store.DSN, "{service}"):
		return errors.New("store.dsn must contain {service}: each service has a database of its own, as in postgres://user@host/holdfast_{service}")
	case c.Bus.Prefix != "" && len(c.Bus.Seeds) == 0:
		return errors.New("bus.prefix is for a Kafka that is shared: name its brokers in bus.seeds")
	case c.Temporald.Run && c.Temporal.Address != "":
		return errors.New("temporald.run and temporal.address (--temporal and --temporal-address) exclude one another: use a Temporal of this machine's own, or a cluster")
	case c.Partitions < 1:
		return errors.New("partitions must be at least 1")
	}
	if err := c.validateCallers(); err != nil {
		return err
	}
	if err := c.Store.Policies.Validate(); err != nil {
		return fmt.Errorf("store.policies.%w", err)
	}
	if err := c.BusPolicy.Validate(); err != nil {
		return fmt.Errorf("bus_policy.%w", err)
	}
	if err := c.Internal.Validate(); err != nil {
		return fmt.Errorf("internal.%w", err)
	}
	payment, shipping := c.Payment, c.Shipping
	if payment.ProviderURL == "" {
		payment.ProviderURL = "http://simulator" // its address comes with the start
	}
	if shipping.CarrierURL == "" {
		shipping.CarrierURL = "http://simulator"
	}
	for _, part := range []interface{ Validate() error }{c.Verify, c.Gateway, c.Order, c.Inventory, payment, shipping, c.Temporal, c.Saga} {
		if err := part.Validate(); err != nil {
			return err
		}
	}
	return nil
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
