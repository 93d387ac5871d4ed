package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast/check/chaos"
	"holdfast/check/cluster"
	"holdfast/check/engine"
	"holdfast/shop"
)

// chaosRest is how long an experiment waits for the outcomes of its orders once its load has ended.
const chaosRest = 3 * time.Minute

// Names that stand for more than one experiment.
const (
	allExperiments = "all"
	someOfAll      = "some"
	pairsOfFaults  = "pairs"
	singleFaults   = "cells"
)

func (s *session) chaos() *cobra.Command {
	c := &cobra.Command{Use: "chaos", Short: "Break what Holdfast stands on, under load, and judge what becomes of it"}
	c.AddCommand(s.chaosList(), s.chaosRun())
	return c
}

func (s *session) chaosList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the experiments: what each claims, what it may hurt, and where it runs", RunE: func(*cobra.Command, []string) error {
		type entry struct {
			Name       string `json:"name"`
			Hypothesis string `json:"hypothesis"`
			Blast      string `json:"blast_radius"`
			Runs       string `json:"runs"`
			Missing    string `json:"missing,omitempty"` // what this machine does not have for it
		}
		var list []entry
		here := machine{}
		for _, e := range chaos.Experiments(0) {
			entry := entry{Name: e.Name, Hypothesis: e.Hypothesis, Blast: e.Blast, Runs: string(e.Where)}
			if err := here.lacks(e.Needs); err != nil {
				entry.Missing = err.Error()
			}
			list = append(list, entry)
		}
		return s.print(list, func(w io.Writer) {
			for _, e := range list {
				fmt.Fprintf(w, "%s  [%s]\n  %s\n  hurts: %s\n", e.Name, e.Runs, e.Hypothesis, e.Blast)
				if e.Missing != "" {
					fmt.Fprintf(w, "  not here: %s\n", e.Missing)
				}
			}
			s.say("run one with: holdfast chaos run %s; those of split with --split", list[0].Name)
		})
	}}
}

// chaosFlags are those of chaos run.
type chaosFlags struct {
	length        time.Duration
	seed          uint64
	split, safety bool
	temporal      cluster.TemporalStore
	report        string
	count, rounds int
	keep, verbose bool
}

