package httpx_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/platform/httpx"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/test/fakes"
)

func TestUnmatched(t *testing.T) {
	t.Parallel()
	cases := []struct {
		method, path string
		status       int
		code, allow  string
	}{
		{http.MethodGet, "/", http.StatusNotFound, "not_found", ""},
		{http.MethodGet, "/nothing", http.StatusNotFound, "not_found", ""},
		{http.MethodGet, "/things/a/b", http.StatusNotFound, "not_found", ""},
		{http.MethodGet, "/things/", http.StatusNotFound, "not_found", ""},
		{http.MethodGet, "//things/a", http.StatusNotFound, "not_found", ""},
		{http.MethodGet, "/x/../things/a", http.StatusNotFound, "not_found", ""},
		{http.MethodGet, "/things", http.StatusMethodNotAllowed, "method_not_allowed", "POST"},
		{http.MethodDelete, "/things/a", http.StatusMethodNotAllowed, "method_not_allowed", "GET, HEAD"},
		{"BREW", "/things/a", http.StatusMethodNotAllowed, "method_not_allowed", "GET, HEAD"},
	}
	for _, c := range cases {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, httpx.Config{})
			w := f.request(c.method, c.path, "")
			if p := problem(t, w); p.Status != c.status || p.Code != c.code || w.Header().Get("Allow") != c.allow {
				t.Errorf("got %d %s, Allow %q", p.Status, p.Code, w.Header().Get("Allow"))
			}
		})
	}
}

// Every kind has its row, and a problem says what the row says.
func TestKinds(t *testing.T) {
	t.Parallel()
	want := map[shop.Kind]string{
		shop.Internal: "500 internal", shop.Invalid: "422 validation_failed", shop.KeyMissing: "400 idempotency_key_missing",
		shop.KeyInProgress: "409 idempotency_in_progress 1", shop.KeyReused: "422 idempotency_key_reused", shop.Unauthenticated: "401 unauthenticated",
		shop.NotFound: "404 not_found", shop.PriceChanged: "409 price_changed", shop.UnknownSKU: "422 unknown_sku",
		shop.OrderDispatched: "409 order_dispatched", shop.VersionConflict: "412 version_conflict", shop.RateLimited: "429 rate_limited 1",
		shop.Overloaded: "503 overloaded 1", shop.Unavailable: "503 unavailable 2", shop.DeadlineExceeded: "504 deadline_exceeded 1",
		shop.TooLarge: "413 too_large", shop.Conflict: "409 conflict",
	}
	for k := shop.Internal; k <= shop.Conflict; k++ {
		t.Run(want[k], func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, httpx.Config{})
			cause := errors.New("the inside of it")
			f.err = &shop.Error{Kind: k, Op: "test.op", Msg: "What to do.", Fields: []shop.Field{{Pointer: "/code", Detail: "is odd"}}, Err: cause}
			w := f.request(http.MethodGet, "/things/a", "")
			p := problem(t, w)
			got := strings.TrimSpace(fmt.Sprintf("%d %s %s", p.Status, p.Code, w.Header().Get("Retry-After")))
			if got != want[k] || p.Retryable != k.Retryable() {
				t.Errorf("got %q, retryable %v", got, p.Retryable)
			}
			for _, inside := range []string{"the inside", "test.op"} {
				if strings.Contains(w.Body.String(), inside) {
					t.Errorf("the inside is told: %s", w.Body)
				}
			}
			if k != shop.Internal && (p.Detail != "What to do." || len(p.Errors) != 1 || p.Errors[0].Pointer != "/code") {
				t.Errorf("got %+v", p)
			}
			if (w.Header().Get("WWW-Authenticate") != "") != (k == shop.Unauthenticated) {
				t.Errorf("WWW-Authenticate %q", w.Header().Get("WWW-Authenticate"))
			}
		})
	}
}

