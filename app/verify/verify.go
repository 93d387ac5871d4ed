// Package verify runs the check of the invariants over the stores within a process: when an operator asks for it, and on
// schedule.
package verify

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"holdfast/app"
	"holdfast/check/audit"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/svc/order"
)

// Daemon makes what checks the stores of a Holdfast in several processes. The process of the orders does it, which has to
// be let into the databases of all services.
func Daemon(h *app.Host) (app.Verifier, error) {
	c := h.Config
	if !c.Has(order.Name) {
		return nil, nil
	}
	return New(c.Verify, audit.Config{DSN: c.Store.DSN, Password: c.Secrets.StorePassword, Keep: c.Outbox.Keep, Grace: c.Verify.Grace}, h.Deps, h.Tel)
}

// verifier checks the invariants over the stores, one check at a time, and remembers the last report.
type verifier struct {
	cfg   app.Verify
	where audit.Config
	deps  shop.Deps
	asked chan *asked // by who waits until the component takes it up
	busy  atomic.Bool

	mu   sync.Mutex
	last *audit.Report
	text json.RawMessage
}

// asked is a check that somebody waits for.
type asked struct {
	atRest bool
	ended  chan struct{}
	err    error // once it has ended
}

// New makes what checks the stores at where.
func New(cfg app.Verify, where audit.Config, deps shop.Deps, tel *telemetry.Telemetry) (app.Verifier, error) {
	v := &verifier{cfg: cfg, where: where, deps: deps, asked: make(chan *asked)}
	violations, err1 := tel.Meter.Int64ObservableGauge("holdfast_verify_violations", metric.WithDescription("What the last check of the stores found to be wrong, by invariant"))
	open, err2 := tel.Meter.Int64ObservableGauge("holdfast_verify_open", metric.WithDescription("What the last check could not tell, by invariant"))
	ended, err3 := tel.Meter.Float64ObservableGauge("holdfast_verify_last_seconds", metric.WithUnit("s"), metric.WithDescription("When the last check of the stores began, in seconds since 1970; 0 where none has ended"))
	_, err4 := tel.Meter.RegisterCallback(func(_ context.Context, obs metric.Observer) error {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.last == nil {
			obs.ObserveFloat64(ended, 0)
			return nil
		}
		obs.ObserveFloat64(ended, float64(v.last.At.UnixMilli())/1000)
		for _, r := range v.last.Results {
			which := metric.WithAttributeSet(attribute.NewSet(attribute.String("invariant", r.ID)))
			obs.ObserveInt64(violations, r.Wrong, which)
			obs.ObserveInt64(open, r.Open, which)
		}
		return nil
	}, violations, open, ended)
	return v, errors.Join(err1, err2, err3, err4)
}

// Verify has a check run and waits for its report. Where ctx ends first the check goes on, for Verified.
func (v *verifier) Verify(ctx context.Context, atRest bool) (json.RawMessage, error) {
	const op = "verify"
	if v.busy.Load() {
		return nil, shop.E(shop.Conflict, op, "A check is running. GET its report when it has ended.")
	}
	ask := &asked{atRest: atRest, ended: make(chan struct{})}
	select {
	case v.asked <- ask:
	case <-ctx.Done():
		return nil, shop.Wrap(shop.Unavailable, op, "No check could be begun in time; try again.", ctx.Err())
	}
	select {
	case <-ask.ended:
		return v.Verified(), ask.err
	case <-ctx.Done():
		return nil, shop.Wrap(shop.DeadlineExceeded, op, "The check takes longer than this request may. It goes on: GET its report later.", ctx.Err())
	}
}

// check runs one check.
func (v *verifier) check(ctx context.Context, atRest bool) error {
	v.busy.Store(true)
	defer v.busy.Store(false)
	cfg := v.where
	cfg.AtRest = atRest
	r, err := audit.Run(ctx, cfg)
	if err != nil {
		return err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	v.mu.Lock()
	v.last, v.text = r, text
	v.mu.Unlock()
	for _, x := range r.Failed() {
		v.deps.Log.ErrorContext(ctx, "an invariant does not hold", "invariant", x.ID, "wrong", x.Wrong, "offenders", x.Items)
	}
	return nil
}

// Verified returns the last report.
func (v *verifier) Verified() json.RawMessage {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.text
}

// Run checks when asked and on schedule, one check at a time.
func (v *verifier) Run(ctx context.Context) error {
	var clock sync.WaitGroup
	defer clock.Wait()
	if v.cfg.Every > 0 {
		if err := audit.Reachable(ctx, v.where); err != nil && ctx.Err() == nil {
			v.deps.Log.WarnContext(ctx, "the invariants are not checked as long as the stores of all services cannot be read from here: let this process into their databases, or set verify.every to 0", "every", v.cfg.Every, "err", err)
		}
		clock.Go(func() { v.schedule(ctx) })
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case ask := <-v.asked:
			ask.err = v.check(ctx, ask.atRest)
			close(ask.ended)
			if ask.err != nil && ctx.Err() == nil {
				v.deps.Log.WarnContext(ctx, "the stores could not be checked", "err", ask.err)
			}
		}
	}
}

func (v *verifier) schedule(ctx context.Context) {
	for v.deps.Clock.Sleep(ctx, v.cfg.Every) == nil {
		select {
		case v.asked <- &asked{ended: make(chan struct{})}:
		case <-ctx.Done():
		}
	}
}
