// Package upstream sends requests to one of several replicas of a service. A replica to which the connection fails,
// or which has stopped answering, is ejected until it answers again, and a request that it had is sent once more, to
// another one, where that cannot have two effects.
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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/platform/telemetry"
	"holdfast/resilience"
	"holdfast/shop"
)

const (
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

// budget bounds the requests that are sent twice though they may have arrived: a tenth of all, and as many at once as
// wait for one of two replicas when it stops at 120 requests a second.
var budget = resilience.BudgetConfig{Ratio: 0.1, Burst: 100}

// Upstream is an http.RoundTripper. The host of its requests is of no importance. Run has to run beside.
type Upstream struct {
	cfg      Config
	deps     shop.Deps
	next     http.RoundTripper
	replicas []*replica
	turn     atomic.Uint64
	budget   *resilience.Budget
	counts   *instruments
	began    time.Time
	ejecting sync.Mutex
}

// New makes an Upstream of at least one replica.
func New(cfg Config, deps shop.Deps, tel *telemetry.Telemetry) (*Upstream, error) {
	u := &Upstream{cfg: cfg, deps: deps, began: deps.Clock.Now(), next: &http.Transport{DialContext: dial(deps), MaxIdleConnsPerHost: idlePerReplica,
		DisableCompression: true, IdleConnTimeout: time.Minute}}
	for _, text := range cfg.URLs {
		at, err := url.Parse(text)
		if err != nil || at.Host == "" {
			return nil, fmt.Errorf("%s: %q is not an address as http://host:port", cfg.Name, text)
		}
		u.replicas = append(u.replicas, &replica{url: at, waiting: map[*attempt]bool{}})
	}
	if len(u.replicas) == 0 {
		return nil, fmt.Errorf("%s has no address", cfg.Name)
	}
	var err error
	if u.budget, err = resilience.NewBudget(budget, resilience.Options{}); err != nil {
		return nil, err
	}
	u.counts, err = newInstruments(tel.Meter, u)
	return u, err
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
	u.budget.Call()
	first := u.pick(nil)
	resp, err := u.send(req, first, body, body != nil && u.cfg.Repeatable(req))
	if err == nil || req.Context().Err() != nil {
		return resp, err
	}
	u.failed(req.Context(), first, err)
	if body == nil || !u.again(req, err) {
		return nil, err
	}
	u.counts.retries.Add(req.Context(), 1, u.counts.service)
	second := u.pick(first)
	resp, again := u.send(req, second, body, false)
	switch {
	case again != nil:
		if req.Context().Err() == nil && second != first {
			u.failed(req.Context(), second, again)
		}
		return nil, again
	case refuses(resp) && !unsent(err):
		// Of itself alone: the one that was asked first may have done it, so that nobody may be told that it was refused.
		_ = resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// refuses tells whether an answer is that of a replica that has not looked at the request.
func refuses(resp *http.Response) bool {
	return resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests
}

// unsent tells whether a request that failed so cannot have arrived.
func unsent(err error) bool {
	var dial errDial
	return errors.As(err, &dial)
}

// again tells whether a request that failed may be sent to another replica.
func (u *Upstream) again(req *http.Request, err error) bool {
	switch {
	case unsent(err), errors.Is(err, errSilent): // of which eject has asked the budget
		return true
	default:
		return u.cfg.Repeatable(req) && u.mayRepeat()
	}
}

// mayRepeat takes a token of the budget.
func (u *Upstream) mayRepeat() bool {
	if u.budget.TryRetry() {
		return true
	}
	u.counts.refused.Add(context.Background(), 1, u.counts.service)
	return false
}

// send makes one attempt. One that can be moved fails with errSilent where its replica is found to be silent before it
// has answered. Its context ends with that of req.
func (u *Upstream) send(req *http.Request, to *replica, body func() io.ReadCloser, movable bool) (*http.Response, error) {
	ctx, end := context.WithCancelCause(req.Context())
	r := req.Clone(ctx)
	r.URL.Scheme, r.URL.Host = to.url.Scheme, to.url.Host
	if body != nil {
		r.Body = body()
		if r.GetBody = nil; !u.cfg.Repeatable(req) {
			// net/http sends again by itself what it had not begun to send. What may be repeated, RoundTrip repeats.
			r.GetBody = func() (io.ReadCloser, error) { return body(), nil }
		}
	}
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		// It does so, too, with one that has such a key and no body to rewind, unless the name is written otherwise.
		if key, ok := r.Header[name]; ok {
			delete(r.Header, name)
			r.Header[strings.ToLower(name)] = key
		}
	}
	a := &attempt{movable: movable, end: end}
	to.begin(a)
	resp, err := u.next.RoundTrip(r)
	to.finish(a) // and is not moved after this
	if err == nil {
		to.heard.Store(int64(u.now()))
	}
	if errors.Is(context.Cause(ctx), errSilent) {
		if err == nil { // an answer that came too late
			_ = resp.Body.Close()
		}
		return nil, errSilent
	}
	if err != nil {
		end(nil)
		return nil, err
	}
	return resp, nil
}

// pick takes the replicas in turn and passes over those that are ejected, as long as there is another; not is the one
// that has just failed.
func (u *Upstream) pick(not *replica) *replica {
	n := uint64(len(u.replicas))
	from := u.turn.Add(1)
	for i := range n {
		if r := u.replicas[(from+i)%n]; r != not && !r.ejected() {
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
