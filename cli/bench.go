package cli

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"holdfast/check"
	"holdfast/check/cluster"
	"holdfast/shop"
)

// restLimit is how long a bench waits for the outcomes of its orders once the load has ended.
const restLimit = 2 * time.Minute

func (s *session) bench() *cobra.Command {
	plan := check.Plan{}
	var keep, external, verbose, split bool
	var o cluster.Options
	c := &cobra.Command{
		Use:   "bench",
		Short: "Put an open load on Holdfast and check every outcome",
		Long: `Sends orders at a steady rate, whatever becomes of those before, and measures each latency from
the time that the order was due. Afterwards every order's outcome is compared with the provider's
and the carrier's ledgers. Without --url it starts a Holdfast of its own in a temporary directory
and also reports that process's CPU and memory, those of the Temporal included that orchestrated orders need.

With --split it is a Holdfast as in production: a process for each service and gateways before them, on a
PostgreSQL, a Kafka and, for orchestrated orders, a Temporal of its own. CPU is reported per confirmed order, of
all of Holdfast's processes and of each engine.`,
		Example: `  holdfast bench --rate 200 --duration 60s
  holdfast bench --rate 50 --duration 20s --saga orchestrated
  holdfast bench --split --rate 50 --duration 60s --saga orchestrated --temporal-store postgres`,
	}
	f := c.Flags()
	f.Float64Var(&plan.Rate, "rate", 200, "orders per second")
	f.DurationVar(&plan.Duration, "duration", 30*time.Second, "how long to send")
	f.StringVar((*string)(&plan.Saga), "saga", string(shop.Choreographed), "the orders' saga style")
	f.Float64Var(&plan.Observed, "observe", 100, "orders per second whose confirmation is timed, each with a request that waits for it")
	f.BoolVar(&keep, "keep", false, "keep the temporary data directory")
	f.BoolVar(&split, "split", false, "measure processes on PostgreSQL and Kafka (needs holdfastd beside this program: make build; PostgreSQL 15; scripts/fetch-kafka)")
	f.IntVar(&o.Replicas, "replicas", 1, "with --split: processes of each service")
	f.BoolVar(&o.Together, "together", false, "with --split: one holdfastd with all services, and no gateway")
	f.IntVar(&o.Gateways, "gateways", 1, "with --split: gateways, with a balancer before them if there are several")
	f.StringVar((*string)(&o.Temporal), "temporal-store", "", "with --split: run a Temporal (needs temporald beside this program: make temporald) that keeps everything in sqlite or postgres; by default in sqlite with --saga orchestrated, and none without")
	f.BoolVar(&verbose, "verbose", false, "show the log of the Holdfast that was started")
	c.RunE = func(c *cobra.Command, _ []string) error {
		switch {
		case plan.Saga != shop.Choreographed && plan.Saga != shop.Orchestrated:
			return usage("--saga %s: it is %s or %s", plan.Saga, shop.Choreographed, shop.Orchestrated)
		case plan.Rate <= 0 || plan.Duration <= 0:
			return usage("--rate and --duration are more than 0")
		}
		external = s.url != ""
		plan.Run = fmt.Sprintf("bench-%d", time.Now().UnixMilli())
		plan.Progress = func(p check.Progress) {
			s.say("%4.0fs  sent %d  accepted %d  refused %d  unknown %d  in flight %d", p.Elapsed.Seconds(), p.Sent, p.Accepted, p.Refused, p.Unknown, p.InFlight)
		}
		start := func() (check.Target, func(), error) { return s.benchTarget(c, plan.Saga, external, keep, verbose) }
		if split {
			if o.Keep = keep; o.Temporal == cluster.NoTemporal && plan.Saga == shop.Orchestrated {
				o.Temporal = cluster.OnSQLite
			}
			start = func() (check.Target, func(), error) { return s.splitTarget(c, o) }
		}
		target, stop, err := start()
		if err != nil {
			return err
		}
		defer stop()
		s.say("%g orders/s for %s on %s", plan.Rate, plan.Duration, target.URL)
		r, err := check.Bench(c.Context(), target, plan, restLimit)
		if err != nil {
			return err
		}
		if err := s.print(r, func(w io.Writer) { writeBench(w, r) }); err != nil {
			return err
		}
		return judge(r)
	}
	return c
}

