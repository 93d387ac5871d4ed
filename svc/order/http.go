package order

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"holdfast/platform/httpx"
	"holdfast/resilience"
	"holdfast/shop"
)

// LastKnownCopy is what reads by id fall back to.
const LastKnownCopy = "last known copy"

// Edge is what the operations on orders have beside the service; all of it may be nil.
type Edge struct {
	// Watch is told of reads by id that are answered from a copy.
	Watch resilience.Observer
	// Admit may refuse an order before it is read; see Service.Admit.
	Admit func(shop.Request) error
}

// RegisterHTTP adds the operations on orders to the public API.
func RegisterHTTP(api *httpx.API, svc shop.Orders, edge Edge) error {
	describe(api)
	h := &handlers{svc: svc}
	var err error
	h.stale, err = resilience.NewFallback(resilience.Read, LastKnownCopy, h.lastKnown,
		resilience.Options{Label: resilience.Label{Dependency: Name, Operation: "get"}, Observer: edge.Watch})
	if err != nil {
		return err
	}
	httpx.Register(api, httpx.Op{
		ID: "placeOrder", Method: http.MethodPost, Path: "/v1/orders", Tag: "order", Status: http.StatusCreated,
		Summary: "Place an order",
		Description: "Stores the order and starts its saga. Prices come from the catalogue; expected_unit_price is only checked. " +
			"The same Idempotency-Key with the same body answers with the first answer again and Idempotent-Replayed; a refusal leaves the key free. " +
			"Prefer: wait=N (at most 30) holds the answer until the saga has an outcome or N seconds have passed; then also a repetition answers with the order as it is.",
		Problems: []shop.Kind{shop.KeyMissing, shop.KeyInProgress, shop.KeyReused, shop.PriceChanged, shop.UnknownSKU, shop.TooLarge},
		Admit:    edge.Admit,
	}, h.place)
	httpx.Register(api, httpx.Op{
		ID: "getOrder", Method: http.MethodGet, Path: "/v1/orders/{id}", Tag: "order", Also: []int{http.StatusNotModified},
		Summary:     "Read an order",
		Description: "The order as last committed; while its store is down, a copy with the header Stale-As-Of. Prefer: wait=N holds the answer while the saga runs. If-None-Match with the version it still has answers 304.",
		Problems:    []shop.Kind{shop.NotFound},
	}, h.get)
	httpx.Register(api, httpx.Op{
		ID: "listOrders", Method: http.MethodGet, Path: "/v1/orders", Tag: "order", Criticality: resilience.Sheddable,
		Summary:     "List orders",
		Description: "The caller's orders, newest first, a page at a time. The Link header names the next page.",
	}, h.list)
	httpx.Register(api, httpx.Op{
		ID: "cancelOrder", Method: http.MethodPost, Path: "/v1/orders/{id}/cancel", Tag: "order", Also: []int{http.StatusAccepted}, Criticality: resilience.Undo,
		Summary: "Cancel an order",
		Description: "200 when everything is undone, 202 while it is being undone, 409 order_dispatched when it is too late. Repeating it is harmless. " +
			"If-Match is compared with the version just before the order is cancelled: it guards against deciding on what one saw long ago, not against a change at the same instant. " +
			"It is not compared once the order is being cancelled, so that a repetition gets its answer.",
		Problems: []shop.Kind{shop.KeyMissing, shop.KeyInProgress, shop.KeyReused, shop.NotFound, shop.OrderDispatched, shop.VersionConflict},
	}, h.cancel)
	httpx.Register(api, httpx.Op{
		ID: "getOrderTimeline", Method: http.MethodGet, Path: "/v1/orders/{id}/timeline", Tag: "order", Criticality: resilience.Sheddable,
		Summary:     "Read what happened to an order",
		Description: "Events, attempts at outside parties and webhooks, oldest first.",
		Problems:    []shop.Kind{shop.NotFound},
	}, h.timeline)
	httpx.RegisterStream(api, httpx.Op{
		ID: "watchOrder", Method: http.MethodGet, Path: "/v1/orders/{id}/events", Tag: "order",
		Summary: "Watch an order",
		Description: "Server-sent events: event order, id the version, data the order. Versions that follow each other closely may be left out; the newest always comes. " +
			"The stream ends with the order's last version. With that as Last-Event-ID the answer is 204, and a browser stops reconnecting.",
		Problems: []shop.Kind{shop.NotFound},
	}, h.watch)
	return nil
}

type handlers struct {
	svc   shop.Orders
	stale *resilience.Fallback[read]
}

