package carrier_test

import (
	"strings"
	"testing"
	"time"

	"holdfast/sim/carrier"
	"holdfast/test/fakes"
)

func TestBadInput(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	doc := p.schedule("00005", "a")
	good := parcel("10115")
	lines := `[{"line":1,"sku":"TEA","quantity":2}]`
	for name, c := range map[string]struct {
		status          int
		path, key, body string
	}{
		"no key":            {400, "", "", good},
		"long key":          {400, "", strings.Repeat("k", 256), good},
		"no body":           {400, "", "k", ""},
		"no object":         {400, "", "k", `[]`},
		"cut off":           {400, "", "k", good[:20]},
		"trailing data":     {400, "", "k", good + "{}"},
		"no address":        {400, "", "k", `{"reference":"ord_1","lines":` + lines + `}`},
		"no postal code":    {400, "", "k", parcel("")},
		"no reference":      {400, "", "k", strings.Replace(good, "ord_1", "", 1)},
		"long reference":    {400, "", "k", strings.Replace(good, "ord_1", strings.Repeat("r", 65), 1)},
		"no lines":          {400, "", "k", strings.Replace(good, lines, "[]", 1)},
		"many lines":        {400, "", "k", strings.Replace(good, lines, "["+strings.Repeat(lines[1:len(lines)-1]+",", 1000)+lines[1:], 1)},
		"no sku":            {400, "", "k", strings.Replace(good, "TEA", "", 1)},
		"quantity zero":     {400, "", "k", strings.Replace(good, `"quantity":2`, `"quantity":0`, 1)},
		"quantity a string": {400, "", "k", strings.Replace(good, `"quantity":2`, `"quantity":"2"`, 1)},
		"large":             {413, "", "k", `{"x":"` + strings.Repeat("x", 1<<20) + `"}`},
		"no parcel":         {404, "/par_none/cancel", "k", `{}`},
		"cancel, no key":    {400, "/" + doc.ID + "/cancel", "", `{}`},
		"cancel, no body":   {400, "/" + doc.ID + "/cancel", "k", ``},
	} {
		a := p.must(c.status, "POST", "/v1/shipments"+c.path, c.key, c.body)
		if decode[document](t, a.body).Code == "" || strings.Contains(a.body, "Long Street") {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	for _, path := range []string{"/v1/shipments/par_none", "/v1/operations/k", "/", "/v1/shipments"} {
		if got := decode[document](t, p.must(404, "GET", path, "", "").body); got.Code != "not_found" {
			t.Errorf("GET %s: %+v", path, got)
		}
	}
	p.until("scheduled a")
	p.must(200, "GET", "/healthz", "", "")
}

// TestNoAddressIsKept: the ledger says nothing about where a parcel goes.
func TestNoAddressIsKept(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.schedule("10115", "a")
	ledger := p.must(200, "GET", "/ledger", "", "").body
	for _, secret := range []string{"Reader", "Long Street", "Berlin", "10115"} {
		if strings.Contains(ledger, secret) {
			t.Errorf("%s stands in the ledger: %s", secret, ledger)
		}
	}
}

type arrivals struct {
	Total       int64            `json:"total"`
	ByOperation map[string]int64 `json:"by_operation"`
	Repeated    int64            `json:"keys_repeated"`
}

func TestArrivals(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	doc := p.schedule("00005", "a")
	p.schedule("00005", "a")
	p.must(500, "POST", "/v1/shipments", "e", strings.Replace(parcel("00003"), "ord_1", "ord_2", 1))
	p.query(404, "e")
	p.cancel(200, doc.ID, "c")
	p.query(200, "c")
	p.must(200, "GET", "/v1/shipments/"+doc.ID, "", "")
	p.must(200, "GET", "/v1/rates", "", "")
	for query, want := range map[string]arrivals{
		"":                 {8, map[string]int64{"schedule": 3, "cancel": 1, "query": 3, "rates": 1}, 1},
		"?reference=ord_1": {5, map[string]int64{"schedule": 2, "cancel": 1, "query": 2}, 0},
		"?reference=ord_2": {2, map[string]int64{"schedule": 1, "cancel": 0, "query": 1}, 0},
	} {
		got := decode[arrivals](t, p.must(200, "GET", "/arrivals"+query, "", "").body)
		same := got.Total == want.Total && got.Repeated == want.Repeated
		for op, n := range want.ByOperation {
			same = same && got.ByOperation[op] == n
		}
		if !same {
			t.Errorf("%q: %+v, want %+v", query, got, want)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*carrier.Config){
		"no directory": func(c *carrier.Config) { c.Dir = "" },
		"dispatch":     func(c *carrier.Config) { c.DispatchAfter = -1 },
		"url":          func(c *carrier.Config) { c.WebhookURL = "somewhere" },
		"secret":       func(c *carrier.Config) { c.WebhookSecret = "" },
		"sync":         func(c *carrier.Config) { c.SyncEvery = time.Minute },
		"not a folder": func(c *carrier.Config) { c.Dir = "/dev/null/x" },
		"no rates":     func(c *carrier.Config) { c.Rates = nil },
		"no rest":      func(c *carrier.Config) { c.Rates = map[string]int64{"DE": 390} },
		"small letter": func(c *carrier.Config) { c.Rates["de"] = 390 },
		"three":        func(c *carrier.Config) { c.Rates["DEU"] = 390 },
		"negative fee": func(c *carrier.Config) { c.Rates["DE"] = -1 },
		"high fee":     func(c *carrier.Config) { c.Rates["*"] = 1_000_001 },
	} {
		c := carrier.Defaults()
		c.Dir, c.WebhookURL, c.WebhookSecret = t.TempDir(), "http://127.0.0.1:1/webhooks/carrier", secret
		change(&c)
		if sim, err := carrier.New(c, fakes.Deps(t)); err == nil {
			t.Errorf("%s: accepted", name)
			_ = sim.Close()
		}
	}
}
