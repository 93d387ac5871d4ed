// Package cluster runs a Holdfast as it runs in production: a process for each service, or several, and gateways
// before them, on a PostgreSQL, a Kafka and a Temporal of its own. The outside parties are processes, too. The
// ways from one of them to another that an experiment is to hurt are through proxies.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"holdfast/check"
	"holdfast/check/audit"
	"holdfast/check/chaos"
	"holdfast/check/engine"
	"holdfast/check/link"
	"holdfast/check/names"
)

// readyLimit bounds the start of all of Holdfast's own processes.
const readyLimit = 2 * time.Minute

// The kinds of parts that are no services.
const (
	Gateway = "gateway"
	Saga    = "saga" // drives orchestrated orders, where there is a Temporal
)

// Services are those that have processes of their own, in the order in which they are started.
var Services = []string{"inventory", "payment", "shipping", "order"}

// calls are whom the services call inside.
var calls = map[string][]string{
	"inventory": {"order"}, "shipping": {"order"}, "order": {"inventory", "payment", "shipping"}, Saga: {"inventory", "payment", "shipping"},
}

// TemporalStore is where Temporal keeps everything.
type TemporalStore string

// The stores of Temporal.
const (
	NoTemporal TemporalStore = ""         // there is no Temporal, and no order is orchestrated
	OnSQLite   TemporalStore = "sqlite"   // in a file
	OnPostgres TemporalStore = "postgres" // in databases of the cluster's PostgreSQL
)

// Options change what is run.
type Options struct {
	Dir  string // everything is kept in it, and it stays; "": a temporary directory
	Keep bool   // a temporary directory stays, too
	Bin  string // the directory of the programs; "": that of this one

	Replicas   int // of each service; 1 where it is 0
	Gateways   int // 1 where it is 0; with more there is a balancer before them
	Partitions int // of each topic; 4 where it is 0
	Temporal   TemporalStore
	// Together has all services in one process, without a gateway or links.
	Together bool
	// Engines are those to use in place of its own.
	Engines Engines
	// Links tells of each way, such as payment>psp, whether it goes through a proxy, and is a link; nil: none does.
	Links func(way string) bool
	// Names has Holdfast's own processes find the others by names, where the way to them is a link. See Nameable.
	Names bool
	// Clocks has one replica of each service, and one gateway, have a clock that can be set: bin/holdfastd-faultclock.
	Clocks bool
	// Settings are added to every process, as in the environment: "payment.calls.lease".
	Settings map[string]string
	// DispatchAfter is how long the carrier takes to collect a parcel; the simulator's own default where it is "".
	DispatchAfter string
}

// Engines are where those are that somebody else runs.
type Engines struct {
	Databases string // with {service} in it
	Kafka     string
	Temporal  string
}

// System is a Holdfast in many processes. It is a chaos.System.
type System struct {
	Addresses check.Addresses
	Key       string

	options  Options
	dir      string
	took     time.Duration // until it was ready
	life     *os.File      // the directory is removed when this is closed; nil where it stays
	secrets  secrets
	engines  Engines
	postgres *engine.Postgres
	seeds    map[string]string // by service: where its link to Kafka is
	front    string            // where the gateways, or the balancer before them, are reached
	parts    []*Part           // in the order of starting
	links    []*link.Link
	balancer *balancer
	names    *names.Server
	adding   sync.Mutex // of parts and links, while engines start together
}

// Part is a process of a System. It is a chaos.Part.
type Part struct {
	*engine.Process
	kind  string
	place place  // of Holdfast's own
	clock string // the file by which its clock is set; "": it is right
}

// clocked is a Part whose clock can be set. It is a chaos.Clocked.
type clocked struct{ *Part }

// SetClock implements chaos.Clocked.
func (c clocked) SetClock(wrong time.Duration) error { return engine.SetClock(c.clock, wrong) }

// Shown implements chaos.Clocked.
func (c clocked) Shown() (int64, error) { return engine.Shown(c.clock) }

// Name returns the name of the process: of replicas each has one, "payment-2".
func (p *Part) Name() string { return p.Spec.Name }

// Admin returns the address of its admin listener, as http://host:port; "" where it is none of Holdfast's own.
func (p *Part) Admin() string {
	if p.place.admin == "" {
		return ""
	}
	return "http://" + p.place.admin
}

// Kind returns the service, engine or party that it is.
func (p *Part) Kind() string { return p.kind }

// Start runs a Holdfast until Close, or until this process ends. It returns when everything is ready.
func Start(ctx context.Context, o Options) (*System, error) {
	s := &System{options: o, engines: o.Engines, seeds: map[string]string{}}
	began := time.Now()
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.took = time.Since(began)
	return s, nil
}

func (s *System) start(ctx context.Context) (err error) {
	o := &s.options
	o.Replicas, o.Gateways = max(o.Replicas, 1), max(o.Gateways, 1)
	if o.Partitions == 0 {
		o.Partitions = 4
	}
	if s.secrets, err = newSecrets(); err != nil {
		return err
	}
	s.Key = s.secrets.key
	needs := []string{"holdfast", "holdfastd"}
	if s.ownTemporal() {
		needs = append(needs, "temporald")
	}
	if o.Clocks {
		needs = append(needs, FaultClock)
	}
	if err := s.programs(needs...); err != nil {
		return err
	}
	if err := s.makeDir(); err != nil {
		return err
	}
	if o.Names {
		if err := s.startNames(); err != nil {
			return err
		}
	}
	places, err := s.places()
	if err != nil {
		return err
	}
	if err := s.startEngines(ctx); err != nil {
		return err
	}
	return s.startServices(ctx, places)
}

