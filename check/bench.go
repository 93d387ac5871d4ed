package check

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"holdfast/check/audit"
	"holdfast/check/engine"
	"holdfast/client"
	"holdfast/shop"
)

// BenchReport is what a bench has measured. Durations are in nanoseconds in JSON.
type BenchReport struct {
	Machine    string         `json:"machine"`
	Rate       float64        `json:"rate"`
	Seconds    float64        `json:"seconds"`
	Sent       int            `json:"sent"`
	Accepted   int            `json:"accepted"`
	Refused    int            `json:"refused"`
	Unknown    int            `json:"unknown"`
	AcceptedPS float64        `json:"accepted_per_second"`
	Outcomes   map[string]int `json:"outcomes"`
	// ConfirmedPS is the orders that were confirmed, over the time from the first order until the last of
	// them had its outcome.
	ConfirmedPS float64   `json:"confirmed_per_second"`
	Drain       float64   `json:"drain_seconds"` // from the end of the load until every order had its outcome
	Accept      Quantiles `json:"acceptance"`
	Confirm     Quantiles `json:"confirmation"`
	Observed    int       `json:"confirmation_observed"`
	Late        int       `json:"confirmation_late"`
	CPUPerOrder float64   `json:"cpu_ms_per_order"` // of Holdfast's processes, per accepted order; 0 where they were not started here
	// CPUPerConfirmed is the CPU in ms per confirmed order, of all of Holdfast's processes ("holdfast") and of each
	// engine that is a process of its own; of an engine all that it used meanwhile, for whatever.
	CPUPerConfirmed map[string]float64 `json:"cpu_ms_per_confirmed_order,omitempty"`
	PeakMemoryMB    float64            `json:"peak_memory_mb"`
	ReadySeconds    float64            `json:"ready_seconds"`
	Violations      []Violation        `json:"violations"`
}

// Quantiles are latencies of a run.
type Quantiles struct {
	P50  time.Duration `json:"p50_ns"`
	P99  time.Duration `json:"p99_ns"`
	P999 time.Duration `json:"p99_9_ns"`
	Max  time.Duration `json:"max_ns"`
}

// QuantilesOf sorts durations and returns their quantiles.
func QuantilesOf(d []time.Duration) Quantiles {
	slices.Sort(d)
	return Quantiles{Quantile(d, .5), Quantile(d, .99), Quantile(d, .999), Quantile(d, 1)}
}

// Target is a Holdfast to measure.
type Target struct {
	URL, Key  string
	Addresses Addresses
	Process   *Process // nil for one that is not one process of this one's
	// Usage is what it has used so far: its own processes are "holdfast", and each engine that was started with it has
	// its name. nil where that is not known.
	Usage func() (map[string]engine.Usage, error)
	Took  time.Duration // until it was ready
	// Stores are those of one that does not check them itself.
	Stores *audit.Config
}

// used is what it has used so far; nothing where that is not known.
func (t Target) used() (map[string]engine.Usage, error) {
	switch {
	case t.Usage != nil:
		return t.Usage()
	case t.Process != nil:
		u, err := t.Process.Usage()
		return map[string]engine.Usage{"holdfast": u}, err
	default:
		return nil, nil
	}
}

// SKU is what a load orders. Stock is made ample first.
const SKU = shop.SKU("BENCH-1")

