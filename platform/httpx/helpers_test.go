package httpx_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"holdfast/platform/httpx"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/test/fakes"
)

const testKey = "a-key-for-the-tests"

// syncBuffer keeps a log.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// fixture is an API with what its handlers were given.
type fixture struct {
	*httpx.API
	log  *syncBuffer
	deps shop.Deps
	got  *thing // the body that reached the handler, nil if none did
	err  error  // what the handler answers
	do   func(context.Context) error
}

type part struct {
	Name     string `json:"name" minLength:"1" maxLength:"8"`
	Quantity int64  `json:"quantity" minimum:"1" maximum:"100"`
}

// thing uses every keyword that bodies are checked for.
type thing struct {
	Code   string            `json:"code" pattern:"^[A-Z]{2}$" patternDescription:"two capitals"`
	Style  string            `json:"style,omitempty" enum:"plain,fancy"`
	Parts  []part            `json:"parts" minItems:"1" maxItems:"3"`
	Owner  owner             `json:"owner"`
	Amount *int64            `json:"amount,omitempty" minimum:"0"`
	Big    int64             `json:"big,omitempty"`
	On     bool              `json:"on,omitempty"`
	Labels map[string]string `json:"labels,omitempty" maxProperties:"2"`
}

type owner struct {
	Name string `json:"name" maxLength:"8"`
}

type thingInput struct {
	Limit int    `query:"limit" minimum:"1" maximum:"10" default:"5"`
	Text  string `query:"text" maxLength:"5"`
	Key   string `header:"Idempotency-Key" required:"true" pattern:"^[ -~]{1,255}$" patternDescription:"1 to 255 printable ASCII characters"`
	Body  thing
}

type thingOutput struct{ Body thing }

type pathInput struct {
	ID string `path:"id" maxLength:"10"`
}

type pathOutput struct {
	Body struct {
		ID     string      `json:"id"`
		Caller shop.Caller `json:"caller"`
	}
}

func newFixture(t testing.TB, cfg httpx.Config) *fixture {
	t.Helper()
	f := &fixture{log: &syncBuffer{}, deps: fakes.Deps(t)}
	f.deps.Log = slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if cfg.Keys == nil {
		if cfg.Keys, err = httpx.NewKeys(map[string]shop.Caller{testKey: "tester"}); err != nil {
			t.Fatal(err)
		}
	}
	if f.API, err = httpx.New(cfg, httpx.Parts{Deps: f.deps, Tel: telemetry.Nop()}); err != nil {
		t.Fatal(err)
	}
	httpx.Register(f.API, httpx.Op{ID: "makeThing", Method: http.MethodPost, Path: "/things"}, func(_ context.Context, in *thingInput) (*thingOutput, error) {
		f.got = &in.Body
		return &thingOutput{in.Body}, f.err
	})
	httpx.Register(f.API, httpx.Op{ID: "getThing", Method: http.MethodGet, Path: "/things/{id}"}, func(ctx context.Context, in *pathInput) (*pathOutput, error) {
		if f.do != nil {
			if err := f.do(ctx); err != nil {
				return nil, err
			}
		}
		out := &pathOutput{}
		out.Body.ID, out.Body.Caller = in.ID, httpx.Caller(ctx)
		return out, f.err
	})
	return f
}

// request is one request; the headers that it needs are there unless they are set to "-".
func (f *fixture) request(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body == "" {
		r = httptest.NewRequest(method, path, nil)
	}
	r.Header.Set("Authorization", "Bearer "+testKey)
	if method == http.MethodPost {
		r.Header.Set("Idempotency-Key", "k1")
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Del(headers[i])
		if headers[i+1] != "-" {
			r.Header.Add(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

// problem reads a problem and fails the test where the answer is none.
func problem(t testing.TB, w *httptest.ResponseRecorder) httpx.Problem {
	t.Helper()
	var p httpx.Problem
	if ct := w.Header().Get("Content-Type"); ct != httpx.ProblemType {
		t.Fatalf("status %d with Content-Type %q, want a problem; body %s", w.Code, ct, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	if p.Status != w.Code {
		t.Errorf("the problem says status %d, the answer has %d", p.Status, w.Code)
	}
	if p.Type != "/problems/"+p.Code || p.Title == "" || p.Detail == "" || p.RequestID == "" || p.Instance == "" {
		t.Errorf("the problem is not whole: %+v", p)
	}
	return p
}

// faults returns "pointer detail" of each field at fault.
func faults(p httpx.Problem) []string {
	var all []string
	for _, e := range p.Errors {
		all = append(all, e.Pointer+" "+e.Detail)
	}
	return all
}