func (s *session) chaosRun() *cobra.Command {
	var f chaosFlags
	c := &cobra.Command{
		Use: "run NAME… | all | some | cells | pairs", Short: "Run experiments", Args: cobra.MinimumNArgs(1),
		Long: `Runs experiments, one after the other, on a Holdfast of its own in a temporary directory: one process with
embedded engines, or with --split a process for each replica of a service, on a PostgreSQL, a Kafka and a Temporal
of its own. "all" is every experiment that runs there, "some" is --count of them and "pairs" --count pairs of
faults, which the seed draws. "cells" is every single fault of every part and way, with --safety and --split.
A NAME may be a pattern, as 'kill-*' or 'cell-payment>*': those that match and can be run.
With --url it is the Holdfast of the data directory: its simulators are made to fail, which is what everybody
who uses it will feel.

Each experiment goes from rest to rest: load, fault, load until all is as before; then every order, the stores
and the ledgers of the outside parties are checked. Ctrl-C heals everything, and what was seen so far is reported.

Exit code 3 where not every hypothesis held, with --safety only where something was lost or done twice, or not shown;
4 where something that they need is not there, which "all" and "some" pass over. docs/chaos.md explains the report.`,
		Example: "  holdfast chaos run psp-errors poison\n  holdfast chaos run all --split --report report\n  holdfast chaos run 'kill-*' --split\n  holdfast chaos run pairs --split --count 10 --seed 42",
	}
	c.Flags().DurationVar(&f.length, "length", 0, "how long each fault lasts; by default as long as each is meant to, which is 12s or 1m")
	c.Flags().Uint64Var(&f.seed, "seed", 0, "repeats what a run has drawn; by default drawn itself, and printed")
	c.Flags().BoolVar(&f.split, "split", false, "on split processes with real engines")
	c.Flags().StringVar((*string)(&f.temporal), "temporal-store", string(cluster.OnSQLite), "with --split: where Temporal keeps everything, sqlite or postgres")
	c.Flags().StringVar(&f.report, "report", "", "a directory for report.json and report.html")
	c.Flags().IntVar(&f.count, "count", 5, "how many for some, and pairs of faults for pairs")
	c.Flags().IntVar(&f.rounds, "rounds", 1, "how often the fault of each cell comes, a second after it was healed, with other draws each time")
	c.Flags().BoolVar(&f.safety, "safety", false, "ask for safety alone, not for times and availability, as on a machine that others use; it takes less time")
	c.Flags().BoolVar(&f.keep, "keep", false, "keep the temporary data directory")
	c.Flags().BoolVar(&f.verbose, "verbose", false, "show the log of the Holdfast that was started")
	c.RunE = func(c *cobra.Command, args []string) error {
		if f.split && s.url != "" {
			return usage("--split starts a Holdfast of its own, and --url names another one")
		}
		if slices.Contains(args, singleFaults) && (!f.split || !f.safety) {
			return usage("cells is for --split --safety")
		}
		if c.Flags().Changed("temporal-store") && (!f.split || f.temporal != cluster.OnSQLite && f.temporal != cluster.OnPostgres) {
			return usage("--temporal-store is for --split, and %s or %s", cluster.OnSQLite, cluster.OnPostgres)
		}
		if f.rounds < 1 || f.rounds > 1 && !slices.ContainsFunc(args, func(name string) bool { return strings.HasPrefix(name, "cell") }) {
			return usage("--rounds is 1 or more, and for cells, or those by name")
		}
		if f.seed == 0 {
			f.seed = rand.Uint64N(1 << 32)
		}
		experiments, err := f.chosen(args)
		if err != nil {
			return err
		}
		report, err := s.runChaos(c, f, experiments, args)
		if report == nil {
			return err
		}
		return errors.Join(s.tellChaos(f, report, experiments), err)
	}
	return c
}

func (f chaosFlags) where() chaos.Where {
	if f.split {
		return chaos.Split
	}
	return chaos.Up
}

// chosen are the experiments that were asked for.
func (f chaosFlags) chosen(names []string) (list []chaos.Experiment, err error) {
	every := chaos.Experiments(f.length)
	known := append(slices.Clone(every), chaos.Cells(f.length, f.rounds)...)
	for _, name := range names {
		switch name {
		case allExperiments:
			list = append(list, f.possible(every)...)
		case someOfAll:
			list = append(list, f.some(every)...)
		case pairsOfFaults:
			list = append(list, chaos.Pairs(f.count, f.seed, f.length, f.where(), f.split, machine{}.lacking())...)
		case singleFaults:
			list = append(list, f.cells()...)
		default:
			found, err := f.named(known, name)
			if err != nil {
				return nil, err
			}
			list = append(list, found...)
		}
	}
	slices.SortStableFunc(list, func(a, b chaos.Experiment) int { // those on a disk of their own come last
		switch {
		case small(a) == small(b):
			return 0
		case small(b):
			return -1
		}
		return 1
	})
	return list, nil
}

// named is the experiment of a name, or those that match a pattern and can be run here.
func (f chaosFlags) named(known []chaos.Experiment, name string) ([]chaos.Experiment, error) {
	i := slices.IndexFunc(known, func(e chaos.Experiment) bool { return e.Name == name })
	if i < 0 {
		matching := slices.DeleteFunc(f.possible(known), func(e chaos.Experiment) bool {
			matches, err := path.Match(name, e.Name)
			return !matches || err != nil
		})
		if len(matching) == 0 {
			return nil, usage("there is no experiment %q; see holdfast chaos list", name)
		}
		return matching, nil
	}
	e := known[i]
	if !e.Runs(f.where()) {
		return nil, usage("%s runs on %s: give --split for that, or leave it out for up", name, e.Where)
	}
	if err := (machine{}).lacks(e.Needs); err != nil {
		return nil, &exit{code: ExitUnfit, err: fmt.Errorf("%s: %w", name, err)}
	}
	return []chaos.Experiment{e}, nil
}

