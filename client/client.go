// Package client speaks to Holdfast's public API. Its requests are built by package wire, which is
// generated from api/openapi.yaml; what comes back are the types of package shop, and failures are
// *Problem.
//
// Requests that are safe to repeat are repeated, at most twice: reads, PUTs, and POSTs with their
// Idempotency-Key, when the connection fails or the answer is 503. Besides, net/http itself replays a
// POST that carries an Idempotency-Key when a kept-alive connection turns out to be dead. Where one of
// these may have been carried out and the last one was refused unseen, as overloaded or too many, the
// error is that of the first: the request is in doubt, and to be sent again with its key.
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"holdfast/client/wire"
	"holdfast/shop"
)

//go:generate go -C ../tools tool oapi-codegen -config ../client/wire/oapi-codegen.yaml -o ../client/wire/wire.go ../api/openapi.yaml

const (
	// maxAnswer is the largest answer that is read.
	maxAnswer = 16 << 20
	// maxWait is the longest wait that the API takes.
	maxWait = 30 * time.Second
	// idlePerHost keeps connections for that many requests at once.
	idlePerHost = 64
)

// Client is a client of one server. It is safe for concurrent use.
type Client struct {
	wire *wire.Client
}

// New makes a Client. A nil hc is one made for it, without a time limit of its own: contexts say how
// long a call may take.
func New(baseURL, key string, hc *http.Client) (*Client, error) {
	if hc == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = idlePerHost
		hc = &http.Client{Transport: transport}
	}
	w, err := wire.NewClient(baseURL, wire.WithHTTPClient(&retrier{hc}),
		wire.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+key)
			return nil
		}))
	if err != nil {
		return nil, fmt.Errorf("make a client of %s: %w", baseURL, err)
	}
	return &Client{w}, nil
}

// NewKey returns a fresh idempotency key.
func NewKey() string { return rand.Text() }

// Placed is an order that was accepted.
type Placed struct {
	Order    shop.Order
	Replayed bool // the answer to a repetition
}

// PlaceOrder places an order under an idempotency key; the same key and command give the same order.
// A wait above 0 has the answer held for the saga's outcome, for at most 30 s.
func (c *Client) PlaceOrder(ctx context.Context, key string, cmd shop.PlaceOrder, wait time.Duration) (Placed, error) {
	body, err := json.Marshal(cmd)
	if err != nil {
		return Placed{}, fmt.Errorf("encode the order: %w", err)
	}
	params := &wire.PlaceOrderParams{IdempotencyKey: key, Prefer: prefer(wait)}
	var o shop.Order
	h, err := into(&o)(c.wire.PlaceOrderWithBody(ctx, params, "application/json", bytes.NewReader(body)))
	return Placed{o, h.Get("Idempotent-Replayed") == "true"}, err
}

// GetOrder reads an order.
func (c *Client) GetOrder(ctx context.Context, id shop.OrderID) (o shop.Order, err error) {
	_, err = into(&o)(c.wire.GetOrder(ctx, string(id), &wire.GetOrderParams{}))
	return o, err
}

// WaitOrder returns an order once its saga has an outcome. When ctx ends first it returns the order as
// last seen and ctx's error.
func (c *Client) WaitOrder(ctx context.Context, id shop.OrderID) (shop.Order, error) {
	var last shop.Order
	for {
		var o shop.Order
		_, err := into(&o)(c.wire.GetOrder(ctx, string(id), &wire.GetOrderParams{Prefer: prefer(maxWait)}))
		if err != nil {
			return last, err
		}
		if last = o; o.Status.Settled() {
			return o, nil
		}
	}
}

// ListOrders returns a page of orders.
func (c *Client) ListOrders(ctx context.Context, q shop.OrderQuery) (page shop.OrderPage, err error) {
	params := &wire.ListOrdersParams{
		CustomerId: given(q.CustomerID), Q: given(q.Text), Cursor: given(q.Cursor), Limit: positive(q.Limit),
	}
	if q.Status != "" {
		params.Status = given(wire.ListOrdersParamsStatus(q.Status))
	}
	_, err = into(&page)(c.wire.ListOrders(ctx, params))
	return page, err
}

