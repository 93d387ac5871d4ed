package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"holdfast/platform/httpx"
	"holdfast/platform/telemetry"
	"holdfast/platform/upstream"
	"holdfast/shop"
)

// answerMargin is how much earlier than the caller gives up the other side should: an answer that says so is
// worth more than none. It is a tenth of the time, and this at most.
const answerMargin = 250 * time.Millisecond

// Client calls one service.
type Client struct {
	service string
	http    *upstream.Upstream
	token   string
	deps    shop.Deps
	tel     *telemetry.Telemetry
}

// NewClient makes a client of a service with one or more replicas.
func NewClient(service string, urls []string, token string, deps shop.Deps, tel *telemetry.Telemetry) (*Client, error) {
	to, err := upstream.New(upstream.Config{Name: service, URLs: urls, Repeatable: upstream.Any}, deps, tel)
	if err != nil {
		return nil, err
	}
	return &Client{service: service, http: to, token: token, deps: deps, tel: tel}, nil
}

// Run looks after the service's replicas until ctx ends.
func (c *Client) Run(ctx context.Context) error { return c.http.Run(ctx) }

// call asks one thing. Every operation may be repeated, so what a replica leaves without an answer is tried once more.
func call[In, Out any](ctx context.Context, c *Client, path string, in In) (out Out, err error) {
	ctx, span := c.tel.Tracer.Start(ctx, c.service+" "+path, trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	req, err := c.request(ctx, path, in)
	if err != nil {
		return out, err
	}
	resp, err := c.http.RoundTrip(req)
	if err != nil {
		span.SetStatus(codes.Error, "no answer")
		if ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		return out, unreachable(c.service, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	switch {
	case err != nil && ctx.Err() != nil:
		return out, context.Cause(ctx)
	case err != nil:
		return out, unreachable(c.service, err)
	case resp.StatusCode == http.StatusOK:
		if err := json.Unmarshal(b, &out); err != nil {
			return out, unreachable(c.service, fmt.Errorf("its answer cannot be read: %w", err))
		}
		return out, nil
	}
	var f fault
	if err := json.Unmarshal(b, &f); err != nil || f.Code == "" {
		return out, unreachable(c.service, fmt.Errorf("it answers %s, which is no answer of a Holdfast", resp.Status))
	}
	if f.Kind == shop.Unauthenticated {
		// Ours to mend, and nothing that our own caller did.
		return out, shop.Wrap(shop.Internal, "remote."+c.service, "the services do not agree on secrets.internal_tokens", f.error())
	}
	return out, f.error()
}

func (c *Client) request(ctx context.Context, path string, in any) (*http.Request, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode the question: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.service+prefix+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	set := func(name, value string) {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	set("Content-Type", "application/json")
	set("Traceparent", telemetry.TraceParent(ctx))
	set(callerHeader, string(httpx.Caller(ctx)))
	set(httpx.RequestIDHeader, httpx.RequestID(ctx))
	if c.token != "" {
		set("Authorization", "Bearer "+c.token)
	}
	if at, ok := ctx.Deadline(); ok {
		left := at.Sub(c.deps.Clock.Now())
		left -= min(left/10, answerMargin)
		set(httpx.TimeoutHeader, strconv.FormatFloat(max(left.Seconds(), 0.001), 'f', 3, 64))
	}
	return req, nil
}
