package field_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/app/local"
	"holdfast/client"
	"holdfast/shop"
	"holdfast/test/fakes"
	"holdfast/test/harness"
)

// send makes a request as it is, and returns the answer with its body. A body that does not end is a stream
// that nobody was meant to see.
func send(t *testing.T, s *harness.System, key, method, path, body string) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), min(harness.Limit, 10*time.Second))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.Addresses.API+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Idempotency-Key", client.NewKey())
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s %s: %d, and its body does not end: %v", method, path, resp.StatusCode, err)
	}
	return resp, string(b)
}

// orderRoutes lists every operation on one order that the served document has, as "GET /v1/orders/{id}".
func orderRoutes(t *testing.T, s *harness.System) (routes [][2]string) {
	t.Helper()
	_, text := send(t, s, s.Key, http.MethodGet, "/openapi.json", "")
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	for path, operations := range doc.Paths {
		if !strings.HasPrefix(path, "/v1/orders/{id}") {
			continue
		}
		for method := range operations {
			routes = append(routes, [2]string{strings.ToUpper(method), path})
		}
	}
	if len(routes) < 6 {
		t.Fatalf("only %d routes of an order: %v", len(routes), routes)
	}
	return routes
}

func TestField_eshop996_IDOR(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		const mallory = "mallory's key of the test"
		cfg.Callers = map[string]string{"mallory": mallory}
		s := started(t, cfg)
		other, err := client.New(s.Addresses.API, mallory, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, postal := range []string{"00005", "10115"} {
			want := map[string]shop.OrderStatus{"00005": shop.Confirmed, "10115": shop.Fulfilled}[postal]
			o := s.Until(t, s.Place(t, harness.Command("tok_ok", postal, harness.Line("TEA", 1))).ID, want)
			for _, route := range orderRoutes(t, s) {
				absent := strings.ReplaceAll(string(o.ID), string(o.ID[len(o.ID)-4:]), "0000")
				for key, status := range map[string]int{mallory: http.StatusNotFound, "nobody's key of the test": http.StatusUnauthorized} {
					resp, body := send(t, s, key, route[0], strings.ReplaceAll(route[1], "{id}", string(o.ID)), "")
					_, none := send(t, s, key, route[0], strings.ReplaceAll(route[1], "{id}", absent), "")
					if resp.StatusCode != status || strip(body) != strip(none) {
						t.Errorf("%v: %d %s; of an order that does not exist: %s", route, resp.StatusCode, body, none)
					}
				}
			}
			if now, err := s.GetOrder(t.Context(), o.ID); err != nil || now.Version != o.Version {
				t.Errorf("version %d became %d: %v", o.Version, now.Version, err)
			}
			for _, q := range []shop.OrderQuery{{}, {Text: string(o.ID)}, {CustomerID: "cus_1"}} {
				if page, err := other.ListOrders(t.Context(), q); err != nil || len(page.Items) != 0 {
					t.Errorf("a list of another's: %+v %v", page.Items, err)
				}
			}
		}
	})
}

// strip takes the parts out of a problem that differ from request to request.
func strip(body string) string {
	var p map[string]any
	if json.Unmarshal([]byte(body), &p) != nil {
		return body
	}
	for _, name := range []string{"request_id", "trace_id", "instance"} {
		delete(p, name)
	}
	b, _ := json.Marshal(p)
	return string(b)
}

