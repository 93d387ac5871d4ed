// Command mutants breaks the product in one place at a time and requires that the check which is meant for
// that place fails, and says so. A check that passes on a broken product proves nothing; one that has been
// seen to fail on each of these does.
//
//	go run ./test/mutants                      all of them
//	go run ./test/mutants -area svc/payment    those of a folder
//	go run ./test/mutants -since main          those whose file has changed since a commit
//	go run ./test/mutants -within 6m           begin none later than that, and name those left out
//	go run ./test/mutants -clean 20            no mutant: every check 20 times on the product as it is
//
// The work tree is not touched: the go command reads the broken file from elsewhere (its flag -overlay).
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1) //nolint:gocritic // nothing is deferred but the signals
	}
}

// options are what the command line says.
type options struct {
	area, name, since, doc string
	clean                  int
	within                 time.Duration
	list, verbose          bool
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.StringVar(&o.area, "area", "", "only mutants of files in this `folder`")
	flags.StringVar(&o.name, "name", "", "only mutants whose name matches this `pattern`")
	flags.StringVar(&o.since, "since", "", "only mutants whose file has changed since this `commit`")
	flags.StringVar(&o.doc, "doc", "", "write the table to this `file` and run nothing")
	flags.IntVar(&o.clean, "clean", 0, "run every check `n` times on the product as it is, and report false alarms")
	flags.DurationVar(&o.within, "within", 0, "begin no mutant after this `time`, and name those left out; 0 is no bound")
	flags.BoolVar(&o.list, "list", false, "list the mutants and run nothing")
	flags.BoolVar(&o.verbose, "v", false, "show what the checks of survivors print")
	if err := flags.Parse(args); err != nil {
		return err
	}
	root, err := findRoot()
	if err != nil {
		return err
	}
	all := table()
	if err := validate(root, all); err != nil {
		return err
	}
	if o.doc != "" {
		return os.WriteFile(o.doc, []byte(document(all)), 0o644)
	}
	chosen, err := choose(ctx, root, all, o)
	if err != nil {
		return err
	}
	if o.list {
		for _, m := range chosen {
			fmt.Fprintf(out, "%-36s %s\n", m.Name, m.Breaks)
		}
		return nil
	}
	w := &workshop{root: root, command: goTest, out: out, verbose: o.verbose, within: o.within, known: map[string]verdict{}}
	if o.clean > 0 {
		return w.clean(ctx, chosen, o.clean)
	}
	return w.mutate(ctx, chosen)
}

// findRoot is the module's folder, at or above the present one.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("there is no go.mod at or above %s: run it inside the repository", dir)
		}
	}
}

// choose selects mutants as the options say.
func choose(ctx context.Context, root string, all []Mutant, o options) ([]Mutant, error) {
	pattern, err := regexp.Compile(o.name)
	if err != nil {
		return nil, fmt.Errorf("-name: %w", err)
	}
	var changed map[string]bool
	if o.since != "" {
		if changed, err = changedSince(ctx, root, o.since); err != nil {
			return nil, err
		}
	}
	var chosen []Mutant
	for _, m := range all {
		if pattern.MatchString(m.Name) && m.in(strings.Trim(o.area, "/")) && (changed == nil || m.touches(changed)) {
			chosen = append(chosen, m)
		}
	}
	return chosen, nil
}
