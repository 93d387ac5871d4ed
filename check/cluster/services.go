package cluster

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/check/engine"
)

// secrets are those of a System.
type secrets struct{ key, token, webhook string }

func newSecrets() (secrets, error) {
	b := make([]byte, 32)
	_, err := rand.Read(b)
	return secrets{key: rand.Text(), token: rand.Text() + rand.Text(), webhook: "whsec_" + base64.StdEncoding.EncodeToString(b)}, err
}

// place is where a process listens.
type place struct{ api, internal, admin string }

func newPlace() (p place, err error) {
	for _, at := range []*string{&p.api, &p.internal, &p.admin} {
		if *at, err = engine.Address(); err != nil {
			return p, err
		}
	}
	return p, nil
}

// places finds some for every process, by kind. They are known before anybody starts who has to know them.
func (s *System) places() (map[string][]place, error) {
	all := map[string][]place{}
	for _, kind := range append(s.kinds(), "psp", "carrier") {
		n := map[string]int{Gateway: s.options.Gateways, "psp": 1, "carrier": 1}[kind]
		if n == 0 {
			n = s.options.Replicas
		}
		for range n {
			p, err := newPlace()
			if err != nil {
				return nil, err
			}
			all[kind] = append(all[kind], p)
		}
	}
	return all, nil
}

