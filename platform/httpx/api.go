package httpx

import (
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"holdfast/platform/telemetry"
	"holdfast/resilience"
	"holdfast/shop"
)

const (
	// DefaultMaxBody is the largest body of a request.
	DefaultMaxBody = 256 << 10
	// DefaultTimeout is how long a request may take, and the most a Request-Timeout can ask for.
	DefaultTimeout = 60 * time.Second
)

// Config is what an API needs to be told.
type Config struct {
	Title       string
	Version     string
	Description string
	// Keys are the API keys. Without any, every route that is not open answers 401.
	Keys Keys
	// WebhookSecrets are the secrets of the outside parties by name ("psp", "carrier"), each the
	// current one and, while it is being changed, another.
	WebhookSecrets map[string][]string
	// MaxBody and Timeout are the defaults above where they are 0.
	MaxBody int64
	Timeout time.Duration
}

// Parts are what an API works with.
type Parts struct {
	Deps shop.Deps
	Tel  *telemetry.Telemetry
	// Admit decides whether a request is let in; release is called with its status when it is over. Nil
	// lets all in.
	Admit func(route Route, r *http.Request) (release func(status int), err error)
	// Limit decides whether a caller may make another request now; what it says of the rest goes to the
	// caller in headers where it may not. Nil sets no limit.
	Limit func(caller shop.Caller) resilience.Decision
}

// API is a set of operations and pages, and the handler that serves them.
type API struct {
	cfg      Config
	deps     shop.Deps
	tracer   trace.Tracer
	duration metric.Float64Histogram
	admit    func(Route, *http.Request) (func(int), error)
	limit    func(shop.Caller) resilience.Decision
	mux      *http.ServeMux
	huma     *humaAPI
	routes   []Route
	notFound *route
	checkers *checkers
	buffers  *buffers
	webhooks map[string]*Verifier
	bodies   []*huma.Schema // the roots of request bodies
}

// New makes an API without routes.
func New(cfg Config, parts Parts) (*API, error) {
	if cfg.MaxBody == 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	duration, err := parts.Tel.Meter.Float64Histogram("http.server.request.duration",
		metric.WithUnit("s"), metric.WithDescription("How long requests took, by route and status."),
		metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60))
	if err != nil {
		return nil, shop.Wrap(shop.Internal, "httpx.New", "the metric could not be made", err)
	}
	a := &API{
		cfg: cfg, deps: parts.Deps, tracer: parts.Tel.Tracer, duration: duration, admit: parts.Admit, limit: parts.Limit,
		mux: http.NewServeMux(), checkers: newCheckers(), buffers: newBuffers(), webhooks: map[string]*Verifier{},
	}
	if a.admit == nil {
		a.admit = func(Route, *http.Request) (func(int), error) { return func(int) {}, nil }
	}
	if a.limit == nil {
		a.limit = func(shop.Caller) resilience.Decision { return resilience.Decision{Allowed: true} }
	}
	for name, secrets := range cfg.WebhookSecrets {
		if a.webhooks[name], err = NewVerifier(parts.Deps.Clock, secrets...); err != nil {
			return nil, err
		}
	}
	a.huma = newHuma(a)
	a.notFound = a.newRoute(Route{Method: "_OTHER", Path: "_unmatched", Class: ClassPage, Open: true, Timeout: cfg.Timeout})
	a.notFound.handle = a.unmatched
	a.mux.Handle("/", a.notFound)
	return a, nil
}

// Page adds a route that stands outside the document: health, metrics, documentation. A page is open
// unless keyed by the API's keys is asked for.
func (a *API) Page(method, pattern string, open bool, h http.Handler) {
	rt := a.newRoute(Route{Method: method, Path: pattern, Class: ClassPage, Open: open, Timeout: a.cfg.Timeout})
	rt.handle = func(c *call, r *http.Request) error {
		h.ServeHTTP(c, r)
		return nil
	}
	a.add(rt)
}

// Forward adds a route that another process serves: it is let in, traced, timed and counted here, and checked
// there, the caller's key included.
func (a *API) Forward(r Route, h http.Handler) {
	r.Open, r.Keyed = true, false
	rt := a.newRoute(r)
	rt.handle = func(c *call, r *http.Request) error {
		h.ServeHTTP(c, r)
		return nil
	}
	a.add(rt)
}

func (a *API) add(rt *route) {
	a.mux.Handle(rt.Method+" "+rt.Path, rt)
	a.routes = append(a.routes, rt.Route)
}

// Routes returns the route table in the order of path and method.
func (a *API) Routes() []Route {
	routes := slices.Clone(a.routes)
	slices.SortFunc(routes, func(x, y Route) int {
		if n := compare(x.Path, y.Path); n != 0 {
			return n
		}
		return compare(x.Method, y.Method)
	})
	return routes
}

// ServeHTTP serves the routes. What the mux would answer in plain text, or redirect with the path
// repeated, is a problem like any other.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !clean(r.URL.Path) {
		a.notFound.ServeHTTP(w, r)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// clean tells whether the mux would take a path as it is.
func clean(p string) bool {
	return p == "/" || strings.HasPrefix(p, "/") && path.Clean(p) == strings.TrimSuffix(p, "/")
}

// unmatched answers what no route matches: 405 where another method would, 404 otherwise.
func (a *API) unmatched(c *call, r *http.Request) error {
	if !clean(r.URL.Path) {
		return shop.E(shop.NotFound, "httpx", "There is nothing at this path.")
	}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		probe := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := a.mux.Handler(probe); pattern != "" && pattern != "/" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		return shop.E(shop.NotFound, "httpx", "There is nothing at this path.")
	}
	c.Header().Set("Allow", strings.Join(allowed, ", "))
	return &httpError{methodNotAllowed, "Use " + strings.Join(allowed, " or ") + " here."}
}

// WriteError writes err as a problem, for handlers of pages.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	if c := callOf(r.Context()); c != nil {
		c.refuse(err)
		return
	}
	p, _ := explain(err)
	w.Header().Set("Content-Type", ProblemType)
	w.WriteHeader(p.Status)
	_ = encode(w, p) // a caller that is gone cannot be told
}

// WriteJSON writes v with a status, for handlers of pages.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	w.Header()["Content-Type"] = jsonTypeValue
	w.WriteHeader(status)
	_ = encode(w, v) // a caller that is gone cannot be told
}