// What nobody foresaw is a 500 that tells nothing and is logged once with its cause.
func TestInternal(t *testing.T) {
	t.Parallel()
	failures := map[string]func(context.Context) error{
		"unknown error": func(context.Context) error { return errors.New("secret cause") },
		"wrapped cause": func(context.Context) error {
			return shop.Wrap(shop.Internal, "x", "secret message", errors.New("secret cause"))
		},
		"panic":          func(context.Context) error { panic("secret cause") },
		"nil dereferred": func(context.Context) error { var p *thing; p.Code = "secret cause"; return nil },
	}
	for name, fail := range failures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, httpx.Config{})
			f.do = fail
			w := f.request(http.MethodGet, "/things/a", "", "X-Request-Id", "req-7")
			p := problem(t, w)
			if p.Status != http.StatusInternalServerError || p.Code != "internal" || p.RequestID != "req-7" || strings.Contains(w.Body.String(), "secret") {
				t.Errorf("got %s", w.Body)
			}
			if n := strings.Count(f.log.String(), `"msg":"request answered"`); n != 1 || !strings.Contains(f.log.String(), `"level":"ERROR"`) || !strings.Contains(f.log.String(), "req-7") {
				t.Errorf("logged %d times: %s", n, f.log)
			}
		})
	}
}

func TestContextErrors(t *testing.T) {
	t.Parallel()
	f := newFixture(t, httpx.Config{Timeout: 40 * time.Second})
	var left time.Duration
	f.do = func(ctx context.Context) error {
		at, ok := ctx.Deadline()
		if !ok {
			return errors.New("no deadline")
		}
		left = time.Until(at)
		return nil
	}
	for header, most := range map[string]time.Duration{"": 40 * time.Second, "2.5": 2500 * time.Millisecond, "3600": 40 * time.Second, "1e9": 40 * time.Second} {
		if w := f.request(http.MethodGet, "/things/a", "", "Request-Timeout", header); w.Code != http.StatusOK {
			t.Fatalf("%s: %s", header, w.Body)
		}
		if left > most || left < most-2*time.Second {
			t.Errorf("Request-Timeout %q left %v, want %v", header, left, most)
		}
	}
	for _, header := range []string{"0", "-1", "NaN", "soon", "1s", "+Inf x"} {
		p := problem(t, f.request(http.MethodGet, "/things/a", "", "Request-Timeout", header))
		if p.Status != http.StatusUnprocessableEntity || len(p.Errors) != 1 || p.Errors[0].Pointer != "header/Request-Timeout" {
			t.Errorf("Request-Timeout %q: %+v", header, p)
		}
	}
	f.do = func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("read: %w", ctx.Err()) }
	if p := problem(t, f.request(http.MethodGet, "/things/a", "", "Request-Timeout", "0.001")); p.Code != "deadline_exceeded" {
		t.Errorf("got %+v", p)
	}
	f.do = func(context.Context) error { return context.Canceled }
	if p := problem(t, f.request(http.MethodGet, "/things/a", "")); p.Code != "unavailable" || !p.Retryable {
		t.Errorf("got %+v", p)
	}
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	f := newFixture(t, httpx.Config{})
	for _, header := range []string{"-", "", "Bearer", "Bearer ", "Bearer wrong-key-wrong-key", "Basic " + testKey, testKey, "Bearer " + testKey + "x", "Bearer  " + testKey} {
		w := f.request(http.MethodGet, "/things/a", "", "Authorization", header)
		if p := problem(t, w); p.Status != http.StatusUnauthorized || p.Code != "unauthenticated" || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("Authorization %q: %d %s", header, p.Status, p.Code)
		}
	}
	// Who may not come in learns nothing of what is wrong with the rest.
	if p := problem(t, f.request(http.MethodPost, "/things?x=1", "{", "Authorization", "-", "Idempotency-Key", "-")); p.Status != http.StatusUnauthorized {
		t.Errorf("got %+v", p)
	}
	w := f.request(http.MethodGet, "/things/a", "", "Authorization", "bearer "+testKey)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"caller":"tester"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if _, err := httpx.NewKeys(map[string]shop.Caller{"short": "x"}); err == nil {
		t.Error("a short key was taken")
	}
}

