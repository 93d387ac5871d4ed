package check

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"holdfast/client"
	"holdfast/shop"
)

// Fault is something that an outside party does wrong, as its simulator takes it: see docs/api.md.
type Fault struct {
	Operation string  `json:"operation,omitempty"`
	Latency   string  `json:"latency,omitempty"`
	Status    int     `json:"status,omitempty"`
	Lose      string  `json:"lose,omitempty"` // request or answer
	Rate      float64 `json:"rate,omitempty"`
	Count     int     `json:"count,omitempty"` // calls, after which it has ended
}

// Phase is a part of an experiment: a load, and what is wrong meanwhile.
type Phase struct {
	Name    string
	For     time.Duration
	Rate    float64 // orders per second; 0: the experiment's
	PSP     []Fault
	Carrier []Fault
	Cancels float64 // cancels per second, of orders that were placed for it
}

// Experiment is a question to a running Holdfast that a run answers.
type Experiment struct {
	Name       string
	Hypothesis string
	Rate       float64 // orders per second
	Phases     []Phase
	// Watch are the breakers whose changes are reported.
	Watch []string
	// Judge says what of the hypothesis did not hold.
	Judge func(*ChaosReport) []string
}

// ChaosReport is what an experiment has shown. Durations are in nanoseconds in JSON.
type ChaosReport struct {
	Experiment string         `json:"experiment"`
	Hypothesis string         `json:"hypothesis"`
	Machine    string         `json:"machine"`
	Phases     []PhaseReport  `json:"phases"`
	Changes    []Change       `json:"breaker_changes"`
	Outcomes   map[string]int `json:"outcomes"`
	Attempts   float64        `json:"psp_commands_per_order"` // requests that are no queries, all phases together
	Drain      time.Duration  `json:"drain_ns"`               // from the end of the load until every order had its outcome
	PeakMB     float64        `json:"peak_memory_mb"`
	Violations []Violation    `json:"violations"`
	Failed     []string       `json:"failed"` // what did not hold; empty: all did
}

// PhaseReport is what was seen of a phase.
type PhaseReport struct {
	Name      string        `json:"name"`
	Began     time.Duration `json:"began_ns"` // since the start of the experiment
	Lasted    time.Duration `json:"lasted_ns"`
	Sent      int           `json:"sent"`
	Accepted  int           `json:"accepted"`
	Refused   int           `json:"refused"` // with an answer: nothing was stored
	Unknown   int           `json:"unknown"` // without one
	Accept    Quantiles     `json:"acceptance"`
	Confirmed int           `json:"confirmed"` // orders that were confirmed meanwhile
	PSP       int           `json:"psp_requests"`
	Carrier   int           `json:"carrier_requests"`
	Cancels   int           `json:"cancels"`
	Answered  int           `json:"cancels_answered"` // 200, 202 or 409
}

// Change is a change of a breaker's state.
type Change struct {
	At      time.Duration `json:"at_ns"` // since the start of the experiment
	Breaker string        `json:"breaker"`
	State   string        `json:"state"`
}

// sampleEvery is how often the breakers are looked at.
const sampleEvery = 20 * time.Millisecond

// chaos is a running experiment.
type chaos struct {
	Experiment
	target Target
	api    *client.Client
	run    string
	began  time.Time
	report *ChaosReport
	sent   []Sent
	toUndo []shop.OrderID

	mu      sync.Mutex
	changes []Change
}

