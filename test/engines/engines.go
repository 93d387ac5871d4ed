// Package engines starts the real things for tests: Apache Kafka, and Temporal by way of temporald. Each is
// a process of its own that can be stopped, killed, paused and started again on the same files and ports,
// and that dies with the tests. PostgreSQL is in test/postgres.
package engines

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// Variable is the environment variable that decides what tests run on: "embedded" is without any process
// beside them; anything else is with all of them.
const Variable = "HOLDFAST_TEST_ENGINES"

// patience bounds the start of an engine, and its end: a machine that runs many tests at once is slow.
const patience = 90 * time.Second

// errMissing is what an engine that is not on this machine is wrapped in.
var errMissing = errors.New("not installed")

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

// need ends the test where an engine could not be had: it is skipped where the engine is not installed, or
// fails there if the environment says CI=true.
func need(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, errMissing) && os.Getenv("CI") != "true":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

// freePorts returns ports of the loopback that nobody listens on.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // at the end, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// root is the repository's directory.
func root() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		return "", fmt.Errorf("where the repository is cannot be told from %q: build the tests without -trimpath", file)
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file))), nil
}