// possible are the experiments that can be run here.
func (f chaosFlags) possible(every []chaos.Experiment) []chaos.Experiment {
	here := machine{}
	return slices.DeleteFunc(slices.Clone(every), func(e chaos.Experiment) bool { return !e.Runs(f.where()) || here.lacks(e.Needs) != nil })
}

// some are experiments that the seed draws, in the order of the list.
func (f chaosFlags) some(every []chaos.Experiment) []chaos.Experiment {
	list := f.possible(every)
	random := rand.New(rand.NewPCG(f.seed, 0))
	for len(list) > max(f.count, 0) {
		i := random.IntN(len(list))
		list = slices.Delete(list, i, i+1)
	}
	return list
}

// runChaos runs campaigns: one, or more where some experiments need a disk that may be filled, or there are many. After
// Ctrl-C, or an error of the machinery, no other is begun.
func (s *session) runChaos(c *cobra.Command, f chaosFlags, list []chaos.Experiment, args []string) (report *chaos.Report, err error) {
	repeat := f.repeat(args)
	s.say("seed %d; the same draws again: %s", f.seed, repeat)
	for _, part := range f.parts(list) {
		if err != nil || report != nil && c.Context().Err() != nil {
			report.Skip(part)
			continue
		}
		var r *chaos.Report
		r, err = s.runPart(c, f, part, repeat)
		switch {
		case report == nil && r == nil:
			return nil, err
		case report == nil:
			report = r
		case r == nil:
			report.Skip(part)
		default:
			report.Add(r)
		}
	}
	return report, err
}

// runPart runs a campaign on a system of its own. Without a report nothing was run.
func (s *session) runPart(c *cobra.Command, f chaosFlags, part []chaos.Experiment, repeat string) (*chaos.Report, error) {
	system, on, stop, err := s.chaosSystem(c, f, part)
	if err != nil {
		return nil, err
	}
	defer stop()
	campaign := chaos.Campaign{System: system, On: on, Seed: f.seed, Repeat: repeat, Rest: chaosRest, Safety: f.safety,
		Say: func(line string) { s.say("%s", line) }, Tick: func(line string) { s.say("%s", line) }}
	return campaign.Run(c.Context(), part)
}

// chaosSystem is the Holdfast to hurt.
func (s *session) chaosSystem(c *cobra.Command, f chaosFlags, list []chaos.Experiment) (system chaos.System, on string, stop func(), err error) {
	switch {
	case s.url != "":
		target, stop, err := s.benchTarget(c, shop.Choreographed, true, f.keep, f.verbose)
		return chaos.Attached{At: target}, "the Holdfast at " + s.url, stop, err
	case f.split:
		return s.chaosCluster(c.Context(), f, list)
	}
	dir, err := os.MkdirTemp("", "holdfast-chaos-")
	if err != nil {
		return nil, "", nil, err
	}
	undo := []func() error{func() error { return s.cleanUp(dir, f.keep) }}
	stop = func() {
		for _, do := range slices.Backward(undo) {
			if err := do(); err != nil {
				s.say("afterwards: %v", err)
			}
		}
	}
	disk := small(list[0])
	if disk {
		unmount, err := chaos.MountSmall(dir)
		if err != nil {
			stop()
			return nil, "", nil, &exit{code: ExitUnfit, err: err}
		}
		undo = append(undo, unmount)
	}
	local, err := s.chaosAlone(c.Context(), dir, f.verbose)
	if err != nil {
		stop()
		return nil, "", nil, &exit{code: ExitUnfit, err: err}
	}
	undo, system = append(undo, local.Close), local
	if disk {
		system = chaos.SmallDisk{System: local, Dir: dir}
	}
	return system, "holdfast up: one process, embedded engines", stop, nil
}

