package simulation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"holdfast/shop"
)

// Event is a line of the history: what a customer asked, and what they were told.
type Event struct {
	At     time.Duration `json:"at"`
	Phase  string        `json:"phase"` // invoke, ok, fail, unknown
	What   string        `json:"what"`  // place, cancel, get, receive
	Key    string        `json:"key"`
	Order  shop.OrderID  `json:"order,omitempty"`
	Status int           `json:"status,omitempty"`
	Code   string        `json:"code,omitempty"`
	Detail string        `json:"detail,omitempty"`
}

// sentOrder is an order as its customer knows it.
type sentOrder struct {
	plan PlannedOrder

	mu      sync.Mutex
	id      shop.OrderID
	total   shop.Amount
	refused int // the status, where the first answer refuses for good
	code    string
	doubt   bool // a request got no answer that tells whether it was stored
	version int64
	cancels []cancelled
}

type cancelled struct {
	asked, answered time.Duration
	status          int
}

// answer is what a request was told.
type answer struct {
	status  int          // of HTTP; 0: nothing, or not all of it
	Code    string       `json:"code"`
	ID      shop.OrderID `json:"id"`
	Total   shop.Amount  `json:"total"`
	Version int64        `json:"version"`
	err     error
}

// definite tells whether the answer says what became of the request. What refuses only for now may come to
// the repetition of a request that was stored.
func (a answer) definite() bool {
	switch a.status {
	case http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusBadRequest, http.StatusNotFound, http.StatusUnprocessableEntity:
		return true
	case http.StatusConflict:
		return a.Code != "idempotency_in_progress"
	}
	return false
}

// phase is the answer's in the history.
func (a answer) phase() string {
	switch {
	case a.status >= 200 && a.status < 300:
		return "ok"
	case a.definite():
		return "fail"
	default:
		return "unknown"
	}
}

func (w *World) record(e Event) {
	e.At = time.Since(w.began)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history = append(w.history, e)
}

