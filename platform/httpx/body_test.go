package httpx_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"holdfast/platform/httpx"
)

const goodThing = `{"code":"AB","parts":[{"name":"a","quantity":1}],"owner":{"name":"o"}}`

func TestBodyAccepted(t *testing.T) {
	t.Parallel()
	bodies := map[string]string{
		"least":               goodThing,
		"everything":          `{"code":"AB","style":"fancy","parts":[{"name":"a","quantity":1},{"name":"b","quantity":100}],"owner":{"name":""},"amount":0,"big":-9223372036854775808,"on":true,"labels":{"a":"b","c":""}}`,
		"any order and space": " {\n\"owner\" : {\"name\":\"\\u00e9\\\"\"},\"parts\":[ {\"quantity\":1,\"name\":\"a\"} ],\"code\":\"A\\u0042\"}\r\n",
		"eight characters":    `{"code":"AB","parts":[{"name":"ääääääää","quantity":1}],"owner":{"name":"日本語日本語日本"}}`,
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, httpx.Config{})
			if w := f.request(http.MethodPost, "/things", body); w.Code != http.StatusOK {
				t.Fatalf("%d: %s", w.Code, w.Body)
			}
			if f.got.Code != "AB" {
				t.Errorf("the handler got %+v", f.got)
			}
		})
	}
}

