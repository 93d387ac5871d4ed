package e2e_test

import (
	"net/http"
	"testing"

	"holdfast/shop"
)

func (s *system) admin(t *testing.T, method, path string, into any) {
	t.Helper()
	s.Admin(t, method, path, into)
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
