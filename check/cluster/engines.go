package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"holdfast/check/engine"
)

func (s *System) ownTemporal() bool {
	return s.options.Temporal != NoTemporal && s.engines.Temporal == ""
}

// kinds are those of Holdfast's own processes, in the order of starting.
func (s *System) kinds() []string {
	if s.options.Together {
		return []string{"order"}
	}
	return append(s.stateful(), Gateway)
}

// target is what a process of a kind runs.
func (s *System) target(kind string) string {
	if s.options.Together {
		return strings.Join(s.stateful(), ",")
	}
	return kind
}

// entry is the kind of those that clients speak to.
func (s *System) entry() string {
	if s.options.Together {
		return "order"
	}
	return Gateway
}

// stateful are those with a database, which speak on the bus.
func (s *System) stateful() []string {
	all := append([]string{}, Services...)
	if s.options.Temporal != NoTemporal || s.engines.Temporal != "" {
		all = append(all, Saga)
	}
	return all
}

// startEngines starts those that nobody else runs.
func (s *System) startEngines(ctx context.Context) error {
	var starts []func() error
	if s.engines.Databases == "" {
		starts = append(starts, func() error { return s.startPostgres(ctx) })
	}
	if s.engines.Kafka == "" {
		starts = append(starts, func() error { return s.startKafka(ctx) })
	}
	if s.ownTemporal() && s.options.Temporal != OnPostgres {
		starts = append(starts, func() error { return s.startTemporal(ctx) })
	}
	if err := together(starts...); err != nil {
		return err
	}
	if s.ownTemporal() && s.options.Temporal == OnPostgres {
		return s.startTemporal(ctx)
	}
	return nil
}

func (s *System) startPostgres(ctx context.Context) error {
	dir, err := s.sub("postgres")
	if err != nil {
		return err
	}
	addr, err := engine.Address()
	if err != nil {
		return err
	}
	if s.postgres, err = engine.NewPostgres(engine.PostgresConfig{Dir: dir, Addr: addr}); err != nil {
		return err
	}
	if err := s.run(ctx, "postgres", s.postgres.Process); err != nil {
		return err
	}
	s.engines.Databases, err = s.postgres.CreateDatabases(ctx, s.stateful()...)
	return err
}

// run adds a part and starts it.
func (s *System) run(ctx context.Context, kind string, p *engine.Process) error {
	s.adding.Lock()
	s.parts = append(s.parts, &Part{Process: p, kind: kind})
	s.adding.Unlock()
	return p.Start(ctx)
}

// startKafka starts a broker. It sends whoever comes by a link back by that link, and so has a listener for each.
func (s *System) startKafka(ctx context.Context) error {
	dir, err := s.sub("kafka")
	if err != nil {
		return err
	}
	cfg := engine.KafkaConfig{Dir: dir}
	if cfg.Addr, err = engine.Address(); err != nil {
		return err
	}
	s.engines.Kafka = cfg.Addr
	if s.options.Links != nil {
		if cfg.Listeners, err = s.listeners(); err != nil {
			return err
		}
	}
	k, err := engine.NewKafka(cfg)
	if err != nil {
		return err
	}
	return s.run(ctx, "kafka", k.Process)
}

// listeners are those of the services; their addresses in s.seeds are those of the links, where there are some.
func (s *System) listeners() (all []engine.KafkaListener, err error) {
	for _, kind := range s.stateful() {
		l := engine.KafkaListener{Name: strings.ToUpper(kind), Protocol: "PLAINTEXT"}
		if l.Addr, err = engine.Address(); err != nil {
			return nil, err
		}
		if l.Advertised, err = s.way(kind, "kafka", l.Addr); err != nil {
			return nil, err
		}
		s.seeds[kind] = l.Advertised
		all = append(all, l)
	}
	return all, nil
}

func (s *System) startTemporal(ctx context.Context) (err error) {
	dir, err := s.sub("temporal")
	if err != nil {
		return err
	}
	args := []string{"--namespace", "default", "--data", filepath.Join(dir, "data")}
	switch s.options.Temporal {
	case OnPostgres:
		if s.postgres == nil {
			return fmt.Errorf("Temporal is to be kept in PostgreSQL, and that is somebody else's")
		}
		args = []string{"--namespace", "default", "--postgres", s.postgres.DSN("temporal")}
	case OnSQLite:
	default:
		return fmt.Errorf("the store of Temporal is %q; it may be %s or %s", s.options.Temporal, OnSQLite, OnPostgres)
	}
	addr, err := engine.Address()
	if err != nil {
		return err
	}
	s.engines.Temporal = addr
	return s.run(ctx, "temporal", engine.NewTemporald(s.program("temporald"), addr, filepath.Join(dir, "log"), args...))
}
