package cli

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"holdfast/app"
	"holdfast/app/local"
	"holdfast/platform/run"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

func (s *session) up() *cobra.Command {
	flags := map[string]any{}
	c := &cobra.Command{
		Use:   "up",
		Short: "Run all of Holdfast on this machine",
		Long: `Runs every service in one process, with an embedded bus, a SQLite database for each service,
and simulators in place of the payment provider and the carrier. Everything is kept in the data
directory; the same command goes on where it was stopped, however it was stopped.

What has no flag is set in a file (--config) or by environment: HOLDFAST_PAYMENT__CAPTURE=immediate
sets payment.capture.`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	addr := f.String("addr", "", "the public API's address (default 127.0.0.1:8080)")
	admin := f.String("admin-addr", "", "the address of health, metrics and the operator's commands (default 127.0.0.1:8081)")
	dispatch := f.Duration("dispatch-after", 0, "how long the simulated carrier takes to collect a parcel (default 3s)")
	noSeed := f.Bool("no-seed", false, "leave an empty catalogue empty")
	f.StringVar(&s.config, "config", s.env("HOLDFAST_CONFIG"), "a YAML file with settings ($HOLDFAST_CONFIG)")
	dsn := f.String("store", "", "PostgreSQL in place of SQLite: postgres://…/holdfast_{service}, a database per service")
	temporald := f.Bool("temporal", false, "run a Temporal along, so that orders may be orchestrated (needs temporald: make temporald)")
	binary := f.String("temporald", "", "the program temporald; by default beside this one, or in PATH")
	cluster := f.String("temporal-address", "", "the Temporal cluster at host:port, so that orders may be orchestrated")
	c.RunE = func(c *cobra.Command, _ []string) error {
		set := func(flag, key string, value any) {
			if c.Flags().Changed(flag) {
				flags[key] = value
			}
		}
		set("data", "data", s.data)
		set("addr", "addr", *addr)
		set("admin-addr", "admin_addr", *admin)
		set("dispatch-after", "carrier_sim.dispatch_after", *dispatch)
		set("no-seed", "seed", !*noSeed)
		set("temporal", "temporald.run", *temporald)
		set("temporald", "temporald.binary", *binary)
		set("temporal-address", "temporal.address", *cluster)
		if *dsn != "" {
			flags["store.driver"], flags["store.dsn"] = "postgres", *dsn
		}
		return s.runUp(c, flags)
	}
	return c
}

func (s *session) runUp(c *cobra.Command, flags map[string]any) error {
	boot := run.Real(slog.New(slog.DiscardHandler))
	cfg, err := local.Load(boot.Files, s.config, s.Environ, flags)
	if err != nil {
		return usage("%w", err)
	}
	level, err := cfg.Level()
	if err != nil {
		return usage("%w", err)
	}
	log := slog.New(telemetry.LogHandler(slog.NewJSONHandler(s.Err, &slog.HandlerOptions{Level: level})))
	err = local.Run(c.Context(), cfg, run.Real(log), func(r local.Ready) {
		if !s.quiet {
			s.welcome(cfg, r)
		}
		go app.ReloadOnHangup(c.Context(), r.Reload, log)
	})
	if shop.KindOf(err) == shop.Unavailable {
		return &exit{code: ExitUnfit, err: err}
	}
	return err
}

// welcome tells where everything is, and a first thing to do.
func (s *session) welcome(cfg local.Config, r local.Ready) {
	self := filepath.Base(os.Args[0])
	if dir := filepath.Dir(os.Args[0]); dir != "." {
		self = os.Args[0]
	}
	data := ""
	if cfg.Data != local.Defaults().Data {
		data = " --data " + cfg.Data
	}
	temporal := ""
	if r.Addresses.Temporal != "" {
		temporal = fmt.Sprintf("  Temporal    %s   %s\n", r.Addresses.Temporal, r.Addresses.TemporalUI)
	}
	fmt.Fprintf(s.Out, `Holdfast is ready, after %s.

  API         %s
  operations  %s   /readyz /metrics
  PSP         %s
  carrier     %s
  Kafka       %s
  API key     %s
%s
A first order:

  curl -s %s/v1/orders -H "Authorization: Bearer $(cat %s)" \
    -H "Content-Type: application/json" -H "Idempotency-Key: first-1" -H "Prefer: wait=10" -d '
    {"customer_id":"cus_42","currency":"EUR","lines":[{"sku":"TEA-EARL-100","quantity":2}],
     "shipping_address":{"name":"A. Reader","line1":"1 Long Street","city":"Berlin","postal_code":"10115","country":"DE"},
     "payment_method":"tok_ok"}'

or: %s order place --line TEA-EARL-100=2 --wait 10s%s

Ctrl-C stops it in order; the same command goes on from there.
`, r.Took.Round(10*time.Millisecond), r.Addresses.API, r.Addresses.Admin, r.Addresses.PSP, r.Addresses.Carrier, r.Addresses.Kafka, r.KeyPath, temporal,
		r.Addresses.API, r.KeyPath, self, data)
}
