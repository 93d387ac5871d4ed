package httpx

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"holdfast/shop"
)

// ErrAddrInUse is in the chain of the error that Run returns where the address is taken.
var ErrAddrInUse = errors.New("address in use")

const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 20 * time.Second
	// writeTimeout leaves room for the longest wait; streams set their own with each write.
	writeTimeout   = 90 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10
	// DefaultDrain is how long requests may go on once a server stops.
	DefaultDrain = 10 * time.Second
)

// ServerConfig says where a server listens.
type ServerConfig struct {
	Name  string // "api", for messages
	Addr  string // host:port; port 0 takes a free one
	Flag  string // the flag that changes Addr, for messages
	Drain time.Duration
}

// Server listens and serves one handler.
type Server struct {
	cfg   ServerConfig
	deps  shop.Deps
	srv   *http.Server
	stop  context.CancelFunc
	ready chan struct{} // closed once addr is set
	addr  string

	listener net.Listener
}

// NewServer makes a Server; Run starts it.
func NewServer(cfg ServerConfig, h http.Handler, deps shop.Deps) (*Server, error) {
	if _, _, err := net.SplitHostPort(cfg.Addr); err != nil {
		return nil, shop.Wrap(shop.Invalid, cfg.Name+".listen",
			fmt.Sprintf("%q is not an address: give host:port with %s", cfg.Addr, cfg.Flag), err)
	}
	if cfg.Drain == 0 {
		cfg.Drain = DefaultDrain
	}
	stopping, stop := context.WithCancel(context.Background())
	s := &Server{cfg: cfg, deps: deps, stop: stop, ready: make(chan struct{})}
	s.srv = &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		BaseContext: func(net.Listener) context.Context { return withStop(context.Background(), stopping) },
		ErrorLog:    slog.NewLogLogger(deps.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Listen takes the address, for those who must know it before Run. Connections wait until then.
func (s *Server) Listen(ctx context.Context) error {
	l, err := s.deps.Net.Listen(ctx, "tcp", s.cfg.Addr)
	if err != nil {
		return s.listenError(err)
	}
	s.listener, s.addr = l, l.Addr().String()
	close(s.ready)
	s.deps.Log.InfoContext(ctx, "listening", "server", s.cfg.Name, "addr", s.addr)
	return nil
}

// Handle sets the handler, for servers that were made without one. It must not be called after Run.
func (s *Server) Handle(h http.Handler) { s.srv.Handler = h }

// Close gives the address back where Run was never called.
func (s *Server) Close() error {
	if s.listener == nil {
		return nil
	}
	return s.listener.Close()
}

// Run listens, unless Listen did, and serves until ctx ends, then lets requests finish for as long as
// Drain says. Streams and held answers end at once. A second Run is an error.
func (s *Server) Run(ctx context.Context) error {
	defer s.stop()
	if s.listener == nil {
		if err := s.Listen(ctx); err != nil {
			return err
		}
	}
	served := make(chan error, 1)
	go func() { served <- s.srv.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", s.cfg.Name, err)
	case <-ctx.Done():
	}
	s.stop()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Drain)
	defer cancel()
	if err := s.srv.Shutdown(drain); err != nil {
		s.deps.Log.WarnContext(ctx, "requests cut off at shutdown", "server", s.cfg.Name, "after", s.cfg.Drain)
		if err := s.srv.Close(); err != nil {
			s.deps.Log.WarnContext(ctx, "server closed uncleanly", "server", s.cfg.Name, "err", err)
		}
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		s.deps.Log.WarnContext(ctx, "server ended unexpectedly", "server", s.cfg.Name, "err", err)
	}
	return nil
}

// listenError says what to do about an address that cannot be had.
func (s *Server) listenError(err error) error {
	op := s.cfg.Name + ".listen"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		msg := fmt.Sprintf("%s is in use by another program; stop that program or choose another address with %s", s.cfg.Addr, s.cfg.Flag)
		return shop.Wrap(shop.Unavailable, op, msg, errors.Join(ErrAddrInUse, err))
	case errors.Is(err, fs.ErrPermission):
		msg := fmt.Sprintf("listening on %s is not permitted; choose a port above 1023 with %s", s.cfg.Addr, s.cfg.Flag)
		return shop.Wrap(shop.Unavailable, op, msg, err)
	default:
		msg := fmt.Sprintf("listening on %s is not possible; choose another address with %s", s.cfg.Addr, s.cfg.Flag)
		return shop.Wrap(shop.Unavailable, op, msg, err)
	}
}

// Ready returns nil once the server listens, and ctx's error if that comes first.
func (s *Server) Ready(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Addr returns where the server listens, and "" before it does.
func (s *Server) Addr() string {
	select {
	case <-s.ready:
		return s.addr
	default:
		return ""
	}
}
