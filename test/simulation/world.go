package simulation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"holdfast/check"
	"holdfast/client"
	"holdfast/shop"
	"holdfast/test/harness"
)

// World is a Holdfast with everything around it, for one seed.
type World struct {
	plan     Plan
	dir      string // of its data
	net      *Network
	log      logBuffer
	secrets  harness.Secrets
	key      string
	began    time.Time
	procs    map[string]*process
	lives    map[string]int
	all      sync.WaitGroup // of processes
	crashes  int
	wrong    atomic.Int64 // by how much Holdfast's clock is, in nanoseconds
	rightly  atomic.Int64 // the same of the others: 0
	operator *http.Client // who stands beside, on links where nothing goes wrong
	closers  []func()

	mu      sync.Mutex
	history []Event
	found   []check.Violation
	seen    sights
}

// Result is what became of a seed.
type Result struct {
	Plan       Plan
	Violations []check.Violation
	Races      map[string]int
	Orders     int
	Virtual    time.Duration
	World      *World
}

const (
	restLimit = 30 * time.Minute // virtual time for everything to come to rest
	quietTime = 5 * time.Second  // after that, for what the last events bring about
)

// simulate runs a plan in the present bubble. template is a data directory with the items and their stock.
func simulate(plan Plan, template, dir string) (*Result, error) {
	w := &World{plan: plan, dir: dir, net: NewNetwork(ports()), procs: map[string]*process{}, lives: map[string]int{}}
	w.seen.retried = map[shop.OrderID]bool{}
	time.Sleep(time.Hour) // the template was made at the same virtual time
	data := filepath.Join(dir, "holdfast-0")
	if err := copyTree(template, data, ""); err != nil {
		return nil, err
	}
	var err error
	if w.secrets, w.key, err = harness.ReadSecrets(data); err != nil {
		return nil, err
	}
	w.net.setFaults(func(p *pair, d direction, n int, _ time.Time) effect { return calm(plan.Seed, p, d, n) })
	w.operator = w.newClient("operator")
	for _, name := range []string{"psp", "carrier"} {
		w.start(name, filepath.Join(dir, name))
	}
	w.start("holdfast", data)
	w.began = time.Now()
	w.net.setFaults(plan.effects(w.began))
	sent := w.busy()
	left := w.rest()
	r := &Result{Plan: plan, Orders: len(sent), World: w}
	w.judge(left, sent)
	r.Virtual = time.Since(w.began)
	w.end()
	w.judgeStores()
	r.Violations, r.Races = w.found, w.races()
	return r, nil
}

// newClient makes an HTTP client of a host of its own.
func (w *World) newClient(name string) *http.Client {
	t := &http.Transport{DialContext: w.net.host(name).DialContext, DisableCompression: true, MaxIdleConnsPerHost: 8}
	w.mu.Lock()
	w.closers = append(w.closers, t.CloseIdleConnections)
	w.mu.Unlock()
	return &http.Client{Transport: t}
}

// busy is the time in which orders come and things go wrong. It returns the orders as their customers
// know them.
func (w *World) busy() []*sentOrder {
	var group sync.WaitGroup
	sent := make([]*sentOrder, len(w.plan.Orders))
	for i, o := range w.plan.Orders {
		sent[i] = &sentOrder{plan: o}
		group.Go(func() { w.customer(sent[i]) })
	}
	for i, r := range w.plan.Receipts {
		group.Go(func() { w.receive(i, r) })
	}
	for _, f := range w.plan.Parties {
		group.Go(func() { w.partyFault(f) })
	}
	for _, j := range w.plan.Jumps {
		group.Go(func() { w.jump(j) })
	}
	for _, h := range w.plan.Hangs {
		group.Go(func() { w.hang(h) })
	}
	for _, at := range w.plan.Operator {
		group.Go(func() { w.operate(at) })
	}
	stops := slices.Clone(w.plan.Stops)
	slices.SortStableFunc(stops, func(a, b Stop) int { return int(a.At - b.At) })
	for _, s := range stops {
		w.until(s.At)
		if err := w.stop(s); err != nil {
			w.violate("X2", "", "the simulation itself: %v", err)
		}
	}
	w.until(faultTime)
	w.heal()
	group.Wait()
	return sent
}

func (w *World) until(at time.Duration) { time.Sleep(at - time.Since(w.began)) }

// heal ends everything that goes wrong.
func (w *World) heal() {
	seed := w.plan.Seed
	w.net.setFaults(func(p *pair, d direction, n int, _ time.Time) effect { return calm(seed, p, d, n) })
	if !w.plan.Settings.KeepDead {
		w.net.resetLost()
	}
	for _, port := range []int{portPSP, portCarrier} {
		w.ask(http.MethodDelete, url(port)+"/faults", nil, nil)
	}
}

// partyFault has an outside party do something wrong for a while.
func (w *World) partyFault(f PartyFault) {
	w.until(f.From)
	port := map[string]int{"psp": portPSP, "carrier": portCarrier}[f.Party]
	w.ask(http.MethodPut, url(port)+"/faults", map[string]any{"faults": []any{f.JSON}}, nil)
}

