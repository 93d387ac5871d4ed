package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// testLimit ends a run of tests that hangs; what the tests themselves wait for is bounded by patience.
	testLimit = 2 * time.Minute
	// patience is for the tests' own waits: a mutant that keeps an order from moving must not cost a minute.
	patience = "HOLDFAST_TEST_LIMIT=20s"
)

// result is what became of one run of tests.
type result struct {
	output string
	passed bool
	failed int // how often the test failed, of the times it was run
	took   time.Duration
}

// command runs a check n times; overlay is "" for the product as it is.
type command func(ctx context.Context, root, overlay string, c Check, n int) (result, error)

// workshop runs checks.
type workshop struct {
	root    string
	command command
	out     io.Writer
	verbose bool
	within  time.Duration      // after which no mutant is begun; 0 is no bound
	known   map[string]verdict // of checks on the product as it is
}

// verdict is what became of a mutant, or of a check on the product as it is.
type verdict struct {
	word  string // caught, survived, …
	why   string // where it is not as it should be
	took  time.Duration
	bad   bool
	print string
}

// goTest runs a check as a person would, from the same build cache.
func goTest(ctx context.Context, root, overlay string, c Check, n int) (result, error) {
	limit := testLimit * time.Duration(n)
	ctx, cancel := context.WithTimeout(ctx, limit+testLimit) // it builds first
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-vet=off", "-count="+strconv.Itoa(n), "-timeout="+limit.String(), "-run="+c.Run, c.Package)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), patience)
	cmd.Env = append(cmd.Env, c.Env...)
	if overlay != "" {
		// By the environment, since a test may build the program itself.
		cmd.Env = append(cmd.Env, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // with the test that it has started
	began := time.Now()
	b, err := cmd.CombinedOutput()
	r := result{output: string(b), passed: err == nil, took: time.Since(began)}
	r.failed = strings.Count("\n"+r.output, "\n--- FAIL: "+c.test())
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		return r, errors.Join(err, ctx.Err())
	}
	return r, nil
}

// mutate runs each mutant's check on the product, where that was not done yet, and on the mutant.
func (w *workshop) mutate(ctx context.Context, mutants []Mutant) error {
	began, bad := time.Now(), 0
	for i, m := range mutants {
		if w.within > 0 && time.Since(began) > w.within {
			for _, left := range mutants[i:] {
				fmt.Fprintf(w.out, "left out          %-34s %s\n", left.Name, left.Proves)
			}
			mutants = mutants[:i]
			break
		}
		v := w.unmutated(ctx, m.Check)
		if !v.bad {
			var err error
			if v, err = w.try(ctx, m); err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if v.bad {
			bad++
		}
		fmt.Fprintf(w.out, "%-8s %6.1fs  %-34s %s\n", v.word, v.took.Seconds(), m.Name, m.Proves)
		if v.bad {
			fmt.Fprintf(w.out, "         %s\n         %s\n         repeat it with: go run ./test/mutants -name '^%s$' -v\n", m.Breaks, v.why, m.Name)
		}
		if v.bad && w.verbose {
			fmt.Fprintln(w.out, v.print)
		}
	}
	fmt.Fprintf(w.out, "%d of %d mutants caught, in %s\n", len(mutants)-bad, len(mutants), time.Since(began).Round(time.Second))
	if bad > 0 {
		return fmt.Errorf("%d checks do not do what they are for", bad)
	}
	return nil
}

// unmutated runs a check once on the product as it is: one that fails there catches everything.
func (w *workshop) unmutated(ctx context.Context, c Check) verdict {
	if v, ok := w.known[c.key()]; ok {
		return v
	}
	r, err := w.command(ctx, w.root, "", c, 1)
	v := verdict{took: r.took, print: r.output}
	switch {
	case err != nil:
		v.word, v.why, v.bad = "hung", "the check does not end on the product as it is: "+err.Error(), true
	case !r.passed:
		v.word, v.why, v.bad = "alarm", "the check fails on the product as it is: "+c.command(), true
	case strings.Contains(r.output, "no tests to run"):
		v.word, v.why, v.bad = "no test", "there is no such test: "+c.command(), true
	}
	w.known[c.key()] = v
	return v
}

// try runs a mutant's check on the mutant.
func (w *workshop) try(ctx context.Context, m Mutant) (verdict, error) {
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return verdict{}, err
	}
	defer os.RemoveAll(dir)
	overlay, err := m.overlay(w.root, dir)
	if err != nil {
		return verdict{}, err
	}
	r, err := w.command(ctx, w.root, overlay, m.Check, 1)
	v := judge(m.Check, r, err)
	v.took, v.print = r.took, r.output
	return v, nil
}

// judge tells whether a check has caught a mutant: it must fail, in the test that is meant for it, and say
// what is meant for it. Anything else might be an accident.
func judge(c Check, r result, err error) verdict {
	bad := func(word, why string) verdict { return verdict{word: word, why: why, bad: true} }
	switch {
	case err != nil:
		return bad("hung", "the check does not end: "+err.Error())
	case strings.Contains(r.output, "[build failed]"), strings.Contains(r.output, "[setup failed]"):
		return bad("no build", "the mutant does not compile:\n"+r.output)
	case r.passed:
		return bad("survived", "nothing failed: "+c.command())
	case r.failed == 0:
		return bad("unnamed", "something failed, and it was not "+c.test()+": "+c.command())
	case !strings.Contains(r.output, c.Says):
		return bad("unnamed", fmt.Sprintf("%s failed without saying %q: %s", c.test(), c.Says, c.command()))
	}
	return verdict{word: "caught"}
}

// clean runs the mutants' checks n times each on the product as it is.
func (w *workshop) clean(ctx context.Context, mutants []Mutant, n int) error {
	began, alarms, runs := time.Now(), 0, 0
	seen := map[string]bool{}
	for _, m := range mutants {
		c := m.Check
		if seen[c.key()] {
			continue
		}
		seen[c.key()] = true
		r, err := w.command(ctx, w.root, "", c, n)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		failed := r.failed
		if (err != nil || !r.passed) && failed == 0 {
			failed = 1 // it hung or did not build
		}
		runs, alarms = runs+n, alarms+failed
		word := "quiet"
		if failed > 0 {
			word = "ALARM"
		}
		fmt.Fprintf(w.out, "%-8s %6.1fs  %d of %d  %s\n", word, r.took.Seconds(), failed, n, c.command())
		if failed > 0 && w.verbose {
			fmt.Fprintln(w.out, r.output)
		}
	}
	fmt.Fprintf(w.out, "%d false alarms in %d clean runs of %d checks, in %s\n", alarms, runs, len(seen), time.Since(began).Round(time.Second))
	if alarms > 0 {
		return fmt.Errorf("%d false alarms", alarms)
	}
	return nil
}
