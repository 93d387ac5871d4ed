package order

import (
	"context"

	"holdfast/platform/httpx"
	"holdfast/shop"
)

type watchInput struct {
	ID   string `path:"id" doc:"The order's id"`
	Last int64  `header:"Last-Event-ID" minimum:"0" doc:"The version that was seen last"`
}

func (h *handlers) watch(ctx context.Context, in *watchInput) (httpx.StreamFunc, error) {
	id, err := httpx.OrderID(in.ID)
	if err != nil {
		return nil, err
	}
	caller := httpx.Caller(ctx)
	o, err := h.svc.Get(httpx.WithOrder(ctx, id), caller, id)
	if err != nil {
		return nil, err
	}
	if o.Status.Final() && o.Version <= in.Last {
		return nil, nil
	}
	return func(ctx context.Context, s *httpx.Stream) {
		h.follow(httpx.WithOrder(ctx, id), s, caller, o, in.Last)
	}, nil
}

// follow sends the order's versions after last until the final one, the caller's end or ctx's. A
// service that fails ends the stream: the caller reconnects with what it saw last.
func (h *handlers) follow(ctx context.Context, s *httpx.Stream, caller shop.Caller, o shop.Order, last int64) {
	for ctx.Err() == nil {
		var err error
		if o.Version > last {
			err = s.Send(o.Version, "order", o)
			last = o.Version
		} else {
			err = s.Beat()
		}
		if err != nil || o.Status.Final() {
			return
		}
		if o, err = h.next(ctx, caller, o.ID, last); err != nil {
			return
		}
	}
}

// next waits for a version after last, for no longer than a heartbeat.
func (h *handlers) next(ctx context.Context, caller shop.Caller, id shop.OrderID, last int64) (shop.Order, error) {
	ctx, cancel := httpx.WaitContext(ctx, httpx.Heartbeat)
	defer cancel()
	return h.svc.Wait(ctx, caller, id, func(o shop.Order) bool { return o.Version > last })
}
