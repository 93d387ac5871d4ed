package gateway_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/shop"
	"holdfast/svc/gateway"
	"holdfast/test/edge"
)

const item = `{"name":"Tea","unit_price":450,"currency":"EUR"}`

// TestContract calls every operation of the document: each answer is compared with it by edge, and each
// operation must have been answered with a success.
func TestContract(t *testing.T) {
	t.Parallel()
	e := edge.New(t, gateway.Defaults(), nil)
	o := e.Orders.Put("alice", shop.Confirmed)
	done := e.Orders.Put("alice", shop.Fulfilled)
	id := string(o.ID)
	steps := []struct {
		name   string
		r      edge.Request
		status int
		code   string
	}{
		{"place", edge.Request{Method: "POST", Path: "/v1/orders", Body: edge.PlaceBody, Header: map[string]string{"Idempotency-Key": "one"}}, 201, ""},
		{"place again", edge.Request{Method: "POST", Path: "/v1/orders", Body: edge.PlaceBody, Header: map[string]string{"Idempotency-Key": "one"}}, 201, ""},
		{"place another under the key", edge.Request{Method: "POST", Path: "/v1/orders", Body: strings.Replace(edge.PlaceBody, `"quantity":2`, `"quantity":3`, 1), Header: map[string]string{"Idempotency-Key": "one"}}, 422, "idempotency_key_reused"},
		{"place without a key", edge.Request{Method: "POST", Path: "/v1/orders", Body: edge.PlaceBody, Header: map[string]string{"Idempotency-Key": "-"}}, 400, "idempotency_key_missing"},
		{"place without credentials", edge.Request{Method: "POST", Path: "/v1/orders", Body: edge.PlaceBody, Header: map[string]string{"Authorization": "-"}}, 401, "unauthenticated"},
		{"place and wait", edge.Request{Method: "POST", Path: "/v1/orders", Body: edge.PlaceBody, Header: map[string]string{"Prefer": "wait=1"}}, 201, ""},
		{"place what is too large", edge.Request{Method: "POST", Path: "/v1/orders", Body: `{"customer_id":"` + strings.Repeat("x", 1<<20) + `"}`}, 413, "too_large"},
		{"get", edge.Request{Method: "GET", Path: "/v1/orders/" + id}, 200, ""},
		{"get what is known", edge.Request{Method: "GET", Path: "/v1/orders/" + id, Header: map[string]string{"If-None-Match": `"` + strconv.FormatInt(o.Version, 10) + `"`}}, 304, ""},
		{"get another's", edge.Request{Method: "GET", Path: "/v1/orders/" + id, Header: map[string]string{"Authorization": "Bearer " + edge.OtherKey}}, 404, "not_found"},
		{"get what is no id", edge.Request{Method: "GET", Path: "/v1/orders/x"}, 404, "not_found"},
		{"list", edge.Request{Method: "GET", Path: "/v1/orders?limit=1"}, 200, ""},
		{"list too much", edge.Request{Method: "GET", Path: "/v1/orders?limit=1000&nonsense=1"}, 422, "validation_failed"},
		{"timeline", edge.Request{Method: "GET", Path: "/v1/orders/" + id + "/timeline"}, 200, ""},
		{"payment", edge.Request{Method: "GET", Path: "/v1/orders/" + id + "/payment"}, 200, ""},
		{"shipment", edge.Request{Method: "GET", Path: "/v1/orders/" + id + "/shipment"}, 200, ""},
		{"watch what has ended", edge.Request{Method: "GET", Path: "/v1/orders/" + string(done.ID) + "/events"}, 200, ""},
		{"cancel with an old version", edge.Request{Method: "POST", Path: "/v1/orders/" + id + "/cancel", Header: map[string]string{"If-Match": `"99"`}}, 412, "version_conflict"},
		{"cancel", edge.Request{Method: "POST", Path: "/v1/orders/" + id + "/cancel"}, 200, ""},
		{"cancel what has left", edge.Request{Method: "POST", Path: "/v1/orders/" + string(done.ID) + "/cancel"}, 409, "order_dispatched"},
		{"put", edge.Request{Method: "PUT", Path: "/v1/items/TEA", Body: item}, 201, ""},
		{"put again", edge.Request{Method: "PUT", Path: "/v1/items/TEA", Body: item}, 200, ""},
		{"put what is wrong", edge.Request{Method: "PUT", Path: "/v1/items/TEA", Body: `{"name":1,"unit_price":1.5}`}, 422, "validation_failed"},
		{"item", edge.Request{Method: "GET", Path: "/v1/items/TEA"}, 200, ""},
		{"items", edge.Request{Method: "GET", Path: "/v1/items"}, 200, ""},
		{"receive", edge.Request{Method: "POST", Path: "/v1/items/TEA/receipts", Body: `{"quantity":5}`}, 200, ""},
		{"adjust", edge.Request{Method: "POST", Path: "/v1/items/TEA/adjustments", Body: `{"quantity":-1,"reason":"broken"}`}, 200, ""},
		{"webhook unsigned", edge.Request{Method: "POST", Path: "/webhooks/psp", Body: `{}`, Header: map[string]string{"Authorization": "-"}}, 401, "unauthenticated"},
		{"webhook of the provider", signed("/webhooks/psp", edge.Secret(1), time.Now()), 204, ""},
		{"webhook under the next secret", signed("/webhooks/psp", edge.Secret(2), time.Now()), 204, ""},
		{"webhook of the carrier", signed("/webhooks/carrier", edge.Secret(3), time.Now()), 204, ""},
		{"webhook under another's secret", signed("/webhooks/carrier", edge.Secret(1), time.Now()), 401, "unauthenticated"},
		{"webhook of an hour ago", signed("/webhooks/carrier", edge.Secret(3), time.Now().Add(-time.Hour)), 401, "unauthenticated"},
	}
	for _, step := range steps {
		a := e.Do(step.r)
		if a.Status != step.status || a.Problem().Code != step.code {
			t.Errorf("%s: %d %q, want %d %q\n%s", step.name, a.Status, a.Problem().Code, step.status, step.code, a.Body)
		}
	}
	for _, operation := range e.Contract.Operations() {
		if !e.Contract.Seen(operation) {
			t.Errorf("no success of %s was seen", operation)
		}
	}
	if got := len(e.Payments.Got()); got != 2 {
		t.Errorf("%d messages of the provider arrived, want the 2 that are signed", got)
	}
}

