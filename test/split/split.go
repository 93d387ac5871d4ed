// Package split runs a Holdfast as it runs in production, as package cluster does: a process for each service, or
// several, and a gateway before them, on PostgreSQL and a broker that speaks Kafka's protocol. The outside parties are
// processes, too.
package split

import (
	"context"
	"maps"
	"strings"
	"sync"
	"testing"

	"holdfast/check"
	"holdfast/check/audit"
	"holdfast/check/cluster"
	"holdfast/embedded/bus"
	"holdfast/test/engines"
	"holdfast/test/fakes"
	"holdfast/test/postgres"
)

// Services are those that have processes of their own, in the order in which they are started.
var Services = cluster.Services

// Gateway is the name of the processes before them, and Saga of those that drive orchestrated orders.
const (
	Gateway = cluster.Gateway
	Saga    = cluster.Saga
)

// Options change what is run.
type Options struct {
	Replicas int // of each service; 1 where it is 0
	Gateways int // 1 where it is 0; with more there is a balancer before them
	// SharedKafka runs the bus on the Kafka that the tests of this process share, in place of a broker in it.
	SharedKafka bool
	// Partitions of each topic, 4 where it is 0.
	Partitions int
	// Databases, Kafka and Temporal are where those are that a test has started; without them a shared PostgreSQL
	// and a broker in this process are used, and no order is orchestrated. With a Temporal there is a process more.
	Databases, Kafka, Temporal string
	// Settings are added to every process, as in the environment: "payment.calls.lease".
	Settings map[string]string
}

// System is a Holdfast in many processes.
type System struct {
	Addresses check.Addresses
	Key       string
	Stores    audit.Config // where the databases and the outside parties' ledgers are

	t testing.TB
	s *cluster.System
}

// Start runs a Holdfast until the test ends. It is skipped where there is no PostgreSQL.
func Start(t testing.TB, o Options) *System {
	t.Helper()
	settings := Quick()
	settings["saga.queue"] = t.Name()
	at := cluster.Engines{Databases: o.Databases, Kafka: o.Kafka, Temporal: o.Temporal}
	if at.Databases == "" {
		at.Databases = postgres.Databases(t, append([]string{Saga}, Services...)...)
	}
	switch {
	case o.SharedKafka:
		k := engines.SharedKafka(t)
		at.Kafka, settings["bus.prefix"] = strings.Join(k.Addrs(), ","), k.Prefix()
	case at.Kafka == "":
		at.Kafka = broker(t)
	}
	maps.Copy(settings, o.Settings)
	s, err := cluster.Start(t.Context(), cluster.Options{Dir: t.TempDir(), Bin: Programs(t), Replicas: o.Replicas, Gateways: o.Gateways, Partitions: o.Partitions,
		Engines: at, Settings: settings, DispatchAfter: "200ms"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, kind := range Everything() {
				for _, p := range s.Of(kind) {
					t.Logf("the log of %s ends with:\n%s", p.Name(), p.Said())
				}
			}
		}
	})
	return &System{Addresses: s.Addresses, Key: s.Key, Stores: s.Stores(), t: t, s: s}
}

// Quick are settings for tests: what waits does so for less time than in production.
func Quick() map[string]string {
	return map[string]string{
		"log_level": "warn", "drain_wait": "300ms", "store.max_conns": "8",
		"payment.provider.call_timeout": "1s", "shipping.carrier.call_timeout": "1s",
		"payment.retry_max": "200ms", "shipping.retry_max": "200ms", "payment.undo_failures": "5",
		"payment.calls.timeout": "2s", "shipping.calls.timeout": "2s",
		"order.wait_poll": "100ms",
		// Many processes share this machine, and what each says of its load is not about it.
		"order.strain_max": "0s", "order.backlog_max": "1m",
	}
}

// Of returns the processes of a service.
func (s *System) Of(service string) (all []*Process) {
	for _, p := range s.s.Of(service) {
		all = append(all, &Process{p: p, t: s.t})
	}
	return all
}

// Everything returns the names of all kinds of processes but Saga.
func Everything() []string { return append(append([]string{}, Services...), Gateway) }

// broker runs one in this process until the test ends, and returns its address.
func broker(t testing.TB) string {
	t.Helper()
	b, err := bus.New(bus.Config{}, fakes.Deps(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Errorf("the broker: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := b.Close(); err != nil {
			t.Errorf("the broker: %v", err)
		}
	})
	return b.Addrs()[0]
}