func TestBodyRefused(t *testing.T) {
	t.Parallel()
	with := func(member string) string { return strings.TrimSuffix(goodThing, "}") + "," + member + "}" }
	parts := func(list string) string { return `{"code":"AB","owner":{"name":"o"},"parts":` + list + `}` }
	cases := []struct {
		name, body string
		want       []string
	}{
		{"empty", "", []string{" must be a JSON object: the body is empty"}},
		{"spaces", "  \n", []string{" must be a JSON object: the body is empty"}},
		{"null", "null", []string{" must not be null"}},
		{"a list", "[]", []string{" must be an object"}},
		{"a string", `"x"`, []string{" must be an object"}},
		{"no members", "{}", []string{"/code is required", "/owner is required", "/parts is required"}},
		{"cut off", goodThing[:20], []string{" must be complete JSON: the body ends in the middle of a value"}},
		{"not JSON", "code=AB", []string{" must be JSON: it cannot be read from byte 0 on"}},
		{"a comma too many", `{"code":"AB",}`, []string{" must be JSON: it cannot be read from byte 12 on"}},
		{"single quotes", `{'code':'AB'}`, []string{" must be JSON: it cannot be read from byte 1 on"}},
		{"NaN", with(`"big":NaN`), []string{"/big must be JSON: it cannot be read from byte 76 on"}},
		{"leading zero", with(`"big":01`), []string{" must be JSON: it cannot be read from byte 77 on"}},
		{"trailing value", goodThing + "{}", []string{" must be one JSON value: something follows it"}},
		{"trailing text", goodThing + " x", []string{" must be one JSON value: something follows it"}},
		{"byte order mark", "\ufeff" + goodThing, []string{" must be JSON: it cannot be read from byte 0 on"}},
		{"invalid UTF-8", with("\"style\":\"\xff\""), []string{"/style must be UTF-8: it is not at byte 79"}},
		{"half a surrogate", with(`"style":"\ud800"`), []string{"/style must be JSON: it cannot be read from byte 79 on"}},
		{"U+0000", `{"code":"AB","parts":[{"name":"a\u0000","quantity":1}],"owner":{"name":"o"}}`, []string{"/parts/0/name must not contain the character U+0000"}},
		{"unknown member", with(`"colour":"red"`), []string{"/colour is not a known field"}},
		{"unknown member deep", parts(`[{"name":"a","quantity":1,"x":[{"y":{}}]}]`), []string{"/parts/0/x is not a known field"}},
		{"wrong case", with(`"Style":"plain"`), []string{`/Style is not a known field: "style" is, and case matters`}},
		{"given twice", with(`"code":"CD"`), []string{"/code must not be given twice"}},
		{"given twice deep", parts(`[{"name":"a","quantity":1,"quantity":2}]`), []string{"/parts/0/quantity must not be given twice"}},
		{"escaped name twice", with(`"\u0063ode":"CD"`), []string{"/code must not be given twice"}},
		{"null for required", `{"code":null,"parts":[null],"owner":{"name":"o"}}`, []string{"/code must not be null", "/parts/0 must not be null"}},
		{"null for optional", with(`"style":null`), []string{"/style must not be null: leave it out instead"}},
		{"wrong types", `{"code":1,"parts":{},"owner":[],"on":"yes","labels":7,"amount":true}`, []string{
			"/amount must be a whole number", "/code must be a string", "/labels must be an object", "/on must be true or false",
			"/owner must be an object", "/parts must be a list",
		}},
		{"pattern", `{"code":"ab","parts":[{"name":"a","quantity":1}],"owner":{"name":"o"}}`, []string{"/code must be two capitals"}},
		{"pattern with a line break", `{"code":"AB\n","parts":[{"name":"a","quantity":1}],"owner":{"name":"o"}}`, []string{"/code must be two capitals"}},
		{"enum", with(`"style":"Plain"`), []string{"/style must be one of plain, fancy"}},
		{"lengths", `{"code":"AB","parts":[{"name":"","quantity":1},{"name":"123456789","quantity":1}],"owner":{"name":"123456789"}}`, []string{
			"/owner/name must have at most 8 characters", "/parts/0/name must have 1 to 8 characters", "/parts/1/name must have 1 to 8 characters",
		}},
		{"zero", parts(`[{"name":"a","quantity":0}]`), []string{"/parts/0/quantity must be 1 to 100"}},
		{"negative", parts(`[{"name":"a","quantity":-1}]`), []string{"/parts/0/quantity must be 1 to 100"}},
		{"above", parts(`[{"name":"a","quantity":101}]`), []string{"/parts/0/quantity must be 1 to 100"}},
		{"huge", parts(`[{"name":"a","quantity":99999999999999999999999}]`), []string{"/parts/0/quantity must be 1 to 100"}},
		{"beyond 64 bits", with(`"big":9223372036854775808`), []string{"/big must fit 64 bits"}},
		{"fraction", parts(`[{"name":"a","quantity":1.5}]`), []string{"/parts/0/quantity must be a whole number, written without a fraction or an exponent"}},
		{"whole fraction", parts(`[{"name":"a","quantity":1.0}]`), []string{"/parts/0/quantity must be a whole number, written without a fraction or an exponent"}},
		{"exponent", parts(`[{"name":"a","quantity":1e1}]`), []string{"/parts/0/quantity must be a whole number, written without a fraction or an exponent"}},
		{"number as text", parts(`[{"name":"a","quantity":"1"}]`), []string{"/parts/0/quantity must be a whole number"}},
		{"no entries", parts(`[]`), []string{"/parts must have 1 to 3 entries"}},
		{"too many entries", parts(`[{"name":"a","quantity":1},{"name":"a","quantity":1},{"name":"a","quantity":1},{"name":"","quantity":0}]`), []string{"/parts must have 1 to 3 entries"}},
		{"too many keys", with(`"labels":{"a":"","b":"","c":"","d":""}`), []string{"/labels must have at most 2 entries"}},
		{"key twice", with(`"labels":{"a":"","a":""}`), []string{"/labels/a must not be given twice"}},
		{"free value", with(`"labels":{"a":1}`), []string{"/labels/a must be a string"}},
		{"pointer escapes", with(`"labels":{"a/b~c":1}`), []string{"/labels/a~1b~0c must be a string"}},
		{"deep at a known field", with(`"amount":` + strings.Repeat("[", 40) + strings.Repeat("]", 40)), []string{"/amount" + strings.Repeat("/0", 31) + " must not nest deeper than 32 levels"}},
		{"deep at an unknown field", with(`"x":` + strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000)), []string{
			"/x is not a known field", "/x" + strings.Repeat("/a", 31) + " must not nest deeper than 32 levels",
		}},
		{"all at once", `{"code":"x","parts":[{"quantity":0,"no":1},{"name":7,"quantity":2.5}],"Owner":{}}`, []string{
			`/Owner is not a known field: "owner" is, and case matters`, "/code must be two capitals", "/owner is required", "/parts/0/name is required",
			"/parts/0/no is not a known field", "/parts/0/quantity must be 1 to 100", "/parts/1/name must be a string",
			"/parts/1/quantity must be a whole number, written without a fraction or an exponent",
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, httpx.Config{})
			w := f.request(http.MethodPost, "/things", c.body)
			p := problem(t, w)
			if p.Code != "validation_failed" || p.Status != http.StatusUnprocessableEntity || p.Retryable {
				t.Errorf("got %d %s, retryable %v", p.Status, p.Code, p.Retryable)
			}
			got := faults(p)
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			if f.got != nil {
				t.Error("the handler ran")
			}
		})
	}
}

// Parameters and body are told together.
func TestFaultsOfParametersAndBody(t *testing.T) {
	t.Parallel()
	f := newFixture(t, httpx.Config{})
	w := f.request(http.MethodPost, "/things?limit=11&text=abcdef&colour=red", `{"code":"AB"}`, "Request-Timeout", "soon", "Idempotency-Key", "a\tb")
	var pointers []string
	for _, e := range problem(t, w).Errors {
		pointers = append(pointers, e.Pointer)
	}
	slices.Sort(pointers)
	want := []string{"/owner", "/parts", "header/Idempotency-Key", "header/Request-Timeout", "query/colour", "query/limit", "query/text"}
	if !slices.Equal(pointers, want) {
		t.Errorf("got %q, want %q", pointers, want)
	}
}

