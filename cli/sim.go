package cli

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"holdfast/app/local"
	"holdfast/platform/run"
	"holdfast/platform/telemetry"
)

func (s *session) sim() *cobra.Command {
	c := &cobra.Command{
		Use:   "sim",
		Short: "Run a simulated outside party by itself",
		Long: `Runs the payment provider or the carrier that "holdfast up" has built in, as a process of its own:
for tests that kill one and not the other, or as a target for other systems.

Either can be made to fail while it runs: PUT /faults makes it slow, refuse, lose requests or answers,
reset connections, or answer garbage, half or in drips, for a share of the calls, for some of them or for a
while; GET /faults tells how many calls each fault has hit, and DELETE /faults heals it. Faults are kept in
memory only. docs/failure-injection.md has them all, and a recipe for CI.

  curl -X PUT ADDRESS/faults -d '{"faults":[{"operation":"*","status":503,"rate":0.25,"for":"60s"}]}'`,
	}
	c.AddCommand(s.simParty("psp", "The payment provider; its behaviour is chosen by payment_method"),
		s.simParty("carrier", "The carrier; its behaviour is chosen by postal_code"))
	return c
}

func (s *session) simParty(name, short string) *cobra.Command {
	cfg := local.SimConfig{Party: name}
	c := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs}
	f := c.Flags()
	f.StringVar(&cfg.Addr, "addr", "127.0.0.1:0", "the address to listen on")
	f.StringVar(&cfg.WebhookURL, "webhook-url", "", "where its messages go: http://127.0.0.1:8080/webhooks/"+name)
	f.StringVar(&cfg.WebhookSecret, "webhook-secret", s.env("HOLDFAST_WEBHOOK_SECRET"), "whsec_… ($HOLDFAST_WEBHOOK_SECRET)")
	if name == "carrier" {
		f.DurationVar(&cfg.DispatchAfter, "dispatch-after", 3*time.Second, "how long it takes to collect a parcel")
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg.Data = s.data
		log := slog.New(telemetry.LogHandler(slog.NewJSONHandler(s.Err, &slog.HandlerOptions{Level: slog.LevelWarn})))
		return local.RunSim(c.Context(), cfg, run.Real(log), func(url string) {
			fmt.Fprintf(s.Out, "%s\n", url)
			s.say("the %s simulator is ready; its ledger is at %s/ledger", name, url)
		})
	}
	return c
}
