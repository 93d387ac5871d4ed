package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"holdfast/client"
	"holdfast/shop"
)

// TestImmediateCapture charges in the saga; the compensation is a refund.
func TestImmediateCapture(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"sqlite", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			cfg := quick(t, driver)
			cfg.Payment.Capture = "immediate"
			s := start(t, cfg)
			s.item(t, "TEA", 450, 10)
			well := s.place(t, command("tok_ok", "10115", line("TEA", 1)))
			refused := s.place(t, command("tok_void_fails_2", "00001", line("TEA", 1)))
			if o := s.until(t, well.ID, shop.Fulfilled); o.Payment.Captured != o.Total {
				t.Errorf("captured %d of %d", o.Payment.Captured, o.Total)
			}
			o := s.until(t, refused.ID, shop.Rejected)
			if o.Payment.Status != shop.PaymentRefunded || o.Payment.Refunded != o.Total {
				t.Errorf("the refused order's payment is %+v", o.Payment)
			}
			s.verify(t)
		})
	}
}

// TestReads looks at what is written about one order in all places.
func TestReads(t *testing.T) {
	t.Parallel()
	each(t, reads)
}

func reads(t *testing.T, s *system) {
	s.item(t, "TEA", 450, 10)
	cmd := command("tok_ok", "10115", line("TEA", 2))
	cmd.ExternalID, cmd.CustomerID = "web-1001", "cus_reads"
	o := s.until(t, s.place(t, cmd).ID, shop.Fulfilled)
	pay, err := s.GetPayment(t.Context(), o.ID)
	if err != nil {
		t.Fatal(err)
	}
	sum := shop.Amount(0)
	for _, e := range pay.Ledger {
		sum += e.Amount
	}
	if pay.Captured != 1400 || len(pay.Attempts) != 2 || len(pay.Ledger) == 0 || sum != 0 {
		t.Errorf("the payment: %+v", pay)
	}
	ship, err := s.GetShipment(t.Context(), o.ID)
	if err != nil {
		t.Fatal(err)
	}
	if ship.Status != shop.ShipmentDispatched || ship.Tracking == "" {
		t.Errorf("the shipment: %+v", ship)
	}
	items, err := s.Timeline(t.Context(), o.ID)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, i := range items {
		told = append(told, i.What)
	}
	for _, want := range []string{"OrderPlaced", "StockReserved", "PaymentAuthorised", "ShipmentScheduled", "OrderConfirmed", "OrderFulfilled"} {
		if !slices.Contains(told, want) {
			t.Errorf("the timeline lacks %s: %v", want, told)
		}
	}
	for _, q := range []shop.OrderQuery{{Text: "web-1001"}, {Text: string(o.ID)}, {Text: "cus_reads"}, {Status: shop.Fulfilled, CustomerID: "cus_reads"}, {CustomerID: "cus_reads"}} {
		q.Limit = 10
		page, err := s.ListOrders(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Items) != 1 || page.Items[0].ID != o.ID {
			t.Errorf("%+v finds %d orders", q, len(page.Items))
		}
	}
}

// TestPages walks through a list in pages while it grows: every order once, newest first.
func TestPages(t *testing.T) {
	t.Parallel()
	each(t, pages)
}

