package points

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"holdfast/check"
	"holdfast/shop"
)

const (
	patience = 5 * time.Second       // with one request
	pause    = 10 * time.Millisecond // before it is sent again
)

// answer is what a request was told.
type answer struct {
	status int          // of HTTP; 0: nothing, or not all of it
	Code   string       `json:"code"`
	ID     shop.OrderID `json:"id"`
	Total  shop.Amount  `json:"total"`
	err    error
}

// definite tells whether the answer says what became of the request.
func (a answer) definite() bool {
	switch a.status {
	case http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusBadRequest, http.StatusNotFound, http.StatusUnprocessableEntity:
		return true
	case http.StatusConflict:
		return a.Code != "idempotency_in_progress"
	}
	return false
}

// ask sends a request, and again while it is in doubt. A run that takes too long ends with no answer.
func (w *World) ask(method, path, key string, body any) (a answer) {
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return answer{err: err}
		}
	}
	for time.Now().Before(w.deadline) {
		a = w.once(method, path, key, b)
		w.note("%s %s %s: %d %s %s %v", method, path, key, a.status, a.Code, a.ID, a.err)
		if a.definite() {
			return a
		}
		time.Sleep(pause)
	}
	w.violate("X1", "", "%s %s had no answer that says what became of it: %d %s %v", method, path, a.status, a.Code, a.err)
	return a
}

func (w *World) once(method, path, key string, body []byte) (a answer) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, w.life.url(portAPI)+path, bytes.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("Authorization", "Bearer "+w.key)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	resp, err := w.http.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	if err != nil {
		return answer{err: err}
	}
	a.status = resp.StatusCode
	return a
}

// command is an order.
func command(payment, postal string, lines ...shop.PlaceLine) shop.PlaceOrder {
	return shop.PlaceOrder{CustomerID: "customer", Currency: "EUR", PaymentMethod: payment, Lines: lines,
		ShippingAddress: shop.Address{Name: "A. Reader", Line1: "1 Long Street", City: "Berlin", PostalCode: postal, Country: "DE"}}
}

func line(sku shop.SKU, n int64) shop.PlaceLine { return shop.PlaceLine{SKU: sku, Quantity: n} }

// place places an order until it is told what became of it, and keeps what it was told.
func (w *World) place(key string, cmd shop.PlaceOrder) answer {
	cmd.ExternalID = key
	a := w.ask(http.MethodPost, "/v1/orders", key, cmd)
	w.mu.Lock()
	defer w.mu.Unlock()
	was, known := w.sent[key]
	switch {
	case !known:
		w.sent[key] = check.Sent{Key: key, ID: a.ID, Total: a.Total, Status: a.status, Code: a.Code}
	case was.ID != a.ID || was.Total != a.Total:
		w.found = append(w.found, check.Violation{Invariant: "I3", Order: string(a.ID), Detail: key + " was acknowledged as " + string(was.ID) + ", too"})
	}
	return a
}

// order places an order that is accepted, and says how it may end.
func (w *World) order(key string, cmd shop.PlaceOrder, ends ...string) shop.OrderID {
	a := w.place(key, cmd)
	if a.status != http.StatusCreated {
		w.violate("X1", "", "an order was refused with %d %s", a.status, a.Code)
		return ""
	}
	w.want(a.ID, ends...)
	return a.ID
}

func (w *World) want(id shop.OrderID, ends ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wants[id] = ends
}

// cancel cancels an order until it is told what became of that. Where it is not to be undone, it must have left.
func (w *World) cancel(key string, id shop.OrderID) {
	a := w.ask(http.MethodPost, "/v1/orders/"+string(id)+"/cancel", key, nil)
	switch {
	case a.status/100 == 2:
	case a.status == http.StatusConflict:
		w.want(id, fulfilled)
	default:
		w.violate("I16", string(id), "a cancel was answered with %d %s", a.status, a.Code)
	}
}

// until waits for something outside of the process that dies.
func (w *World) until(what string, holds func() bool) {
	for !holds() {
		if time.Now().After(w.deadline) {
			w.violate("X1", "", "never: %s", what)
			return
		}
		time.Sleep(pause / 2)
	}
}