// RunExperiment runs an experiment on a target and judges it. progress is told each phase as it begins.
// Where ctx ends, the outside parties are healed before it returns.
func RunExperiment(ctx context.Context, t Target, e Experiment, progress func(string), restLimit time.Duration) (*ChaosReport, error) {
	api, err := client.New(t.URL, t.Key, nil)
	if err != nil {
		return nil, err
	}
	c := &chaos{Experiment: e, target: t, api: api, run: fmt.Sprintf("chaos-%d", time.Now().UnixMilli()),
		report: &ChaosReport{Experiment: e.Name, Hypothesis: e.Hypothesis, Machine: machine(), Outcomes: map[string]int{}, Violations: []Violation{}, Failed: []string{}}}
	defer c.heal(ctx)
	if err := c.prepare(ctx); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	c.began = time.Now()
	watched, stop := context.WithCancel(ctx)
	defer stop()
	var watcher sync.WaitGroup
	watcher.Go(func() { c.watch(watched) })
	for _, p := range e.Phases {
		progress(fmt.Sprintf("%-22s %s", p.Name, describe(p)))
		if err := c.phase(ctx, p); err != nil {
			return nil, fmt.Errorf("phase %s: %w", p.Name, err)
		}
	}
	ended := time.Now()
	progress("the load has ended; waiting until every order has its outcome")
	rest, cancel := context.WithTimeout(ctx, restLimit)
	defer cancel()
	if _, err := Rest(rest, api, false); err != nil {
		return nil, err
	}
	c.report.Drain = time.Since(ended)
	stop()
	watcher.Wait()
	return c.report, c.conclude(ctx)
}

func describe(p Phase) string {
	b, err := json.Marshal(map[string][]Fault{"psp": p.PSP, "carrier": p.Carrier})
	if err != nil || len(p.PSP)+len(p.Carrier) == 0 {
		return fmt.Sprintf("for %s, nothing is wrong", p.For)
	}
	return fmt.Sprintf("for %s, %s", p.For, b)
}

// prepare makes stock, and the orders that will be cancelled.
func (c *chaos) prepare(ctx context.Context) error {
	orders, cancels := 0.0, 0.0
	for _, p := range c.Phases {
		orders += max(p.Rate, c.Rate) * p.For.Seconds()
		cancels += p.Cancels * p.For.Seconds()
	}
	if err := stockUp(ctx, c.api, Plan{Run: c.run, Rate: orders + cancels + 1, Duration: time.Second}); err != nil {
		return err
	}
	if cancels == 0 {
		return nil
	}
	const atRate = 100 // per second: what any machine carries
	h, err := Run(ctx, c.plan("undo", Phase{Rate: atRate, For: time.Duration((cancels + 1) / atRate * float64(time.Second))}, "00005"))
	if err != nil {
		return err
	}
	c.sent = append(c.sent, h.Orders...)
	for _, s := range h.Orders {
		c.toUndo = append(c.toUndo, s.ID)
	}
	return nil
}

func (c *chaos) plan(name string, p Phase, postal string) Plan {
	rate := p.Rate
	if rate == 0 {
		rate = c.Rate
	}
	return Plan{URL: c.target.URL, Key: c.target.Key, Run: c.run, Keys: c.run + "-" + strings.ReplaceAll(name, " ", "-"), Rate: rate, Duration: p.For,
		SKU: benchSKU, Quantity: 1, PostalCode: func(int) string { return postal }}
}

func (c *chaos) phase(ctx context.Context, p Phase) error {
	at := c.target.Addresses
	for url, faults := range map[string][]Fault{at.PSP: p.PSP, at.Carrier: p.Carrier} {
		if err := setFaults(ctx, url, faults); err != nil {
			return err
		}
	}
	began := time.Now()
	r := PhaseReport{Name: p.Name, Began: began.Sub(c.began)}
	before, err := c.counts(ctx)
	if err != nil {
		return err
	}
	var cancels sync.WaitGroup
	if p.Cancels > 0 {
		cancels.Go(func() { c.cancel(ctx, p, &r) })
	}
	h, err := Run(ctx, c.plan(p.Name, p, "10115"))
	if err != nil {
		return err
	}
	cancels.Wait()
	r.Lasted = time.Since(began)
	after, err := c.counts(ctx)
	if err != nil {
		return err
	}
	for _, s := range h.Orders {
		switch {
		case s.ID != "":
			r.Accepted++
		case s.Status == 0:
			r.Unknown++
		default:
			r.Refused++
		}
	}
	r.Sent, r.Accept = len(h.Orders), quantiles(h.Accept)
	r.Confirmed, r.PSP, r.Carrier = after.confirmed-before.confirmed, after.psp-before.psp, after.carrier-before.carrier
	c.sent = append(c.sent, h.Orders...)
	c.report.Phases = append(c.report.Phases, r)
	return nil
}