// makeDir makes the directory of everything. Others may go through it, since the server of PostgreSQL may have to be
// another account's.
func (s *System) makeDir() (err error) {
	if s.dir = s.options.Dir; s.dir != "" {
		s.dir, err = filepath.Abs(s.dir)
		return errors.Join(err, os.MkdirAll(s.dir, 0o711))
	}
	if s.dir, err = os.MkdirTemp("", "holdfast-cluster-"); err != nil {
		return err
	}
	if err := os.Chmod(s.dir, 0o711); err != nil {
		return err
	}
	if !s.options.Keep {
		s.life, err = engine.Sweep(s.dir)
	}
	return err
}

// Dir is the directory of everything.
func (s *System) Dir() string { return s.dir }

// sub makes a directory in it.
func (s *System) sub(name string) (string, error) {
	dir := filepath.Join(s.dir, name)
	return dir, os.MkdirAll(dir, 0o700)
}

// Close ends everything in order: those first that need the others.
func (s *System) Close() error {
	var errs []error
	for _, l := range s.links {
		l.Set(chaos.LinkFault{}, chaos.LinkFault{})
	}
	for _, p := range s.parts {
		errs = append(errs, p.Throttle(0))
	}
	for _, stage := range [][]string{{Gateway}, append([]string{Saga}, Services...), {"psp", "carrier", "temporal"}, {"kafka", "postgres"}} {
		var stops []func() error
		for _, kind := range stage {
			for _, p := range s.Of(kind) {
				stops = append(stops, p.Stop)
			}
		}
		errs = append(errs, together(stops...))
	}
	if s.balancer != nil {
		errs = append(errs, s.balancer.close())
	}
	if s.names != nil {
		errs = append(errs, s.names.Close())
	}
	for _, l := range s.links {
		errs = append(errs, l.Close())
	}
	if s.life != nil {
		errs = append(errs, s.life.Close())
	}
	return errors.Join(errs...)
}

// Target returns it for a load.
func (s *System) Target() check.Target {
	stores := s.Stores()
	return check.Target{URL: s.Addresses.API, Key: s.Key, Addresses: s.Addresses, Usage: s.usage, Took: s.took, Stores: &stores}
}

// usage is what its processes have used: Holdfast's own together, and each engine. The outside parties are nobody's.
func (s *System) usage() (map[string]engine.Usage, error) {
	all := map[string]engine.Usage{}
	for _, p := range s.parts {
		name := p.kind
		switch name {
		case "psp", "carrier":
			continue
		case "postgres", "kafka", "temporal":
		default:
			name = "holdfast"
		}
		u, err := p.Usage()
		if err != nil {
			return nil, err
		}
		all[name] = all[name].Add(u)
	}
	return all, nil
}

// Stores returns where the databases and the outside parties' ledgers are. It is not by way of the links.
func (s *System) Stores() audit.Config {
	c := audit.Config{DSN: s.engines.Databases, Grace: audit.DefaultGrace}
	c.PSP, c.Carrier = audit.SimulatorLedgers(s.sims())
	return c
}

// sims is the directory of the outside parties.
func (s *System) sims() string { return filepath.Join(s.dir, "sim") }

// Parts returns every process.
func (s *System) Parts() []chaos.Part {
	all := make([]chaos.Part, len(s.parts))
	for i, p := range s.parts {
		all[i] = p
		if p.clock != "" {
			all[i] = clocked{p}
		}
	}
	return all
}

// Names is where the names are asked for; nil without Options.Names.
func (s *System) Names() chaos.Names {
	if s.names == nil {
		return nil
	}
	return s.names
}

// Of returns the parts of a kind.
func (s *System) Of(kind string) (all []*Part) {
	for _, p := range s.parts {
		if p.kind == kind {
			all = append(all, p)
		}
	}
	return all
}

// Links returns the ways from one part to another that are through proxies.
func (s *System) Links() []chaos.Link {
	all := make([]chaos.Link, len(s.links))
	for i, l := range s.links {
		all[i] = l
	}
	return all
}

// way returns the address by which from reaches an address of to: that of a proxy, where links are wanted, and with a
// name, where from asks for names.
func (s *System) way(from, to, addr string) (string, error) {
	if s.options.Links == nil || !s.options.Links(from+">"+to) {
		return addr, nil
	}
	door, err := engine.Address()
	if err != nil {
		return "", err
	}
	err = s.open(from, to, door, addr)
	if s.names != nil && slices.Contains(s.kinds(), from) {
		_, port, _ := net.SplitHostPort(door) // it was made of both
		return net.JoinHostPort(names.Name(to), port), err
	}
	return door, err
}

// open adds a door to the link from one kind to another.
func (s *System) open(from, to, door, addr string) error {
	name := from + ">" + to
	for _, l := range s.links {
		if l.Name() == name {
			return l.Open(door, addr)
		}
	}
	l := link.New(name)
	s.links = append(s.links, l)
	return l.Open(door, addr)
}

// together does things at once, and returns what went wrong.
func together(all ...func() error) error {
	errs := make([]error, len(all))
	var under sync.WaitGroup
	for i, f := range all {
		under.Go(func() { errs[i] = f() })
	}
	under.Wait()
	return errors.Join(errs...)
}

// programs sees that the programs are there.
func (s *System) programs(names ...string) error {
	if s.options.Bin == "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		s.options.Bin = filepath.Dir(self)
	}
	for _, name := range names {
		if _, err := os.Stat(s.program(name)); err != nil {
			return fmt.Errorf("%s is %w in %s: run make build faultclock temporald", name, engine.ErrMissing, s.options.Bin)
		}
	}
	return nil
}

func (s *System) program(name string) string { return filepath.Join(s.options.Bin, name) }