// read is an order as it was at an instant; the zero instant is now.
type read struct {
	shop.Order
	asOf time.Time
}

type placeInput struct {
	Key    string `header:"Idempotency-Key" required:"true" pattern:"^[ -~]{1,255}$" patternDescription:"1 to 255 printable ASCII characters" doc:"New for each new request, the same for its repetitions; kept for at least 24 hours"`
	Prefer string `header:"Prefer" maxLength:"200" doc:"wait=N, N from 1 to 30 seconds"`
	Body   shop.PlaceOrder
}

type placeOutput struct {
	Location string `header:"Location" doc:"The path of the order"`
	ETag     string `header:"ETag" doc:"The version, in quotes"`
	Replayed string `header:"Idempotent-Replayed" doc:"true where this answers a repetition"`
	Applied  string `header:"Preference-Applied" doc:"The wait that was applied"`
	Body     shop.Order
}

func (h *handlers) place(ctx context.Context, in *placeInput) (*placeOutput, error) {
	o, replayed, err := h.svc.Place(ctx, httpx.Key(ctx, in.Key), in.Body)
	if err != nil {
		return nil, err
	}
	ctx = httpx.WithOrder(ctx, o.ID)
	out := &placeOutput{Location: "/v1/orders/" + string(o.ID), Replayed: httpx.Replayed(replayed)}
	if wait, applied := httpx.Wait(in.Prefer); wait > 0 {
		out.Applied = applied
		// The order is stored: whatever becomes of the wait, the answer is a success.
		if later, err := h.settled(ctx, o, wait); err == nil {
			o = later
		}
	}
	out.ETag, out.Body = httpx.ETag(o.Version), o
	return out, nil
}

// settled waits until o has an outcome, for no longer than d, and returns it as it is then.
func (h *handlers) settled(ctx context.Context, o shop.Order, d time.Duration) (shop.Order, error) {
	if o.Status.Settled() {
		return o, nil
	}
	ctx, cancel := httpx.WaitContext(ctx, d)
	defer cancel()
	return h.svc.Wait(ctx, httpx.Caller(ctx), o.ID, func(o shop.Order) bool { return o.Status.Settled() })
}

type getInput struct {
	ID          string `path:"id" doc:"The order's id"`
	IfNoneMatch string `header:"If-None-Match" maxLength:"1000" doc:"ETags of the versions at hand"`
	Prefer      string `header:"Prefer" maxLength:"200" doc:"wait=N, N from 1 to 30 seconds"`
}

type orderOutput struct {
	Status  int
	AsOf    string `header:"Stale-As-Of" doc:"The store is down and this is what was known of the order then, RFC 3339"`
	ETag    string `header:"ETag" doc:"The version, in quotes"`
	Applied string `header:"Preference-Applied" doc:"The wait that was applied"`
	Body    shop.Order
}

func (h *handlers) get(ctx context.Context, in *getInput) (*orderOutput, error) {
	id, err := httpx.OrderID(in.ID)
	if err != nil {
		return nil, err
	}
	ctx = httpx.WithOrder(ctx, id)
	got, err := h.read(ctx, id)
	if err != nil {
		return nil, err
	}
	o := got.Order
	out := &orderOutput{Status: http.StatusOK}
	if !got.asOf.IsZero() {
		out.AsOf = got.asOf.UTC().Format(time.RFC3339Nano)
	} else if wait, applied := httpx.Wait(in.Prefer); wait > 0 {
		out.Applied = applied
		if o, err = h.settled(ctx, o, wait); err != nil {
			return nil, err
		}
	}
	out.ETag, out.Body = httpx.ETag(o.Version), o
	if httpx.Matches(in.IfNoneMatch, o.Version) {
		out.Status = http.StatusNotModified
	}
	return out, nil
}

// read reads an order, and where the store is down its latest copy: an order that is a little old tells
// more than none. Nothing is decided by it.
func (h *handlers) read(ctx context.Context, id shop.OrderID) (read, error) {
	var refused error
	r, err := h.stale.Run(context.WithValue(ctx, idKey{}, id), func(ctx context.Context) (read, error) {
		o, err := h.svc.Get(ctx, httpx.Caller(ctx), id)
		if k := shop.KindOf(err); err != nil && k != shop.Unavailable && k != shop.Overloaded {
			refused, err = err, nil // an answer, and nothing to take another one for
		}
		return read{Order: o}, err
	})
	if refused != nil {
		return read{}, refused
	}
	return r.Value, err
}

// idKey is where the id of the order travels to lastKnown.
type idKey struct{}

