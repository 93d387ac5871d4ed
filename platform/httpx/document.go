package httpx

import (
	"bytes"
	"html/template"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/shop"
)

// Document returns the OpenAPI 3.1 document as YAML.
func (a *API) Document() ([]byte, error) {
	a.finish()
	return a.huma.OpenAPI().YAML()
}

// finish puts right what Huma derives from Go types too strictly or too loosely. It may run again.
func (a *API) finish() {
	doc := a.huma.OpenAPI()
	reg := doc.Components.Schemas
	// Huma registers its own errors with every operation; none of ours answers with them.
	delete(reg.Map(), "ErrorModel")
	delete(reg.Map(), "ErrorDetail")
	closed := make(map[*huma.Schema]bool)
	for _, root := range a.bodies {
		reach(reg, root, closed)
	}
	for name, s := range reg.Map() {
		// Bodies are closed: an unknown member is refused. Answers are open: members may be added.
		if s.AdditionalProperties == false && !closed[s] {
			s.AdditionalProperties = nil
		}
		nullability(s, reg.TypeFromRef("#/components/schemas/"+name))
	}
}

// reach collects the schemas that s consists of.
func reach(reg huma.Registry, s *huma.Schema, seen map[*huma.Schema]bool) {
	for s.Ref != "" {
		s = reg.SchemaFromRef(s.Ref)
	}
	if seen[s] {
		return
	}
	seen[s] = true
	for _, p := range s.Properties {
		reach(reg, p, seen)
	}
	if s.Items != nil {
		reach(reg, s.Items, seen)
	}
}

// nullability says of each member whether it may be null: a pointer that is never left out may, and a
// list never is, since an empty one is written as [].
func nullability(s *huma.Schema, t reflect.Type) {
	for name, p := range s.Properties {
		if p.Type == huma.TypeArray {
			p.Nullable = false
		}
		f, ok := fieldOf(t, name)
		if ok && f.Type.Kind() == reflect.Pointer && p.Ref != "" && slices.Contains(s.Required, name) {
			s.Properties[name] = &huma.Schema{
				AnyOf:       []*huma.Schema{{Ref: p.Ref}, {Type: "null"}},
				Description: p.Description,
			}
		}
	}
}

// fieldOf finds the field of t that is written as name.
func fieldOf(t reflect.Type, name string) (reflect.StructField, bool) {
	for f := range t.Fields() {
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag == name {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// docsPage lists the operations for people. It stands alone: no script, nothing from elsewhere.
var docsPage = template.Must(template.New("docs").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:2.5rem;border-bottom:1px solid currentColor}
code{font-family:ui-monospace,monospace}
dt{font-weight:600}
@media(prefers-color-scheme:dark){body{background:#111;color:#eee}a{color:#9cf}}
</style>
</head>
<body>
<h1>{{.Title}} {{.Version}}</h1>
<p>{{.Description}}</p>
<p>The whole contract: <a href="/openapi.yaml">openapi.yaml</a>, <a href="/openapi.json">openapi.json</a>.</p>
{{range .Operations}}
<h2 id="{{.ID}}"><code>{{.Method}} {{.Path}}</code></h2>
<p><strong>{{.Summary}}.</strong> {{.Description}}</p>
<dl>
{{range .Params}}<dt><code>{{.Name}}</code> in {{.In}}{{if .Required}}, required{{end}}</dt><dd>{{.Description}}</dd>
{{end}}{{range .Answers}}<dt>{{.Status}}</dt><dd>{{.Text}}</dd>
{{end}}</dl>
{{end}}
</body>
</html>
`))

type docsAnswer struct{ Status, Text string }

type docsOperation struct {
	*huma.Operation
	ID      string
	Params  []*huma.Param
	Answers []docsAnswer
}

// ServeDocument adds the pages /openapi.yaml, /openapi.json and /docs of an API: this one, or one with
// what other processes serve as well. It comes after the last operation. The pages are made when they are
// first asked for, since that takes a start longer than the rest of it.
func (a *API) ServeDocument(of *API) {
	of.finish() // now, since requests are checked by the same schemas
	html := func() ([]byte, error) {
		var page bytes.Buffer
		err := docsPage.Execute(&page, map[string]any{
			"Title": a.cfg.Title, "Version": a.cfg.Version, "Description": a.cfg.Description, "Operations": of.docsOperations(),
		})
		return page.Bytes(), err
	}
	a.Page(http.MethodGet, "/openapi.yaml", true, a.static("application/yaml", of.huma.OpenAPI().YAML))
	a.Page(http.MethodGet, "/openapi.json", true, a.static("application/json", of.huma.OpenAPI().MarshalJSON))
	a.Page(http.MethodGet, "/docs", true, a.static("text/html; charset=utf-8", html))
}

func (a *API) docsOperations() []docsOperation {
	var ops []docsOperation
	doc := a.huma.OpenAPI()
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		item := doc.Paths[path]
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Post} {
			if op == nil {
				continue
			}
			d := docsOperation{Operation: op, ID: op.OperationID, Params: op.Parameters}
			for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
				d.Answers = append(d.Answers, docsAnswer{status, op.Responses[status].Description})
			}
			ops = append(ops, d)
		}
	}
	return ops
}

// static serves what is made once. The style of the documentation page is the one thing that a page of ours
// may have beside text.
func (a *API) static(mediaType string, content func() ([]byte, error)) http.Handler {
	content = sync.OnceValues(content)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := content()
		if err != nil {
			a.deps.Log.ErrorContext(r.Context(), "a page of the documentation cannot be made", "path", r.URL.Path, "err", err)
			WriteError(w, r, shop.E(shop.Internal, "httpx", "this page cannot be made"))
			return
		}
		h := w.Header()
		h.Set("Content-Type", mediaType)
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		_, _ = w.Write(data) // a caller that is gone cannot be told
	})
}
