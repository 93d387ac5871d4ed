package engines_test

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"holdfast/test/engines"
)

// childVariable turns this test binary into a process that starts a broker and is killed.
const childVariable = "HOLDFAST_TEST_ENGINES_CHILD"

// child is this test binary in another process.
type child struct {
	lines <-chan string // of its output; closed when it has ended
	kill  func()
}

func run(t *testing.T, tests string, env ...string) child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run="+tests, "-test.v")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	c := child{lines: lines, kill: sync.OnceFunc(func() { _ = cmd.Process.Kill() })}
	t.Cleanup(c.kill)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
		_ = cmd.Wait()
	}()
	return c
}

// TestMissing: a person is told what to run, and CI fails.
func TestMissing(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	bad := t.TempDir()
	if err := os.WriteFile(bad+"/kafka_2.13-3.9.1.jar", []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	kafka, temporald := "^TestKafkaPrefixes$", "^TestTemporaldComesBack$"
	tests := []struct {
		name, test string
		env        []string
		fails      bool
		says       string
	}{
		{"no jars at home", kafka, []string{"CI=", engines.LibsVariable + "=none"}, false, "scripts/fetch-kafka"},
		{"no jars in CI", kafka, []string{"CI=true", engines.LibsVariable + "=none"}, true, "scripts/fetch-kafka"},
		{"other jars always fail", kafka, []string{"CI=", engines.LibsVariable + "=" + bad}, true, "jars.sha256"},
		{"no Java at home", kafka, []string{"CI=", "PATH=" + empty, "JAVA_HOME="}, false, "openjdk"},
		{"no Java in CI", kafka, []string{"CI=true", "PATH=" + empty, "JAVA_HOME="}, true, "openjdk"},
		{"switched off, even in CI", kafka, []string{"CI=true", engines.Variable + "=embedded"}, false, "without real engines"},
		{"temporald switched off", temporald, []string{"CI=true", engines.Variable + "=embedded"}, false, "without real engines"},
		{"a wrong temporald always fails", temporald, []string{"CI=", engines.TemporaldVariable + "=" + empty + "/temporald"}, true, "no such file"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			for line := range run(t, test.test, append([]string{engines.Variable + "="}, test.env...)...).lines {
				out.WriteString(line + "\n")
			}
			if failed := strings.Contains(out.String(), "--- FAIL"); failed != test.fails || !strings.Contains(out.String(), test.says) {
				t.Errorf("failed: %v, want %v; it must say %q:\n%s", failed, test.fails, test.says, out.String())
			}
			if !test.fails && !strings.Contains(out.String(), "--- SKIP") {
				t.Errorf("it was not skipped:\n%s", out.String())
			}
		})
	}
}
