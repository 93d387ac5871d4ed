package e2e_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/client"

	"holdfast/app/local"
	"holdfast/shop"
	"holdfast/svc/saga"
	"holdfast/test/engines"
)

// eachStyle runs test on a Holdfast with each kind of store and each style of saga: both must end in the same
// states.
func eachStyle(t *testing.T, test func(t *testing.T, s *system)) {
	t.Helper()
	everywhere(t, test)
	t.Run("orchestrated", func(t *testing.T) {
		t.Parallel()
		address := temporald(t)
		for _, driver := range []string{"sqlite", "postgres"} {
			t.Run(driver, func(t *testing.T) {
				t.Parallel()
				test(t, start(t, orchestrated(t, driver, address)))
			})
		}
	})
}

// orchestrated is a configuration by which every order is.
func orchestrated(t *testing.T, driver, address string) local.Config {
	t.Helper()
	cfg := quick(t, driver)
	cfg.Order.Saga.OrchestratedPercent = 100
	cfg.Temporal.Address, cfg.Saga.Queue = address, t.Name()
	return cfg
}

// binary is the program temporald. Without it a test is skipped, and fails where everything must be there.
func binary(t *testing.T) string {
	t.Helper()
	engines.SkipIfEmbedded(t)
	for _, name := range []string{os.Getenv("HOLDFAST_TEST_TEMPORALD"), "../../bin/temporald", "temporald"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			if path, err = filepath.Abs(path); err == nil {
				return path
			}
		}
	}
	const missing = "there is no temporald: build it with \"make temporald\", or name it with HOLDFAST_TEST_TEMPORALD"
	if os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// running is a temporald. Its standard input has to be held: it ends when that does, and so when this program does.
type running struct {
	address string
	input   io.Closer
}

// scratch is where the shared Temporal keeps what it knows, once it runs.
var scratch string

// shared is the one Temporal of this test program.
var shared = sync.OnceValues(func() (r running, err error) {
	if scratch, err = os.MkdirTemp("", "holdfast-temporald-"); err != nil {
		return r, err
	}
	cmd := exec.Command(os.Getenv("HOLDFAST_TEST_TEMPORALD"), "--data", scratch, "--addr", "127.0.0.1:0", "--namespace", "default", "--with-parent")
	if r.input, err = cmd.StdinPipe(); err != nil {
		return r, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return r, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return r, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	r.address, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "temporald ready addr="), " ")
	return r, err
})

// temporald returns the address of the Temporal that the tests share.
func temporald(t *testing.T) string {
	t.Helper()
	if os.Getenv("HOLDFAST_TEST_TEMPORALD") == "" {
		os.Setenv("HOLDFAST_TEST_TEMPORALD", binary(t))
	}
	r, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return r.address
}

// TestOrchestrated follows some orders to their ends with a Temporal of Holdfast's own, which is killed on the
// way: what was placed meanwhile is carried out once it is back. With HOLDFAST_TEST_RECORD set to a folder the
// histories of the first are written there, to be replayed by the tests of svc/saga.
func TestOrchestrated(t *testing.T) {
	t.Parallel()
	cfg := quick(t, "sqlite")
	cfg.Temporald.Run, cfg.Temporald.Binary = true, binary(t)
	s := start(t, cfg)
	s.item(t, "TEA", 450, 100)
	place := func(payment, postal string) shop.Order {
		cmd := command(payment, postal, line("TEA", 1))
		cmd.Saga = shop.Orchestrated
		o := s.place(t, cmd)
		if o.Saga != shop.Orchestrated {
			t.Errorf("its saga is %s", o.Saga)
		}
		return o
	}
	orders := map[string]shop.Order{"happy": place("tok_ok", "10115"), "declined": place("tok_declined", "10115"),
		"not-shippable": place("tok_void_fails_1", "00001"), "slow": place("tok_timeout_ok", "10115")}
	waits := place("tok_ok", "00005")
	s.until(t, waits.ID, shop.Confirmed)
	if _, err := s.CancelOrder(t.Context(), "cancel-1", waits.ID); err != nil {
		t.Fatal(err)
	}
	orders["cancelled"] = waits
	for name, want := range map[string]shop.OrderStatus{"happy": shop.Fulfilled, "declined": shop.Rejected, "not-shippable": shop.Rejected,
		"slow": shop.Fulfilled, "cancelled": shop.Cancelled} {
		s.until(t, orders[name].ID, want)
	}
	if dir := os.Getenv("HOLDFAST_TEST_RECORD"); dir != "" {
		record(t, s.addresses.Temporal, dir, orders)
	}
	killChild(t, s.addresses.Temporal)
	during, cancelled := place("tok_ok", "10115"), place("tok_ok", "00005")
	if _, err := s.CancelOrder(t.Context(), "cancel-2", cancelled.ID); err != nil {
		t.Fatal(err)
	}
	s.until(t, during.ID, shop.Fulfilled)
	s.until(t, cancelled.ID, shop.Cancelled)
	s.verify(t)
}

// record writes the histories of the runs of orders, the last run of each.
func record(t *testing.T, address, dir string, orders map[string]shop.Order) {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: address})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for name, o := range orders {
		if err := c.GetWorkflow(ctx, saga.WorkflowID(o.ID), "").Get(ctx, nil); err != nil { // its end
			t.Fatal(err)
		}
		h := &historypb.History{}
		for it := c.GetWorkflowHistory(ctx, saga.WorkflowID(o.ID), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
			e, err := it.Next()
			if err != nil {
				t.Fatal(err)
			}
			h.Events = append(h.Events, e)
		}
		b, err := temporalproto.CustomJSONMarshalOptions{Indent: " "}.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".json"), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// killChild kills the child of this process that was started with an argument.
func killChild(t *testing.T, argument string) {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if err != nil {
			continue // a thread that has ended
		}
		for pid := range strings.FieldsSeq(string(children)) {
			args, _ := os.ReadFile("/proc/" + pid + "/cmdline")
			if !strings.Contains(string(args), argument) {
				continue
			}
			n, err := strconv.Atoi(pid)
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no child of this process was started with %s", argument)
}
