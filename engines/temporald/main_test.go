package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// childVariable turns this test binary into temporald.
const childVariable = "TEMPORALD_TEST_CHILD"

// patience bounds what a test waits for; a restart after a kill is known to take half a minute.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is a temporald that runs.
type process struct {
	cmd   *exec.Cmd
	in    io.Closer
	addr  string
	ui    string
	log   *bytes.Buffer
	ended func() error
}

func command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	return cmd
}

// start runs a temporald, until its standard input closes with the test if nothing else ends it.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: command(append(args, "--with-parent")...), log: new(bytes.Buffer)}
	p.cmd.Stderr = p.log
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.in, p.ended = in, sync.OnceValue(p.cmd.Wait)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.ended()
		if t.Failed() {
			t.Logf("its log:\n%s", p.log)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = p.ended()
		t.Fatalf("it did not get ready: %v\n%s", err, p.log)
	}
	fields := strings.Fields(line)
	if len(fields) < 3 || fields[0] != "temporald" || fields[1] != "ready" {
		t.Fatalf("it says %q", line)
	}
	for _, field := range fields[2:] {
		switch name, value, _ := strings.Cut(field, "="); name {
		case "addr":
			p.addr = value
		case "ui":
			p.ui = value
		}
	}
	return p
}

// quiet keeps the client's own messages out of the test's.
type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

var _ sdklog.Logger = quiet{}

func (p *process) client(t *testing.T) client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := client.DialContext(ctx, client.Options{HostPort: p.addr, Namespace: "default", Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

const queue = "orders"

// double is a workflow: a local activity, and a second after somebody has said go.
func double(ctx workflow.Context, n int, wait bool) (int, error) {
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{ScheduleToCloseTimeout: time.Minute,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 10 * time.Millisecond}})
	if err := workflow.ExecuteLocalActivity(ctx, add, n, n).Get(ctx, &n); err != nil || !wait {
		return n, err
	}
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
	err := workflow.ExecuteLocalActivity(ctx, add, n, 1).Get(ctx, &n)
	return n, err
}

func add(_ context.Context, a, b int) (int, error) { return a + b, nil }

func work(t *testing.T, c client.Client) (stop func()) {
	t.Helper()
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflow(double)
	w.RegisterActivity(add)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(w.Stop)
	t.Cleanup(stop)
	return stop
}

func begin(t *testing.T, c client.Client, n int, wait bool) client.WorkflowRun {
	t.Helper()
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: fmt.Sprintf("order/%d", n), TaskQueue: queue, EnableEagerStart: true}, double, n, wait)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func result(t *testing.T, run client.WorkflowRun, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got int
	if err := run.Get(ctx, &got); err != nil || got != want {
		t.Errorf("%s: %d, %v, want %d", run.GetID(), got, err, want)
	}
}

// TestPorts: the inner parts have ports that are not given to outgoing connections, nor to temporald by those who start it.
func TestPorts(t *testing.T) {
	for range 100 {
		addr, ports, err := choosePorts("127.0.0.1:0")
		if err != nil || !strings.HasPrefix(addr, "127.0.0.1:") {
			t.Fatal(addr, err)
		}
		seen := map[int]bool{}
		for _, name := range inner {
			if n := ports[name]; n < firstPort || n >= firstPort+numPorts || seen[n] {
				t.Errorf("the %s is to listen on %d, of %v", name, n, ports)
			}
			seen[ports[name]] = true
		}
	}
}

func TestWorkflowAndOrderlyEnd(t *testing.T) {
	t.Parallel()
	p := start(t, "--data", t.TempDir(), "--addr", "127.0.0.1:0", "--ui-addr", "127.0.0.1:0")
	c := p.client(t)
	stop := work(t, c)
	for n := range 20 {
		result(t, begin(t, c, n, false), 2*n)
	}
	resp, err := http.Get(p.ui + "/api/v1/namespaces/default")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"default"`)) {
		t.Errorf("the web page's interface answers %d %s", resp.StatusCode, body)
	}
	stop()
	c.Close()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.ended(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if p.log.Len() > 0 {
		t.Errorf("it complained:\n%s", p.log)
	}
}

// TestKilled kills it while workflows wait, and starts it again on the same files: what it has
// acknowledged goes on.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, "--data", dir, "--addr", "127.0.0.1:0")
	c := first.client(t)
	stop := work(t, c)
	for n := range 20 {
		begin(t, c, n, true)
	}
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.ended()
	stop()
	c.Close()

	second := start(t, "--data", dir, "--addr", first.addr)
	c = second.client(t)
	work(t, c)
	for n := range 20 {
		id := fmt.Sprintf("order/%d", n)
		if err := c.SignalWorkflow(t.Context(), id, "", "go", nil); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		result(t, c.GetWorkflow(t.Context(), id, ""), 2*n+1)
	}
}

func TestEndsWithItsParent(t *testing.T) {
	t.Parallel()
	p := start(t, "--data", t.TempDir(), "--addr", "127.0.0.1:0")
	if err := p.in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.ended(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestOneAtATime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, "--data", dir, "--addr", "127.0.0.1:0")
	out, err := command("--data", dir, "--addr", "127.0.0.1:0").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another temporald") {
		t.Errorf("a second one on the same directory: %v, %s", err, out)
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, says string
		args       []string
	}{
		{"an address that others reach", "loopback", []string{"--data", "x", "--addr", "0.0.0.0:7233"}},
		{"a page that others reach", "loopback", []string{"--data", "x", "--ui-addr", ":8233"}},
		{"no store", "either --data or --postgres", nil},
		{"two stores", "either --data or --postgres", []string{"--data", "x", "--postgres", "postgres://x"}},
		{"no namespace", "--namespace", []string{"--data", "x", "--namespace", ""}},
		{"what it does not know", "unexpected", []string{"--data", "x", "start"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var errs strings.Builder
			if code := run(test.args, strings.NewReader(""), io.Discard, &errs); code != 2 || !strings.Contains(errs.String(), test.says) {
				t.Errorf("exit %d, %s", code, errs.String())
			}
		})
	}
}

// TestOtherTables: files that another version has made are not written to.
func TestOtherTables(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := openStore(t.Context(), settings{data: dir, namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	first.release()
	mark(t, dir, 7)
	if _, err := openStore(t.Context(), settings{data: dir, namespace: "default"}); err == nil || !strings.Contains(err.Error(), "other tables") {
		t.Errorf("error %v", err)
	}
}
