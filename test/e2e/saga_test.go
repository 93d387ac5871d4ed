package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/client"

	"holdfast/shop"
	"holdfast/svc/saga"
	"holdfast/test/engines"
)

// TestOrchestrated follows some orders to their ends with a Temporal of Holdfast's own, which is killed on the
// way: what was placed meanwhile is carried out once it is back. With HOLDFAST_TEST_RECORD set to a folder the
// histories of the first are written there, to be replayed by the tests of svc/saga.
func TestOrchestrated(t *testing.T) {
	t.Parallel()
	cfg := quick(t, "sqlite")
	cfg.Temporald.Run, cfg.Temporald.Binary = true, engines.TemporaldProgram(t)
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

// TestOrchestratedByTLS carries orders out by way of a Temporal that lets nobody in without a certificate.
func TestOrchestratedByTLS(t *testing.T) {
	t.Parallel()
	c := engines.Certify(t, false)
	cfg := quick(t, "sqlite")
	cfg.Temporal.Address = engines.BehindTLS(t, engines.StartTemporald(t).Addr(), c)
	cfg.Temporal.TLS.CAFile, cfg.Temporal.TLS.CertFile, cfg.Temporal.TLS.KeyFile = c.Authority, c.ClientCertificate, c.ClientKey
	s := start(t, cfg)
	s.item(t, "TEA", 450, 100)
	for payment, want := range map[string]shop.OrderStatus{"tok_ok": shop.Fulfilled, "tok_declined": shop.Rejected} {
		cmd := command(payment, "10115", line("TEA", 1))
		cmd.Saga = shop.Orchestrated
		s.until(t, s.place(t, cmd).ID, want)
	}
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