// call sends a request and keeps what it was told.
func (w *World) call(c *http.Client, patience time.Duration, e Event, method, path string, body []byte, header map[string]string) (a answer) {
	e.Phase = "invoke"
	w.record(e)
	defer func() {
		e.Phase, e.Status, e.Code = a.phase(), a.status, a.Code
		if a.err != nil {
			e.Detail = a.err.Error()
		}
		if e.Order == "" {
			e.Order = a.ID
		}
		w.record(e)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url(portAPI)+path, bytes.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("Authorization", "Bearer "+w.key)
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPost {
		req.Header.Set("Idempotency-Key", e.Key)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := c.Do(req)
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

// customer does everything that is planned about one order.
func (w *World) customer(s *sentOrder) {
	w.until(s.plan.At)
	c := w.newClient("customer")
	defer c.CloseIdleConnections()
	var twins sync.WaitGroup
	for range s.plan.Twins {
		twins.Go(func() { w.place(c, s) })
	}
	w.place(c, s)
	twins.Wait()
	if s.plan.Other {
		w.placeOther(c, s)
	}
	s.mu.Lock()
	known := s.id != ""
	s.mu.Unlock()
	if !known {
		return
	}
	for i, after := range s.plan.Cancels {
		twins.Go(func() {
			time.Sleep(after)
			w.cancel(c, s, i)
		})
	}
	twins.Go(func() {
		for _, after := range s.plan.Reads {
			time.Sleep(after)
			w.read(c, s)
		}
	})
	twins.Wait()
}

func (o PlannedOrder) body(other bool) []byte {
	cmd := shop.PlaceOrder{CustomerID: "customer", Currency: "EUR", Lines: o.Lines, PaymentMethod: o.Payment, ExternalID: o.Key,
		ShippingAddress: shop.Address{Name: "A. Reader", Line1: "1 Long Street", City: "Town", PostalCode: o.Postal, Country: o.Country}}
	if other {
		cmd.CustomerID = "somebody else"
	}
	b, err := json.Marshal(cmd)
	if err != nil {
		panic(err) // strings and numbers
	}
	return b
}

// pause is how long a customer waits before they try again.
const pause = 700 * time.Millisecond

func (w *World) place(c *http.Client, s *sentOrder) {
	header := map[string]string{}
	if s.plan.Wait > 0 {
		header["Prefer"] = "wait=" + strconv.Itoa(s.plan.Wait)
	}
	for try := 0; try <= s.plan.Repeats; try++ {
		if try > 0 {
			time.Sleep(pause << try)
		}
		a := w.call(c, s.plan.Patience, Event{What: "place", Key: s.plan.Key}, http.MethodPost, "/v1/orders", s.plan.body(false), header)
		w.placed(s, a)
		if a.definite() {
			return
		}
	}
}

// placed keeps what a customer was told of their order.
func (w *World) placed(s *sentOrder, a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case a.status == http.StatusCreated && s.id == "":
		s.id, s.total, s.version = a.ID, a.Total, a.Version
	case a.status == http.StatusCreated && (s.id != a.ID || s.total != a.Total):
		w.violate("I3", string(a.ID), "%s was acknowledged as %s with %d, too", s.plan.Key, s.id, s.total)
	case a.status == http.StatusCreated:
	case a.definite() && s.id != "":
		w.violate("I3", string(s.id), "%s was acknowledged, and a repetition was answered with %d %s", s.plan.Key, a.status, a.Code)
	case a.definite():
		s.refused, s.code = a.status, a.Code
	default:
		s.doubt = true
	}
}

// placeOther uses the key of an order for another one.
func (w *World) placeOther(c *http.Client, s *sentOrder) {
	s.mu.Lock()
	known := s.id != ""
	s.mu.Unlock()
	if !known {
		return // it may be free
	}
	a := w.call(c, s.plan.Patience, Event{What: "place another", Key: s.plan.Key}, http.MethodPost, "/v1/orders", s.plan.body(true), nil)
	if a.definite() && a.status != http.StatusUnprocessableEntity {
		w.violate("I3", string(a.ID), "another order with the key %s was answered with %d %s", s.plan.Key, a.status, a.Code)
	}
}

func (w *World) cancel(c *http.Client, s *sentOrder, i int) {
	e := Event{What: "cancel", Key: fmt.Sprintf("%s-cancel-%d", s.plan.Key, i), Order: s.id}
	asked := time.Since(w.began)
	for try := 0; try <= s.plan.Repeats; try++ {
		if try > 0 {
			time.Sleep(pause << try)
		}
		a := w.call(c, s.plan.Patience, e, http.MethodPost, "/v1/orders/"+string(s.id)+"/cancel", nil, nil)
		if !a.definite() {
			continue
		}
		if a.status == http.StatusNotFound {
			w.violate("I1", string(s.id), "was acknowledged, and to a cancel it is not found")
		}
		s.mu.Lock()
		s.cancels = append(s.cancels, cancelled{asked, time.Since(w.began), a.status})
		s.mu.Unlock()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancels = append(s.cancels, cancelled{asked, 0, 0})
}

func (w *World) read(c *http.Client, s *sentOrder) {
	s.mu.Lock()
	before := s.version
	s.mu.Unlock()
	a := w.call(c, s.plan.Patience, Event{What: "get", Order: s.id}, http.MethodGet, "/v1/orders/"+string(s.id), nil, nil)
	switch {
	case a.status == http.StatusNotFound:
		w.violate("I1", string(s.id), "was acknowledged, and is not found")
	case a.status == http.StatusOK && a.Version < before:
		w.violate("I15", string(s.id), "was read as version %d after version %d", a.Version, before)
	case a.status == http.StatusOK:
		s.mu.Lock()
		s.version = max(s.version, a.Version)
		s.mu.Unlock()
	}
}

// receive takes stock in, until it is told that it was.
func (w *World) receive(i int, r PlannedReceipt) {
	w.until(r.At)
	c := w.newClient("customer")
	defer c.CloseIdleConnections()
	body := fmt.Appendf(nil, `{"quantity":%d,"reference":"receipt-%d"}`, r.Quantity, i)
	e := Event{What: "receive", Key: fmt.Sprintf("receipt-%d", i)}
	for time.Since(w.began) < 2*faultTime {
		if a := w.call(c, 5*time.Second, e, http.MethodPost, "/v1/items/"+string(r.SKU)+"/receipts", body, nil); a.definite() {
			if a.phase() != "ok" {
				w.violate("X2", "", "a receipt of %s was answered with %d %s", r.SKU, a.status, a.Code)
			}
			return
		}
		time.Sleep(pause)
	}
	w.violate("X1", "", "a receipt of %s was not taken, long after the faults had ended", r.SKU)
}