// chaosAlone starts a Holdfast in one process, whose bus is at the same address after another start.
func (s *session) chaosAlone(ctx context.Context, dir string, verbose bool) (*cluster.Alone, error) {
	log := io.Discard
	if verbose {
		log = s.Err
	}
	addr, err := engine.Address()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "chaos.yaml")
	if err := os.WriteFile(file, []byte("embedded_bus:\n  addr: "+addr+"\n"), 0o600); err != nil {
		return nil, err
	}
	return cluster.StartAlone(ctx, cluster.Options{Dir: dir}, log, "--config", file)
}

// chaosCluster starts a Holdfast in many processes.
func (s *session) chaosCluster(ctx context.Context, f chaosFlags, list []chaos.Experiment) (chaos.System, string, func(), error) {
	s.say("starting PostgreSQL, Kafka, Temporal, and two processes for each service")
	ways, proxies := chaos.Ways(list), "without proxies"
	if ways != nil {
		proxies = "with a proxy on each way that is to fail"
	}
	// The target for a killed replica is 2 s, and its share is found free after 1; see docs/operations.md.
	system, err := cluster.Start(ctx, cluster.Options{Replicas: 2, Gateways: 2, Temporal: f.temporal, Links: ways, Names: needed(list, chaos.NamesNeed), Clocks: needed(list, chaos.ClocksNeed), Keep: f.keep, DispatchAfter: "500ms",
		Settings: map[string]string{"bus.session_timeout": "1s", "outbox.lease": "1s", "payment.calls.alive": "1s", "shipping.calls.alive": "1s", "saga.calls.alive": "1s"}})
	if err != nil {
		return nil, "", nil, &exit{code: ExitUnfit, err: err}
	}
	return system, fmt.Sprintf("two processes for each service and two gateways, on PostgreSQL, Apache Kafka and Temporal (%s), %s", f.temporal, proxies), func() {
		if err := system.Close(); err != nil {
			s.say("afterwards: %v", err)
		}
		if f.keep {
			s.say("its data and logs are in %s", system.Dir())
		}
	}, nil
}

// cleanUp removes a temporary directory, or says where it is.
func (s *session) cleanUp(dir string, keep bool) error {
	if keep {
		s.say("its data is in %s", dir)
		return nil
	}
	return os.RemoveAll(dir)
}

// tellChaos writes and prints a report, and turns it into an exit code.
func (s *session) tellChaos(f chaosFlags, r *chaos.Report, experiments []chaos.Experiment) error {
	if f.report != "" {
		if err := r.Write(f.report); err != nil {
			return err
		}
		s.say("the report is in %s", filepath.Join(f.report, chaos.PageFile))
	}
	if err := s.print(r, func(w io.Writer) { writeChaos(w, r, experiments) }); err != nil {
		return err
	}
	switch v := r.Verdict(); v {
	case chaos.Holds, "": // of none, what kept them from being run is told
		return nil
	case chaos.Interrupted:
		return &exit{code: ExitInterrupted, err: errors.New("interrupted; everything is healed")}
	default:
		return failedFirst(r, v)
	}
}

// failedFirst is the error of the first experiment with a verdict.
func failedFirst(r *chaos.Report, v chaos.Verdict) error {
	code := ExitViolated
	if v == chaos.Inconclusive {
		code = ExitInconclusive
	}
	for _, e := range r.Experiments {
		if e.Verdict == v {
			return &exit{code: code, err: fmt.Errorf("%s: %s: %s", e.Name, v, e.Failed[0])}
		}
	}
	return nil
}

