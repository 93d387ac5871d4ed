package e2e_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"holdfast/check/audit"
	"holdfast/shop"
)

// verifiesItself has the process of the orders check the invariants over the stores of all services, as it does every
// hour, and tell of it on its metrics.
func verifiesItself(t *testing.T, s *system) {
	var r audit.Report
	s.admin(t, http.MethodPost, "/admin/v1/verify", &r)
	if r.Counts.Orders == 0 || len(r.Results) == 0 {
		t.Errorf("it has looked at %+v", r.Counts)
	}
	for _, x := range r.Failed() {
		for _, o := range x.Items {
			if !s.waits(shop.OrderID(o.ID)) {
				t.Errorf("%s %s: %s", x.ID, o.ID, o.Detail)
			}
		}
	}
	if told := s.Metrics(t); !strings.Contains(told, `holdfast_verify_violations{`) {
		t.Errorf("its metrics do not tell of it:\n%s", told)
	}
}

func (s *system) waits(id shop.OrderID) bool { return slices.Contains(s.waiting, id) }