// CancelOrder asks for an order to be undone; it is cancelled or cancelling in the answer.
func (c *Client) CancelOrder(ctx context.Context, key string, id shop.OrderID) (o shop.Order, err error) {
	_, err = into(&o)(c.wire.CancelOrder(ctx, string(id), &wire.CancelOrderParams{IdempotencyKey: key}))
	return o, err
}

// Timeline returns what happened to an order, oldest first.
func (c *Client) Timeline(ctx context.Context, id shop.OrderID) ([]shop.TimelineItem, error) {
	var t struct {
		Items []shop.TimelineItem `json:"items"`
	}
	_, err := into(&t)(c.wire.GetOrderTimeline(ctx, string(id)))
	return t.Items, err
}

// GetPayment reads an order's payment.
func (c *Client) GetPayment(ctx context.Context, id shop.OrderID) (p shop.Payment, err error) {
	_, err = into(&p)(c.wire.GetOrderPayment(ctx, string(id)))
	return p, err
}

// GetShipment reads an order's shipment.
func (c *Client) GetShipment(ctx context.Context, id shop.OrderID) (s shop.Shipment, err error) {
	_, err = into(&s)(c.wire.GetOrderShipment(ctx, string(id)))
	return s, err
}

// PutItem makes an item or changes it. An ifVersion above 0 demands that version.
func (c *Client) PutItem(ctx context.Context, sku shop.SKU, ifVersion int64, item shop.PutItem) (it shop.Item, err error) {
	params := &wire.PutItemParams{}
	if ifVersion > 0 {
		params.IfMatch = given(strconv.Quote(strconv.FormatInt(ifVersion, 10)))
	}
	_, err = into(&it)(c.wire.PutItem(ctx, string(sku), params, wire.PutItem{
		Name: item.Name, UnitPrice: int64(item.UnitPrice), Currency: string(item.Currency),
	}))
	return it, err
}

// Receive adds stock under an idempotency key.
func (c *Client) Receive(ctx context.Context, key string, sku shop.SKU, r shop.Receipt) (it shop.Item, err error) {
	_, err = into(&it)(c.wire.ReceiveStock(ctx, string(sku), &wire.ReceiveStockParams{IdempotencyKey: key},
		wire.Receipt{Quantity: r.Quantity, Reference: given(r.Reference)}))
	return it, err
}

// Adjust changes stock by hand under an idempotency key.
func (c *Client) Adjust(ctx context.Context, key string, sku shop.SKU, a shop.Adjustment) (it shop.Item, err error) {
	_, err = into(&it)(c.wire.AdjustStock(ctx, string(sku), &wire.AdjustStockParams{IdempotencyKey: key},
		wire.Adjustment{Quantity: a.Quantity, Reason: a.Reason}))
	return it, err
}

// GetItem reads an item.
func (c *Client) GetItem(ctx context.Context, sku shop.SKU) (it shop.Item, err error) {
	_, err = into(&it)(c.wire.GetItem(ctx, string(sku), &wire.GetItemParams{}))
	return it, err
}

// ListItems returns a page of items.
func (c *Client) ListItems(ctx context.Context, q shop.ItemQuery) (page shop.ItemPage, err error) {
	_, err = into(&page)(c.wire.ListItems(ctx, &wire.ListItemsParams{Limit: positive(q.Limit), Cursor: given(q.Cursor)}))
	return page, err
}

// into decodes a successful answer into v, and turns any other into a *Problem.
func into(v any) func(*http.Response, error) (http.Header, error) {
	return func(r *http.Response, err error) (http.Header, error) {
		if err != nil {
			return http.Header{}, err
		}
		defer func() { _ = r.Body.Close() }() // it has been read as far as it is of use
		if r.StatusCode >= http.StatusMultipleChoices {
			return r.Header, problemOf(r)
		}
		if err := json.NewDecoder(io.LimitReader(r.Body, maxAnswer)).Decode(v); err != nil {
			return r.Header, fmt.Errorf("read the answer: %w", err)
		}
		return r.Header, nil
	}
}

// given is a pointer to v, or nil for the zero value: how wire leaves a parameter out.
func given[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func positive(n int) *int64 { return given(int64(n)) }

// prefer asks for an answer to be held. What is less than a second is asked for as one.
func prefer(wait time.Duration) *string {
	if wait <= 0 {
		return nil
	}
	seconds := (min(wait, maxWait) + time.Second - 1) / time.Second
	return given("wait=" + strconv.Itoa(int(seconds)))
}
