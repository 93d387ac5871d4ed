package app_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"holdfast/app"
	"holdfast/test/fakes"
	"holdfast/test/postgres"
)

// TestExamine: what is there is well, and what is not is named by its setting, with what to do.
func TestExamine(t *testing.T) {
	t.Parallel()
	there := httptest.NewServer(http.NotFoundHandler())
	defer there.Close()
	cfg := app.Defaults()
	cfg.Target = []string{"inventory"}
	cfg.Store.DSN = postgres.Databases(t, "inventory")
	cfg.Bus.Seeds, cfg.Temporal.Address = []string{"127.0.0.1:1"}, "127.0.0.1:1"
	cfg.Services = map[string][]string{"order": {there.URL}, "payment": {"http://127.0.0.1:1"}}
	cfg.Bus.TLS.CAFile = "missing.pem"
	got := map[string]bool{}
	for _, f := range app.Examine(t.Context(), cfg, fakes.Deps(t)) {
		got[f.Check] = f.OK
		if f.Detail == "" || !f.OK && f.Fix == "" {
			t.Errorf("%+v does not say what to do", f)
		}
	}
	want := map[string]bool{"inventory store": false, "kafka": false, "temporal": false, "services.order": true, "services.payment": false, "bus.tls.ca_file": false}
	for check, ok := range want {
		if is, looked := got[check]; !looked || is != ok {
			t.Errorf("%s: well %t, looked at %t", check, is, looked)
		}
	}
}
