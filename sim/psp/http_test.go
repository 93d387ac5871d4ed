package psp_test

import (
	"strings"
	"testing"
)

func TestBadInput(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	a := p.authorise("tok_ok", "a")
	good := authorisation("tok_ok")
	for name, c := range map[string]struct {
		status          int
		path, key, body string
	}{
		"no key":            {400, "", "", good},
		"long key":          {400, "", strings.Repeat("k", 256), good},
		"key not ASCII":     {400, "", "clé", good},
		"no body":           {400, "", "k", ""},
		"no object":         {400, "", "k", `[]`},
		"null":              {400, "", "k", `null`},
		"cut off":           {400, "", "k", good[:20]},
		"trailing data":     {400, "", "k", good + "{}"},
		"amount a string":   {400, "", "k", strings.Replace(good, "1400", `"1400"`, 1)},
		"amount a fraction": {400, "", "k", strings.Replace(good, "1400", "14.5", 1)},
		"amount too large":  {400, "", "k", strings.Replace(good, "1400", "9223372036854775808", 1)},
		"amount zero":       {400, "", "k", strings.Replace(good, "1400", "0", 1)},
		"amount negative":   {400, "", "k", strings.Replace(good, "1400", "-1", 1)},
		"currency":          {400, "", "k", strings.Replace(good, "EUR", "EURO", 1)},
		"no currency":       {400, "", "k", strings.Replace(good, "EUR", "", 1)},
		"no reference":      {400, "", "k", strings.Replace(good, "ord_1", "", 1)},
		"long reference":    {400, "", "k", strings.Replace(good, "ord_1", strings.Repeat("r", 65), 1)},
		"reference control": {400, "", "k", strings.Replace(good, "ord_1", `\u0000`, 1)},
		"no token":          {400, "", "k", strings.Replace(good, "tok_ok", "4242424242424242", 1)},
		"large":             {413, "", "k", `{"x":"` + strings.Repeat("x", 1<<20) + `"}`},
		"no authorisation":  {404, "/auth_none/void", "k", `{}`},
		"no operation":      {404, "/" + a.ID + "/steal", "k", `{}`},
		"capture a string":  {400, "/" + a.ID + "/capture", "k", `{"amount":"1"}`},
		"void without key":  {400, "/" + a.ID + "/void", "", `{}`},
	} {
		got := decode[document](t, p.must(c.status, "POST", "/v1/authorisations"+c.path, c.key, c.body).body)
		if got.Code == "" {
			t.Errorf("%s: no code", name)
		}
	}
	for _, path := range []string{"/v1/authorisations/auth_none", "/v1/operations/k", "/", "/v1/authorisations", "/v1/operations/"} {
		if got := decode[document](t, p.must(404, "GET", path, "", "").body); got.Code != "not_found" {
			t.Errorf("GET %s: %+v", path, got)
		}
	}
	if entries, _ := p.entries(); len(entries) != 1 {
		t.Errorf("the ledger: %v", entries)
	}
	p.must(200, "GET", "/healthz", "", "")
}

// TestOddNames: keys and references may hold what JSON and paths have to escape.
func TestOddNames(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	const odd = `a"b\c/d%2Fe?f#g,"key":"x","note":"failed`
	reference := `"o\r/`
	body := strings.Replace(authorisation("tok_ok"), "ord_1", strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(reference), 1)
	p.must(201, "POST", "/v1/authorisations", odd, body)
	for range 2 {
		if op := p.query(200, odd); op.Key != odd || op.Authorisation.Reference != reference {
			t.Errorf("%+v", op)
		}
		p.query(404, "x")
		p.restart()
	}
	if again := p.must(201, "POST", "/v1/authorisations", odd, body); !again.replayed {
		t.Errorf("%+v", again)
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
	a := p.authorise("tok_ok", "a")
	p.authorise("tok_ok", "a")
	p.must(500, "POST", "/v1/authorisations", "e", strings.Replace(authorisation("tok_error"), "ord_1", "ord_2", 1))
	p.query(404, "e")
	p.query(404, "who knows")
	p.must(400, "POST", "/v1/authorisations", "", authorisation("tok_ok"))
	p.change(200, a.ID, "capture", "c", `{"amount":1400}`)
	p.change(409, a.ID, "void", "v", `{}`)
	p.change(200, a.ID, "refund", "r", `{"amount":1}`)
	p.query(200, "c")
	p.must(200, "GET", "/v1/authorisations/"+a.ID, "", "")
	for query, want := range map[string]arrivals{
		"":                  {11, map[string]int64{"authorise": 4, "capture": 1, "void": 1, "refund": 1, "query": 4}, 1},
		"?reference=ord_1":  {7, map[string]int64{"authorise": 2, "capture": 1, "void": 1, "refund": 1, "query": 2}, 0},
		"?reference=ord_2":  {2, map[string]int64{"authorise": 1, "capture": 0, "void": 0, "refund": 0, "query": 1}, 0},
		"?reference=nobody": {0, map[string]int64{"authorise": 0, "capture": 0, "void": 0, "refund": 0, "query": 0}, 0},
	} {
		got := decode[arrivals](t, p.must(200, "GET", "/arrivals"+query, "", "").body)
		same := got.Total == want.Total && got.Repeated == want.Repeated && len(got.ByOperation) == len(want.ByOperation)
		for op, n := range want.ByOperation {
			same = same && got.ByOperation[op] == n
		}
		if !same {
			t.Errorf("%q: %+v, want %+v", query, got, want)
		}
	}
}
