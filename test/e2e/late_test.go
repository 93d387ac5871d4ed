package e2e_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast/check/chaos"
	"holdfast/shop"
	"holdfast/test/harness"
)

// lateSuccess: every attempt at the order's payment has failed, the provider knows of none, and the order was given up.
// Then a request that was long on its way arrives there, and is done. The money goes back.
func lateSuccess(t *testing.T, s *system) func(*testing.T) string {
	s.item(t, "LATE", 450, 10)
	placed := s.place(t, command("tok_error", "10115", line("LATE", 2)))
	return func(t *testing.T) string {
		o := s.until(t, placed.ID, ended...)
		was := state(o)
		// tok_webhook_first has the provider answer when Holdfast has taken its word.
		body, err := json.Marshal(map[string]any{"amount": o.Total, "currency": o.Currency, "payment_method": "tok_webhook_first", "reference": o.ID})
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.addresses.PSP+"/v1/authorisations", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Idempotency-Key", string(o.ID)+":authorise") // as every attempt of Holdfast's has it
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusCreated {
			t.Fatalf("the provider answers %d %s", resp.StatusCode, b)
		}
		eventually(t, "the money goes back", func() bool {
			if o, err = s.GetOrder(t.Context(), o.ID); err != nil {
				t.Fatal(err)
			}
			return o.Payment.Status == shop.PaymentVoided
		})
		return was + ", then " + s.end(t, o.ID, "LATE")
	}
}

// expiresWhilePaying: the provider is asked for the money, and nobody learns what it did until the stock is no longer
// held for the order. The order never came about, and what is held in the end goes back.
func expiresWhilePaying(t *testing.T, s *system) string {
	s.item(t, "EXPIRES", 450, 10)
	s.faults(t, s.addresses.PSP, chaos.Wrong{Operation: "authorise", Lose: "request"}, chaos.Wrong{Operation: "query", Status: http.StatusInternalServerError})
	heal := sync.OnceFunc(func() { s.faults(t, s.addresses.PSP) })
	defer heal()
	o := s.place(t, command("tok_ok", "10115", line("EXPIRES", 2)))
	eventually(t, "the provider is asked", func() bool { return harness.Arrivals(t, s.addresses.PSP, "authorise", string(o.ID)) > 0 })
	s.expire(t, o.ID)
	eventually(t, "the reservation has expired, and there will be no parcel", func() bool {
		items, err := s.Timeline(t.Context(), o.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range items {
			if i.What == string(shop.EventShipmentCancelled) {
				return true
			}
		}
		return false
	})
	heal()
	s.until(t, o.ID, ended...)
	return s.end(t, o.ID, "EXPIRES")
}

// expire has the reservation of an order end now, in the store: a quarter of an hour is long for a test.
func (s *system) expire(t *testing.T, id shop.OrderID) {
	t.Helper()
	const inventory = "inventory"
	driver, dsn := "sqlite", "file:"+filepath.Join(s.Stores.Data, inventory+".db")+"?_pragma=busy_timeout(5000)"
	if s.Stores.DSN != "" {
		driver, dsn = "pgx", strings.ReplaceAll(s.Stores.DSN, "{service}", inventory)
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	changed, err := db.ExecContext(t.Context(), `UPDATE reservations SET expires_at = 0 WHERE status = 'reserved' AND order_id = $1`, string(id))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := changed.RowsAffected(); n != 1 || err != nil {
		t.Fatalf("%d reservations of %s: %v", n, id, err)
	}
}
