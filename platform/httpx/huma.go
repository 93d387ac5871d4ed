package httpx

import (
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"holdfast/shop"
)

// docSuffix ends the names of types that stand in for another in the document.
const docSuffix = "Doc"

// humaAPI is what Huma sees of an API. It keeps Huma's reading of parameters and writing of answers,
// and puts our own JSON, problems and routes in the place of Huma's.
type humaAPI struct {
	huma.API
	api *API
}

func newHuma(a *API) *humaAPI {
	h := &humaAPI{api: a}
	h.API = huma.NewAPI(huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: a.cfg.Title, Version: a.cfg.Version, Description: a.cfg.Description},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", schemaName),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					bearer: {Type: "http", Scheme: "bearer", Description: "An API key"},
				},
			},
		},
	}, h)
	return h
}

// schemaName names the schema of a type as the type, whether it is exported or stands in for one.
func schemaName(t reflect.Type, hint string) string {
	return strings.TrimSuffix(huma.DefaultSchemaNamer(t, hint), docSuffix)
}

// Handle mounts an operation; Huma calls it when one is registered.
func (h *humaAPI) Handle(op *huma.Operation, serve func(huma.Context)) {
	h.api.mount(op, serve)
}

// ServeHTTP completes huma.Adapter.
func (h *humaAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.api.ServeHTTP(w, r) }

// Negotiate answers every Accept with JSON: there is nothing else.
func (h *humaAPI) Negotiate(string) (string, error) { return "application/json", nil }

// Marshal writes an answer. A failure means that the caller is gone.
func (h *humaAPI) Marshal(w io.Writer, _ string, v any) error {
	buf := h.api.buffers.get()
	defer h.api.buffers.put(buf)
	if err := encode(buf, v); err != nil {
		return err
	}
	_, _ = w.Write(buf.Bytes())
	return nil
}

// Unmarshal reads a body that has been checked.
func (h *humaAPI) Unmarshal(_ string, data []byte, v any) error { return decode(data, v) }

// Transform puts a problem in the place of Huma's own errors, which repeat rejected values.
func (h *humaAPI) Transform(ctx huma.Context, _ string, v any) (any, error) {
	theirs, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	c := ctx.(*humaContext).call
	fields := slices.Clone(c.fields)
	for _, e := range theirs.Errors {
		if f, ok := paramField(e); ok {
			fields = append(fields, f)
		}
	}
	var p *Problem
	if len(fields) > 0 {
		p = c.problem(invalid(fields))
	} else {
		// Nothing that the caller sent is at fault, so it is something of ours.
		p = c.problem(&shop.Error{Kind: shop.Internal, Op: "huma", Msg: theirs.Detail})
	}
	c.force = p.Status
	return p, nil
}

// paramField turns Huma's error for a parameter ("query.limit") into a field. Its errors for bodies
// are of no use: the bodies have been checked before.
func paramField(e *huma.ErrorDetail) (shop.Field, bool) {
	in, name, ok := strings.Cut(e.Location, ".")
	if !ok || in == "body" {
		return shop.Field{}, false
	}
	return shop.Field{Pointer: in + "/" + name, Detail: strings.Replace(e.Message, "expected", "is not as expected:", 1)}, true
}

// inner is huma.Context under a name that can be embedded beside its method Context.
type inner huma.Context

// humaContext is a request as Huma sees it.
type humaContext struct {
	inner
	call *call
}

func newHumaContext(op *huma.Operation, c *call, r *http.Request) *humaContext {
	return &humaContext{inner: humago.NewContext(op, r, c), call: c}
}

// SetStatus writes the header. The status of a problem is the problem's own.
func (h *humaContext) SetStatus(status int) {
	if h.call.force != 0 {
		status = h.call.force
	}
	if h.call.status == 0 {
		h.inner.SetStatus(status)
	}
}

// SetReadDeadline does nothing: the body has been read.
func (h *humaContext) SetReadDeadline(time.Time) error { return nil }