func TestIdempotencyKeyForm(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, key string
		status    int
	}{
		{"missing", "-", http.StatusBadRequest},
		{"empty", "", http.StatusBadRequest},
		{"1 byte", "k", http.StatusOK},
		{"255 bytes", strings.Repeat("k", 255), http.StatusOK},
		{"256 bytes", strings.Repeat("k", 256), http.StatusUnprocessableEntity},
		{"10,000 bytes", strings.Repeat("k", 10000), http.StatusUnprocessableEntity},
		{"with spaces inside", "a key", http.StatusOK},
		{"not ASCII", "ключ", http.StatusUnprocessableEntity},
		{"control character", "a\x01b", http.StatusUnprocessableEntity},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, httpx.Config{})
			w := f.request(http.MethodPost, "/things", goodThing, "Idempotency-Key", c.key)
			if w.Code != c.status || (f.got != nil) != (c.status == http.StatusOK) {
				t.Fatalf("got %d, handler ran: %v: %s", w.Code, f.got != nil, w.Body)
			}
			switch c.status {
			case http.StatusBadRequest:
				if p := problem(t, w); p.Code != "idempotency_key_missing" {
					t.Errorf("got %s", p.Code)
				}
			case http.StatusUnprocessableEntity:
				if p := problem(t, w); p.Code != "validation_failed" || len(p.Errors) != 1 || p.Errors[0].Pointer != "header/Idempotency-Key" {
					t.Errorf("got %+v", p)
				}
			}
		})
	}
}

func TestIdempotencyKeyTwice(t *testing.T) {
	t.Parallel()
	f := newFixture(t, httpx.Config{})
	r := httptest.NewRequest(http.MethodPost, "/things", strings.NewReader(goodThing))
	r.Header = http.Header{"Authorization": {"Bearer " + testKey}, "Idempotency-Key": {"a", "b"}}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	if got := faults(problem(t, w)); !slices.Equal(got, []string{"header/Idempotency-Key must not be given twice"}) || f.got != nil {
		t.Errorf("got %q", got)
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	cases := map[string][]string{
		"limit=0":                    {"query/limit"},
		"limit=x":                    {"query/limit"},
		"limit=1.5":                  {"query/limit"},
		"limit=5&foo=1":              {"query/foo"},
		"Limit=5":                    {"query/Limit"},
		"a=1&b=2":                    {"query/a", "query/b"},
		"text=a&text=b":              {"query/text"},
		"text=%ff":                   {"query/text"},
		"text=%00":                   {"query/text"},
		"text=%zz":                   {"query"},
		"text=a;b":                   {"query"},
		"limit=99999999999999999999": {"query/limit"},
	}
	for query, want := range cases {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, httpx.Config{})
			var got []string
			for _, e := range problem(t, f.request(http.MethodPost, "/things?"+query, goodThing)).Errors {
				got = append(got, e.Pointer)
			}
			slices.Sort(got)
			if !slices.Equal(slices.Compact(got), want) || f.got != nil {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// A body where none belongs is refused, but for the {} that many clients send.
func TestBodyWhereNoneBelongs(t *testing.T) {
	t.Parallel()
	for body, status := range map[string]int{
		"": http.StatusOK, "{}": http.StatusOK, " { ": http.StatusUnprocessableEntity, `{"a":1}`: http.StatusUnprocessableEntity,
		strings.Repeat("x", 100): http.StatusRequestEntityTooLarge,
	} {
		f := newFixture(t, httpx.Config{})
		if w := f.request(http.MethodGet, "/things/a", body); w.Code != status {
			t.Errorf("%q: %d %s", body, w.Code, w.Body)
		}
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	f := newFixture(t, httpx.Config{})
	for id, kept := range map[string]bool{
		"req-1": true, "0192f1c2-7b7e-7c3a-9d55-0242ac120002": true, strings.Repeat("a", 64): true, "123": true,
		"": false, strings.Repeat("a", 65): false, "a b": false, "a\"b": false, "ä": false, "<script>": false,
		"4111111111111111": false, "4111-1111-1111-1111": false,
	} {
		w := f.request(http.MethodGet, "/things/toolongforanid", "", "X-Request-Id", id)
		got := w.Header().Get("X-Request-Id")
		if (got == id) != kept || got == "" {
			t.Errorf("X-Request-Id %q came back as %q", id, got)
		}
		if p := problem(t, w); p.RequestID != got || p.Instance != "urn:holdfast:request:"+got {
			t.Errorf("the problem says %q and %q", p.RequestID, p.Instance)
		}
	}
}

func TestTraceParent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, httpx.Config{})
	const trace = "0af7651916cd43dd8448eb211c80319c"
	w := f.request(http.MethodGet, "/things/toolongforanid", "", "Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	out := w.Header().Get("Traceparent")
	if !strings.HasPrefix(out, "00-"+trace+"-") || strings.Contains(out, "b7ad6b7169203331") {
		t.Errorf("Traceparent out is %q", out)
	}
	if p := problem(t, w); p.TraceID != trace {
		t.Errorf("the problem says trace %q", p.TraceID)
	}
	w = f.request(http.MethodGet, "/things/a", "", "Traceparent", "nonsense")
	if w.Code != http.StatusOK || len(w.Header().Get("Traceparent")) != 55 {
		t.Errorf("after nonsense: %d %q", w.Code, w.Header().Get("Traceparent"))
	}
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(t, httpx.Config{})
	for _, path := range []string{"/things/a", "/nothing", "/things/toolongforanid"} {
		h := f.request(http.MethodGet, path, "").Header()
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
		} {
			if h.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, h.Get(name))
			}
		}
		if h.Get("Link") != "" || h.Get("Server") != "" {
			t.Errorf("%s: headers that nobody asked for: %v", path, h)
		}
	}
}

