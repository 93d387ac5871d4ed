package httpx

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/resilience"
	"holdfast/shop"
)

const (
	bearer = "bearer"
	// metaKey is where the layer's own part of an operation travels through Huma.
	metaKey = "httpx"
)

// Op describes an operation.
type Op struct {
	ID          string
	Method      string
	Path        string
	Tag         string // the service it belongs to
	Summary     string
	Description string
	Status      int   // of success; 200 where it is 0
	Also        []int // other statuses of success, with the same body where they have one
	// Problems are the failures that callers should expect beside those that any operation may have.
	Problems []shop.Kind
	Open     bool // needs no API key
	// Criticality is what refusing a request costs.
	Criticality resilience.Criticality
	// Admit may refuse a request before its body is read, when it is known who sends it and under which
	// idempotency key, which is not checked yet; nil admits all.
	Admit  func(shop.Request) error
	Stream bool // answers with server-sent events; set by RegisterStream
}

// opMeta is the part of an operation that Huma passes through.
type opMeta struct {
	op    Op
	serve func(*call, *http.Request) error // in place of Huma's way
	class Class
}

// Register adds an operation. I has the parameters and the Body, O the headers, the Status and the
// Body, by Huma's rules. It panics on a mistake in them, as http.ServeMux does, since no request
// could be served.
func Register[I, O any](a *API, op Op, handle func(context.Context, *I) (*O, error)) {
	register[I, O](a, opMeta{op: op, class: ClassRequest}, handle)
}

func register[I, O any](a *API, meta opMeta, handle func(context.Context, *I) (*O, error)) {
	op := a.operation(meta)
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		c := callOf(ctx)
		if len(c.fields) > 0 {
			return nil, c.problem(invalid(c.fields))
		}
		out, err := handle(ctx, in)
		if err != nil {
			return nil, c.problem(err)
		}
		return out, nil
	})
}

// operation is the document's part of an operation, but for what Huma adds from the Go types.
func (a *API) operation(meta opMeta) huma.Operation {
	op := huma.Operation{
		OperationID: meta.op.ID, Method: meta.op.Method, Path: meta.op.Path, Summary: meta.op.Summary,
		Description: meta.op.Description, Tags: []string{meta.op.Tag}, DefaultStatus: meta.op.Status,
		// Bodies are read and checked by mount; Huma only decodes them.
		SkipValidateBody: true, MaxBodyBytes: -1, BodyReadTimeout: -1,
		Metadata:  map[string]any{metaKey: meta},
		Responses: a.problemResponses(meta.op),
	}
	if !meta.op.Open {
		op.Security = []map[string][]string{{bearer: {}}}
	}
	return op
}

// defaultProblem speaks of the failures that any operation may have.
const defaultProblem = "Any other failure: unsupported_media_type 415, rate_limited 429, internal 500, overloaded or unavailable 503, deadline_exceeded 504"

// problemResponses documents the failures of an operation by status, with the codes in the text.
func (a *API) problemResponses(op Op) map[string]*huma.Response {
	kinds := append(slices.Clone(op.Problems), shop.Invalid)
	if !op.Open {
		kinds = append(kinds, shop.Unauthenticated)
	}
	schema := a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "")
	problem := func(description string) *huma.Response {
		return &huma.Response{Description: description, Content: map[string]*huma.MediaType{ProblemType: {Schema: schema}}}
	}
	responses := map[string]*huma.Response{"default": problem(defaultProblem)}
	for _, k := range kinds {
		status, code := StatusOf(k)
		key := strconv.Itoa(status)
		r, ok := responses[key]
		switch {
		case !ok:
			responses[key] = problem(code)
		case !slices.Contains(strings.Split(r.Description, ", "), code):
			r.Description += ", " + code
		}
	}
	if op.Stream {
		responses[strconv.Itoa(http.StatusOK)] = &huma.Response{
			Description: "A stream of events",
			Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}
	}
	return responses
}

// mount makes the route of an operation that Huma has looked through.
func (a *API) mount(op *huma.Operation, serve func(huma.Context)) {
	meta := op.Metadata[metaKey].(opMeta)
	rt := a.newRoute(Route{
		Method: op.Method, Path: op.Path, ID: op.OperationID, Tag: meta.op.Tag, Class: meta.class, Open: meta.op.Open,
		Timeout: a.cfg.Timeout, Criticality: meta.op.Criticality,
	})
	rt.admit = meta.op.Admit
	if meta.class == ClassStream {
		rt.Timeout = 0
	}
	for _, p := range op.Parameters {
		switch {
		case p.In == "query":
			rt.query = append(rt.query, p.Name)
		case p.In == "header" && p.Name == KeyHeader:
			rt.Keyed = true
		}
	}
	a.alsoRespond(op, meta.op)
	rt.checks = true
	rt.handle = func(c *call, r *http.Request) error {
		if err := rt.takeBody(c, r); err != nil {
			return err
		}
		serve(newHumaContext(op, c, r))
		return nil
	}
	switch {
	case meta.serve != nil:
		rt.MaxBody, rt.handle = maxWebhook, meta.serve
	case op.RequestBody != nil:
		a.bodySchema(op, rt)
	}
	a.add(rt)
}

// bodySchema closes the schema of a body against unknown members and makes the plan of it.
func (a *API) bodySchema(op *huma.Operation, rt *route) {
	schema := op.RequestBody.Content["application/json"].Schema
	a.bodies = append(a.bodies, schema)
	p, err := newPlan(a.huma.OpenAPI().Components.Schemas, schema)
	if err != nil {
		panic(fmt.Sprintf("httpx: body of %s: %v", op.OperationID, err))
	}
	rt.body, rt.MaxBody = p, a.cfg.MaxBody
}

// alsoRespond documents the other statuses of success.
func (a *API) alsoRespond(op *huma.Operation, own Op) {
	first := op.Responses[strconv.Itoa(op.DefaultStatus)]
	for _, status := range own.Also {
		other := &huma.Response{Description: http.StatusText(status), Headers: first.Headers}
		if status != http.StatusNoContent && status != http.StatusNotModified {
			other.Content = first.Content
		}
		op.Responses[strconv.Itoa(status)] = other
	}
}

// Describe puts the schema of Doc in the place of the schema of T: a type with the same fields and
// the tags that a vocabulary type has no room for. Its name ends in Doc.
func Describe[T, Doc any](a *API) {
	a.huma.OpenAPI().Components.Schemas.RegisterTypeAlias(reflect.TypeFor[T](), reflect.TypeFor[Doc]())
}
