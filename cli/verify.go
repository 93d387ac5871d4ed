package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast/app/local"
	"holdfast/check/audit"
	"holdfast/platform/run"
	"holdfast/shop"
)

func (s *session) verify() *cobra.Command {
	var rest, onBus bool
	var grace time.Duration
	var config, dsn string
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check the invariants over the stores, while orders are processed or after a stop",
		Long: `Reads the stores of a Holdfast, running or stopped, without writing to them, and checks the invariants of
ARCHITECTURE.md. What is met wrong may have moved while it was read: it is read again until it is right or the
grace has passed, and only what is still wrong counts. docs/verify.md says what each invariant means and what to
do about one that does not hold.

With --at-rest everything must also have come to its end: the load has stopped and all faults are healed.

With --bus every topic is read from its start, by a consumer of its own, and compared with the stores: that of
bus.seeds, or that of the Holdfast that runs on the data directory. What retention has removed from it is
inconclusive.

Exit codes: 0 all hold, 3 one does not, 5 something cannot be told yet, 4 the stores cannot be read.`,
		Example: `  holdfast verify
  holdfast verify --at-rest --json
  holdfast verify --at-rest --bus
  holdfast verify --config /etc/holdfast.yaml --at-rest --bus
  holdfast verify --store 'postgres://holdfast@db/holdfast_{service}'`,
	}
	f := c.Flags()
	f.BoolVar(&rest, "at-rest", false, "the load has stopped: every order must have its outcome, every event its effect")
	f.BoolVar(&onBus, "bus", false, "read the bus, too, and compare it with the stores")
	f.DurationVar(&grace, "grace", audit.DefaultGrace, "how long what is wrong may take to come right")
	f.StringVar(&config, "config", s.env("HOLDFAST_CONFIG"), "the configuration file of that Holdfast, or of a holdfastd ($HOLDFAST_CONFIG)")
	f.StringVar(&dsn, "store", "", "its PostgreSQL, if it has one: postgres://…/holdfast_{service}")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if grace <= 0 {
			return usage("--grace must be more than 0")
		}
		flags := map[string]any{}
		if config == "" || c.Flags().Changed("data") {
			flags["data"] = s.data
		}
		if dsn != "" {
			flags["store.driver"], flags["store.dsn"] = "postgres", dsn
		}
		deps := run.Real(slog.New(slog.DiscardHandler))
		cfg, err := local.LoadToLook(deps.Files, config, s.Environ, flags)
		if err != nil {
			return usage("%w", err)
		}
		what := local.AuditConfig(cfg)
		what.AtRest, what.Grace = rest, grace
		what.PSP, what.Carrier = present(what.PSP), present(what.Carrier)
		if onBus {
			if what.Bus, err = s.busOf(cfg, deps); err != nil {
				return err
			}
		}
		r, err := audit.Run(c.Context(), what)
		if shop.KindOf(err) == shop.Unavailable && err != nil && c.Context().Err() == nil {
			return &exit{code: ExitUnfit, err: err}
		}
		if err != nil {
			return err
		}
		if err := s.print(r, func(w io.Writer) { writeAudit(w, r) }); err != nil {
			return err
		}
		return s.auditVerdict(r)
	}
	return c
}

// busOf says how the bus is read. The embedded one is there while its Holdfast runs.
func (s *session) busOf(cfg local.Config, deps shop.Deps) (*audit.Bus, error) {
	kafka := ""
	if len(cfg.Bus.Seeds) == 0 {
		s.data = cfg.Data
		a, err := s.addresses()
		if err != nil {
			return nil, err
		}
		kafka = a.Kafka
	}
	return local.AuditBus(cfg, kafka, deps)
}

// present leaves out a ledger that is not there: stores alone can be looked at too.
func present(file string) string {
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return file
}

// auditVerdict turns a report into an exit code.
func (s *session) auditVerdict(r *audit.Report) error {
	switch r.Verdict {
	case audit.Pass:
		return nil
	case audit.Inconclusive:
		return &exit{code: ExitInconclusive, err: errors.New("something cannot be told while it moves; run it again, with a longer --grace")}
	default:
		failed := r.Failed()
		first := ""
		if len(failed[0].Items) > 0 {
			first = ": " + failed[0].Items[0].ID + " " + failed[0].Items[0].Detail
		}
		return &exit{code: ExitViolated, err: fmt.Errorf("%d invariants do not hold; the first is %s%s; docs/verify.md says what to do", len(failed), failed[0].ID, first)}
	}
}

func writeAudit(w io.Writer, r *audit.Report) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tVERDICT\tEXAMINED\tOBSERVED\tSAYS")
	for _, x := range r.Results {
		observed := x.Observed
		if x.Why != "" {
			observed = x.Why
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\n", x.ID, x.Verdict, x.Examined, observed, x.Says)
	}
	_ = t.Flush() // to a terminal or a pipe: there is nobody left to tell
	for _, x := range r.Results {
		for _, o := range x.Items {
			open := ""
			if o.Open {
				open = " (open)"
			}
			fmt.Fprintf(w, "%s %s: %s%s\n", x.ID, o.ID, o.Detail, open)
		}
	}
	c := r.Counts
	fmt.Fprintf(w, "%s: %d orders, %d events, %d of them looked at again; %.1f s\n", r.Verdict, c.Orders, c.Events, c.Reread, r.Took.Seconds())
}
