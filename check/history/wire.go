package history

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"holdfast/shop"
)

const (
	// answerLimit is how long an answer is waited for.
	answerLimit = 10 * time.Second
	maxAnswer   = 16 << 20
	listLimit   = 200
)

// wire sends requests. A connection is not used twice, since net/http repeats a request with an
// Idempotency-Key by itself where one that was used before breaks: the file would not know of it.
type wire struct {
	find func() (url, apiKey string, err error)
	http *http.Client

	mu       sync.Mutex
	url, key string
}

func newWire(find func() (url, apiKey string, err error)) *wire {
	return &wire{find: find, http: &http.Client{Timeout: answerLimit, Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}}
}

// locate asks where the Holdfast is.
func (w *wire) locate() error {
	u, key, err := w.find()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.url, w.key = u, key
	return nil
}

// request makes the HTTP request of an operation.
func (w *wire) request(ctx context.Context, r Request) (*http.Request, error) {
	w.mu.Lock()
	base, key := w.url, w.key
	w.mu.Unlock()
	method := http.MethodGet
	var path string
	switch r.Do {
	case Place:
		method, path = http.MethodPost, "/v1/orders"
	case Cancel:
		method, path = http.MethodPost, "/v1/orders/"+string(r.Order)+"/cancel"
	case Read:
		path = "/v1/orders/" + string(r.Order)
	case List:
		path = "/v1/orders?limit=" + strconv.Itoa(listLimit) + "&customer_id=" + url.QueryEscape(r.Customer)
	case Receive:
		method, path = http.MethodPost, "/v1/items/"+string(r.SKU)+"/receipts"
	case Look:
		path = "/v1/items/" + string(r.SKU)
	default:
		return nil, fmt.Errorf("there is no operation %q", r.Do)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader([]byte(r.Body)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPost {
		req.Header.Set("Idempotency-Key", r.Key)
	}
	return req, nil
}

// send sends an operation's request, once, and tells what came of it.
func (w *wire) send(ctx context.Context, r Request) (Kind, Answer) {
	if r.Patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Patience)
		defer cancel()
	}
	req, err := w.request(ctx, r)
	if err != nil {
		return Unknown, Answer{Error: err.Error()}
	}
	resp, err := w.http.Do(req)
	if err != nil {
		_ = w.locate() // it keeps the address that it has
		return Unknown, Answer{Error: err.Error()}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return Unknown, Answer{Status: resp.StatusCode, Error: err.Error()}
	}
	a := Answer{Status: resp.StatusCode, Stale: resp.Header.Get("Stale-As-Of") != "", Again: resp.Header.Get("Idempotent-Replayed") == "true"}
	switch {
	case a.Status >= http.StatusInternalServerError:
		a.Code = code(body)
		return Unknown, a
	case a.Status >= http.StatusBadRequest:
		a.Code = code(body)
		return Fail, a
	}
	if err := a.read(r, body); err != nil {
		a.Error = err.Error()
		return Unknown, a
	}
	return OK, a
}

// code is that of a problem.
func code(body []byte) string {
	var p struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal(body, &p) // what is none has no code
	return p.Code
}

// read takes what is kept of a good answer.
func (a *Answer) read(r Request, body []byte) error {
	var members any
	if err := json.Unmarshal(body, &members); err != nil {
		return err
	}
	sorted, err := json.Marshal(members) // by name
	if err != nil {
		return err
	}
	sum := sha256.Sum256(sorted)
	a.Digest = hex.EncodeToString(sum[:8])
	switch r.Do {
	case Receive, Look:
		a.Item = &Stock{}
		return json.Unmarshal(body, a.Item)
	case List:
		var page shop.OrderPage
		if err := json.Unmarshal(body, &page); err != nil {
			return err
		}
		a.Whole = page.NextCursor == ""
		for _, o := range page.Items {
			a.Saw = append(a.Saw, seen(o))
		}
		return nil
	default:
		var o shop.Order
		err := json.Unmarshal(body, &o)
		a.Saw = []Seen{seen(o)}
		return err
	}
}

// seen is what is kept of an order.
func seen(o shop.Order) Seen {
	s := Seen{ID: o.ID, Version: o.Version, Status: o.Status, Reason: o.Reason, Customer: o.CustomerID, External: o.ExternalID, Total: o.Total,
		Created: o.CreatedAt, Payment: o.Payment.Status, Captured: o.Payment.Captured, Refunded: o.Payment.Refunded}
	if o.Shipment != nil {
		s.Shipment = string(o.Shipment.Status)
	}
	for _, l := range o.Lines {
		s.Lines = append(s.Lines, Shown{Want{l.SKU, l.Quantity}, l.Reserved, l.Shipped})
	}
	return s
}

// putItem makes an item. It is not recorded: nobody knows of the item before.
func (w *wire) putItem(ctx context.Context, sku shop.SKU) bool {
	w.mu.Lock()
	base, key := w.url, w.key
	w.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, base+"/v1/items/"+string(sku), bytes.NewReader(fmt.Appendf(nil, `{"name":%q,"unit_price":100,"currency":"EUR"}`, sku)))
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.http.Do(req)
	if err != nil {
		_ = w.locate() // it keeps the address that it has
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode < http.StatusMultipleChoices
}
