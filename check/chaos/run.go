package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/check"
	"holdfast/client"
)

const (
	// patience is how long a client waits for an answer.
	patience = 5 * time.Second
	// afterLeast is how long a phase without a length lasts at least, and afterMost at most beyond the target.
	afterLeast = 4 * time.Second
	afterMost  = 30 * time.Second
	// quickLength is how long a phase without a fault lasts where safety alone counts.
	quickLength = time.Second
	// assumed is the length of such a phase, for what has to be prepared.
	assumed = 20 * time.Second
	// ample is the stock that an experiment's orders are taken from.
	ample = 1_000_000
	// prepareRate is at which orders are placed before an experiment: what any machine carries.
	prepareRate = 100
	// mostPrepared bounds the orders that are placed for cancels.
	mostPrepared = 2000
	// prepareWait bounds the wait for the outcomes of those.
	prepareWait = 20 * time.Second
	// tickEvery is how often it is said how it stands.
	tickEvery = time.Second
)

// run is a running experiment.
type run struct {
	*Experiment
	campaign *Campaign
	target   check.Target
	api      *client.Client
	name     string // the orders' customer
	field    *Field
	observer *observer
	record   *recorder
	result   *Result
	pool     pool

	loads       sync.WaitGroup
	mu          sync.Mutex
	histories   []*check.History
	bursts      []*check.History // of those that have ended
	burstsBegun int
	wrong       error // of a load
	phase       string
	calmUntil   time.Duration
	ended       time.Time // of the load
	before      counts    // of the outside parties
	active      map[Fault]*FaultReport
	faults      []Fault // all, in the order in which they began
	watch       *watch
}

// experiment runs one and judges it. Where ctx ends it is healed, and its result says that it was interrupted.
func (c *Campaign) experiment(ctx context.Context, e *Experiment) (*Result, error) {
	began := time.Now()
	r, err := c.newRun(ctx, e)
	if err != nil {
		return nil, err
	}
	observing, stopObserving := context.WithCancel(context.WithoutCancel(ctx))
	var observer sync.WaitGroup
	observer.Go(func() { r.observer.run(observing) })
	defer observer.Wait()
	defer stopObserving()
	if err := r.prepare(ctx); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	err = r.play(ctx)
	if err := r.heal(ctx); err != nil {
		r.result.Verdict, r.result.Failed = Inconclusive, append(r.result.Failed, err.Error())
		return r.result, err
	}
	r.summarise()
	if err == nil {
		err = r.conclude(ctx)
	}
	r.result.Took = time.Since(began)
	if ctx.Err() != nil {
		r.result.Verdict, err = Interrupted, nil
	}
	if err != nil {
		r.result.Verdict, r.result.Failed = Inconclusive, append(r.result.Failed, err.Error())
		return r.result, err
	}
	e.judge(r.result)
	return r.result, nil
}

func (c *Campaign) newRun(ctx context.Context, e *Experiment) (*run, error) {
	target := c.System.Target()
	api, err := client.New(target.URL, target.Key, nil)
	if err != nil {
		return nil, err
	}
	r := &run{Experiment: e, campaign: c, target: target, api: api, name: fmt.Sprintf("chaos-%d", time.Now().UnixMilli()), active: map[Fault]*FaultReport{},
		result: &Result{Name: e.Name, Hypothesis: e.Hypothesis, Blast: e.Blast, Outcomes: map[string]int{}, Violations: []check.Violation{}, Failed: []string{}, Faults: []*FaultReport{}, Changes: []Change{}}}
	r.field = &Field{System: c.System, Rand: draws(c.Seed, e.Name), Burst: r.burst, Expected: c.expected}
	if r.observer, err = observe(ctx, target.Addresses.Kafka); err != nil {
		return nil, err
	}
	return r, nil
}

// prepare makes stock, and orders that will be read and cancelled.
func (r *run) prepare(ctx context.Context) error {
	r.before = r.counts(ctx)
	if err := check.StockUp(ctx, r.api, r.name, check.SKU, ample); err != nil {
		return err
	}
	r.record = &recorder{began: time.Now(), seen: r.observer.of}
	n := 1.0
	for i := range r.Phases {
		lasts := r.length(i)
		if lasts == 0 {
			lasts = assumed
		}
		n += r.Load.Cancels * lasts.Seconds()
	}
	n = min(n, mostPrepared)
	h, err := check.Run(ctx, check.Plan{URL: r.target.URL, Key: r.target.Key, Run: r.name, Keys: r.name + "-prepared", Rate: prepareRate,
		Duration: time.Duration((n + 1) / prepareRate * float64(time.Second)), SKU: check.SKU, Quantity: 1, PostalCode: func(int) string { return neverCollected }, Timeout: patience})
	if err != nil {
		return err
	}
	r.histories = append(r.histories, h)
	for _, s := range h.Orders {
		if s.ID != "" {
			r.pool.prepared = append(r.pool.prepared, s.ID)
		}
	}
	if len(r.pool.prepared) == 0 {
		return errors.New("no order was accepted before anything was wrong")
	}
	r.pool.known = slices.Clone(r.pool.prepared)
	return r.prepared(ctx)
}

