package engines

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TemporaldVariable is the environment variable that names the program, in place of bin/temporald.
const TemporaldVariable = "HOLDFAST_TEST_TEMPORALD"

// Temporald is a Temporal server in a process of its own. Its methods are for the test's goroutine.
type Temporald struct {
	program string
	args    []string // but for the address
	addr    string
	log     string // the file
	proc    *process
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
	s := &Temporald{program: program, args: args, addr: "127.0.0.1:0", log: filepath.Join(dir, "log")}
	t.Cleanup(func() {
		if err := s.proc.end(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("temporald's log:\n%s", s.said())
		}
	})
	s.Start(t)
	return s
}

// TemporaldProgram returns the program, for a test that has Holdfast start it.
func TemporaldProgram(t testing.TB) string {
	t.Helper()
	SkipIfEmbedded(t)
	program, err := findTemporald()
	need(t, err)
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
		return "", fmt.Errorf("bin/temporald is %w: make temporald", errMissing)
	}
	return program, nil
}

// Addr returns where clients find it; it is the same after every Start.
func (s *Temporald) Addr() string { return s.addr }

// Pid returns its process.
func (s *Temporald) Pid() int { return s.proc.cmd.Process.Pid }

// Start starts it, on the same store and port if it ran before, and waits until it takes in work.
func (s *Temporald) Start(t testing.TB) {
	t.Helper()
	if s.proc.running() {
		t.Fatal("temporald runs already")
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// Stop has it end in order.
func (s *Temporald) Stop(t testing.TB) { t.Helper(); s.end(t, syscall.SIGTERM) }

// Kill ends it at once, as a crash of the process does.
func (s *Temporald) Kill(t testing.TB) { t.Helper(); s.end(t, syscall.SIGKILL) }

func (s *Temporald) end(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := s.proc.end(sig); err != nil {
		t.Fatal(err)
	}
}

func (s *Temporald) said() string {
	b, _ := os.ReadFile(s.log) // nothing, where there is none
	return string(b)
}

func (s *Temporald) start() error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	out, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.Command(s.program, append([]string{"--addr", s.addr}, s.args...)...)
	cmd.Stdout, cmd.Stderr = theirs, log
	s.proc, err = launch(cmd)
	_ = theirs.Close() // the child has its own
	if err != nil {
		_ = out.Close()
		return err
	}
	line := make(chan string, 1)
	go func() {
		defer out.Close()
		said, _ := bufio.NewReader(out).ReadString('\n') // without one it has ended, which is told below
		line <- said
		_, _ = io.Copy(io.Discard, out)
	}()
	select {
	case said := <-line:
		_, rest, ok := strings.Cut(said, "temporald ready addr=")
		if !ok {
			return fmt.Errorf("temporald did not get ready, it says %q\n%s", said, s.said())
		}
		s.addr = strings.Fields(rest)[0]
		return nil
	case <-time.After(patience):
		return fmt.Errorf("temporald did not get ready within %v\n%s", patience, s.said())
	}
}
