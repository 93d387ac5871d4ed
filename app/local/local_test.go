package local_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/app/local"
	"holdfast/client"
	"holdfast/shop"
	"holdfast/test/fakes"
)

func load(t *testing.T, file string, environ []string, flags map[string]any) (local.Config, error) {
	t.Helper()
	name := ""
	if file != "" {
		name = filepath.Join(t.TempDir(), "holdfast.yaml")
		if err := os.WriteFile(name, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return local.Load(fakes.Files{}, name, environ, flags)
}

// TestLoadPrecedence: flags win over the environment, that over the file, that over the defaults.
func TestLoadPrecedence(t *testing.T) {
	t.Parallel()
	const file = "addr: from-file\nadmin_addr: from-file\npayment:\n  capture: immediate\n  retry_max: 9s\norder:\n  watch_batch: 7\n"
	environ := []string{"HOLDFAST_ADDR=from-env", "HOLDFAST_ADMIN_ADDR=from-env", "HOLDFAST_PAYMENT__RETRY_MAX=5s", "HOLDFAST_BUS__SEEDS=a:1,b:2",
		"HOLDFAST_URL=not-configuration", "HOLDFAST_TEST_SEED=1", "UNRELATED=x"}
	cfg, err := load(t, file, environ, map[string]any{"addr": "from-flag"})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Addr != "from-flag" || cfg.AdminAddr != "from-env" || cfg.Payment.Capture != "immediate" || cfg.Payment.RetryMax != 5*time.Second ||
		cfg.Order.WatchBatch != 7 || cfg.Data != local.Defaults().Data || len(cfg.Bus.Seeds) != 2 {
		t.Errorf("%+v", cfg)
	}
}

// TestLoadRefuses: every mistake names its key.
func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file string
		environ    []string
		flags      map[string]any
		says       string
	}{
		{"an unknown key", "payment:\n  captur: x\n", nil, nil, "captur"},
		{"an unknown variable", "", []string{"HOLDFAST_ODER__WATCH_EVERY=1s"}, nil, "oder"},
		{"not YAML", "a: [", nil, nil, "is not YAML"},
		{"not a duration", "", []string{"HOLDFAST_ORDER__WATCH_EVERY=soon"}, nil, "watch_every"},
		{"not a number", "", []string{"HOLDFAST_PARTITIONS=many"}, nil, "partitions"},
		{"no such driver", "store:\n  driver: oracle\n", nil, nil, `store.driver is "oracle"`},
		{"one database for all", "store:\n  driver: postgres\n  dsn: postgres://h/db\n", nil, nil, "{service}"},
		{"no such capture", "", nil, map[string]any{"payment.capture": "never"}, `payment.capture is "never"`},
		{"a wait of nothing", "order:\n  watch_every: 0s\n", nil, nil, "order.watch_every"},
		{"a lease shorter than a call", "payment:\n  calls:\n    lease: 1s\n", nil, nil, "lease"},
		{"two Temporals", "", nil, map[string]any{"temporald.run": true, "temporal.address": "h:1"}, "--temporal-address"},
		{"no port of Temporal", "", nil, map[string]any{"temporal.address": "h"}, "temporal.address"},
		{"more than all orders", "", nil, map[string]any{"order.saga.orchestrated_percent": 101}, "order.saga.orchestrated_percent"},
		{"no partitions", "partitions: 0\n", nil, nil, "partitions"},
		{"a short API key", "callers:\n  web: short\n", nil, nil, "callers.web must be an API key of at least 16"},
		{"the development key's caller", "callers:\n  dev: 0123456789abcdef\n", nil, nil, `callers has "dev"`},
		{"one API key for two", "callers:\n  app: 0123456789abcdef\n  web: 0123456789abcdef\n", nil, nil, "callers.web has the same API key as callers.app"},
		{"no address of the provider", "payment:\n  provider_url: nowhere\n", nil, nil, "payment.provider_url"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if _, err := load(t, test.file, test.environ, test.flags); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, want it to name %s", err, test.says)
			}
		})
	}
}

// run runs a Holdfast until it is ready, calls use, and stops it.
func run(t *testing.T, cfg local.Config, use func(local.Ready)) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	return local.Run(ctx, cfg, fakes.Deps(t), func(r local.Ready) {
		defer cancel()
		use(r)
	})
}

// TestRunAgain: the second start finds the keys, the secrets and the catalogue of the first, and keeps them.
func TestRunAgain(t *testing.T) {
	t.Parallel()
	cfg := local.Defaults()
	cfg.Data, cfg.Addr, cfg.AdminAddr = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	var keys []string
	var items [][]shop.Item
	for range 2 {
		err := run(t, cfg, func(r local.Ready) {
			keys = append(keys, r.Key)
			c, err := client.New(r.Addresses.API, r.Key, nil)
			if err != nil {
				t.Error(err)
				return
			}
			page, err := c.ListItems(t.Context(), shop.ItemQuery{Limit: 200})
			if err != nil {
				t.Error(err)
			}
			items = append(items, page.Items)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if keys[0] != keys[1] || len(items[0]) == 0 || len(items[0]) != len(items[1]) {
		t.Fatalf("keys %v, %d and %d items", keys, len(items[0]), len(items[1]))
	}
	for i := range items[0] {
		if items[0][i] != items[1][i] || items[0][i].OnHand == 0 {
			t.Errorf("%+v became %+v", items[0][i], items[1][i])
		}
	}
	for _, name := range []string{"secrets.json", local.KeyFile} {
		info, err := os.Stat(filepath.Join(cfg.Data, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v, want it to be its owner's alone", name, info.Mode(), err)
		}
	}
}

// TestRunRefuses: what is wrong with the data directory is said, and nothing in it is changed.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ file, content, says string }{
		"secrets that are cut off": {"secrets.json", `{"instance":"`, "restore it, or remove it"},
		"secrets of nothing":       {"secrets.json", `{}`, "restore it, or remove it"},
		"a damaged database":       {"inventory.db", strings.Repeat("not a database ", 100), "damaged"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := local.Defaults()
			cfg.Data, cfg.Addr, cfg.AdminAddr = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
			file := filepath.Join(cfg.Data, test.file)
			if err := os.WriteFile(file, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			err := run(t, cfg, func(local.Ready) { t.Error("it runs") })
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, want it to say %q", err, test.says)
			}
			if b, err := os.ReadFile(file); err != nil || string(b) != test.content {
				t.Errorf("%s was changed: %q %v", test.file, b, err)
			}
		})
	}
}
