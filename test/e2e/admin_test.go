package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"holdfast/shop"
)

// admin sends a request to the operator's listener and decodes the answer.
func (s *system) admin(t *testing.T, method, path string, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.addresses.Admin+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", "admin-"+strings.ReplaceAll(path, "/", "-"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, b, err)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

func (s *system) stuck(t *testing.T) []shop.Order {
	t.Helper()
	var list struct {
		Items []shop.Order `json:"items"`
	}
	s.admin(t, http.MethodGet, "/admin/v1/stuck-orders", &list)
	return list.Items
}

func (s *system) retry(t *testing.T, id shop.OrderID) {
	t.Helper()
	s.admin(t, http.MethodPost, "/admin/v1/orders/"+string(id)+"/retry", nil)
}
