package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// Mutant is one way of breaking the product.
type Mutant struct {
	Name   string // short, with hyphens
	Breaks string // what the product does wrong with it
	Proves string // the invariant ("I4") or the policy whose check it proves
	Edits  []Edit // all of them together are the mutant
	Check  Check
}

// Edit replaces a text in a file by another. The old text must be there exactly once: otherwise the product
// has moved on, and the mutant has to follow.
type Edit struct{ File, Old, New string }

// Check is a run of tests that must fail on the mutant and pass on the product.
type Check struct {
	Package string // below the module, "./test/e2e"
	Run     string // for go test -run
	// Says must be among what it prints, beside the name of the test that failed: the invariant, or what
	// went wrong.
	Says string
	Env  []string
}

// edit makes a mutant of a single edit easy to write.
func edit(file, old, replacement string) []Edit { return []Edit{{file, old, replacement}} }

// in tells whether one of the mutant's files is in a folder; "" is all.
func (m Mutant) in(folder string) bool {
	for _, e := range m.Edits {
		if folder == "" || e.File == folder || strings.HasPrefix(e.File, folder+"/") {
			return true
		}
	}
	return false
}

func (m Mutant) touches(files map[string]bool) bool {
	for _, e := range m.Edits {
		if files[e.File] {
			return true
		}
	}
	return false
}

// test is the name of the test that must fail.
func (c Check) test() string {
	top, _, _ := strings.Cut(c.Run, "/")
	return strings.Trim(top, "^$")
}

// key tells runs of tests apart; what they must say does not matter to a run.
func (c Check) key() string { return c.Package + " " + c.Run + " " + strings.Join(c.Env, " ") }

// command is how a person runs the check.
func (c Check) command() string {
	return strings.TrimSpace(strings.Join(c.Env, " ") + " go test " + c.Package + " -run '" + c.Run + "'")
}

// mutated returns the mutant's files as they are with it, by their path below root.
func (m Mutant) mutated(root string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, e := range m.Edits {
		b, ok := files[e.File]
		if !ok {
			var err error
			if b, err = os.ReadFile(filepath.Join(root, e.File)); err != nil {
				return nil, fmt.Errorf("%s: %w", m.Name, err)
			}
		}
		if n := bytes.Count(b, []byte(e.Old)); n != 1 {
			return nil, fmt.Errorf("%s: its old text is in %s %d times, want once: the product has moved on, so the mutant must follow\n%s", m.Name, e.File, n, e.Old)
		}
		files[e.File] = bytes.Replace(b, []byte(e.Old), []byte(e.New), 1)
	}
	return files, nil
}

// overlay writes the mutant's files below dir and returns the go command's description of them.
func (m Mutant) overlay(root, dir string) (string, error) {
	files, err := m.mutated(root)
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for name, b := range files {
		replace[filepath.Join(root, name)] = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Join(dir, path.Dir(name)), 0o700); err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return "", err
		}
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "overlay.json")
	return name, os.WriteFile(name, b, 0o600)
}

// validate finds what is wrong with the table without running anything.
func validate(root string, all []Mutant) error {
	var errs []error
	names := map[string]bool{}
	for _, m := range all {
		if m.Name == "" || m.Breaks == "" || m.Proves == "" || len(m.Edits) == 0 || m.Check.Package == "" || m.Check.test() == "" {
			errs = append(errs, fmt.Errorf("%q: it lacks a part", m.Name))
		}
		if names[m.Name] {
			errs = append(errs, fmt.Errorf("%s: there are two of this name", m.Name))
		}
		names[m.Name] = true
		files, err := m.mutated(root)
		if err != nil {
			errs = append(errs, err)
		}
		for name, b := range files {
			if !strings.HasSuffix(name, ".go") {
				continue
			}
			if _, err := parser.ParseFile(token.NewFileSet(), name, b, parser.SkipObjectResolution); err != nil {
				errs = append(errs, fmt.Errorf("%s: it is no Go: %w", m.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// changedSince lists the files that differ from those of a commit.
func changedSince(ctx context.Context, root, commit string) (map[string]bool, error) {
	cmd := exec.CommandContext(ctx, "git", "diff", "--name-only", commit, "--")
	cmd.Dir = root
	b, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git diff %s: %w", commit, err)
	}
	changed := map[string]bool{}
	for name := range strings.FieldsSeq(string(b)) {
		changed[name] = true
	}
	return changed, nil
}