// Answers are JSON as it is, without HTML escapes, $schema or null lists.
func TestAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(t, httpx.Config{})
	body := `{"code":"AB","parts":[{"name":"<a&b>","quantity":1}],"owner":{"name":"o"},"labels":{"b":"2","a":"1"}}`
	w := f.request(http.MethodPost, "/things", body, "Accept", "text/html")
	want := `{"code":"AB","parts":[{"name":"<a&b>","quantity":1}],"owner":{"name":"o"},"big":0,"on":false,"labels":{"a":"1","b":"2"}}`
	if got := strings.TrimSpace(w.Body.String()); got != want || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%s: %s", w.Header().Get("Content-Type"), got)
	}
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	released := 0
	refuse := false
	api, err := httpx.New(httpx.Config{}, httpx.Parts{
		Deps: fakes.Deps(t), Tel: telemetry.Nop(),
		Admit: func(r httpx.Route, _ *http.Request) (func(int), error) {
			if refuse {
				return nil, shop.E(shop.Overloaded, "test", "Later.")
			}
			return func(status int) {
				released++
				if status != http.StatusOK {
					t.Errorf("released with %d", status)
				}
			}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	api.Page(http.MethodGet, "/page", true, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		httpx.WriteJSON(w, http.StatusOK, "hello")
	}))
	get := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/page", nil))
		return w
	}
	if w := get(); w.Code != http.StatusOK || released != 1 {
		t.Errorf("%d, released %d", w.Code, released)
	}
	refuse = true
	if p := problem(t, get()); p.Code != "overloaded" || released != 1 {
		t.Errorf("%+v, released %d", p, released)
	}
}

// A schema that says what is not checked does not get past registration.
func TestUncheckedSchemaPanics(t *testing.T) {
	t.Parallel()
	f := newFixture(t, httpx.Config{})
	defer func() {
		if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), "format") {
			t.Errorf("recovered %v", v)
		}
	}()
	type input struct {
		Body struct {
			At time.Time `json:"at"`
		}
	}
	httpx.Register(f.API, httpx.Op{ID: "x", Method: http.MethodPost, Path: "/x"}, func(context.Context, *input) (*thingOutput, error) { return nil, nil })
}
