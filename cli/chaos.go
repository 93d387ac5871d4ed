package cli

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast/check"
)

// chaosRest is how long an experiment waits for the outcomes of its orders once its load has ended.
const chaosRest = 3 * time.Minute

func (s *session) chaos() *cobra.Command {
	c := &cobra.Command{Use: "chaos", Short: "Break what Holdfast depends on, under load, and judge what becomes of it"}
	c.AddCommand(s.chaosList(), s.chaosRun())
	return c
}

func (s *session) chaosList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the experiments with their hypotheses", RunE: func(*cobra.Command, []string) error {
		type entry struct {
			Name       string `json:"name"`
			Hypothesis string `json:"hypothesis"`
		}
		var list []entry
		for _, e := range check.Experiments(time.Minute) {
			list = append(list, entry{e.Name, e.Hypothesis})
		}
		return s.print(list, func(w io.Writer) {
			for _, e := range list {
				fmt.Fprintf(w, "%s\n  %s\n", e.Name, e.Hypothesis)
			}
			s.say("run one with: holdfast chaos run %s", list[0].Name)
		})
	}}
}

func (s *session) chaosRun() *cobra.Command {
	var length time.Duration
	var keep, verbose bool
	c := &cobra.Command{
		Use: "run NAME", Short: "Run an experiment", Args: cobra.ExactArgs(1),
		Long: `Runs an experiment on a Holdfast of its own in a temporary directory, or with --url on the one of the data
directory: its simulators are made to fail, which is what everybody who uses it will feel. Ctrl-C heals
them. Exit code 3 where the hypothesis did not hold.`,
		Example: "  holdfast chaos run psp-degraded\n  holdfast chaos run overload --length 20s",
	}
	c.Flags().DurationVar(&length, "length", time.Minute, "how long each fault lasts")
	c.Flags().BoolVar(&keep, "keep", false, "keep the temporary data directory")
	c.Flags().BoolVar(&verbose, "verbose", false, "show the log of the Holdfast that was started")
	c.RunE = func(c *cobra.Command, args []string) error {
		experiments := check.Experiments(length)
		i := slices.IndexFunc(experiments, func(e check.Experiment) bool { return e.Name == args[0] })
		if i < 0 {
			return usage("there is no experiment %q; see holdfast chaos list", args[0])
		}
		target, stop, err := s.benchTarget(c, s.url != "", keep, verbose)
		if err != nil {
			return err
		}
		defer stop()
		r, err := check.RunExperiment(c.Context(), target, experiments[i], func(line string) { s.say("%s", line) }, chaosRest)
		if err != nil {
			return err
		}
		if err := s.print(r, func(w io.Writer) { writeChaos(w, r, experiments[i].Watch) }); err != nil {
			return err
		}
		if n := len(r.Failed); n > 0 {
			return &exit{code: ExitViolated, err: fmt.Errorf("the hypothesis did not hold: %s", r.Failed[0])}
		}
		return nil
	}
	return c
}

func writeChaos(w io.Writer, r *check.ChaosReport, watch []string) {
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
	fmt.Fprintf(w, "%s on %s\n\n", r.Experiment, r.Machine)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "phase\tseconds\tsent\taccepted\trefused\tunknown\taccept p50\tp99\tconfirmed/s\tPSP requests\tcarrier requests\tcancels answered\t")
	for _, p := range r.Phases {
		fmt.Fprintf(t, "%s\t%.0f\t%d\t%d\t%d\t%d\t%s\t%s\t%.0f\t%d\t%d\t%d of %d\t\n", p.Name, p.Lasted.Seconds(), p.Sent, p.Accepted, p.Refused, p.Unknown,
			ms(p.Accept.P50), ms(p.Accept.P99), float64(p.Confirmed)/p.Lasted.Seconds(), p.PSP, p.Carrier, p.Answered, p.Cancels)
	}
	_ = t.Flush() // to a terminal or a pipe: there is nobody left to tell
	fmt.Fprintln(w)
	for _, c := range r.Changes {
		if slices.Contains(watch, c.Breaker) {
			fmt.Fprintf(w, "%8.2f s  %s %s\n", c.At.Seconds(), c.Breaker, c.State)
		}
	}
	fmt.Fprintf(w, "\noutcomes    %v, all %.1f s after the load\n", r.Outcomes, r.Drain.Seconds())
	fmt.Fprintf(w, "attempts    %.3f authorisations per order at the PSP\n", r.Attempts)
	if r.PeakMB > 0 {
		fmt.Fprintf(w, "memory      %.0f MB at most\n", r.PeakMB)
	}
	fmt.Fprintf(w, "violations  %d\n", len(r.Violations))
	if len(r.Failed) == 0 {
		fmt.Fprintln(w, "verdict     the hypothesis holds")
		return
	}
	fmt.Fprintln(w, "verdict     the hypothesis does not hold:")
	for _, f := range r.Failed[:min(len(r.Failed), 20)] {
		fmt.Fprintf(w, "  %s\n", f)
	}
}