// benchTarget is the Holdfast to measure: the one that was named, or one of its own.
func (s *session) benchTarget(c *cobra.Command, saga shop.SagaStyle, external, keep, verbose bool) (t check.Target, stop func(), err error) {
	if external {
		a, err := s.addresses()
		if err != nil {
			return t, nil, fmt.Errorf("the ledgers' addresses are in the data directory: %w", err)
		}
		key, err := os.ReadFile(filepath.Join(s.data, "dev-api-key"))
		if err != nil {
			return t, nil, err
		}
		return check.Target{URL: s.url, Key: string(key[:max(0, len(key)-1)]), Addresses: check.Addresses(a)}, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return t, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return t, nil, err
	}
	log := io.Discard
	if verbose {
		log = s.Err
	}
	var args []string
	if saga == shop.Orchestrated {
		args = append(args, "--temporal")
	}
	p, err := check.Start(c.Context(), self, dir, log, args...)
	if err != nil {
		if !verbose {
			err = fmt.Errorf("%w (--verbose shows it)", err)
		}
		return t, nil, &exit{code: ExitUnfit, err: err}
	}
	return check.Target{URL: p.Addresses.API, Key: p.Key, Addresses: p.Addresses, Process: p}, func() {
		if err := p.Stop(30 * time.Second); err != nil {
			s.say("the Holdfast that was measured did not stop well: %v", err)
		}
		if keep {
			s.say("its data is in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			s.say("%s could not be removed: %v", dir, err)
		}
	}, nil
}

// splitTarget is a Holdfast of its own in many processes.
func (s *session) splitTarget(c *cobra.Command, o cluster.Options) (t check.Target, stop func(), err error) {
	if s.url != "" {
		return t, nil, usage("--split starts a Holdfast of its own, and --url names another")
	}
	s.say("starting PostgreSQL, Kafka and a process for each service")
	system, err := cluster.Start(c.Context(), o)
	if err != nil {
		return t, nil, &exit{code: ExitUnfit, err: err}
	}
	return system.Target(), func() {
		if err := system.Close(); err != nil {
			s.say("the Holdfast that was measured did not stop well: %v", err)
		}
		if o.Keep {
			s.say("its data is in %s", system.Dir())
		}
	}, nil
}

// judge turns what was found into an exit code.
func judge(r *check.BenchReport) error {
	if n := len(r.Violations); n > 0 {
		return &exit{code: ExitViolated, err: fmt.Errorf("%d invariants do not hold; the first: %s", n, r.Violations[0])}
	}
	if unfinished := r.Outcomes[string(shop.Pending)]; unfinished > 0 {
		return &exit{code: ExitInconclusive, err: fmt.Errorf("%d orders had no outcome %s after the load", unfinished, restLimit)}
	}
	return nil
}

func writeBench(w io.Writer, r *check.BenchReport) {
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
	fmt.Fprintf(w, "machine       %s\n", r.Machine)
	fmt.Fprintf(w, "load          %g orders/s for %g s: %d sent, %d accepted, %d refused, %d unknown\n", r.Rate, r.Seconds, r.Sent, r.Accepted, r.Refused, r.Unknown)
	fmt.Fprintf(w, "accepted      %.0f/s   p50 %s  p99 %s  p99.9 %s  max %s\n", r.AcceptedPS, ms(r.Accept.P50), ms(r.Accept.P99), ms(r.Accept.P999), ms(r.Accept.Max))
	fmt.Fprintf(w, "confirmed     %.0f/s   p50 %s  p99 %s  p99.9 %s  max %s   (%d observed, %d late)\n", r.ConfirmedPS, ms(r.Confirm.P50), ms(r.Confirm.P99), ms(r.Confirm.P999), ms(r.Confirm.Max), r.Observed, r.Late)
	fmt.Fprintf(w, "drained       %.1f s after the load; outcomes %v\n", r.Drain, r.Outcomes)
	if len(r.CPUPerConfirmed) > 1 {
		for _, name := range slices.Sorted(maps.Keys(r.CPUPerConfirmed)) {
			fmt.Fprintf(w, "%-13s %.2f ms of CPU per confirmed order\n", name, r.CPUPerConfirmed[name])
		}
	}
	if r.CPUPerOrder > 0 {
		fmt.Fprintf(w, "server        %.2f ms of CPU per order, peak %.0f MB, ready after %.2f s\n", r.CPUPerOrder, r.PeakMemoryMB, r.ReadySeconds)
	}
	fmt.Fprintf(w, "violations    %d\n", len(r.Violations))
	for _, v := range r.Violations[:min(10, len(r.Violations))] {
		fmt.Fprintf(w, "  %s\n", v)
	}
}
