// Package split runs a Holdfast as it runs in production: a process for each service, or several, and a gateway
// before them, on PostgreSQL and a broker that speaks Kafka's protocol. The outside parties are processes, too.
package split

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/app"
	"holdfast/check/audit"
	"holdfast/embedded/bus"
	"holdfast/test/engines"
	"holdfast/test/fakes"
	"holdfast/test/postgres"
)

// Services are those that have processes of their own, in the order in which they are started.
var Services = []string{"inventory", "payment", "shipping", "order"}

// Gateway is the name of the processes before them, and Saga of those that drive orchestrated orders.
const (
	Gateway = "gateway"
	Saga    = "saga"
)

const (
	key   = "key-of-the-split-test"
	token = "token-of-the-split-test-for-calls-inside"
)

// Options change what is run.
type Options struct {
	Replicas int // of each service; 1 where it is 0
	Gateways int // 1 where it is 0
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
	Addresses app.Addresses
	Key       string
	Stores    audit.Config // where the databases and the outside parties' ledgers are

	t         testing.TB
	dir       string
	settings  []string
	kinds     []string              // in the order of starting
	processes map[string][]*Process // by service
}

// Start runs a Holdfast until the test ends. It is skipped where there is no PostgreSQL.
func Start(t testing.TB, o Options) *System {
	t.Helper()
	o.Replicas, o.Gateways = max(o.Replicas, 1), max(o.Gateways, 1)
	if o.Partitions == 0 {
		o.Partitions = 4
	}
	s := &System{Key: key, t: t, dir: t.TempDir(), processes: map[string][]*Process{}}
	s.kinds = Everything()
	if o.Temporal != "" {
		s.kinds = append(slices.Clone(Services), Saga, Gateway)
	}
	dsn := o.Databases
	if dsn == "" {
		dsn = postgres.Databases(t, append([]string{Saga}, Services...)...)
	}
	s.Stores = audit.Config{DSN: dsn, Grace: audit.DefaultGrace}
	s.Stores.PSP, s.Stores.Carrier = audit.SimulatorLedgers(s.sims())
	s.Addresses.Kafka = o.Kafka
	switch {
	case o.SharedKafka:
		k := engines.SharedKafka(t)
		settings := map[string]string{"bus.prefix": k.Prefix()}
		maps.Copy(settings, o.Settings)
		s.Addresses.Kafka, o.Settings = strings.Join(k.Addrs(), ","), settings
	case o.Kafka == "":
		s.Addresses.Kafka = broker(t)
	}
	places := map[string][]place{}
	for _, name := range s.kinds {
		n := o.Replicas
		if name == Gateway {
			n = o.Gateways
		}
		for range n {
			places[name] = append(places[name], newPlace(t))
		}
	}
	s.Addresses.API, s.Addresses.Admin = places[Gateway][0].public(), places["order"][0].url(places["order"][0].admin)
	s.parties()
	s.settings = environment(s, o, dsn, places)
	for _, name := range s.kinds {
		for _, at := range places[name] {
			p := &Process{Name: name, at: at, system: s}
			s.processes[name] = append(s.processes[name], p)
			p.Start()
		}
	}
	for _, name := range s.kinds {
		for _, p := range s.processes[name] {
			p.Ready()
		}
	}
	return s
}

// environment is what every process is told: the same for all.
func environment(s *System, o Options, dsn string, places map[string][]place) []string {
	all := map[string]string{
		"log_level": "warn", "drain_wait": "300ms", "partitions": fmt.Sprint(o.Partitions),
		"store.dsn": dsn, "store.max_conns": "8", "bus.seeds": s.Addresses.Kafka,
		"secrets.api_keys.dev": key, "secrets.internal_tokens": token,
		"secrets.webhooks.psp": webhookSecret, "secrets.webhooks.carrier": webhookSecret,
		"payment.provider_url": s.Addresses.PSP, "shipping.carrier_url": s.Addresses.Carrier,
		"payment.provider.call_timeout": "1s", "shipping.carrier.call_timeout": "1s",
		"payment.retry_max": "200ms", "shipping.retry_max": "200ms", "payment.undo_failures": "5",
		"payment.calls.timeout": "2s", "payment.calls.lease": "5s", "shipping.calls.timeout": "2s", "shipping.calls.lease": "5s",
		"order.wait_poll": "100ms", "temporal.address": o.Temporal, "saga.queue": s.t.Name(),
		// Many processes share this machine, and what each says of its load is not about it.
		"order.strain_max": "0s", "order.backlog_max": "1m",
	}
	for _, name := range Services {
		var inside, public []string
		for _, at := range places[name] {
			inside, public = append(inside, at.url(at.internal)), append(public, at.public())
		}
		all["services."+name], all["gateway.upstreams."+name] = strings.Join(inside, ","), strings.Join(public, ",")
	}
	maps.Copy(all, o.Settings)
	env := os.Environ()
	for name, value := range all {
		env = append(env, app.EnvPrefix+strings.ToUpper(strings.ReplaceAll(name, ".", "__"))+"="+value)
	}
	return env
}

// Of returns the processes of a service.
func (s *System) Of(service string) []*Process { return s.processes[service] }

// All returns every process, the gateways last.
func (s *System) All() []*Process {
	var all []*Process
	for _, name := range s.kinds {
		all = append(all, s.processes[name]...)
	}
	return all
}

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

const webhookSecret = "whsec_c3BsaXQtc3BsaXQtc3BsaXQtc3BsaXQtc3BsaXQ="

// sims is the directory of the outside parties.
func (s *System) sims() string { return filepath.Join(s.dir, "sim") }

// parties runs the outside parties.
func (s *System) parties() {
	s.t.Helper()
	for name, into := range map[string]*string{"psp": &s.Addresses.PSP, "carrier": &s.Addresses.Carrier} {
		at := newPlace(s.t)
		*into = at.public()
		args := []string{"sim", name, "--quiet", "--data", s.sims(), "--addr", at.address(at.api),
			"--webhook-url", s.Addresses.API + "/webhooks/" + name, "--webhook-secret", webhookSecret}
		if name == "carrier" {
			args = append(args, "--dispatch-after", "200ms")
		}
		p := &Process{Name: name, at: at, system: s}
		p.run(binary(s.t, "holdfast"), os.Environ(), args...)
		p.answers(at.public() + "/ledger")
	}
}

// binary builds a program once for all tests of a process.
func binary(t testing.TB, name string) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// limit bounds every wait: a machine that runs many tests at once is slow.
const limit = 60 * time.Second
