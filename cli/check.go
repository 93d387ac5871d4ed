package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast/check"
	"holdfast/check/audit"
	"holdfast/check/history"
)

func (s *session) check() *cobra.Command {
	c := &cobra.Command{
		Use: "check", Short: "Record what clients are told, and judge it later",
		Long: `"check run" is a client in a process of its own: it records every operation in a file that is synced before
the request goes out. "check judge" judges such a file, with or without the Holdfast that it was recorded from:
whether keys and stock behaved as one thing after the other would, whether reads went back, whether a
cancel's answer was contradicted. docs/verify.md says what is checked and how.`,
	}
	c.AddCommand(s.checkRun(), s.checkJudge())
	return c
}

func (s *session) checkRun() *cobra.Command {
	cfg := history.Config{}.Defaults()
	cfg.Run = ""
	c := &cobra.Command{
		Use: "run", Short: "Put a mixed load on a Holdfast and record it",
		Long: `Places, repeats, cancels and reads orders, from a seed, on the Holdfast of the data directory or of --url, and
records it in a history. When the load has ended it sees everything through and reads it once more. A
Holdfast that is killed and started again meanwhile is looked up anew in the data directory.`,
		Example: "  holdfast check run --history h.ndjson --for 30s\n  holdfast check judge h.ndjson",
	}
	f := c.Flags()
	f.StringVar(&cfg.File, "history", "", "the file to write; it must not be there yet")
	f.Uint64Var(&cfg.Seed, "seed", 0, "what the load is drawn from; 0: any")
	f.IntVar(&cfg.Clients, "clients", cfg.Clients, "clients at once; each does one thing after the other")
	f.DurationVar(&cfg.Duration, "for", cfg.Duration, "how long the load lasts")
	f.IntVar(&cfg.Operations, "operations", 0, "how many operations the load goes on for at least, for up to six times --for")
	f.DurationVar(&cfg.Rest, "rest", cfg.Rest, "how long its orders may take to come to their end after it")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if cfg.File == "" || cfg.Clients < 1 || cfg.Duration <= 0 || cfg.Rest <= 0 {
			return usage("--history is needed, and --clients, --for and --rest must be more than 0")
		}
		if cfg.Seed == 0 {
			cfg.Seed = rand.Uint64() >> 16 // short enough to type
		}
		cfg.Find = s.find
		cfg.Repeat = fmt.Sprintf("holdfast check run --history FILE --seed %d --clients %d --for %s --operations %d", cfg.Seed, cfg.Clients, cfg.Duration, cfg.Operations)
		s.say("repeat it with: %s", cfg.Repeat)
		if err := history.Run(c.Context(), cfg); err != nil {
			return err
		}
		s.say("the history is in %s; judge it with: holdfast check judge %s", cfg.File, cfg.File)
		return nil
	}
	return c
}

func (s *session) checkJudge() *cobra.Command {
	var live bool
	var limit time.Duration
	c := &cobra.Command{
		Use: "judge FILE", Short: "Judge a history", Args: cobra.ExactArgs(1),
		Long: `Judges a history that "check run" has recorded. With --live it is also compared with the Holdfast of the data
directory, which must be at rest: its API, the ledgers of its simulators, and its stores.

Exit codes: 0 all holds, 3 something does not, 5 something could not be told, 4 the history cannot be read.`,
		Example: "  holdfast check judge h.ndjson\n  holdfast check judge h.ndjson --live --json",
	}
	c.Flags().BoolVar(&live, "live", false, "compare it with the Holdfast as it is now, too")
	c.Flags().DurationVar(&limit, "limit", 10*time.Second, "how long one key or one item may take")
	c.RunE = func(c *cobra.Command, args []string) error {
		f, err := os.Open(args[0])
		if err != nil {
			return &exit{code: ExitUnfit, err: err}
		}
		h, err := history.Parse(f)
		_ = f.Close() // it was only read
		if err != nil {
			return &exit{code: ExitUnfit, err: err}
		}
		r := judged{Report: h.Judge(history.Options{Limit: limit})}
		if live {
			if r.Live, err = s.live(c, h); err != nil {
				return err
			}
		}
		if err := s.print(r, func(w io.Writer) { writeJudged(w, r) }); err != nil {
			return err
		}
		return r.verdict()
	}
	return c
}

// live compares a history with the Holdfast of the data directory.
func (s *session) live(c *cobra.Command, h *history.History) ([]check.Violation, error) {
	a, err := s.addresses()
	if err != nil {
		return nil, err
	}
	_, key, err := s.find()
	if err != nil {
		return nil, err
	}
	return h.Live(c.Context(), check.Addresses(a), key)
}

// judged is a report as it is printed.
type judged struct {
	*history.Report
	Live []check.Violation `json:"live,omitempty"`
}

// verdict turns a report into an exit code.
func (r judged) verdict() error {
	bad, open := len(r.Live), 0
	for _, x := range r.Checks {
		switch x.Verdict {
		case audit.Pass:
		case audit.Fail:
			bad += len(x.Found)
		default:
			open++
		}
	}
	switch {
	case bad > 0:
		return &exit{code: ExitViolated, err: fmt.Errorf("%d violations; repeat it with: %s", bad, r.Head.Repeat)}
	case open > 0:
		return &exit{code: ExitInconclusive, err: errors.New("not every check could be carried out to its end")}
	}
	return nil
}

func writeJudged(w io.Writer, r judged) {
	fmt.Fprintf(w, "seed %d, %d operations %s, %d orders acknowledged, judged in %.1f s\n", r.Head.Seed, r.Operations, outcomes(r), r.Orders, r.Took.Seconds())
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "CHECK\tID\tVERDICT\tEXAMINED\tSAYS")
	for _, x := range r.Checks {
		says := x.Says
		if x.Why != "" {
			says = x.Why
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\n", x.Name, x.Invariant, x.Verdict, x.Examined, says)
	}
	_ = t.Flush() // to a terminal or a pipe: there is nobody left to tell
	for _, line := range append(history.Always().Lines(r.Sites), history.Faulty().Lines(r.Sites)...) {
		fmt.Fprintln(w, line)
	}
	for _, x := range r.Checks {
		for _, v := range x.Found {
			fmt.Fprintln(w, v)
		}
	}
	for _, v := range r.Live {
		fmt.Fprintln(w, v)
	}
}

func outcomes(r judged) string {
	b, err := json.Marshal(r.Outcomes)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