// ask is a request of the operator's, who is told nothing where a process is down. It returns the status.
func (w *World) ask(method, address string, body, answer any) int {
	var b []byte
	if body != nil {
		b, _ = json.Marshal(body)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(b))
	if err != nil {
		w.violate("X2", "", "the simulation itself: %v", err)
		return 0
	}
	req.Header.Set("Authorization", "Bearer "+w.key)
	resp, err := w.operator.Do(req)
	if err != nil {
		w.note("operator: %v", err)
		return 0
	}
	defer resp.Body.Close()
	b, err = io.ReadAll(resp.Body)
	if err == nil && answer != nil {
		err = json.Unmarshal(b, answer)
	}
	if err != nil || resp.StatusCode >= 300 {
		w.note("operator: %s %s: %d %s %v", method, address, resp.StatusCode, b, err)
	}
	return resp.StatusCode
}

// rest waits until nothing moves any more, and has what needs attention tried again. It returns how many
// orders still move.
func (w *World) rest() int {
	ctx, cancel := context.WithTimeout(context.Background(), restLimit)
	defer cancel()
	api, err := client.New(url(portAPI), w.key, w.operator)
	if err != nil {
		w.violate("X2", "", "the simulation itself: %v", err)
		return 0
	}
	for range maxRetries {
		left, err := w.settle(ctx, api)
		if err != nil {
			w.violate("X1", "", "after the faults had ended: %v", err)
		}
		if err != nil || left > 0 {
			return left
		}
		if !w.retry(ctx, api) {
			break
		}
	}
	return 0
}

// settle waits until no order is on its way, or ctx ends.
func (w *World) settle(ctx context.Context, api *client.Client) (left int, err error) {
	quiet := false // and it was, before a quietTime
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		left = 0
		for _, status := range []shop.OrderStatus{shop.Pending, shop.Cancelling, shop.Confirmed} {
			page, err := api.ListOrders(ctx, shop.OrderQuery{Status: status, Limit: 1})
			if err != nil {
				return left, err
			}
			if left += len(page.Items); left > 0 {
				break
			}
		}
		switch {
		case left > 0:
			quiet = false
		case quiet:
			return 0, nil
		default: // a request that came before a hang may be carried out after it
			quiet, wait = true, quietTime
		}
		time.Sleep(wait)
	}
	return left, nil
}

// retry has the orders that need attention tried again, and tells whether there are any.
func (w *World) retry(ctx context.Context, api *client.Client) bool {
	page, err := api.ListOrders(ctx, shop.OrderQuery{Status: shop.NeedsAttention, Limit: 200})
	if err != nil {
		w.violate("X1", "", "after the faults had ended: %v", err)
	}
	w.retryAll(page.Items)
	if len(page.Items) > 0 {
		time.Sleep(quietTime)
	}
	return len(page.Items) > 0
}

func (w *World) retryAll(orders []shop.Order) {
	for _, o := range orders {
		if status := w.ask(http.MethodPost, url(portAdmin)+"/admin/v1/orders/"+string(o.ID)+"/retry", nil, nil); status/100 == 2 {
			w.mu.Lock()
			w.seen.retried[o.ID] = true
			w.mu.Unlock()
		}
	}
}

// operate is an operator who acts while things go wrong, if Holdfast is there.
func (w *World) operate(at time.Duration) {
	w.until(at)
	ctx, cancel := context.WithTimeout(context.Background(), quietTime)
	defer cancel()
	api, err := client.New(url(portAPI), w.key, w.operator)
	if err != nil {
		w.violate("X2", "", "the simulation itself: %v", err)
		return
	}
	page, err := api.ListOrders(ctx, shop.OrderQuery{Status: shop.NeedsAttention, Limit: 200})
	if err != nil {
		w.note("operator: %v", err)
		return
	}
	w.retryAll(page.Items)
}

// maxRetries is how often an operator tries what needs attention.
const maxRetries = 10

// timersTime is longer than any timer that is left running: time stands still once the bubble's function
// has returned.
const timersTime = 10 * time.Minute

// end stops everything in order.
func (w *World) end() {
	for _, name := range []string{"holdfast", "psp", "carrier"} {
		p := w.procs[name]
		select {
		case <-p.done:
			w.violate("X1", "", "%s had ended by itself: %v", name, p.err)
		default:
		}
		p.cancel()
		<-p.done
		if p.err != nil {
			w.violate("X1", "", "%s did not stop in order: %v", name, p.err)
		}
	}
	for _, c := range w.closers {
		c()
	}
	w.all.Wait()
	w.net.resetAll()
	time.Sleep(timersTime)
	synctest.Wait()
}

func (w *World) violate(invariant, order, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found = append(w.found, check.Violation{Invariant: invariant, Order: order, Detail: fmt.Sprintf(format, args...)})
}

func (w *World) note(format string, args ...any) {
	fmt.Fprintf(&w.log, "time=%s process=simulation "+format+"\n", append([]any{time.Now().UTC().Format(time.RFC3339Nano)}, args...)...)
}
