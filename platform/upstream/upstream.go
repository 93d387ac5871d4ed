// Package upstream sends requests to one of several replicas of a service. Their health is learnt from the
// requests themselves: a replica to which the connection fails is left out for a moment, and the request is
// sent once more, to another one, where that cannot have two effects.
package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"holdfast/shop"
)

const (
	// outFor is how long a replica is left out after a failed connection.
	outFor = 2 * time.Second
	// maxReplay is the largest body that is kept to be sent again; a request with a larger one is sent once.
	maxReplay = 1 << 20
	// idlePerReplica keeps connections for that many requests at once.
	idlePerReplica = 256
	// dialTimeout is how long a replica may take to accept a connection.
	dialTimeout = time.Second
)

// Config says where the replicas are.
type Config struct {
	Name string // of the service, for messages
	URLs []string
	// Repeatable tells whether a request may be sent again that may have had its effect.
	Repeatable func(*http.Request) bool
}

// Upstream is an http.RoundTripper. The host of its requests is of no importance.
type Upstream struct {
	cfg      Config
	deps     shop.Deps
	next     http.RoundTripper
	replicas []*replica
	turn     atomic.Uint64
}

// replica is one process of the service.
type replica struct {
	url *url.URL
	out atomic.Int64 // until when it is left out, in nanoseconds since 1970
}

// New makes an Upstream of at least one replica.
func New(cfg Config, deps shop.Deps) (*Upstream, error) {
	u := &Upstream{cfg: cfg, deps: deps, next: &http.Transport{DialContext: dial(deps), MaxIdleConnsPerHost: idlePerReplica, DisableCompression: true,
		IdleConnTimeout: time.Minute}}
	for _, text := range cfg.URLs {
		at, err := url.Parse(text)
		if err != nil || at.Host == "" {
			return nil, fmt.Errorf("%s: %q is not an address as http://host:port", cfg.Name, text)
		}
		u.replicas = append(u.replicas, &replica{url: at})
	}
	if len(u.replicas) == 0 {
		return nil, fmt.Errorf("%s has no address", cfg.Name)
	}
	return u, nil
}

// errDial marks that no connection came about, so that nothing was sent.
type errDial struct{ error }

func (e errDial) Unwrap() error { return e.error }

func dial(deps shop.Deps) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		c, err := deps.Net.DialContext(ctx, network, addr)
		if err != nil {
			return nil, errDial{err}
		}
		return c, nil
	}
}

// RoundTrip implements http.RoundTripper.
func (u *Upstream) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := replayable(req)
	if err != nil {
		return nil, err
	}
	first := u.pick(nil)
	resp, err := u.send(req, first, body)
	if err == nil || req.Context().Err() != nil {
		return resp, err
	}
	u.leaveOut(req.Context(), first, err)
	var unsent errDial
	if body == nil || !errors.As(err, &unsent) && !u.cfg.Repeatable(req) {
		return nil, err
	}
	second := u.pick(first)
	if resp, err = u.send(req, second, body); err != nil && req.Context().Err() == nil && second != first {
		u.leaveOut(req.Context(), second, err)
	}
	return resp, err
}

func (u *Upstream) send(req *http.Request, to *replica, body func() io.ReadCloser) (*http.Response, error) {
	r := req.Clone(req.Context())
	r.URL.Scheme, r.URL.Host = to.url.Scheme, to.url.Host
	if body != nil {
		r.Body = body()
		if r.GetBody = nil; !u.cfg.Repeatable(req) {
			// net/http sends again by itself what it had not begun to send. What may be repeated, RoundTrip repeats.
			r.GetBody = func() (io.ReadCloser, error) { return body(), nil }
		}
	}
	return u.next.RoundTrip(r)
}

// pick takes the replicas in turn and passes over those that are left out, unless all are; not is the one
// that has just failed.
func (u *Upstream) pick(not *replica) *replica {
	n, now := uint64(len(u.replicas)), u.deps.Clock.Now().UnixNano()
	from := u.turn.Add(1)
	for i := range n {
		if r := u.replicas[(from+i)%n]; r != not && r.out.Load() <= now {
			return r
		}
	}
	for i := range n {
		if r := u.replicas[(from+i)%n]; r != not {
			return r
		}
	}
	return not
}

func (u *Upstream) leaveOut(ctx context.Context, r *replica, err error) {
	now := u.deps.Clock.Now()
	if r.out.Swap(now.Add(outFor).UnixNano()) <= now.UnixNano() {
		u.deps.Log.WarnContext(ctx, "a replica does not answer and is left out for a moment", "service", u.cfg.Name, "replica", r.url.Host, "err", err)
	}
}

// replayable returns what makes the request's body anew, or nil where it is too large for that.
func replayable(req *http.Request) (func() io.ReadCloser, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return func() io.ReadCloser { return http.NoBody }, nil
	}
	if req.ContentLength > maxReplay {
		return nil, nil
	}
	b, err := io.ReadAll(io.LimitReader(req.Body, maxReplay+1))
	if err != nil {
		return nil, fmt.Errorf("read the request's body: %w", err)
	}
	if len(b) > maxReplay { // it did not say how long it is
		req.Body = &rest{io.MultiReader(bytes.NewReader(b), req.Body), req.Body}
		return nil, nil
	}
	if err := req.Body.Close(); err != nil {
		return nil, fmt.Errorf("close the request's body: %w", err)
	}
	return func() io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }, nil
}

// rest is a body of which the beginning has been read.
type rest struct {
	io.Reader
	io.Closer
}

// Idempotent tells whether a request may be repeated by its method (RFC 9110, section 9.2.2) or by a key of
// its own: an Idempotency-Key, or the id of a webhook's message.
func Idempotent(req *http.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodDelete:
		return true
	case http.MethodPut:
		return req.Header.Get("If-Match") == "" // its own success would refuse the repetition
	default:
		return req.Header.Get("Idempotency-Key") != "" || req.Header.Get("Webhook-Id") != ""
	}
}

// Any is for services all of whose operations may be repeated.
func Any(*http.Request) bool { return true }
