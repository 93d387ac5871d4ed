// Command temporald is a Temporal server for one machine: the server of go.temporal.io/server on a SQLite
// file (or on PostgreSQL), and its web page, in one process that listens on loopback only.
//
// When it takes in work it prints one line on its standard output:
//
//	temporald ready addr=127.0.0.1:7233 ui=http://127.0.0.1:8233
//
// with ui= left out where there is none. Its log goes to standard error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// settings are what the flags say.
type settings struct {
	data       string
	addr       string
	uiAddr     string
	namespace  string
	postgres   string
	withParent bool
	level      slog.Level
}

func parse(args []string, errs io.Writer) (s settings, err error) {
	f := flag.NewFlagSet("temporald", flag.ContinueOnError)
	f.SetOutput(errs)
	f.StringVar(&s.data, "data", "", "`directory` of the SQLite file; made if missing")
	f.StringVar(&s.addr, "addr", "127.0.0.1:7233", "loopback `address` of the gRPC interface; port 0 takes any")
	f.StringVar(&s.uiAddr, "ui-addr", "", "loopback `address` of the web page; empty: none")
	f.StringVar(&s.namespace, "namespace", "default", "`name` of the namespace, made if missing")
	f.StringVar(&s.postgres, "postgres", "", "postgres://user:password@host:port/database to keep everything in, instead of --data; a second database with _visibility behind its name is used as well; both are made if missing")
	f.BoolVar(&s.withParent, "with-parent", false, "end when standard input ends, which is when the parent process does")
	f.TextVar(&s.level, "log-level", slog.LevelWarn, "least `level` that is logged: debug, info, warn or error")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	return s, s.validate(f.Args())
}

func (s settings) validate(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case (s.data == "") == (s.postgres == ""):
		return errors.New("name either --data or --postgres")
	case s.namespace == "":
		return errors.New("--namespace: give it a name")
	}
	if err := loopback("--addr", s.addr); err != nil {
		return err
	}
	if s.uiAddr == "" {
		return nil
	}
	return loopback("--ui-addr", s.uiAddr)
}

// loopback refuses what others could reach: there is neither TLS nor authentication here.
func loopback(name, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%s=%s: only a loopback address such as 127.0.0.1:7233, since it has no authentication", name, addr)
	}
	return nil
}

// run is the whole program. It returns its exit code.
func run(args []string, in io.Reader, out, errs io.Writer) int {
	s, err := parse(args, errs)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(errs, "temporald:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if s.withParent {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() {
			_, _ = io.Copy(io.Discard, in)
			cancel()
		}()
	}
	if err := serve(ctx, s, out, errs); err != nil {
		fmt.Fprintln(errs, "temporald:", err)
		return 1
	}
	return 0
}