func TestManyFaultsAreCut(t *testing.T) {
	t.Parallel()
	f := newFixture(t, httpx.Config{})
	var body strings.Builder
	body.WriteString(`{"x0":0`)
	for range 5000 {
		body.WriteString(`,"x0":0`)
	}
	body.WriteString(`}`)
	if n := len(problem(t, f.request(http.MethodPost, "/things", body.String())).Errors); n != 50 {
		t.Errorf("%d faults were told, want 50", n)
	}
}

func TestBodySizeAndType(t *testing.T) {
	t.Parallel()
	exact := strings.Replace(goodThing, "{", "{"+strings.Repeat(" ", 1024-len(goodThing)), 1)
	cases := []struct {
		name, body string
		headers    []string
		status     int
		code       string
	}{
		{"as large as may be", exact, nil, http.StatusOK, ""},
		{"one byte larger", exact + " ", nil, http.StatusRequestEntityTooLarge, "too_large"},
		{"a megabyte", strings.Repeat("x", 1<<20), nil, http.StatusRequestEntityTooLarge, "too_large"},
		{"no type", goodThing, []string{"Content-Type", "-"}, http.StatusOK, ""},
		{"utf-8", goodThing, []string{"Content-Type", "Application/JSON; charset=UTF-8"}, http.StatusOK, ""},
		{"latin-1", goodThing, []string{"Content-Type", "application/json; charset=latin1"}, http.StatusUnsupportedMediaType, "unsupported_media_type"},
		{"form", "code=AB", []string{"Content-Type", "application/x-www-form-urlencoded"}, http.StatusUnsupportedMediaType, "unsupported_media_type"},
		{"text", goodThing, []string{"Content-Type", "text/plain"}, http.StatusUnsupportedMediaType, "unsupported_media_type"},
		{"nonsense", goodThing, []string{"Content-Type", ";;;"}, http.StatusUnsupportedMediaType, "unsupported_media_type"},
		{"gzip", goodThing, []string{"Content-Encoding", "gzip"}, http.StatusUnsupportedMediaType, "unsupported_media_type"},
		{"patch type", goodThing, []string{"Content-Type", "application/merge-patch+json"}, http.StatusUnsupportedMediaType, "unsupported_media_type"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, httpx.Config{MaxBody: 1024})
			w := f.request(http.MethodPost, "/things", c.body, c.headers...)
			if w.Code != c.status {
				t.Fatalf("got %d: %s", w.Code, w.Body)
			}
			if c.code == "" {
				return
			}
			if p := problem(t, w); p.Code != c.code || f.got != nil {
				t.Errorf("got %s, handler ran: %v", p.Code, f.got != nil)
			}
		})
	}
}

// Names that a caller made up are repeated, values never; a name that could be a card number is a
// value in the wrong place.
func TestNamesAreMasked(t *testing.T) {
	t.Parallel()
	f := newFixture(t, httpx.Config{})
	for _, name := range []string{"4111111111111111", "4111-1111-1111-1111", "4111 1111 1111 1111", "pan4111111111111111"} {
		w := f.request(http.MethodPost, "/things", strings.TrimSuffix(goodThing, "}")+`,"`+name+`":1,"labels":{"`+name+`":1}}`)
		if strings.Contains(w.Body.String(), "1111") {
			t.Errorf("%s is repeated: %s", name, w.Body)
		}
		if p := problem(t, w); len(p.Errors) != 2 || !strings.Contains(p.Errors[0].Pointer, "***") {
			t.Errorf("faults %q", faults(p))
		}
	}
	long := strings.Repeat("x", 5000)
	w := f.request(http.MethodPost, "/things", strings.TrimSuffix(goodThing, "}")+`,"`+long+`":1}`)
	if p := problem(t, w); len(p.Errors) != 1 || len(p.Errors[0].Pointer) > 210 {
		t.Errorf("a long name is repeated whole")
	}
}

// Whatever a body is, it is taken or refused as a whole; nothing makes the layer fail.
func FuzzBody(f *testing.F) {
	f.Add([]byte(goodThing))
	f.Add([]byte(`{"code":"AB","parts":[{"name":"\ud83d\ude00","quantity":-0}],"owner":{"name":"o"},"labels":{"":""}}`))
	f.Add([]byte("{\"code\":\"\x80\"}"))
	f.Add([]byte(`[[[[`))
	fix := newFixture(f, httpx.Config{})
	f.Fuzz(func(t *testing.T, body []byte) {
		fix.got = nil
		w := fix.request(http.MethodPost, "/things", string(body))
		switch {
		case w.Code == http.StatusOK && fix.got != nil:
		case (w.Code == http.StatusUnprocessableEntity || w.Code == http.StatusRequestEntityTooLarge) && fix.got == nil:
			problem(t, w)
		default:
			t.Errorf("status %d, handler ran: %v\n%s", w.Code, fix.got != nil, w.Body)
		}
	})
}