// prepared waits until the prepared orders have their outcomes, so that they are not taken for a backlog.
func (r *run) prepared(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, prepareWait, errors.New("the orders that were placed before anything was wrong have no outcome"))
	defer cancel()
	for _, id := range r.pool.known {
		for _, ok := r.observer.of(id); !ok; _, ok = r.observer.of(id) {
			if !pauseFor(ctx, lookEvery) {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// pauseFor waits; it returns false where ctx has ended.
func pauseFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// play runs the phases under load.
func (r *run) play(ctx context.Context) error {
	r.record.began = time.Now()
	around, stop := context.WithCancel(ctx)
	defer stop()
	var others sync.WaitGroup
	defer others.Wait()
	r.watch = newWatch(r.campaign.System, r.record.began)
	r.watch.start(around, &others)
	others.Go(func() { r.cancels(around) })
	others.Go(func() { r.reads(around) })
	others.Go(func() { r.tick(around) })
	endLoad := r.load(ctx)
	var err error
	for i := range r.Phases {
		if err = r.one(ctx, i); err != nil {
			break
		}
	}
	endLoad()
	r.ended = time.Now()
	stop()
	others.Wait()
	r.loads.Wait()
	r.result.Changes = r.watch.all()
	return errors.Join(err, r.wrong)
}

// one runs a phase: it heals what has ended, and has go wrong what begins.
func (r *run) one(ctx context.Context, i int) error {
	p := r.Phases[i]
	r.setPhase(p.Name)
	if err := r.endAllBut(ctx, p.Faults); err != nil {
		return err
	}
	counted := r.counts(ctx)
	began := time.Since(r.record.began)
	if r.calmUntil == 0 && len(p.Faults) > 0 {
		r.calmUntil = began
	}
	var wrong []string
	for _, f := range p.Faults {
		if r.active[f] == nil {
			r.begin(ctx, f)
		}
		wrong = append(wrong, f.Describe())
	}
	words := cmp.Or(strings.Join(wrong, "; "), "nothing is wrong")
	length := r.length(i)
	lasts := "until all is as before"
	if length > 0 {
		lasts = "for " + length.String()
	}
	r.campaign.Say(fmt.Sprintf("  %-14s %s, %s", p.Name, lasts, words))
	if length > 0 {
		pauseFor(ctx, length)
	} else {
		r.untilRecovered(ctx)
	}
	after := r.counts(context.WithoutCancel(ctx))
	r.result.Phases = append(r.result.Phases, PhaseReport{Name: p.Name, Began: began, Lasted: time.Since(r.record.began) - began, PSP: max(0, after.psp-counted.psp), Carrier: max(0, after.carrier-counted.carrier)})
	return ctx.Err()
}

// length is how long a phase lasts; 0: until all is as before. What comes before a fault is measured for what comes
// after it, and nobody asks for that where safety alone counts.
func (r *run) length(i int) time.Duration {
	p := r.Phases[i]
	if !r.campaign.Safety || len(p.Faults) > 0 {
		return p.For
	}
	return quickLength
}

// begin has a fault go wrong. Where that cannot be, the rest is looked at all the same, and is inconclusive.
func (r *run) begin(ctx context.Context, f Fault) {
	fr := &FaultReport{Fault: f.Describe(), From: time.Since(r.record.began)}
	r.active[f] = fr
	r.faults = append(r.faults, f)
	r.result.Faults = append(r.result.Faults, fr)
	err := f.Inject(ctx, r.field)
	fr.Fault = f.Describe()
	if err != nil && ctx.Err() == nil {
		fr.Error = err.Error()
	}
}

// endAllBut heals all faults but some. A process may not start as long as something else is wrong that it needs: it is
// tried again whenever another fault is healed, in this phase or in one that comes.
func (r *run) endAllBut(ctx context.Context, some []Fault) error {
	for {
		healed := false
		var errs []error
		for _, f := range r.faults {
			if r.active[f] == nil || slices.Contains(some, f) {
				continue
			}
			if err := r.end(ctx, f); err != nil {
				errs = append(errs, err)
			} else {
				healed = true
			}
		}
		switch {
		case len(errs) == 0, !healed && len(r.active) > len(errs): // which others are in the way of
			return nil
		case !healed:
			for f, fr := range r.active {
				if !slices.Contains(some, f) {
					fr.Error = fr.Delayed
				}
			}
			return errors.Join(errs...)
		}
	}
}

// end heals a fault, and counts what it did.
func (r *run) end(ctx context.Context, f Fault) error {
	fr := r.active[f]
	err := f.Heal(ctx)
	fr.To = time.Since(r.record.began)
	fr.Fault = f.Describe()
	if err != nil {
		err = fmt.Errorf("%s could not be healed: %w", fr.Fault, err)
		fr.Delayed = err.Error()
		r.campaign.Say("  " + fr.Delayed)
		return err
	}
	delete(r.active, f)
	if fr.Bites, err = f.Bites(); err != nil {
		fr.Error = err.Error()
	}
	return nil
}

// allHealed bounds the healing at the end.
const allHealed = 90 * time.Second

// heal ends every fault that is left, also where the experiment was broken off.
func (r *run) heal(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), allHealed)
	defer cancel()
	return r.endAllBut(ctx, nil)
}

// measured is where the recovery is measured: from the fault, which others make up for while it lasts, or from its end.
func (r *run) measured(now time.Duration) (from string, in span) {
	healed := r.calmUntil
	for _, f := range r.result.Faults {
		healed = max(healed, f.To)
	}
	if r.Target.FromFault && len(r.result.Faults) > 0 {
		return "fault", span{r.result.Faults[0].From, healed, now}
	}
	return "heal", span{healed, healed, now}
}

// untilRecovered waits until all is as before, or has had time enough for it.
func (r *run) untilRecovered(ctx context.Context) {
	began := time.Now()
	for pauseFor(ctx, tickEvery/2) {
		_, in := r.measured(time.Since(r.record.began))
		_, ok := recovery(r.record.snapshot(), r.calmUntil, in)
		if time.Since(began) >= afterLeast && ok || time.Since(began) > r.Target.Within+afterMost {
			return
		}
	}
}

// summarise turns what was recorded into the result.
func (r *run) summarise() {
	until := r.ended.Sub(r.record.began)
	orders := r.record.snapshot()
	res := r.result
	for i := range res.Phases {
		p := phaseReport(res.Phases[i].Name, orders, r.record.cancels, res.Phases[i].Began, res.Phases[i].Began+res.Phases[i].Lasted)
		p.PSP, p.Carrier = res.Phases[i].PSP, res.Phases[i].Carrier
		res.Phases[i] = p
	}
	res.Timeline = timeline(orders, until)
	from, to := r.calmUntil, r.calmUntil
	for _, f := range res.Faults {
		to = max(to, f.To)
	}
	res.Available = available(orders, r.record.cancels, r.record.reads, from, to)
	if r.Target.Within > 0 && len(res.Phases) == len(r.Phases) {
		word, in := r.measured(until)
		rec, ok := recovery(orders, r.calmUntil, in)
		rec.From, rec.Never, rec.Target = word, !ok, r.Target.Within
		res.Recovery = &rec
	}
}

func (r *run) setPhase(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase = name
}

// burst begins a load that is a fault itself.
func (r *run) burst(ctx context.Context, plan check.Plan) (sent func() int64, stop func()) {
	var n atomic.Int64
	plan.Keys = fmt.Sprintf("%s-burst-%d", r.name, r.burstsBegun)
	r.burstsBegun++
	end := r.send(ctx, plan, &r.bursts, func(s check.Sent) {
		n.Add(1)
		r.record.order(s, true)
	})
	return n.Load, end
}

// send begins a load and keeps its history. stop ends it.
func (r *run) send(ctx context.Context, plan check.Plan, into *[]*check.History, each func(check.Sent)) (stop func()) {
	ended := make(chan struct{})
	plan.URL, plan.Key, plan.Run, plan.Timeout, plan.Each, plan.Stop = r.target.URL, r.target.Key, r.name, patience, each, ended
	r.loads.Go(func() {
		h, err := check.Run(ctx, plan)
		r.mu.Lock()
		defer r.mu.Unlock()
		if h != nil {
			*into = append(*into, h)
		}
		if ctx.Err() == nil {
			r.wrong = errors.Join(r.wrong, err)
		}
	})
	return sync.OnceFunc(func() { close(ended) })
}