func TestField_temporal122_Rollup(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		s := started(t, cfg)
		s.Item(t, "FEW", 300, 10)
		place := func(payment, postal string, few int64) shop.OrderID {
			return s.Place(t, harness.Command(payment, postal, harness.Line("TEA", 2), harness.Line("FEW", few))).ID
		}
		for id, why := range map[shop.OrderID]shop.Reason{place("tok_ok", "10115", 11): shop.ReasonOutOfStock,
			place("tok_declined", "10115", 1): shop.ReasonPaymentDeclined, place("tok_ok", "00001", 1): shop.ReasonNotShippable} {
			o := s.Until(t, id, shop.Rejected, shop.Fulfilled, shop.Confirmed)
			rolled(t, o, shop.Rejected)
			if o.Reason != why {
				t.Errorf("%s is %s for %q, want %q", id, o.Status, o.Reason, why)
			}
		}
		held := s.Until(t, place("tok_ok", "00005", 1), shop.Confirmed)
		rolled(t, held, shop.Confirmed)
		if _, err := s.CancelOrder(t.Context(), client.NewKey(), held.ID); err != nil {
			t.Fatal(err)
		}
		rolled(t, s.Until(t, held.ID, shop.Cancelled), shop.Cancelled)
		rolled(t, s.Until(t, place("tok_ok", "10115", 1), shop.Fulfilled), shop.Fulfilled)
		s.Verify(t)
	})
}

// rolled asserts a status and the quantities that it stands for.
func rolled(t *testing.T, o shop.Order, want shop.OrderStatus) {
	t.Helper()
	if o.Status != want {
		t.Errorf("%s is %s, want %s", o.ID, o.Status, want)
	}
	for _, l := range o.Lines {
		got := [3]int64{l.Reserved, l.Shipped, l.Cancelled}
		right := map[shop.OrderStatus][3]int64{shop.Confirmed: {l.Quantity, 0, 0}, shop.Fulfilled: {0, l.Quantity, 0},
			shop.Cancelled: {0, 0, l.Quantity}, shop.Rejected: {0, 0, l.Quantity}}[want]
		if got != right {
			t.Errorf("%s, line %d of %d pieces: %v reserved, shipped, cancelled; want %v", want, l.Line, l.Quantity, got, right)
		}
	}
}

func TestField_temporalOMS_Totals(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		s := started(t, cfg)
		seed := rand.Uint64()
		if v := os.Getenv("HOLDFAST_TEST_SEED"); v != "" {
			seed, _ = strconv.ParseUint(v, 10, 64)
		}
		t.Logf("repeat it with HOLDFAST_TEST_SEED=%d", seed)
		rng := rand.New(rand.NewPCG(seed, seed))
		prices := map[shop.SKU]shop.Amount{}
		for i := range 8 {
			sku := shop.SKU("P" + strconv.Itoa(i))
			prices[sku] = shop.Amount(rng.Int64N(100_000))
			s.Item(t, sku, prices[sku], 10_000)
		}
		for range 15 {
			var lines []shop.PlaceLine
			var sum shop.Amount
			for range 1 + rng.IntN(7) {
				sku, n := shop.SKU("P"+strconv.Itoa(rng.IntN(8))), 1+rng.Int64N(20)
				lines = append(lines, harness.Line(sku, n))
				sum += prices[sku] * shop.Amount(n)
			}
			o := s.Until(t, s.Place(t, harness.Command("tok_ok", "10115", lines...)).ID, shop.Fulfilled)
			if o.Subtotal != sum || o.Total != sum+o.Shipping+o.Tax || o.Payment.Captured != o.Total {
				t.Errorf("%+v: subtotal %d, total %d, captured %d; the lines' sum is %d", lines, o.Subtotal, o.Total, o.Payment.Captured, sum)
			}
		}
		s.Verify(t)
	})
}

func TestField_saleor14358_Idempotency(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		s := started(t, cfg)
		body, err := json.Marshal(harness.Command("tok_ok", "10115", harness.Line("TEA", 1)))
		if err != nil {
			t.Fatal(err)
		}
		first := submit(t, s, string(body))
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				if again := submit(t, s, string(body)); again != first {
					t.Errorf("two answers:\n%s\n%s", first, again)
				}
			})
		}
		group.Wait()
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		s = harness.Start(t, cfg)
		if again := submit(t, s, string(body)); again != first {
			t.Errorf("after a restart:\n%s\n%s", first, again)
		}
		if refused := submit(t, s, strings.Replace(string(body), `"quantity":1`, `"quantity":2`, 1)); !strings.HasPrefix(refused, "422 ") {
			t.Errorf("another body: %s", refused)
		}
		page, err := s.ListOrders(t.Context(), shop.OrderQuery{Limit: 10})
		if err != nil || len(page.Items) != 1 {
			t.Errorf("%d orders, want one: %v", len(page.Items), err)
		}
	})
}

