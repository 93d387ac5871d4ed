package app

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"holdfast/svc/gateway"
	"holdfast/svc/saga"
)

// Validate names the first setting that cannot work for the modules of this process.
func (c Config) Validate() error {
	if err := c.validateTarget(); err != nil {
		return err
	}
	switch {
	case c.Store.Driver != "sqlite" && c.Store.Driver != "postgres":
		return fmt.Errorf("store.driver is %q; it must be sqlite or postgres", c.Store.Driver)
	case c.Store.Driver == "postgres" && c.stateful() && !strings.Contains(c.Store.DSN, "{service}"):
		return errors.New("store.dsn must contain {service}: each service has a database of its own, as in postgres://user@host/holdfast_{service}")
	case c.Partitions < 0:
		return errors.New("partitions must not be negative; 0 leaves it to the brokers")
	case slices.Contains(c.Target, saga.Name) && !c.orchestrates():
		return errors.New("target names saga, which runs on a Temporal: set temporal.address, as in temporal:7233")
	case c.DrainWait < 0:
		return errors.New("drain_wait must not be negative")
	}
	if err := c.Store.Policies.Validate(); err != nil {
		return fmt.Errorf("store.policies.%w", err)
	}
	if err := c.BusPolicy.Validate(); err != nil {
		return fmt.Errorf("bus_policy.%w", err)
	}
	if err := c.Internal.Validate(); err != nil {
		return fmt.Errorf("internal.%w", err)
	}
	if err := c.Temporal.Validate(); err != nil {
		return err
	}
	if err := c.Verify.Validate(); err != nil {
		return err
	}
	for _, m := range modules() {
		if !c.Has(m.name) {
			continue
		}
		if err := m.validate(c); err != nil {
			return err
		}
	}
	return nil
}

// ValidateAlone names the first setting that a process lacks which brings nothing of its own along: no bus,
// no outside party, no keys.
func (c Config) ValidateAlone() error {
	if c.Store.Driver != "postgres" && c.stateful() {
		return fmt.Errorf("store.driver is %q; a daemon keeps its state in postgres", c.Store.Driver)
	}
	if len(c.Bus.Seeds) == 0 && c.stateful() {
		return errors.New("bus.seeds is empty; name some brokers of the Kafka, as in HOLDFAST_BUS__SEEDS=kafka-1:9092,kafka-2:9092")
	}
	if c.stateful() {
		brokers := c.Bus.Defaults()
		brokers.SASL.Password = cmp.Or(brokers.SASL.Password, c.Secrets.BusPassword)
		if err := brokers.Validate(); err != nil {
			return err
		}
	}
	if err := c.validateServices(); err != nil {
		return err
	}
	return c.Secrets.validate(c)
}

func (c Config) validateTarget() error {
	if len(c.Target) == 0 {
		return fmt.Errorf("target is empty; name the services of this process, of %s, or %s", names(), All)
	}
	for _, t := range c.Target {
		if t != All && !slices.ContainsFunc(modules(), func(m module) bool { return m.name == t }) {
			return fmt.Errorf("target names %q, which there is not; there are %s, and %s", t, names(), All)
		}
	}
	return nil
}

// validateServices checks that whatever a module calls is here or has an address.
func (c Config) validateServices() error {
	for name, at := range c.Services {
		if !slices.ContainsFunc(modules(), func(m module) bool { return m.name == name && m.name != gateway.Name }) {
			return fmt.Errorf("services names %q, which there is not; there are %s", name, names())
		}
		if err := addresses("services."+name, at); err != nil {
			return err
		}
	}
	for name, at := range c.Gateway.Upstreams {
		if !slices.ContainsFunc(modules(), func(m module) bool { return m.public && m.name == name }) {
			return fmt.Errorf("gateway.upstreams names %q, which has no public routes", name)
		}
		if err := addresses("gateway.upstreams."+name, at); err != nil {
			return err
		}
	}
	for _, m := range modules() {
		if !c.Has(m.name) {
			continue
		}
		for _, need := range m.needs {
			if !c.Has(need) && len(c.Services[need]) == 0 {
				return fmt.Errorf("%s calls %s, which is not in this process and has no address: set services.%s (%sSERVICES__%s) to its internal address, as in http://%s:8082, or add %s to target",
					m.name, need, need, EnvPrefix, strings.ToUpper(need), need, need)
			}
		}
	}
	if c.Has(gateway.Name) {
		for _, m := range modules() {
			if m.public && !c.Has(m.name) && len(c.Gateway.Upstreams[m.name]) == 0 {
				return fmt.Errorf("the gateway has no address of %s: set gateway.upstreams.%s (%sGATEWAY__UPSTREAMS__%s) to its public address, as in http://%s:8080, or add %s to target",
					m.name, m.name, EnvPrefix, strings.ToUpper(m.name), m.name, m.name)
			}
		}
	}
	return nil
}

func addresses(setting string, at []string) error {
	for _, text := range at {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return fmt.Errorf("%s has %q, which is not an address as http://host:port", setting, text)
		}
	}
	return nil
}

// Has tells whether a module is in this process.
func (c Config) Has(name string) bool {
	if name == saga.Name && !c.orchestrates() {
		return false
	}
	return slices.Contains(c.Target, name) || slices.Contains(c.Target, All)
}

// stateful tells whether a module of this process has a store, and so speaks on the bus.
func (c Config) stateful() bool {
	return slices.ContainsFunc(modules(), func(m module) bool { return m.migrations != nil && c.Has(m.name) })
}

// loopback tells whether an address can be reached from this machine alone.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

func names() string {
	var all []string
	for _, m := range modules() {
		all = append(all, m.name)
	}
	return strings.Join(all, ", ")
}