func writeChaos(w io.Writer, r *chaos.Report, experiments []chaos.Experiment) {
	for _, e := range r.Experiments {
		i := slices.IndexFunc(experiments, func(x chaos.Experiment) bool { return x.Name == e.Name })
		writeExperiment(w, r.Machine, e, experiments[i].Watch)
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "EXPERIMENT\tCREATE\tCANCEL\tREAD\tRECOVERED\tTARGET\tBITES\tVERDICT")
	for _, e := range r.Experiments {
		a, recovered, target := e.Available, "-", "-"
		if e.Recovery != nil {
			recovered, target = fmt.Sprintf("%.1f s", e.Recovery.Took().Seconds()), fmt.Sprintf("%g s", e.Recovery.Target.Seconds())
			if e.Recovery.Never {
				recovered = "not in " + e.Recovery.Waited.Round(time.Second).String()
			}
		}
		bites := int64(0)
		for _, f := range e.Faults {
			bites += f.Bites
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", e.Name, percent(a.Creates, a.Share.Create), percent(a.Cancels, a.Share.Cancel), percent(a.Reads, a.Share.Read), recovered, target, bites, e.Verdict)
	}
	_ = t.Flush() // to a terminal or a pipe: there is nobody left to tell
	totals := r.Totals()
	fmt.Fprintf(w, "%d orders, %d violations, %d of %d experiments hold; %.0f s, seed %d\n", totals.Orders, totals.Violations, totals.Held, len(r.Experiments), r.Took.Seconds(), r.Seed)
	if len(r.NotRun) > 0 {
		fmt.Fprintf(w, "not run: %s\n", strings.Join(r.NotRun, ", "))
	}
}

func percent(n int, share float64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*share)
}

func writeExperiment(w io.Writer, machine string, r *chaos.Result, watch []string) {
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
	fmt.Fprintf(w, "%s on %s\n  %s\n\n", r.Name, machine, r.Hypothesis)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "phase\tseconds\tsent\taccepted\trefused\tunknown\taccept p50\tp99\tconfirmed/s\tPSP requests\tcarrier requests\tcancels answered\t")
	for _, p := range r.Phases {
		fmt.Fprintf(t, "%s\t%.0f\t%d\t%d\t%d\t%d\t%s\t%s\t%.0f\t%d\t%d\t%d of %d\t\n", p.Name, p.Lasted.Seconds(), p.Sent, p.Accepted, p.Refused, p.Unknown,
			ms(p.Accept.P50), ms(p.Accept.P99), float64(p.Confirmed)/p.Lasted.Seconds(), p.PSP, p.Carrier, p.Answered, p.Cancels)
	}
	_ = t.Flush() // to a terminal or a pipe: there is nobody left to tell
	fmt.Fprintln(w)
	for _, f := range r.Faults {
		fmt.Fprintf(w, "%8.2f s  to %.2f s: %s; it did something %d times\n", f.From.Seconds(), f.To.Seconds(), f.Fault, f.Bites)
	}
	for _, c := range r.Changes {
		if slices.Contains(watch, c.Breaker) {
			fmt.Fprintf(w, "%8.2f s  %s %s\n", c.At.Seconds(), c.Breaker, c.State)
		}
	}
	fmt.Fprintf(w, "\noutcomes    %v, all at rest %.1f s after the load\n", r.Outcomes, r.Drain.Seconds())
	fmt.Fprintf(w, "attempts    %.3f authorisations per order at the PSP\n", r.Attempts)
	if rec := r.Recovery; rec != nil && !rec.Never {
		fmt.Fprintf(w, "recovery    accepted as before %.1f s after the %s, confirmed as before %.1f s; the target is %g s\n", rec.Accepts.Seconds(), rec.From, rec.Confirm.Seconds(), rec.Target.Seconds())
	}
	if r.PeakMB > 0 {
		fmt.Fprintf(w, "memory      %.0f MB at most\n", r.PeakMB)
	}
	fmt.Fprintf(w, "violations  %d\n", len(r.Violations))
	fmt.Fprintf(w, "verdict     %s\n", r.Verdict)
	for _, f := range r.Failed[:min(len(r.Failed), 20)] {
		fmt.Fprintf(w, "  %s\n", f)
	}
	fmt.Fprintln(w)
}