// cancel cancels prepared orders at a steady rate.
func (c *chaos) cancel(ctx context.Context, p Phase, r *PhaseReport) {
	tick := time.NewTicker(time.Duration(float64(time.Second) / p.Cancels))
	defer tick.Stop()
	end := time.After(p.For)
	var mu sync.Mutex
	var under sync.WaitGroup
	defer under.Wait()
	for len(c.toUndo) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-end:
			return
		case <-tick.C:
		}
		id := c.toUndo[0]
		c.toUndo = c.toUndo[1:]
		under.Go(func() {
			status := post(ctx, c.target.URL+"/v1/orders/"+string(id)+"/cancel", c.target.Key, "cancel-"+string(id))
			mu.Lock()
			defer mu.Unlock()
			r.Cancels++
			if status == http.StatusOK || status == http.StatusAccepted || status == http.StatusConflict {
				r.Answered++
			}
		})
	}
}

// post sends a request without a body once, and returns its status; 0 where no answer came.
func post(ctx context.Context, url, apiKey, key string) int {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return 0
	}
	req.Header.Set("Authorization", "Bearer "+apiKey)
	req.Header.Set("Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// setFaults replaces the faults of an outside party.
func setFaults(ctx context.Context, url string, faults []Fault) error {
	body, err := json.Marshal(map[string]any{"faults": append([]Fault{}, faults...)})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url+"/faults", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // a message for people, whole or not
		return fmt.Errorf("faults at %s: %s %s", url, resp.Status, strings.TrimSpace(string(text)))
	}
	return nil
}

// heal ends all faults, also where the experiment was broken off.
func (c *chaos) heal(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = setFaults(ctx, c.target.Addresses.PSP, nil)     // what is gone needs no healing
	_ = setFaults(ctx, c.target.Addresses.Carrier, nil) // the same
}

// watch notes the changes of the breakers.
func (c *chaos) watch(ctx context.Context) {
	state := map[string]string{}
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		var list struct {
			Items []struct{ Name, Policy, State string }
		}
		if getJSON(ctx, c.target.Addresses.Admin+"/admin/v1/policies", &list) == nil {
			at := time.Since(c.began)
			c.mu.Lock()
			for _, p := range list.Items {
				if p.Policy != "breaker" || p.State == state[p.Name] {
					continue
				}
				if state[p.Name] != "" {
					c.changes = append(c.changes, Change{at, p.Name, p.State})
				}
				state[p.Name] = p.State
			}
			c.mu.Unlock()
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func getJSON(ctx context.Context, url string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(v)
}

// conclude looks at the world and judges.
func (c *chaos) conclude(ctx context.Context) error {
	r := c.report
	r.Changes = c.changes
	w, err := Look(ctx, c.api, c.target.Addresses, c.run)
	if err != nil {
		return err
	}
	for _, o := range w.Orders {
		r.Outcomes[string(o.Status)]++
	}
	for _, v := range w.Verify(c.sent) {
		if v.Invariant != "I6" && v.Invariant != "I8" { // dispatches go on while the world is looked at
			r.Violations = append(r.Violations, v)
		}
	}
	stores, err := Stores(ctx, c.target.Addresses)
	if err != nil {
		return err
	}
	r.Violations = append(r.Violations, stores...)
	counts, err := c.counts(ctx)
	if err != nil {
		return err
	}
	r.Attempts = float64(counts.pspAuthorise) / float64(max(1, len(w.Orders)))
	if c.target.Process != nil {
		u, err := c.target.Process.Usage()
		if err != nil {
			return err
		}
		r.PeakMB = float64(u.Peak) / 1e6
	}
	for _, v := range r.Violations {
		r.Failed = append(r.Failed, v.String())
	}
	r.Failed = append(r.Failed, c.Judge(r)...)
	return nil
}
