package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"holdfast/platform/run"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

// The exit codes of the daemon; those of the command holdfast that have the same meaning have the same number.
const (
	ExitOK      = 0
	ExitFailure = 1
	ExitUsage   = 2 // a setting cannot work
	ExitUnfit   = 4 // what it needs is not there: a database, the bus, a port
)

const daemonUsage = `holdfastd runs modules of Holdfast on a Kafka, PostgreSQL databases, and outside parties.

  holdfastd -target=order,payment -config /etc/holdfast.yaml

Every setting can be given in the file, by environment (HOLDFAST_STORE__DSN sets store.dsn), and by
-set store.dsn=…; flags win over the environment, and that over the file. docs/operations.md has them all.

`

// Program is what a main brings along for Daemon.
type Program struct {
	Stderr io.Writer
	// Verifier makes what checks the invariants over the stores. It may be nil.
	Verifier func(*Host) (Verifier, error)
	// Deps makes the ways in which the program touches the world; nil: the real ones.
	Deps func(*slog.Logger) shop.Deps
}

// Daemon is the program holdfastd. It returns its exit code.
func Daemon(ctx context.Context, args, environ []string, p Program) int {
	stderr := p.Stderr
	if p.Deps == nil {
		p.Deps = run.Real
	}
	file, flags, err := daemonFlags(args, environ, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return ExitOK
	}
	if err != nil {
		return ExitUsage
	}
	boot := run.Real(slog.New(slog.DiscardHandler))
	cfg, err := LoadAlone(boot.Files, file, environ, flags)
	if err != nil {
		complain(stderr, err)
		return ExitUsage
	}
	level, err := cfg.Level()
	if err != nil {
		complain(stderr, err)
		return ExitUsage
	}
	log := slog.New(telemetry.LogHandler(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level})))
	err = Run(ctx, cfg, p.Deps(log), Embedded{Verifier: p.Verifier}, func(r Ready) {
		log.Info("ready", "target", cfg.Target, "instance", cfg.Instance, "took", r.Took, "api", r.Addresses.API, "internal", r.Internal, "admin", r.Addresses.Admin)
		go ReloadOnHangup(ctx, r.Reload, log)
	})
	switch {
	case err == nil:
		return ExitOK
	case shop.KindOf(err) == shop.Unavailable:
		complain(stderr, err)
		return ExitUnfit
	case shop.KindOf(err) == shop.Invalid:
		complain(stderr, err)
		return ExitUsage
	default:
		complain(stderr, err)
		return ExitFailure
	}
}

// LoadAlone is Load for a process that brings nothing along: what it needs has to be configured.
func LoadAlone(files shop.Files, file string, environ []string, flags map[string]any) (Config, error) {
	cfg, err := Load(files, file, environ, flags)
	if err != nil {
		return cfg, err
	}
	if err := cfg.Secrets.Load(files); err != nil {
		return cfg, err
	}
	return cfg, cfg.ValidateAlone()
}

// daemonFlags reads the command line into settings.
func daemonFlags(args, environ []string, stderr io.Writer) (file string, settings map[string]any, err error) {
	f := flag.NewFlagSet("holdfastd", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprint(stderr, daemonUsage)
		f.PrintDefaults()
	}
	f.StringVar(&file, "config", variable(environ, "HOLDFAST_CONFIG"), "a YAML `file` with settings ($HOLDFAST_CONFIG)")
	settings = map[string]any{}
	for name, s := range map[string]struct{ key, usage string }{
		"target":        {"target", "the `modules` of this process: some of " + names() + ", or " + All},
		"addr":          {"addr", "the `address` of the public API (default 127.0.0.1:8080)"},
		"internal-addr": {"internal_addr", "the `address` for calls from other services (default 127.0.0.1:8082)"},
		"admin-addr":    {"admin_addr", "the `address` of health, metrics and the operator's commands (default 127.0.0.1:8081)"},
		"log-level":     {"log_level", "debug, info, warn or error (default info)"},
	} {
		f.Func(name, s.usage, func(value string) error {
			settings[s.key] = value
			return nil
		})
	}
	f.Func("set", "any other `setting=value`; may be given many times", func(pair string) error {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return errors.New("give it as setting=value")
		}
		settings[key] = value
		return nil
	})
	if err := f.Parse(args); err != nil {
		return "", nil, err
	}
	if f.NArg() > 0 {
		err := fmt.Errorf("%q is not a flag", f.Arg(0))
		complain(stderr, err)
		return "", nil, err
	}
	return file, settings, nil
}

func variable(environ []string, name string) string {
	i := slices.IndexFunc(environ, func(pair string) bool { return strings.HasPrefix(pair, name+"=") })
	if i < 0 {
		return ""
	}
	return environ[i][len(name)+1:]
}

// complain says what is wrong, and what to do about it, in a line that names the setting.
func complain(w io.Writer, err error) {
	var e *shop.Error
	if errors.As(err, &e) {
		fmt.Fprintf(w, "holdfastd: %s%s\n", strings.TrimSuffix(err.Error(), e.Error()), e.Msg)
		if e.Err != nil {
			fmt.Fprintf(w, "  because: %v\n", e.Err)
		}
		return
	}
	fmt.Fprintf(w, "holdfastd: %v\n", err)
}

// ReloadOnHangup takes the policies from the configuration again each time that the process gets a SIGHUP.
func ReloadOnHangup(ctx context.Context, reload func() error, log *slog.Logger) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			if err := reload(); err != nil {
				log.Error("the policies were not configured again", "err", err)
			}
		}
	}
}