// submit sends an order under always the same key until it does not run any more.
func submit(t *testing.T, s *harness.System, body string) string {
	t.Helper()
	for {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Addresses.API+"/v1/orders", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Authorization": {"Bearer " + s.Key}, "Idempotency-Key": {"double-click"}, "Content-Type": {"application/json"}}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return ""
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusConflict {
			return strconv.Itoa(resp.StatusCode) + " " + resp.Header.Get("Location") + " " + string(b)
		}
	}
}

func TestField_otel3737_Decline500(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		s := started(t, cfg)
		for token, code := range map[string]string{"tok_declined": "card_declined", "tok_insufficient_funds": "insufficient_funds"} {
			p, err := s.PlaceOrder(t.Context(), client.NewKey(), harness.Command(token, "10115", harness.Line("TEA", 1)), 20*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if p.Order.Status != shop.Rejected || p.Order.Reason != shop.ReasonPaymentDeclined {
				t.Errorf("%s: %s (%s)", token, p.Order.Status, p.Order.Reason)
			}
			if pay, err := s.GetPayment(t.Context(), p.Order.ID); err != nil || pay.DeclineCode != code {
				t.Errorf("%s: the code is %q, want %q: %v", token, pay.DeclineCode, code, err)
			}
			if n := harness.Arrivals(t, s.Addresses.PSP, "authorise", string(p.Order.ID)); n != 1 {
				t.Errorf("%s: a decline is final, and the provider was asked %d times", token, n)
			}
		}
		s.Verify(t)
	})
}

// provider runs the payment provider by itself and returns its address.
func provider(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- local.RunSim(ctx, local.SimConfig{Party: "psp", Data: t.TempDir(), Addr: "127.0.0.1:0"}, fakes.Deps(t), func(url string) { ready <- url })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case url := <-ready:
		return url
	case err := <-ended:
		ended <- err
		t.Fatal(err)
		return ""
	}
}

func TestField_otel_ChargeBeforeStore(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		var s *harness.System
		var mu sync.Mutex
		asked := map[string]bool{} // references, and whether the order could be read when the money was asked for
		target, err := url.Parse(provider(t))
		if err != nil {
			t.Fatal(err)
		}
		proxy := httputil.NewSingleHostReverseProxy(target)
		watch := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(b))
			var doc struct{ Reference string }
			if r.URL.Path == "/v1/authorisations" && json.Unmarshal(b, &doc) == nil {
				_, err := s.GetOrder(r.Context(), shop.OrderID(doc.Reference))
				mu.Lock()
				asked[doc.Reference] = err == nil
				mu.Unlock()
			}
			proxy.ServeHTTP(w, r)
		}))
		t.Cleanup(watch.Close)
		cfg.Payment.ProviderURL, cfg.Payment.Capture = watch.URL, "immediate"
		s = started(t, cfg)
		for range 20 {
			s.Until(t, s.Place(t, harness.Command("tok_ok", "10115", harness.Line("TEA", 1))).ID, shop.Fulfilled)
		}
		s.Refuse(t, "order-store.write", true)
		for range 5 {
			_, err := s.PlaceOrder(t.Context(), client.NewKey(), harness.Command("tok_ok", "10115", harness.Line("TEA", 1)), 0)
			harness.Problem(t, err, "unavailable")
		}
		s.Refuse(t, "order-store.write", false)
		s.Until(t, s.Place(t, harness.Command("tok_ok", "10115", harness.Line("TEA", 1))).ID, shop.Fulfilled)
		mu.Lock()
		defer mu.Unlock()
		if len(asked) != 21 {
			t.Errorf("money was asked for %d times, want 21", len(asked))
		}
		for reference, known := range asked {
			if !known {
				t.Errorf("money was asked for %s, which could not be read", reference)
			}
		}
	})
}