// signed is a webhook as Standard Webhooks says.
func signed(path, secret string, at time.Time) edge.Request {
	const body = `{"type":"x","timestamp":"2026-11-24T12:00:00Z","data":{}}`
	id, stamp := "msg_"+path[len(path)-3:]+secret[len(secret)-8:len(secret)-6], strconv.FormatInt(at.Unix(), 10)
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		panic(err)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	return edge.Request{Method: http.MethodPost, Path: path, Body: body, Header: map[string]string{"Authorization": "-", "Idempotency-Key": "-",
		"Webhook-Id": id, "Webhook-Timestamp": stamp, "Webhook-Signature": "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))}}
}

// TestOverload: beyond its limits the edge refuses at once, with a time to come back, and takes requests
// again once there is room. Those who wait do not keep others out.
func TestOverload(t *testing.T) {
	t.Parallel()
	cfg := gateway.Defaults()
	cfg.Admission.Limit, cfg.MaxWaiting = 1, 1
	e := edge.New(t, cfg, nil)
	o := e.Orders.Put("alice", shop.Pending)
	waiting := edge.Request{Method: "GET", Path: "/v1/orders/" + string(o.ID), Header: map[string]string{"Prefer": "wait=30"}}
	ended := make(chan edge.Answer)
	go func() { ended <- e.Do(waiting) }()
	for e.Orders.Calls() == 0 { // until it has been let in
		runtime.Gosched()
	}
	if a := e.Do(edge.Request{Method: "GET", Path: "/v1/orders"}); a.Status != http.StatusOK {
		t.Errorf("one who waits keeps others out: %d %s", a.Status, a.Body)
	}
	a := e.Do(waiting)
	if a.Problem().Code != "overloaded" || a.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s, Retry-After %q", a.Status, a.Body, a.Header.Get("Retry-After"))
	}
	e.Orders.Move(o.ID, shop.Confirmed)
	if a := <-ended; a.Status != http.StatusOK {
		t.Errorf("the one who waited: %d %s", a.Status, a.Body)
	}
	if a := e.Do(waiting); a.Status != http.StatusOK {
		t.Errorf("there is room again: %d %s", a.Status, a.Body)
	}
}
