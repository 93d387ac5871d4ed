// Package engines starts the real things for tests: Apache Kafka, and Temporal by way of temporald, as package engine
// runs them. Each can be stopped, killed, paused and started again on the same files and ports, and dies with the
// tests. PostgreSQL is in test/postgres.
package engines

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"holdfast/check/engine"
)

// LibsVariable is the environment variable that names the directory of Kafka's jars; see package engine.
const LibsVariable = engine.KafkaLibsVariable

// Variable is the environment variable that decides what tests run on: "embedded" is without any process
// beside them; anything else is with all of them.
const Variable = "HOLDFAST_TEST_ENGINES"

// SkipIfEmbedded skips a test that needs a real engine where those are switched off.
func SkipIfEmbedded(t testing.TB) {
	t.Helper()
	if os.Getenv(Variable) == "embedded" {
		t.Skipf("%s=embedded: without real engines", Variable)
	}
}

// Kind is a kind of engine that a suite runs on.
type Kind string

// The kinds.
const (
	Embedded Kind = "embedded"
	Real     Kind = "kafka"
)

// Buses are the kinds of bus that a suite runs on, each in a test of its own.
var Buses = []Kind{Embedded, Real}

// Need ends the test where an engine could not be had: it is skipped where the engine is not installed, or
// fails there if the environment says CI=true.
func Need(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, engine.ErrMissing) && os.Getenv("CI") != "true":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

// Address returns one that nobody listens on.
func Address(t testing.TB) string {
	t.Helper()
	addr, err := engine.Address()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// Process is an engine of a test. Its methods are for the test's goroutine.
type Process struct{ p *engine.Process }

// Own has a process killed at the end of the test, and its log shown where the test has failed.
func Own(t testing.TB, p *engine.Process) Process {
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the log of %s ends with:\n%s", p.Name, p.Said())
		}
	})
	return Process{p}
}

// Pid returns its process.
func (o Process) Pid() int { return o.p.Pid() }

// Start starts it, on the same files and ports if it ran before, and waits until it takes in requests.
func (o Process) Start(t testing.TB) { t.Helper(); must(t, o.p.Start(t.Context())) }

// Stop has it end in order.
func (o Process) Stop(t testing.TB) { t.Helper(); must(t, o.p.Stop()) }

// Kill ends it at once, as a crash of the process does.
func (o Process) Kill(t testing.TB) { t.Helper(); must(t, o.p.Kill()) }

// Pause has it do nothing until Resume, with its connections open: a machine that hangs.
func (o Process) Pause(t testing.TB) { t.Helper(); must(t, o.p.Pause()) }

// Resume ends a Pause.
func (o Process) Resume(t testing.TB) { t.Helper(); must(t, o.p.Resume()) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// root is the repository's directory.
func root() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		return "", fmt.Errorf("where the repository is cannot be told from %q: build the tests without -trimpath", file)
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file))), nil
}
