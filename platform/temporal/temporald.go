package temporal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"holdfast/shop"
)

// ServerConfig describes a Temporal that runs as our child: temporald, a Temporal server on SQLite. It has
// neither TLS nor authentication, so it listens on loopback only.
type ServerConfig struct {
	Run    bool   `koanf:"run"`
	Binary string `koanf:"binary"` // the program; by default beside ours, or in PATH
	UI     bool   `koanf:"ui"`     // with its web page
}

const (
	serverName = "temporald"
	// startTimeout is for a server that was killed and has to mend its files first.
	startTimeout = time.Minute
	// ServerStop is how long a server may take to stop; a little before that it is killed.
	ServerStop = 25 * time.Second
	// A server that ends by itself is started again, after a wait that grows while it keeps ending.
	restartMin = 500 * time.Millisecond
	restartMax = 30 * time.Second
	// steady is how long it must have run for the wait to begin anew.
	steady = time.Minute
)

// Server runs temporald.
type Server struct {
	binary, data, addr, uiAddr, namespace string
	deps                                  shop.Deps
	ready                                 atomic.Bool
}

// NewServer finds the program, and a port for it that stays the same when it is started again. What it
// keeps is in the directory data.
func NewServer(ctx context.Context, cfg ServerConfig, namespace, data string, deps shop.Deps) (*Server, error) {
	binary, err := find(cfg.Binary)
	if err != nil {
		return nil, err
	}
	s := &Server{binary: binary, data: data, namespace: namespace, deps: deps}
	if s.addr, err = freePort(ctx, deps); err != nil {
		return nil, err
	}
	if cfg.UI {
		s.uiAddr, err = freePort(ctx, deps)
	}
	return s, err
}

// Addr is where it serves gRPC.
func (s *Server) Addr() string { return s.addr }

// UI is the address of its web page, or "".
func (s *Server) UI() string {
	if s.uiAddr == "" {
		return ""
	}
	return "http://" + s.uiAddr
}

// Ready returns nil once it serves.
func (s *Server) Ready(context.Context) error {
	if !s.ready.Load() {
		return errors.New("temporald is starting")
	}
	return nil
}

// find returns the path of the program.
func find(named string) (string, error) {
	missing := func(err error) error {
		return shop.Wrap(shop.Unavailable, "temporal.find", "There is no temporald, the Temporal of this machine: build it with \"make temporald\", name it with temporald.binary, or use a cluster with --temporal-address", err)
	}
	if named != "" {
		path, err := exec.LookPath(named)
		if err != nil {
			return "", missing(err)
		}
		return path, nil
	}
	if self, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), serverName)); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(serverName)
	if err != nil {
		return "", missing(err)
	}
	return path, nil
}

// The ports that temporald is given are below those that the kernel gives, by default, to outgoing connections and to
// whoever does not care, since it takes them only once it has started. Those from 29,000 on are for its inner parts.
const (
	firstPort = 26_000
	ports     = 3_000
	portTries = 100
)

// freePort returns a loopback address that is free now. It is not drawn from deps, which may have the same seed in
// several programs at once.
func freePort(ctx context.Context, deps shop.Deps) (string, error) {
	var err error
	for range portTries {
		var l net.Listener
		if l, err = deps.Net.Listen(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(firstPort+rand.IntN(ports))); err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", fmt.Errorf("find a port for temporald: %w", err)
}

// Run runs the server until ctx ends, and starts it again where it ends by itself. The first start must
// succeed.
func (s *Server) Run(ctx context.Context) error {
	wait := restartMin
	for first := true; ctx.Err() == nil; first = false {
		began := s.deps.Clock.Now()
		err := s.once(ctx)
		s.ready.Store(false)
		if ctx.Err() != nil {
			return nil
		}
		if first && s.deps.Clock.Now().Sub(began) < startTimeout && errors.Is(err, errNotReady) {
			return shop.Wrap(shop.Unavailable, "temporal.Server", "temporald did not start; what it said is above, its data is in "+s.data, err)
		}
		if s.deps.Clock.Now().Sub(began) >= steady {
			wait = restartMin
		}
		s.deps.Log.ErrorContext(ctx, "temporald ended and is started again", "in", wait, "err", err)
		if s.deps.Clock.Sleep(ctx, wait) != nil {
			return nil
		}
		wait = min(2*wait, restartMax)
	}
	return nil
}

var errNotReady = errors.New("it ended before it was ready")

// once runs the server until it or ctx ends.
func (s *Server) once(ctx context.Context) error {
	args := []string{"--data", s.data, "--addr", s.addr, "--namespace", s.namespace, "--with-parent"}
	if s.uiAddr != "" {
		args = append(args, "--ui-addr", s.uiAddr)
	}
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = ServerStop - 2*time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for us: it is stopped after what uses it
	stdin, err := cmd.StdinPipe()                         // kept open: it ends when we do, however that happens
	if err != nil {
		return err
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: %w", errNotReady, err)
	}
	was := s.listen(stdout)
	err = cmd.Wait()
	if !was {
		return fmt.Errorf("%w: %w", errNotReady, err)
	}
	if err == nil {
		err = errors.New("it ended by itself")
	}
	return err
}

// listen reads what the server says until it ends, and tells whether it ever was ready.
func (s *Server) listen(stdout io.Reader) (was bool) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), serverName+" ready ") {
			was = true
			s.ready.Store(true)
		}
	}
	_, _ = io.Copy(io.Discard, stdout) // after a line that was too long; its end is the server's
	return was
}
