package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"holdfast/platform/httpx"
	"holdfast/platform/policy"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

const (
	// checkTimeout is how long the readiness checks may take, all together.
	checkTimeout = 2 * time.Second
	// maxStuck is the longest list of stuck orders.
	maxStuck = 200
)

// Check is one thing that must be in order for the process to be ready.
type Check struct {
	Name  string // "order store"
	Check func(context.Context) error
}

// AdminParts are what the operator's handler stands on.
type AdminParts struct {
	Deps   shop.Deps
	Tel    *telemetry.Telemetry
	Orders shop.Orders // nil in a process without them
	// Ready are the checks of /readyz. An orderly stop begins with one of them failing.
	Ready []Check
	// Started returns nil once the process has started, migrations included; /startupz asks it.
	Started func() error
	// Metrics serves /metrics.
	Metrics http.Handler
	// Policies are those of the process; Reload takes them from the configuration again.
	Policies *policy.Set
	Reload   func() error
	// Verify checks the invariants over the stores, and Verified returns the last report, nil where there is none.
	// Both are JSON documents; who makes them is outside of the services. Without them there are no such pages.
	Verify   func(ctx context.Context, atRest bool) (json.RawMessage, error)
	Verified func() json.RawMessage
	// Keys, where there are any, are needed for everything under /admin.
	Keys httpx.Keys
}

// admin serves the operator.
type admin struct{ AdminParts }

// NewAdmin makes the handler of the admin listener. It must not be reachable from outside.
func NewAdmin(p AdminParts) (http.Handler, error) {
	api, err := httpx.New(httpx.Config{Title: "Holdfast operations", Version: Version, Keys: p.Keys}, httpx.Parts{Deps: p.Deps, Tel: p.Tel})
	if err != nil {
		return nil, err
	}
	a := &admin{p}
	api.Page(http.MethodGet, "/healthz", true, http.HandlerFunc(healthy))
	api.Page(http.MethodGet, "/readyz", true, http.HandlerFunc(a.ready))
	api.Page(http.MethodGet, "/startupz", true, http.HandlerFunc(a.started))
	api.Page(http.MethodGet, "/metrics", true, p.Metrics)
	open := len(p.Keys) == 0
	a.policies(api, open)
	if p.Orders != nil {
		a.orders(api, open)
	}
	if p.Verify != nil {
		a.verification(api, open)
	}
	return sameOrigin(api), nil
}

// orders adds what an operator does about orders, in the process that has them.
func (a *admin) orders(api *httpx.API, open bool) {
	httpx.Register(api, httpx.Op{
		ID: "listStuckOrders", Method: http.MethodGet, Path: "/admin/v1/stuck-orders", Tag: "order", Open: open,
		Summary: "List orders that need an operator or do not move",
	}, a.stuck)
	httpx.Register(api, httpx.Op{
		ID: "retryOrder", Method: http.MethodPost, Path: "/admin/v1/orders/{id}/retry", Tag: "order", Open: open,
		Summary:  "Drive a stuck order again",
		Problems: []shop.Kind{shop.NotFound, shop.Conflict},
	}, a.retry)
}

// sameOrigin refuses what a page from elsewhere makes an operator's browser send: on a loopback
// listener without keys that is the way in.
func sameOrigin(h http.Handler) http.Handler {
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		httpx.WriteError(w, r, shop.E(shop.Unauthenticated, "gateway.admin", "This comes from a page of another origin."))
	}))
	return guard.Handler(h)
}

// healthy says that the process answers. It looks at nothing else: restarting a process does not mend
// what it depends on.
func healthy(w http.ResponseWriter, _ *http.Request) {
	httpx.WriteJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (a *admin) started(w http.ResponseWriter, r *http.Request) {
	if err := a.Started(); err != nil {
		httpx.WriteError(w, r, shop.Wrap(shop.Unavailable, "gateway.startupz", "The process is still starting.", err))
		return
	}
	httpx.WriteJSON(w, http.StatusOK, map[string]string{"status": "started"})
}

// ready runs the checks side by side and names those that fail. Why they fail is for the log: it may
// tell of the inside.
func (a *admin) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	failed := make([]error, len(a.Ready))
	var wg sync.WaitGroup
	for i, c := range a.Ready {
		wg.Go(func() { failed[i] = c.Check(ctx) })
	}
	wg.Wait()
	err := shop.E(shop.Unavailable, "gateway.readyz", "Not ready; errors says what is not.")
	for i, c := range a.Ready {
		if failed[i] != nil {
			err.Fields = append(err.Fields, shop.Field{Pointer: "check/" + c.Name, Detail: "failed"})
			a.Deps.Log.WarnContext(r.Context(), "readiness check failed", "check", c.Name, "err", failed[i])
		}
	}
	if len(err.Fields) > 0 {
		httpx.WriteError(w, r, err)
		return
	}
	httpx.WriteJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

type stuckInput struct {
	Limit int `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"The most that the list holds"`
}

type stuckOutput struct{ Body StuckOrders }

// StuckOrders is the body of the list of stuck orders.
type StuckOrders struct {
	Items []shop.Order `json:"items"`
}

func (a *admin) stuck(ctx context.Context, in *stuckInput) (*stuckOutput, error) {
	orders, err := a.Orders.Stuck(ctx, min(in.Limit, maxStuck))
	if err != nil {
		return nil, err
	}
	return &stuckOutput{StuckOrders{orders}}, nil
}

type retryInput struct {
	ID string `path:"id" doc:"The order's id"`
}

type retryOutput struct {
	ETag string `header:"ETag" doc:"The version, in quotes"`
	Body shop.Order
}

func (a *admin) retry(ctx context.Context, in *retryInput) (*retryOutput, error) {
	id, err := httpx.OrderID(in.ID)
	if err != nil {
		return nil, err
	}
	ctx = httpx.WithOrder(ctx, id)
	o, err := a.Orders.Retry(ctx, id)
	if err != nil {
		return nil, err
	}
	return &retryOutput{httpx.ETag(o.Version), o}, nil
}