func pages(t *testing.T, s *system) {
	s.item(t, "TEA", 450, 1000)
	cmd := command("tok_ok", "00005", line("TEA", 1))
	cmd.CustomerID = "cus_pages"
	var want []shop.OrderID
	for range 25 {
		want = append(want, s.place(t, cmd).ID)
	}
	slices.Reverse(want)
	var got []shop.OrderID
	for q := (shop.OrderQuery{CustomerID: cmd.CustomerID, Limit: 4}); ; {
		page, err := s.ListOrders(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Items {
			got = append(got, o.ID)
		}
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			break
		}
		s.place(t, cmd)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// good is an order that would be accepted.
const good = `{"customer_id":"cus_good","currency":"EUR","lines":[{"sku":"TEA","quantity":1}],"shipping_address":{"name":"A","line1":"B","city":"C","postal_code":"10115","country":"DE"},"payment_method":"tok_ok"}`

// with is good with one thing changed.
func with(old, replacement string) string { return strings.Replace(good, old, replacement, 1) }

// TestBadInput sends what must be refused: each with a problem that names the fields, and nothing stored.
func TestBadInput(t *testing.T) {
	t.Parallel()
	each(t, badInput)
}

func badInput(t *testing.T, s *system) {
	cases := []struct {
		name, body, key string
		status          int
		code            string
		pointers        []string
	}{
		{"no key", good, "", 400, "idempotency_key_missing", nil},
		{"key too long", good, strings.Repeat("k", 10_000), 422, "validation_failed", []string{"header/Idempotency-Key"}},
		{"not JSON", `{`, "k", 422, "validation_failed", nil},
		{"no body", ``, "k", 422, "validation_failed", nil},
		{"trailing data", good + `{}`, "k", 422, "validation_failed", nil},
		{"invalid UTF-8", with("cus_good", "\xff"), "k", 422, "validation_failed", nil},
		{"duplicate name", with(`"currency"`, `"currency":"EUR","currency"`), "k", 422, "validation_failed", nil},
		{"unknown name", with(`"currency"`, `"currncy":"EUR","currency"`), "k", 422, "validation_failed", []string{"/currncy"}},
		{"another case", with(`"currency"`, `"Currency"`), "k", 422, "validation_failed", nil},
		{"deep", with(`"cus_good"`, strings.Repeat("[", 5000)+strings.Repeat("]", 5000)), "k", 422, "validation_failed", nil},
		{"1 MB", with("cus_good", strings.Repeat("x", 1<<20)), "k", 413, "too_large", nil},
		{"a text for a number", with(`"quantity":1`, `"quantity":"1"`), "k", 422, "validation_failed", []string{"/lines/0/quantity"}},
		{"a number for a text", with(`"cus_good"`, `42`), "k", 422, "validation_failed", []string{"/customer_id"}},
		{"quantity 0", with(`"quantity":1`, `"quantity":0`), "k", 422, "validation_failed", []string{"/lines/0/quantity"}},
		{"quantity -1", with(`"quantity":1`, `"quantity":-1`), "k", 422, "validation_failed", []string{"/lines/0/quantity"}},
		{"quantity 1.5", with(`"quantity":1`, `"quantity":1.5`), "k", 422, "validation_failed", []string{"/lines/0/quantity"}},
		{"quantity 1e30", with(`"quantity":1`, `"quantity":1e30`), "k", 422, "validation_failed", []string{"/lines/0/quantity"}},
		{"quantity huge", with(`"quantity":1`, `"quantity":99999999999999999999`), "k", 422, "validation_failed", []string{"/lines/0/quantity"}},
		{"no lines", with(`{"sku":"TEA","quantity":1}`, ``), "k", 422, "validation_failed", []string{"/lines"}},
		{"no such currency", with(`EUR`, `XXY`), "k", 422, "validation_failed", []string{"/currency"}},
		{"another currency", with(`EUR`, `USD`), "k", 422, "validation_failed", []string{"/lines/0/sku"}},
		{"unknown SKU", with(`TEA`, `COFFEE`), "k", 422, "unknown_sku", []string{"/lines/0/sku"}},
		{"another price", with(`"quantity":1`, `"quantity":1,"expected_unit_price":449`), "k", 409, "price_changed", []string{"/lines/0/expected_unit_price"}},
		{"negative price", with(`"quantity":1`, `"quantity":1,"expected_unit_price":-450`), "k", 422, "validation_failed", []string{"/lines/0/expected_unit_price"}},
		{"a card number", with(`tok_ok`, `4111111111111111`), "k", 422, "validation_failed", []string{"/payment_method"}},
		{"orchestrated without Temporal", with(`"currency"`, `"saga":"orchestrated","currency"`), "k", 422, "validation_failed", []string{"/saga"}},
		{"several at once", strings.NewReplacer(`EUR`, `euro`, `"quantity":1`, `"quantity":0`, `"DE"`, `"Germany"`).Replace(good), "k", 422, "validation_failed",
			[]string{"/currency", "/lines/0/quantity", "/shipping_address/country"}},
	}
	s.item(t, "TEA", 450, 10)
	for _, c := range cases {
		status, kind, p := s.post(t, c.key, c.body)
		if status != c.status || p.Code != c.code || kind != "application/problem+json" {
			t.Errorf("%s: %d %s %s, want %d %s", c.name, status, p.Code, kind, c.status, c.code)
		}
		for _, want := range c.pointers {
			if !slices.ContainsFunc(p.Errors, func(f shop.Field) bool { return f.Pointer == want }) {
				t.Errorf("%s: %s is not named in %+v", c.name, want, p.Errors)
			}
		}
		if strings.Contains(p.Detail, "4111") {
			t.Errorf("%s: the answer repeats what it was sent", c.name)
		}
	}
	page, err := s.ListOrders(t.Context(), shop.OrderQuery{CustomerID: "cus_good", Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Items) > 0 {
		t.Errorf("I2: %d orders were stored", len(page.Items))
	}
	for _, key := range []string{"k", strings.Repeat("k", 255)} {
		if status, _, p := s.post(t, key, good); status != http.StatusCreated {
			t.Errorf("a key that was refused before is not free: %d %s", status, p.Detail)
		}
	}
}

// post sends a body as it is.
func (s *system) post(t *testing.T, key, body string) (status int, contentType string, p client.Problem) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.addresses.API+"/v1/orders", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode >= 400 {
		if err := json.Unmarshal(b, &p); err != nil {
			t.Fatalf("%d %s: %v", resp.StatusCode, b, err)
		}
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), p
}
