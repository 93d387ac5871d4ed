package split_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/check"
	"holdfast/check/audit"
	"holdfast/check/chaos"
	"holdfast/check/cluster"
	"holdfast/client"
	_ "holdfast/embedded/sqlite" // the audit opens its files by the driver
	"holdfast/shop"
	"holdfast/test/engines"
	"holdfast/test/split"
)

// ways are the links that there must be, and no others.
var ways = []string{
	"client>gateway", "psp>gateway", "carrier>gateway", "payment>psp", "shipping>carrier",
	"gateway>inventory", "gateway>payment", "gateway>shipping", "gateway>order",
	"inventory>order", "shipping>order", "order>inventory", "order>payment", "order>shipping",
	"saga>inventory", "saga>payment", "saga>shipping", "saga>temporal",
	"inventory>kafka", "payment>kafka", "shipping>kafka", "order>kafka", "saga>kafka",
	"inventory>postgres", "payment>postgres", "shipping>postgres", "order>postgres", "saga>postgres",
}

// TestCluster hurts every part and every link of a cluster with engines of its own, one after the other, and sees
// each time that an order has its outcome afterwards.
func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts ten processes and three engines")
	}
	engines.SkipIfEmbedded(t)
	s, err := cluster.Start(t.Context(), cluster.Options{Bin: split.Programs(t), Temporal: cluster.OnPostgres, Links: func(string) bool { return true }, DispatchAfter: "200ms", Settings: split.Quick()})
	engines.Need(t, err)
	var pids []int
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for _, pid := range pids {
			if syscall.Kill(pid, 0) == nil {
				t.Errorf("process %d is still there", pid)
			}
		}
	})
	c := tea(t, s)
	var sent []check.Sent
	settle := func(key string) {
		t.Helper()
		for _, style := range []shop.SagaStyle{shop.Choreographed, shop.Orchestrated} {
			sent = append(sent, outcomeOf(t, c, fmt.Sprintf("%s-%s", key, style), style))
		}
	}
	settle("before")
	links(t, s, settle)
	for _, p := range s.Parts() {
		hurt(t, p)
		settle("hurt-" + p.Name())
		pids = append(pids, p.(*cluster.Part).Pid())
	}
	restful(t, s, c, sent)
}

// links sees that there are all, and that each carries something: with latency there are bites, without there are no
// more.
func links(t *testing.T, s *cluster.System, settle func(string)) {
	t.Helper()
	var names []string
	slow := chaos.LinkFault{Latency: "1ms"}
	for _, l := range s.Links() {
		names = append(names, l.Name())
		l.Set(slow, slow)
	}
	slices.Sort(names)
	if want := slices.Sorted(slices.Values(ways)); !slices.Equal(names, want) {
		t.Errorf("the links are %v, want %v", names, want)
	}
	settle("slow")
	silent := func() (all []string) {
		for _, l := range s.Links() {
			if l.Bites() == 0 {
				all = append(all, l.Name())
			}
		}
		return all
	}
	// Prices, timelines and decisions are asked for when somebody wants them.
	for _, name := range silent() {
		t.Logf("nothing went by %s", name)
	}
	for _, l := range s.Links() {
		l.Set(chaos.LinkFault{}, chaos.LinkFault{})
	}
}

// hurt does to a part what can be done to it.
func hurt(t *testing.T, p chaos.Part) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	steps := []struct {
		name string
		do   func() error
		runs bool
	}{
		{"throttle", func() error { return p.Throttle(0.5) }, true},
		{"pause", p.Pause, true},
		{"resume", p.Resume, true},
		{"kill", p.Kill, false},
		{"kill again", p.Kill, false},
		{"start", func() error { return p.Start(ctx) }, true},
		{"heal", func() error { return p.Throttle(0) }, true},
		{"stop", p.Stop, false},
		{"start again", func() error { return p.Start(ctx) }, true},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatalf("%s %s: %v", step.name, p.Name(), err)
		}
		if p.Running() != step.runs {
			t.Fatalf("after %s %s runs: %v", step.name, p.Name(), p.Running())
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.(*cluster.Part).Pid()))
	if err != nil || strings.Contains(string(stat), ") T ") {
		t.Errorf("healed, %s is stopped: %s %v", p.Name(), stat, err)
	}
}

// tea makes an item of which there is enough.
func tea(t *testing.T, s *cluster.System) *client.Client {
	t.Helper()
	c := clientOf(t, s)
	stock(t, c)
	return c
}

func clientOf(t *testing.T, s *cluster.System) *client.Client {
	t.Helper()
	target := s.Target()
	c, err := client.New(target.URL, target.Key, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// outcomeOf places an order, as its client does: again with its key where it is told to, and waits for its outcome.
func outcomeOf(t *testing.T, c *client.Client, key string, style shop.SagaStyle) check.Sent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	began := time.Now()
	o := probe(key)
	o.Saga = style
	placed, err := c.PlaceOrder(ctx, key, o, 0)
	for err != nil && ctx.Err() == nil {
		time.Sleep(100 * time.Millisecond)
		placed, err = c.PlaceOrder(ctx, key, o, 0)
	}
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	if _, err := c.WaitOrder(ctx, placed.Order.ID); err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	t.Logf("%s has its outcome after %s", key, time.Since(began).Round(time.Millisecond))
	return check.Sent{Key: key, ID: placed.Order.ID, Total: placed.Order.Total, Status: 201}
}

// restful waits until nothing moves and checks everything.
func restful(t *testing.T, s *cluster.System, c *client.Client, sent []check.Sent) {
	t.Helper()
	settled(t, s.Addresses, c, sent)
	audited(t, s.Stores())
}

// audited checks the stores of what is at rest.
func audited(t *testing.T, cfg audit.Config) {
	t.Helper()
	cfg.AtRest = true
	report, err := audit.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("audit: %s over %v", report.Verdict, report.Counts)
	for _, r := range report.Failed() {
		t.Errorf("audit: %s is %s: %+v", r.ID, r.Verdict, r.Items[:min(len(r.Items), 3)])
	}
}

// TestAlone hurts the one process of a Holdfast that is whole in it: it comes back at the same addresses.
func TestAlone(t *testing.T) {
	s, err := cluster.StartAlone(t.Context(), cluster.Options{Bin: split.Programs(t)}, io.Discard, "--dispatch-after", "200ms")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	before := s.Target()
	c, err := client.New(before.URL, before.Key, nil)
	if err != nil {
		t.Fatal(err)
	}
	stock(t, c)
	sent := []check.Sent{outcomeOf(t, c, "before", shop.Choreographed)}
	hurt(t, s.Parts()[0])
	after := s.Target().Addresses
	if after.Kafka = before.Addresses.Kafka; after != before.Addresses {
		t.Errorf("it is at %+v, and was at %+v", after, before.Addresses)
	}
	sent = append(sent, outcomeOf(t, c, "after", shop.Choreographed))
	settled(t, s.Target().Addresses, c, sent)
	audited(t, s.Stores())
}