// Bench puts load on a target and checks what became of it.
func Bench(ctx context.Context, t Target, plan Plan, restLimit time.Duration) (*BenchReport, error) {
	c, err := client.New(t.URL, t.Key, nil)
	if err != nil {
		return nil, err
	}
	if err := StockUp(ctx, c, plan.Run, SKU, int64(plan.Rate*plan.Duration.Seconds())+1); err != nil {
		return nil, fmt.Errorf("prepare the stock: %w", err)
	}
	plan.URL, plan.Key, plan.SKU, plan.Quantity = t.URL, t.Key, SKU, 1
	before, err := t.used()
	if err != nil {
		return nil, err
	}
	h, err := Run(ctx, plan)
	if err != nil {
		return nil, err
	}
	rest, cancel := context.WithTimeout(ctx, restLimit)
	defer cancel()
	if _, err := Rest(rest, c, false); err != nil {
		return nil, err
	}
	settled := time.Now()
	after, err := t.used()
	if err != nil {
		return nil, err
	}
	r := h.report()
	w, err := Look(ctx, c, t.Addresses, plan.Run)
	if err != nil {
		return nil, err
	}
	r.judge(w, h, settled)
	stores, err := t.stores(ctx)
	if err != nil {
		return nil, err
	}
	r.Violations = append(r.Violations, stores...)
	r.spent(before, after)
	r.ReadySeconds = t.Took.Seconds()
	if t.Process != nil {
		r.ReadySeconds = t.Process.Took.Seconds()
	}
	return r, nil
}

// stores returns what does not hold in the stores.
func (t Target) stores(ctx context.Context) ([]Violation, error) {
	if t.Stores == nil {
		return Stores(ctx, t.Addresses)
	}
	r, err := audit.Run(ctx, *t.Stores)
	if err != nil {
		return nil, fmt.Errorf("check the stores: %w", err)
	}
	return Failures(r), nil
}

// spent adds what was used between two looks.
func (r *BenchReport) spent(before, after map[string]engine.Usage) {
	confirmed := r.Outcomes[string(shop.Confirmed)] + r.Outcomes[string(shop.Fulfilled)]
	for name, u := range after {
		ms := float64((u.CPU - before[name].CPU).Microseconds()) / 1000
		if r.CPUPerConfirmed == nil {
			r.CPUPerConfirmed = map[string]float64{}
		}
		r.CPUPerConfirmed[name] = ms / float64(max(confirmed, 1))
		if name == "holdfast" {
			r.CPUPerOrder, r.PeakMemoryMB = ms/float64(max(r.Accepted, 1)), float64(u.Peak)/1e6
		}
	}
}

// StockUp takes n of an article into stock, under a reference of its own.
func StockUp(ctx context.Context, c *client.Client, reference string, sku shop.SKU, n int64) error {
	if _, err := c.PutItem(ctx, sku, 0, shop.PutItem{Name: "Bench", UnitPrice: 450, Currency: "EUR"}); err != nil {
		return err
	}
	_, err := c.Receive(ctx, client.NewKey(), sku, shop.Receipt{Quantity: n, Reference: reference})
	return err
}

// report is what the load itself has measured.
func (h *History) report() *BenchReport {
	r := &BenchReport{Machine: Machine(),
		Rate: h.Plan.Rate, Seconds: h.Plan.Duration.Seconds(), Sent: len(h.Orders), Outcomes: map[string]int{}, Violations: []Violation{},
		Observed: len(h.Confirm), Late: h.Late}
	for _, s := range h.Orders {
		switch {
		case s.ID != "":
			r.Accepted++
		case s.InDoubt():
			r.Unknown++
		default:
			r.Refused++
		}
	}
	r.AcceptedPS = float64(r.Accepted) / h.Ended.Sub(h.Began).Seconds()
	r.Accept, r.Confirm = QuantilesOf(h.Accept), QuantilesOf(h.Confirm)
	return r
}

// judge adds what became of the orders. Orders that may still be dispatched are not a fault here.
func (r *BenchReport) judge(w *World, h *History, settled time.Time) {
	confirmed := 0
	for _, o := range w.Orders {
		r.Outcomes[string(o.Status)]++
		if o.Status == shop.Confirmed || o.Status == shop.Fulfilled {
			confirmed++
		}
	}
	r.ConfirmedPS = float64(confirmed) / settled.Sub(h.Began).Seconds()
	r.Drain = settled.Sub(h.Ended).Seconds()
	for _, v := range w.Verify(h.Orders) {
		if v.Invariant == "I6" || v.Invariant == "I8" {
			continue // dispatches go on while the world is looked at: these hold at rest only
		}
		r.Violations = append(r.Violations, v)
	}
}

// Machine tells the size of this one.
func Machine() string {
	return fmt.Sprintf("%d CPUs, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}
