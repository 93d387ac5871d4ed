package app

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"

	"holdfast/platform/bus"
	"holdfast/platform/outbox"
	"holdfast/platform/policy"
	"holdfast/platform/sqldb"
	"holdfast/platform/temporal"
	"holdfast/resilience"
	"holdfast/shop"
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

// All is the target that stands for every module.
const All = "all"

// Config is everything that can be set for a process. Each service's part stands beside its user.
type Config struct {
	Target []string `koanf:"target"` // the modules of this process, or all
	// Instance names this process to the leases of its stores and to the bus. Another one in each replica;
	// where a process keeps its own over a restart, it takes up at once what it held. Empty: a new one with each start.
	Instance string `koanf:"instance"`

	Addr         string `koanf:"addr"`          // of the public API
	InternalAddr string `koanf:"internal_addr"` // of the calls from other services; "" has none
	AdminAddr    string `koanf:"admin_addr"`    // of health, metrics and the operator's commands
	LogLevel     string `koanf:"log_level"`     // debug, info, warn, error
	// DrainWait is how long a process that is to stop goes on while it says that it is not ready: until
	// nobody sends it anything new.
	DrainWait time.Duration `koanf:"drain_wait"`

	// Services are the internal addresses of the services that are not in this process, by name.
	Services map[string][]string `koanf:"services"`
	Secrets  Secrets             `koanf:"secrets"`

	Store      Store         `koanf:"store"`
	Bus        bus.Config    `koanf:"bus"`
	Partitions int           `koanf:"partitions"` // of topics that are made; 0: as the brokers are configured
	Outbox     outbox.Config `koanf:"outbox"`

	// BusPolicy is the breaker before the bus; Internal are the policies of calls between our services.
	BusPolicy resilience.BreakerConfig `koanf:"bus_policy"`
	Internal  policy.InternalConfig    `koanf:"internal"`

	Gateway   gateway.Config   `koanf:"gateway"`
	Order     order.Config     `koanf:"order"`
	Inventory inventory.Config `koanf:"inventory"`
	Payment   payment.Config   `koanf:"payment"`
	Shipping  shipping.Config  `koanf:"shipping"`

	Temporal temporal.Config `koanf:"temporal"` // with an address orders may be orchestrated
	Saga     saga.Config     `koanf:"saga"`

	// Verify is when the process of the orders checks the invariants over the stores.
	Verify Verify `koanf:"verify"`

	// Again reads the configuration again from where it came; nil where it did not come from anywhere.
	Again func() (Config, error) `koanf:"-"`
}

// Verify says when the invariants are checked over the stores of all services.
type Verify struct {
	Every time.Duration `koanf:"every"` // 0: only when asked
	Grace time.Duration `koanf:"grace"` // how long what is wrong may take to come right
}

// minVerify keeps checks from following one another without a pause.
const minVerify = time.Minute

// Validate tells what is wrong with v.
func (v Verify) Validate() error {
	if v.Every != 0 && v.Every < minVerify || v.Grace <= 0 {
		return fmt.Errorf("verify.every must be 0, or at least %v, and verify.grace positive", minVerify)
	}
	return nil
}

// Store says where the services keep their state: a database each.
type Store struct {
	Driver   string `koanf:"driver"`    // postgres, or sqlite in a Holdfast on one machine
	DSN      string `koanf:"dsn"`       // of postgres; {service} in it stands for the service's name
	MaxConns int    `koanf:"max_conns"` // of each service

	// Policies stand before the connections of each service's store.
	Policies policy.StoreConfig `koanf:"policies"`

	// Dir holds the files of sqlite, and SQLite is its driver.
	Dir    string          `koanf:"-"`
	SQLite sqldb.Connector `koanf:"-"`
}

// Defaults returns what holds where nothing is configured. It names no outside thing: no database, no bus,
// no outside party.
func Defaults() Config {
	return Config{
		Target: []string{All}, Addr: "127.0.0.1:8080", InternalAddr: "127.0.0.1:8082", AdminAddr: "127.0.0.1:8081", LogLevel: "info", DrainWait: 5 * time.Second,
		Store: Store{Driver: "postgres", Policies: policy.StoreDefaults()}, Bus: bus.Config{CreateTopics: true}, BusPolicy: policy.BusDefaults(), Internal: policy.InternalDefaults(),
		Gateway: gateway.Defaults(), Order: order.Defaults(), Inventory: inventory.Defaults(), Payment: payment.Defaults(), Shipping: shipping.Defaults(),
		Temporal: temporal.Defaults(), Saga: saga.Defaults(), Verify: Verify{Every: time.Hour, Grace: 10 * time.Second},
	}
}

// Load returns the defaults, changed by the file if it is named, by the environment ("NAME=value") and by
// flags, in this order. Keys of flags are those of the file, "payment.capture".
func Load(files shop.Files, file string, environ []string, flags map[string]any) (Config, error) {
	cfg := Defaults()
	if err := Read(&cfg, files, file, environ, flags); err != nil {
		return cfg, err
	}
	cfg.Again = func() (Config, error) { return Load(files, file, environ, flags) }
	return cfg, cfg.Validate()
}

// Read lays the file, the environment and the flags over into, a pointer to a configuration.
func Read(into any, files shop.Files, file string, environ []string, flags map[string]any) error {
	k := koanf.New(".")
	if file != "" {
		values, err := readFile(files, file)
		if err != nil {
			return err
		}
		if err := apply(k, values, into, file); err != nil {
			return err
		}
	}
	if err := apply(k, fromEnv(environ), into, "the environment ("+EnvPrefix+"*)"); err != nil {
		return err
	}
	return apply(k, flags, into, "the flags")
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
func apply(k *koanf.Koanf, values map[string]any, cfg any, from string) error {
	if err := k.Load(confmap.Provider(values, "."), nil); err != nil {
		return fmt.Errorf("configuration from %s: %w", from, err)
	}
	err := k.UnmarshalWithConf("", cfg, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		Result: cfg, TagName: "koanf", ErrorUnused: true, WeaklyTypedInput: true,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(mapstructure.StringToTimeDurationHookFunc(), mapstructure.StringToSliceHookFunc(","), newList),
	}})
	if err != nil {
		return fmt.Errorf("configuration from %s: %w", from, err)
	}
	return nil
}

// newList has a list take the place of the one before it; mapstructure would write over its beginning.
func newList(from, to reflect.Value) (any, error) {
	if to.Kind() == reflect.Slice && to.CanSet() {
		to.SetZero()
	}
	return from.Interface(), nil
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
	return slices.ContainsFunc(notConfig, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// Level is the log level of a configuration, in the terms of log/slog.
func (c Config) Level() (level slog.Level, err error) {
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return level, fmt.Errorf("log_level is %q; it may be debug, info, warn or error", c.LogLevel)
	}
	return level, nil
}
