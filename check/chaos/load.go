package chaos

import (
	"context"
	"net/http"
	"sync"
	"time"

	"holdfast/check"
	"holdfast/shop"
)

const (
	// neverCollected is the postal code of parcels that the simulated carrier never collects.
	neverCollected = "00005"
	// cancelledSoon is the share of the load's orders, one in so many, that are cancelled soon after they were placed.
	cancelledSoon = 20
	// orchestratedShare is the share of a mixed load, one in so many, that a workflow drives.
	orchestratedShare = 3
)

// cards are those of a mixed load, in turn: one in ten is declined.
var cards = []string{"tok_ok", "tok_ok", "tok_ok", "tok_declined", "tok_ok", "tok_ok", "tok_webhook_twice", "tok_ok", "tok_ok", "tok_ok",
	"tok_ok", "tok_webhook_first", "tok_ok", "tok_insufficient_funds", "tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_ok"}

// pool has the orders that clients read and cancel: those just placed first.
type pool struct {
	mu       sync.Mutex
	known    []shop.OrderID // for reads
	prepared []shop.OrderID // for cancels
}

func (p *pool) put(id shop.OrderID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prepared = append(p.prepared, id)
}

// take returns the order that was placed last, or "".
func (p *pool) take() (id shop.OrderID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.prepared); n > 0 {
		id, p.prepared = p.prepared[n-1], p.prepared[:n-1]
	}
	return id
}

// load begins the load of the experiment: orders of one style of saga, or of both.
func (r *run) load(ctx context.Context) (stop func()) {
	each := func(s check.Sent) {
		r.record.order(s, false)
		if s.ID != "" && r.Load.Mixed && s.Number%cancelledSoon == 0 {
			r.pool.put(s.ID)
		}
	}
	plan := check.Plan{Keys: r.name + "-load", Rate: r.Load.Rate, Duration: longest, SKU: check.SKU, Quantity: 1, Saga: shop.Choreographed}
	if !r.Load.Mixed {
		return r.send(ctx, plan, &r.histories, each)
	}
	plan.Payment = func(i int) string { return cards[i%len(cards)] }
	plan.PostalCode = func(i int) string {
		if i%cancelledSoon == 0 {
			return neverCollected
		}
		return "10115"
	}
	if r.target.Addresses.Temporal == "" {
		return r.send(ctx, plan, &r.histories, each)
	}
	other := plan
	other.Keys, other.Saga = r.name+"-orchestrated", shop.Orchestrated
	other.Rate = plan.Rate / orchestratedShare
	plan.Rate -= other.Rate
	stop1, stop2 := r.send(ctx, plan, &r.histories, each), r.send(ctx, other, &r.histories, each)
	return func() { stop1(); stop2() }
}

// steadily does something at a rate until ctx ends, and waits for all of it.
func steadily(ctx context.Context, rate float64, do func(n int)) {
	if rate <= 0 {
		return
	}
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	var under sync.WaitGroup
	defer under.Wait()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			under.Go(func() { do(n) })
		}
	}
}

// cancels cancels orders at a steady rate.
func (r *run) cancels(ctx context.Context) {
	steadily(ctx, r.Load.Cancels, func(int) {
		id := r.pool.take()
		if id == "" {
			return
		}
		began := time.Now()
		status := r.ask(context.WithoutCancel(ctx), http.MethodPost, "/v1/orders/"+string(id)+"/cancel", cancelKey(id))
		r.record.add(&r.record.cancels, began, id, status)
	})
}

func cancelKey(id shop.OrderID) string { return "cancel-" + string(id) }

// reads reads orders, and now and then a list, at a steady rate.
func (r *run) reads(ctx context.Context) {
	const lists = 5 // one read in so many
	steadily(ctx, r.Load.Reads, func(n int) {
		id := r.pool.known[n%len(r.pool.known)]
		path := "/v1/orders/" + string(id)
		if n%lists == 0 {
			id, path = "", "/v1/orders?limit=10"
		}
		began := time.Now()
		status := r.ask(context.WithoutCancel(ctx), http.MethodGet, path, "")
		r.record.add(&r.record.reads, began, id, status)
	})
}

// ask sends a request without a body once, and returns its status; 0 where no answer came.
func (r *run) ask(ctx context.Context, method, path, key string) int {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, r.target.URL+path, nil)
	if err != nil {
		return 0
	}
	req.Header.Set("Authorization", "Bearer "+r.target.Key)
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
