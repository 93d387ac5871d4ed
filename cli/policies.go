package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/platform/policy"
)

// adminTimeout is how long a command to the admin listener may take.
const adminTimeout = 10 * time.Second

func (s *session) policies() *cobra.Command {
	var watch bool
	var every time.Duration
	c := &cobra.Command{
		Use:   "policies",
		Short: "Show the circuit breakers, bulkheads, budgets and limits, and steer the breakers",
		Long: `Shows every resilience policy of the running Holdfast with its state: what a breaker counts and why it
is in its state, what is under way in a bulkhead, what a budget has left. --watch shows them again each
second, and a line for each change of a breaker off a terminal.

SIGHUP, or "holdfast policies reload", takes them from the configuration again without losing their state.`,
		Example: "  holdfast policies --watch\n  holdfast policies force-open psp.authorise\n  holdfast policies auto psp.authorise",
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "show them again and again, until Ctrl-C")
	c.Flags().DurationVar(&every, "every", time.Second, "how often, with --watch")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if watch {
			return s.watchPolicies(c.Context(), max(every, 100*time.Millisecond))
		}
		list, err := s.listPolicies(c.Context())
		if err != nil {
			return err
		}
		return s.print(list, func(w io.Writer) { writePolicies(w, list) })
	}
	for _, action := range []struct{ name, short string }{
		{"force-open", "Refuse every call of an operation until further notice"},
		{"force-close", "Let every call of an operation through, whatever becomes of them"},
		{"auto", "Let a breaker decide by itself again"},
	} {
		c.AddCommand(&cobra.Command{Use: action.name + " NAME", Short: action.short, Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
			var state policy.State
			if err := s.admin(c.Context(), http.MethodPost, "/admin/v1/policies/"+url.PathEscape(args[0])+"/"+action.name, &state); err != nil {
				return err
			}
			return s.print(state, func(w io.Writer) { writePolicies(w, []policy.State{state}) })
		}})
	}
	c.AddCommand(&cobra.Command{Use: "reload", Short: "Take the policies from the configuration again", RunE: func(c *cobra.Command, _ []string) error {
		var list struct{ Items []policy.State }
		if err := s.admin(c.Context(), http.MethodPost, "/admin/v1/policies/reload", &list); err != nil {
			return err
		}
		s.say("the policies are those of the configuration; see them with: holdfast policies")
		return nil
	}})
	return c
}

func (s *session) listPolicies(ctx context.Context) ([]policy.State, error) {
	var list struct {
		Items []policy.State `json:"items"`
	}
	err := s.admin(ctx, http.MethodGet, "/admin/v1/policies", &list)
	return list.Items, err
}

// watchPolicies shows the policies again and again: on a terminal the whole table, elsewhere what has
// changed of the breakers.
func (s *session) watchPolicies(ctx context.Context, every time.Duration) error {
	seen := map[string]string{}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		list, err := s.listPolicies(ctx)
		if ctx.Err() != nil {
			return nil // Ctrl-C is the way to end it
		}
		if err != nil {
			return err
		}
		switch {
		case s.json:
			if err := json.NewEncoder(s.Out).Encode(list); err != nil {
				return err
			}
		case isTerminal(s.Out):
			fmt.Fprintf(s.Out, "\x1b[H\x1b[2J%s   Ctrl-C ends it\n\n", time.Now().Format(time.TimeOnly))
			writePolicies(s.Out, list)
		default:
			for _, p := range list {
				if p.Policy == "breaker" && seen[p.Name] != p.State {
					fmt.Fprintf(s.Out, "%s %s %s %s\n", time.Now().UTC().Format(time.RFC3339), p.Name, p.State, p.Why)
					seen[p.Name] = p.State
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// isTerminal tells whether w is a person's screen.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func writePolicies(w io.Writer, list []policy.State) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	defer func() { _ = t.Flush() }() // to a terminal or a pipe: there is nobody left to tell
	fmt.Fprintln(t, "NAME\tPOLICY\tSTATE\tREJECTED\tDETAIL")
	for _, p := range list {
		state, detail := p.State, ""
		switch p.Policy {
		case "breaker":
			detail = fmt.Sprintf("%d of %d failed", p.Failures, p.Calls)
			if p.Why != "" {
				detail += fmt.Sprintf("; %s, for %.0f s", p.Why, p.Since)
			}
			if p.RetryAfter > 0 {
				detail += fmt.Sprintf("; a probe in %.1f s", p.RetryAfter)
			}
		case "budget":
			state, detail = fmt.Sprintf("%.0f left", p.Tokens), fmt.Sprintf("%d retries", p.Retries)
		case "rate_limit":
			state, detail = fmt.Sprintf("%d callers", p.InUse), fmt.Sprintf("%d at once", p.Limit)
		default:
			state = fmt.Sprintf("%d of %d", p.InUse, p.Limit)
			if p.Queued > 0 {
				detail = fmt.Sprintf("%d wait", p.Queued)
			}
			if p.Undo > 0 {
				detail = fmt.Sprintf("%d undo", p.Undo)
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\n", p.Name, p.Policy, state, p.Rejected, detail)
	}
}

// admin calls the admin listener of the Holdfast that runs on the data directory.
func (s *session) admin(ctx context.Context, method, path string, answer any) error {
	addresses, err := s.addresses()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, addresses.Admin+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return &exit{code: ExitUnfit, err: fmt.Errorf("the admin listener at %s does not answer: %w; is Holdfast running on %q?", addresses.Admin, err, s.data)}
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return json.NewDecoder(resp.Body).Decode(answer)
	}
	problem := &client.Problem{}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") || json.NewDecoder(resp.Body).Decode(problem) != nil {
		return fmt.Errorf("the admin listener answered %s", resp.Status)
	}
	return problem
}