// startServices starts the outside parties and Holdfast's own processes.
func (s *System) startServices(ctx context.Context, places map[string][]place) error {
	if err := s.locate(places); err != nil {
		return err
	}
	for _, party := range []string{"psp", "carrier"} {
		if err := s.startParty(ctx, party, places[party][0]); err != nil {
			return err
		}
	}
	var own []*Part
	for _, kind := range s.kinds() {
		env, err := s.environment(kind, places)
		if err != nil {
			return err
		}
		for i, at := range places[kind] {
			p, err := s.process(kind, i+1, at, env)
			if err != nil {
				return err
			}
			if err := p.Launch(); err != nil {
				return err
			}
			own, s.parts = append(own, p), append(s.parts, p)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	for _, p := range own {
		if err := p.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// locate decides where clients and messages go, and the outside parties are.
func (s *System) locate(places map[string][]place) (err error) {
	front := places[s.entry()][0].api
	if s.options.Gateways > 1 {
		if s.balancer, err = newBalancer(places[Gateway]); err != nil {
			return err
		}
		front = s.balancer.addr
	}
	client, err := s.way("client", Gateway, front)
	if err != nil {
		return err
	}
	s.front = front
	s.Addresses.API, s.Addresses.Admin = "http://"+client, "http://"+places["order"][0].admin
	s.Addresses.PSP, s.Addresses.Carrier = "http://"+places["psp"][0].api, "http://"+places["carrier"][0].api
	s.Addresses.Kafka, s.Addresses.Temporal = s.engines.Kafka, s.engines.Temporal
	return nil
}

// startParty runs an outside party. Its ledger outlives it.
func (s *System) startParty(ctx context.Context, party string, at place) error {
	messages, err := s.way(party, Gateway, s.front)
	if err != nil {
		return err
	}
	logs, err := s.sub("log")
	if err != nil {
		return err
	}
	args := []string{"sim", party, "--quiet", "--data", s.sims(), "--addr", at.api,
		"--webhook-url", "http://" + messages + "/webhooks/" + party, "--webhook-secret", s.secrets.webhook}
	if party == "carrier" && s.options.DispatchAfter != "" {
		args = append(args, "--dispatch-after", s.options.DispatchAfter)
	}
	return s.run(ctx, party, engine.New(engine.Spec{Name: party, Log: filepath.Join(logs, party),
		Command: func() *exec.Cmd { return exec.Command(s.program("holdfast"), args...) },
		Ready:   func(ctx context.Context) error { return answers(ctx, "http://"+at.api+"/ledger") }}))
}

// process describes one of Holdfast's own. Of each kind the last has a clock that can be set, where any is to.
func (s *System) process(kind string, n int, at place, env []string) (*Part, error) {
	name, program, clock := fmt.Sprintf("%s-%d", kind, n), "holdfastd", ""
	last := s.options.Replicas
	if kind == Gateway {
		last = s.options.Gateways
	}
	if s.options.Clocks && n == last {
		program, clock = FaultClock, filepath.Join(s.dir, name+".clock")
		env = append(slices.Clone(env), engine.ClockVariable+"="+clock)
		if err := engine.SetClock(clock, 0); err != nil {
			return nil, err
		}
	}
	args := []string{s.program(program), "-target=" + s.target(kind), "-addr=" + at.api, "-internal-addr=" + at.internal, "-admin-addr=" + at.admin}
	if s.names != nil {
		args = resolving(s.resolver(), args)
	}
	return &Part{kind: kind, place: at, clock: clock, Process: engine.New(engine.Spec{Name: name, Log: filepath.Join(s.dir, "log", name),
		Command: func() *exec.Cmd {
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Env = env
			return cmd
		},
		Ready: func(ctx context.Context) error { return answers(ctx, "http://"+at.admin+"/readyz") }})}, nil
}

// environment is what the processes of a kind are told: the same for all, but for the ways to the others. What is
// not named here is as it is by default.
func (s *System) environment(kind string, places map[string][]place) ([]string, error) {
	all := map[string]string{
		"partitions":           fmt.Sprint(s.options.Partitions),
		"secrets.api_keys.dev": s.secrets.key, "secrets.internal_tokens": s.secrets.token,
		"secrets.webhooks.psp": s.secrets.webhook, "secrets.webhooks.carrier": s.secrets.webhook,
		"temporal.address": s.engines.Temporal,
	}
	ways := []func() error{
		func() error { return s.toEngines(kind, all) },
		func() error { return s.toParties(kind, all) },
		func() error { return s.toServices(kind, places, all) },
	}
	for _, add := range ways {
		if err := add(); err != nil {
			return nil, err
		}
	}
	maps.Copy(all, s.options.Settings)
	env := os.Environ()
	for name, value := range all {
		env = append(env, "HOLDFAST_"+strings.ToUpper(strings.ReplaceAll(name, ".", "__"))+"="+value)
	}
	return env, nil
}

// toEngines adds the ways to the database, the bus and Temporal.
func (s *System) toEngines(kind string, all map[string]string) (err error) {
	if kind == Gateway {
		return nil // it has no state
	}
	all["store.dsn"], all["bus.seeds"] = s.engines.Databases, s.engines.Kafka
	if s.seeds[kind] != "" {
		all["bus.seeds"] = s.seeds[kind]
	}
	if s.postgres != nil {
		addr, err := s.way(kind, "postgres", s.postgres.Addr())
		if err != nil {
			return err
		}
		all["store.dsn"] = engine.PostgresDSN("holdfast", addr, "holdfast_{service}")
	}
	if kind == Saga {
		all["temporal.address"], err = s.way(kind, "temporal", s.engines.Temporal)
	}
	return err
}

// toParties adds the ways to the outside parties.
func (s *System) toParties(kind string, all map[string]string) error {
	psp, carrier := s.Addresses.PSP, s.Addresses.Carrier
	for _, w := range []struct {
		kind, party string
		url         *string
	}{{"payment", "psp", &psp}, {"shipping", "carrier", &carrier}} {
		if kind != w.kind {
			continue
		}
		addr, err := s.way(kind, w.party, strings.TrimPrefix(*w.url, "http://"))
		if err != nil {
			return err
		}
		*w.url = "http://" + addr
	}
	all["payment.provider_url"], all["shipping.carrier_url"] = psp, carrier
	return nil
}

// toServices adds the ways to the services: a gateway's to all of them, and a service's to those that it calls.
func (s *System) toServices(kind string, places map[string][]place, all map[string]string) error {
	callees, setting := calls[kind], "services."
	port := func(p place) string { return p.internal }
	if kind == Gateway {
		callees, setting = Services, "gateway.upstreams."
		port = func(p place) string { return p.api }
	}
	for _, callee := range callees {
		var urls []string
		for _, at := range places[callee] {
			addr, err := s.way(kind, callee, port(at))
			if err != nil {
				return err
			}
			urls = append(urls, (&url.URL{Scheme: "http", Host: addr}).String())
		}
		if len(urls) > 0 { // it is in another process
			all[setting+callee] = strings.Join(urls, ",")
		}
	}
	return nil
}

// answers asks whether an address answers well.
func answers(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}
