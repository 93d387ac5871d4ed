// Package cli is the command line of holdfast: a file per group of commands. Data goes to the standard
// output, messages and progress to the standard error.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/app"
	"holdfast/app/local"
	"holdfast/client"
	"holdfast/shop"
)

// The exit codes.
const (
	ExitOK           = 0
	ExitFailure      = 1
	ExitUsage        = 2
	ExitViolated     = 3 // an invariant does not hold
	ExitUnfit        = 4 // the environment: a port, the disk, another process
	ExitInconclusive = 5 // a time limit ended it
	ExitInterrupted  = 130
)

// IO is what a command line works with.
type IO struct {
	Args    []string
	Environ []string
	In      io.Reader
	Out     io.Writer
	Err     io.Writer
}

// exit is an error with an exit code. A quiet one has been told already.
type exit struct {
	code  int
	err   error
	quiet bool
}

func (e *exit) Error() string { return e.err.Error() }
func (e *exit) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &exit{code: ExitUsage, err: fmt.Errorf(format, args...)}
}

// Main runs a command line and returns its exit code.
func Main(ctx context.Context, streams IO) int {
	s := &session{IO: streams}
	root := s.root()
	root.SetArgs(streams.Args)
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	err := root.ExecuteContext(ctx)
	code := codeOf(ctx, err)
	var e *exit
	if err != nil && (!errors.As(err, &e) || !e.quiet) {
		s.complain(err)
	}
	return code
}

func codeOf(ctx context.Context, err error) int {
	var e *exit
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &e):
		return e.code
	case ctx.Err() != nil:
		return ExitInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		return ExitInconclusive
	default:
		return ExitFailure
	}
}

// session is one run of the command line.
type session struct {
	IO
	data   string
	url    string
	key    string
	config string
	json   bool
	quiet  bool
}

func (s *session) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "Order processing that stays up when its parts fail, and proves it",
		Long: `Holdfast takes orders, holds stock, authorises money, schedules parcels, and undoes
everything where a step fails. "holdfast up" runs all of it on this machine.

Exit codes: 0 ok, 1 failure, 2 usage, 3 invariant violated, 4 environment unfit,
5 inconclusive or timeout, 130 interrupted.`,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
	}
	f := root.PersistentFlags()
	f.StringVar(&s.data, "data", "data", "the data directory of the Holdfast on this machine")
	f.StringVar(&s.url, "url", s.env("HOLDFAST_URL"), "the public API's address; by default that of the data directory ($HOLDFAST_URL)")
	f.StringVar(&s.key, "api-key", "", "the API key; by default $HOLDFAST_API_KEY, or the data directory's own")
	f.BoolVar(&s.json, "json", false, "print JSON")
	f.BoolVarP(&s.quiet, "quiet", "q", false, "no messages, only data and errors")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%w; see %s --help", err, c.CommandPath())
	})
	root.AddCommand(s.up(), s.order(), s.stock(), s.sim(), s.bench(), s.chaos(), s.check(), s.verify(), s.policies(), s.doctor(), s.version())
	closeArgs(root)
	return root
}

// closeArgs makes mistakes in arguments usage errors, and refuses unknown subcommands.
func closeArgs(c *cobra.Command) {
	check := c.Args
	if check == nil {
		check = cobra.NoArgs
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usage("%w; see %s --help", err, c.CommandPath())
		}
		return nil
	}
	if c.HasSubCommands() && c.RunE == nil {
		c.RunE = func(c *cobra.Command, args []string) error { return c.Help() }
	}
	for _, sub := range c.Commands() {
		closeArgs(sub)
	}
}

func (s *session) env(name string) string {
	for _, pair := range s.Environ {
		if n, v, _ := strings.Cut(pair, "="); n == name {
			return v
		}
	}
	return ""
}

// complain says what went wrong, and what to do about it.
func (s *session) complain(err error) {
	var p *client.Problem
	var e *shop.Error
	switch {
	case errors.As(err, &p):
		fmt.Fprintf(s.Err, "holdfast: %s (%s)\n", p.Detail, p.Code)
		for _, f := range p.Errors {
			fmt.Fprintf(s.Err, "  %s %s\n", f.Pointer, f.Detail)
		}
		if p.Code == "unauthenticated" {
			fmt.Fprintln(s.Err, "  give the key with --api-key, or --data with the server's data directory")
		}
	case errors.As(err, &e):
		fmt.Fprintf(s.Err, "holdfast: %s\n", e.Msg)
		for _, f := range e.Fields {
			fmt.Fprintf(s.Err, "  %s %s\n", f.Pointer, f.Detail)
		}
		if e.Err != nil {
			fmt.Fprintf(s.Err, "  because: %v\n", e.Err)
		}
	default:
		fmt.Fprintf(s.Err, "holdfast: %v\n", err)
	}
}

// say writes a message for people.
func (s *session) say(format string, args ...any) {
	if !s.quiet {
		fmt.Fprintf(s.Err, format+"\n", args...)
	}
}

// print writes v as JSON if asked to, and calls text otherwise.
func (s *session) print(v any, text func(io.Writer)) error {
	if !s.json {
		text(s.Out)
		return nil
	}
	enc := json.NewEncoder(s.Out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// client returns a client of the server that the flags and the data directory name.
func (s *session) client() (*client.Client, error) {
	url, key, err := s.find()
	if err != nil {
		return nil, err
	}
	return client.New(url, key, nil)
}

// find returns where the Holdfast is at present, and its key.
func (s *session) find() (url, key string, err error) {
	url, key = s.url, s.key
	if url == "" {
		a, err := s.addresses()
		if err != nil {
			return "", "", err
		}
		url = a.API
	}
	if key == "" {
		key = s.env("HOLDFAST_API_KEY")
	}
	if key != "" {
		return url, key, nil
	}
	b, err := os.ReadFile(filepath.Join(s.data, local.KeyFile))
	if err != nil {
		return "", "", &exit{code: ExitUnfit, err: fmt.Errorf("there is no API key: %w; give --data with the server's data directory, or --api-key", err)}
	}
	return url, strings.TrimSpace(string(b)), nil
}

// addresses are those of the Holdfast that runs on the data directory.
func (s *session) addresses() (a app.Addresses, err error) {
	b, err := os.ReadFile(filepath.Join(s.data, local.AddressesFile))
	if errors.Is(err, os.ErrNotExist) {
		return a, &exit{code: ExitUnfit, err: fmt.Errorf("no Holdfast has run on the data directory %q; start one with: holdfast up --data %s", s.data, s.data)}
	}
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(b, &a)
}