func (h *handlers) lastKnown(ctx context.Context, cause error) (read, error) {
	id, _ := ctx.Value(idKey{}).(shop.OrderID)
	o, asOf, ok := h.svc.LastKnown(httpx.Caller(ctx), id)
	if !ok {
		return read{}, cause
	}
	return read{o, asOf}, nil
}

type listInput struct {
	CustomerID string `query:"customer_id" maxLength:"64" doc:"Orders of this customer"`
	Status     string `query:"status" enum:"pending,confirmed,rejected,cancelling,cancelled,fulfilled,needs_attention" doc:"Orders of this status"`
	Text       string `query:"q" maxLength:"128" doc:"An order id, external id or customer id, whole"`
	Limit      int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"The most that a page holds"`
	Cursor     string `query:"cursor" maxLength:"512" doc:"next_cursor of the page before"`
}

type listOutput struct {
	Link string `header:"Link" doc:"The next page, rel=next"`
	Body shop.OrderPage
}

func (h *handlers) list(ctx context.Context, in *listInput) (*listOutput, error) {
	page, err := h.svc.List(ctx, httpx.Caller(ctx), shop.OrderQuery{
		CustomerID: in.CustomerID, Status: shop.OrderStatus(in.Status), Text: in.Text, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	next := url.Values{"limit": {strconv.Itoa(in.Limit)}}
	for name, value := range map[string]string{"customer_id": in.CustomerID, "status": in.Status, "q": in.Text} {
		if value != "" {
			next.Set(name, value)
		}
	}
	return &listOutput{Link: httpx.NextLink("/v1/orders", next, page.NextCursor), Body: page}, nil
}

type cancelInput struct {
	ID      string `path:"id" doc:"The order's id"`
	Key     string `header:"Idempotency-Key" required:"true" pattern:"^[ -~]{1,255}$" patternDescription:"1 to 255 printable ASCII characters" doc:"New for each new request, the same for its repetitions; kept for at least 24 hours"`
	IfMatch string `header:"If-Match" maxLength:"100" doc:"The ETag of the version that is to be cancelled"`
}

type cancelOutput struct {
	Status   int
	ETag     string `header:"ETag" doc:"The version, in quotes"`
	Replayed string `header:"Idempotent-Replayed" doc:"true where this answers a repetition"`
	Body     shop.Order
}

func (h *handlers) cancel(ctx context.Context, in *cancelInput) (*cancelOutput, error) {
	id, err := httpx.OrderID(in.ID)
	if err != nil {
		return nil, err
	}
	ctx = httpx.WithOrder(ctx, id)
	version, _, err := httpx.IfMatch(in.IfMatch)
	if err != nil {
		return nil, err
	}
	if version > 0 {
		if err := h.unchanged(ctx, id, version); err != nil {
			return nil, err
		}
	}
	o, replayed, err := h.svc.Cancel(ctx, httpx.Key(ctx, in.Key), id)
	if err != nil {
		return nil, err
	}
	out := &cancelOutput{Status: http.StatusOK, ETag: httpx.ETag(o.Version), Replayed: httpx.Replayed(replayed), Body: o}
	if !o.Status.Final() {
		out.Status = http.StatusAccepted
	}
	return out, nil
}

// unchanged checks that the order has the version that the caller saw. An order that is being
// cancelled passes: the cancel may be the caller's own, of which it lost the answer.
func (h *handlers) unchanged(ctx context.Context, id shop.OrderID, version int64) error {
	o, err := h.svc.Get(ctx, httpx.Caller(ctx), id)
	if err != nil {
		return err
	}
	if o.Version == version || o.Status == shop.Cancelling || o.Status == shop.Cancelled {
		return nil
	}
	return shop.E(shop.VersionConflict, "order.http", "The order has changed: its version is "+strconv.FormatInt(o.Version, 10)+". Read it and decide again.")
}

type idInput struct {
	ID string `path:"id" doc:"The order's id"`
}

type timelineOutput struct{ Body Timeline }

// Timeline is the body of a timeline's answer.
type Timeline struct {
	Items []shop.TimelineItem `json:"items"`
}

func (h *handlers) timeline(ctx context.Context, in *idInput) (*timelineOutput, error) {
	id, err := httpx.OrderID(in.ID)
	if err != nil {
		return nil, err
	}
	ctx = httpx.WithOrder(ctx, id)
	items, err := h.svc.Timeline(ctx, httpx.Caller(ctx), id)
	if err != nil {
		return nil, err
	}
	return &timelineOutput{Timeline{items}}, nil
}
