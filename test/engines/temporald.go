package engines

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"holdfast/check/engine"
)

// TemporaldVariable is the environment variable that names the program, in place of bin/temporald.
const TemporaldVariable = "HOLDFAST_TEST_TEMPORALD"

// Temporald is a Temporal server in a process of its own.
type Temporald struct {
	Process
	addr string
}

// StartTemporald starts one for a test, on SQLite in a directory of its own, or with other arguments that
// name a store.
func StartTemporald(t testing.TB, args ...string) *Temporald {
	t.Helper()
	program := TemporaldProgram(t)
	dir := t.TempDir()
	if len(args) == 0 {
		args = []string{"--data", filepath.Join(dir, "data")}
	}
	s := &Temporald{addr: Address(t)}
	s.Process = Own(t, engine.NewTemporald(program, s.addr, filepath.Join(dir, "log"), args...))
	s.Start(t)
	return s
}

// TemporaldProgram returns the program, for a test that has Holdfast start it.
func TemporaldProgram(t testing.TB) string {
	t.Helper()
	SkipIfEmbedded(t)
	program, err := findTemporald()
	Need(t, err)
	return program
}

func findTemporald() (string, error) {
	if program := os.Getenv(TemporaldVariable); program != "" {
		return program, nil
	}
	dir, err := root()
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "bin", "temporald")
	if _, err := os.Stat(program); err != nil {
		return "", fmt.Errorf("bin/temporald is %w: make temporald", engine.ErrMissing)
	}
	return program, nil
}

// LinkTemporald puts the program into a directory, if there is one.
func LinkTemporald(dir string) error {
	program, err := findTemporald()
	if errors.Is(err, engine.ErrMissing) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Symlink(program, filepath.Join(dir, "temporald"))
}

// Addr returns where clients find it; it is the same after every Start.
func (s *Temporald) Addr() string { return s.addr }
