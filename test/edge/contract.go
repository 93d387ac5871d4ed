package edge

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"holdfast/svc/gateway"
)

// Contract checks answers against the OpenAPI document.
type Contract struct {
	mu       sync.Mutex
	doc      map[string]any
	compiler *jsonschema.Compiler
	mux      *http.ServeMux // finds the path of a request
	seen     map[string]bool
}

// NewContract reads the gateway's document as it serves it.
func NewContract(g *gateway.Gateway) (*Contract, error) {
	rec := httptest.NewRecorder()
	g.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(rec.Body.Bytes()))
	if err != nil {
		return nil, err
	}
	c := &Contract{doc: doc.(map[string]any), compiler: jsonschema.NewCompiler(), mux: http.NewServeMux(), seen: map[string]bool{}}
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource("openapi.json", doc); err != nil {
		return nil, err
	}
	for path, item := range at(c.doc, "paths") {
		for method := range item.(map[string]any) {
			c.mux.Handle(strings.ToUpper(method)+" "+path, http.NotFoundHandler())
		}
	}
	return c, nil
}

func at(m map[string]any, keys ...string) map[string]any {
	for _, k := range keys {
		m, _ = m[k].(map[string]any)
	}
	return m
}

// Check fails the test where an answer of h is not as the document says. Paths that the document does
// not have pass.
func (c *Contract) Check(t testing.TB, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, pattern := c.mux.Handler(r)
		if pattern == "" {
			h.ServeHTTP(w, r)
			return
		}
		method, path, _ := strings.Cut(pattern, " ")
		tee := &tee{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(tee, r)
		if err := c.answer(strings.ToLower(method), path, tee); err != nil {
			t.Errorf("%s answered %d against the contract: %v\n%s", pattern, tee.status, err, tee.body.String())
		}
	})
}

// answer checks one answer.
func (c *Contract) answer(method, path string, got *tee) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	status := strconv.Itoa(got.status)
	c.seen[method+" "+path+" "+status] = true
	responses := at(c.doc, "paths", path, method, "responses")
	if responses[status] == nil && got.status < http.StatusBadRequest {
		return fmt.Errorf("the status is not documented")
	}
	if responses[status] == nil {
		status = "default"
	}
	response := at(responses, status)
	for name := range at(response, "headers") {
		if name == "ETag" && got.Header().Get(name) == "" {
			return fmt.Errorf("the header %s is missing", name)
		}
	}
	content := at(response, "content")
	media, _, _ := strings.Cut(got.Header().Get("Content-Type"), ";")
	if len(content) == 0 {
		if got.body.Len() > 0 {
			return fmt.Errorf("a body is not documented")
		}
		return nil
	}
	if _, ok := content[media]; !ok {
		return fmt.Errorf("the media type is %q and not one of %v", media, slices.Collect(maps.Keys(content)))
	}
	if !strings.HasSuffix(media, "json") {
		return nil
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace
	schema, err := c.compiler.Compile("openapi.json#/paths/" + escape(path) + "/" + method + "/responses/" + status + "/content/" + escape(media) + "/schema")
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(got.body.Bytes()))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// Operations returns "method path" of every operation of the document.
func (c *Contract) Operations() []string {
	var ops []string
	for path, item := range at(c.doc, "paths") {
		for method := range item.(map[string]any) {
			ops = append(ops, method+" "+path)
		}
	}
	slices.Sort(ops)
	return ops
}

// Seen tells whether an operation was answered with a success in this Env.
func (c *Contract) Seen(operation string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.seen {
		if strings.HasPrefix(key, operation+" 2") {
			return true
		}
	}
	return false
}

// tee keeps what passes through a response writer.
type tee struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (t *tee) WriteHeader(status int) {
	t.status = status
	t.ResponseWriter.WriteHeader(status)
}

func (t *tee) Write(p []byte) (int, error) {
	t.body.Write(p)
	return t.ResponseWriter.Write(p)
}

func (t *tee) Unwrap() http.ResponseWriter { return t.ResponseWriter }

var _ io.Writer = (*tee)(nil)
