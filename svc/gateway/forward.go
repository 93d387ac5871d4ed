package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strconv"

	"holdfast/platform/httpx"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

// Forward adds the routes of a service that other processes serve: to is one or more of them. They check and
// limit what comes as if it came to them directly; the gateway adds no judgement of its own but its admission.
func Forward(api *httpx.API, service string, routes []httpx.Route, to http.RoundTripper, deps shop.Deps) {
	f := &forwarder{service: service, deps: deps}
	f.proxy = &httputil.ReverseProxy{
		Transport: to, Rewrite: f.rewrite, ModifyResponse: f.answered, ErrorHandler: f.failed,
		ErrorLog: slog.NewLogLogger(deps.Log.Handler(), slog.LevelDebug),
	}
	for _, r := range routes {
		if r.Tag != service {
			continue
		}
		if r.Class == httpx.ClassStream {
			api.Forward(r, http.HandlerFunc(f.stream))
		} else {
			api.Forward(r, http.HandlerFunc(f.serve))
		}
	}
}

type forwarder struct {
	service string
	deps    shop.Deps
	proxy   *httputil.ReverseProxy
}

// headersKey is where the headers of the gateway's answer travel to answered.
type headersKey struct{}

func (f *forwarder) serve(w http.ResponseWriter, r *http.Request) {
	f.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), headersKey{}, w.Header())))
}

// rewrite sends the request on as it is, with the trace, the id and the time that is left.
func (f *forwarder) rewrite(p *httputil.ProxyRequest) {
	ctx := p.In.Context()
	p.Out.URL.Scheme, p.Out.URL.Host = "http", f.service
	p.Out.Host = p.In.Host
	p.SetXForwarded()
	p.Out.Header.Set(httpx.RequestIDHeader, httpx.RequestID(ctx))
	if tp := telemetry.TraceParent(ctx); tp != "" {
		p.Out.Header.Set("Traceparent", tp)
	}
	if at, ok := ctx.Deadline(); ok && p.In.Header.Get(httpx.TimeoutHeader) != "" {
		left := at.Sub(f.deps.Clock.Now())
		p.Out.Header.Set(httpx.TimeoutHeader, strconv.FormatFloat(max(left.Seconds(), 0.001), 'f', 3, 64))
	}
}

// stream ends with the gateway, so that its clients come back to another one.
func (f *forwarder) stream(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := httpx.WaitContext(r.Context(), httpx.MaxStream)
	defer cancel()
	_ = http.NewResponseController(w).SetWriteDeadline(f.deps.Clock.Now().Add(httpx.MaxStream)) // the server's own is for answers
	f.serve(w, r.WithContext(ctx))
}

// answered prepares the answer for being copied: headers that both set are the service's.
func (f *forwarder) answered(resp *http.Response) error {
	if h, ok := resp.Request.Context().Value(headersKey{}).(http.Header); ok {
		for name := range resp.Header {
			h.Del(name)
		}
	}
	resp.Body = &quietBody{resp.Body, resp.Request.Context()}
	return nil
}

// quietBody ends where its request has ended, instead of failing: the answer is a stream, or nobody is there.
type quietBody struct {
	io.ReadCloser
	ctx context.Context
}

func (b *quietBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && httpx.Stopping(b.ctx) {
		return n, io.EOF
	}
	return n, err
}

// failed answers where no replica did.
func (f *forwarder) failed(w http.ResponseWriter, r *http.Request, err error) {
	switch ctx := r.Context(); {
	case ctx.Err() != nil:
		httpx.WriteError(w, r, context.Cause(ctx))
	default:
		f.deps.Log.WarnContext(ctx, "a service does not answer", "service", f.service, "err", err)
		httpx.WriteError(w, r, shop.Wrap(shop.Unavailable, "gateway.forward", "The service behind this does not answer at present. Try again shortly, with the same Idempotency-Key.", err))
	}
}
