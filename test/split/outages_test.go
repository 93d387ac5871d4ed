package split_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/check"
	"holdfast/check/audit"
	"holdfast/client"
	"holdfast/shop"
	"holdfast/test/engines"
	"holdfast/test/postgres"
	"holdfast/test/split"
)

const (
	// outageVariable says how long the outages of TestOutages last.
	outageVariable = "HOLDFAST_TEST_OUTAGE"
	// What the orders of the load are: both styles of saga, 20 a second in all.
	choreographedRate, orchestratedRate = 14, 6
)

// outage is what a subtest has: a Holdfast on engines of its own, under load.
type outage struct {
	*testing.T
	s       *split.System
	c       *client.Client
	lasts   time.Duration
	pg      *postgres.Server
	kafka   *engines.Kafka
	cluster *engines.Temporald
	probes  []check.Sent

	down, up time.Time // of the engine
}

// TestOutages stops a real engine under load and starts it again. What may go on goes on, what may not says so,
// and afterwards everything has its outcome, with nothing lost and nothing done twice.
func TestOutages(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts eight processes and three engines, three times")
	}
	text := os.Getenv(outageVariable)
	if text == "" {
		t.Skip("it takes minutes: set " + outageVariable + "=45s to run it")
	}
	lasts, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", outageVariable, err)
	}
	for _, c := range []struct {
		engine   string
		recovers time.Duration // after the engine answers again
		during   func(*outage)
		down, up func(*outage)
	}{
		{"kafka", 30 * time.Second, (*outage).withoutKafka, func(o *outage) { o.kafka.Kill(o) }, func(o *outage) { o.kafka.Start(o) }},
		{"postgres", 5 * time.Second, (*outage).withoutPostgres, func(o *outage) { o.pg.Kill(o) }, func(o *outage) { o.pg.Start(o) }},
		{"temporal", 30 * time.Second, (*outage).withoutTemporal, func(o *outage) { o.cluster.Kill(o) }, func(o *outage) { o.cluster.Start(o) }},
	} {
		t.Run(c.engine, func(t *testing.T) {
			o := startOutage(t, lasts)
			histories := o.loads(func() {
				o.settles("before", shop.Choreographed)
				o.settles("before-orchestrated", shop.Orchestrated)
				c.down(o)
				o.down = time.Now()
				c.during(o)
				o.up = time.Now()
				c.up(o)
				o.worksWithin(c.recovers, time.Now())
				o.goesOn()
			})
			if c.engine != "postgres" {
				o.allAccepted(histories)
			}
			o.rests(histories)
		})
	}
}

func startOutage(t *testing.T, lasts time.Duration) *outage {
	o := &outage{T: t, lasts: lasts, kafka: engines.StartKafka(t, engines.KafkaConfig{}), cluster: engines.StartTemporald(t, "--data", t.TempDir(), "--namespace", "default"), pg: postgres.Start(t)}
	o.s = split.Start(t, split.Options{
		Databases: o.pg.Databases(t, append([]string{split.Saga}, split.Services...)...), Kafka: o.kafka.Addrs()[0], Temporal: o.cluster.Addr(),
		Settings: map[string]string{"order.backlog_max": "3s"}, // as in production: what waits for Kafka must not count
	})
	o.c = stocked(t, o.s)
	return o
}

// loads sends orders of both styles until during returns.
func (o *outage) loads(during func()) []*check.History {
	stop := make(chan struct{})
	histories := make([]*check.History, 2)
	var all sync.WaitGroup
	for i, p := range []check.Plan{{Run: "choreographed", Rate: choreographedRate, Saga: shop.Choreographed}, {Run: "orchestrated", Rate: orchestratedRate, Saga: shop.Orchestrated}} {
		p.URL, p.Key, p.Duration, p.SKU, p.Quantity, p.Stop = o.s.Addresses.API, o.s.Key, 20*time.Minute, "TEA", 1, stop
		all.Go(func() {
			var err error
			if histories[i], err = check.Run(o.Context(), p); err != nil {
				o.Error(err)
			}
		})
	}
	defer all.Wait()
	defer close(stop)
	during()
	return histories
}

// allAccepted sees that every order was that was sent during the outage. Afterwards, while what has waited is
// carried out, a client may be asked to come again.
func (o *outage) allAccepted(histories []*check.History) {
	o.Helper()
	for _, h := range histories {
		during := 0
		for _, f := range refused(h) {
			due := h.Began.Add(time.Duration(float64(f.Number) / h.Plan.Rate * float64(time.Second)))
			if due.Before(o.down) || due.After(o.up) {
				continue
			}
			if during++; during <= 3 {
				o.Errorf("%s: order %d, %s into the outage, was not accepted: %d %s", h.Plan.Run, f.Number, due.Sub(o.down), f.Status, f.Code)
			}
		}
		o.Logf("%s: %d orders were sent; not accepted were %d in the outage and %d at other times", h.Plan.Run, len(h.Orders), during, len(refused(h))-during)
	}
}

// rests sends again what is in doubt, waits until nothing moves, and compares what was told, what is, the stores
// and the outside parties' ledgers.
func (o *outage) rests(histories []*check.History) {
	o.Helper()
	sent := o.probes
	for _, h := range histories {
		doubtful := len(refused(h))
		if err := check.Resend(o.Context(), h.Plan, h.Orders); err != nil {
			o.Errorf("the repetition: %v", err)
		}
		o.Logf("%s: %d orders, %d of them sent again", h.Plan.Run, len(h.Orders), doubtful)
		sent = append(sent, h.Orders...)
	}
	began := time.Now()
	rests(o.T, o.s, o.c, sent)
	o.Logf("everything has its outcome and is dispatched %s after the load", time.Since(began).Round(time.Millisecond))
	cfg := o.s.Stores
	cfg.AtRest = true
	report, err := audit.Run(o.Context(), cfg)
	if err != nil {
		o.Fatal(err)
	}
	o.Logf("audit: %s over %v", report.Verdict, report.Counts)
	for _, r := range report.Failed() {
		o.Errorf("audit: %s is %s: %+v", r.ID, r.Verdict, r.Items[:min(len(r.Items), 3)])
	}
}

// settles places an order and waits for its outcome.
func (o *outage) settles(key string, saga shop.SagaStyle) {
	o.Helper()
	if !o.outcome(o.places(key, saga), time.Minute) {
		o.Errorf("%s has no outcome", key)
	}
}

// places places an order, as its client does: again with its key where it is told to.
func (o *outage) places(key string, saga shop.SagaStyle) shop.OrderID {
	o.Helper()
	ctx, cancel := context.WithTimeout(o.Context(), time.Minute)
	defer cancel()
	order := probe(key)
	order.Saga = saga
	placed, err := o.c.PlaceOrder(ctx, key, order, 0)
	if err != nil {
		o.Errorf("%s: %v", key, err)
		return ""
	}
	o.probes = append(o.probes, check.Sent{Key: key, ID: placed.Order.ID, Total: placed.Order.Total, Status: http.StatusCreated})
	return placed.Order.ID
}

// outcome waits for an order's.
func (o *outage) outcome(id shop.OrderID, limit time.Duration) bool {
	if id == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(o.Context(), limit)
	defer cancel()
	_, err := o.c.WaitOrder(ctx, id)
	return err == nil
}

// worksWithin sees that new orders of both styles have their outcome, and in what time.
func (o *outage) worksWithin(limit time.Duration, up time.Time) {
	o.Helper()
	o.settles("accepted-again", shop.Choreographed)
	choreographed := time.Since(up)
	o.settles("orchestrated-again", shop.Orchestrated)
	orchestrated := time.Since(up)
	o.Logf("after an outage of %s the first new order was confirmed %s after the engine answered, the first orchestrated one %s after", o.lasts, choreographed.Round(10*time.Millisecond), orchestrated.Round(10*time.Millisecond))
	if orchestrated > limit {
		o.Errorf("it works again after %s, want %s at most", orchestrated, limit)
	}
	for _, p := range o.probes {
		if !o.outcome(p.ID, time.Minute) {
			o.Errorf("%s has no outcome", p.Key)
		}
	}
}

// goesOn sees that the load's own orders are confirmed again, and not just those of the probes: as many more as it
// sends in two seconds.
func (o *outage) goesOn() {
	const more = 2 * (choreographedRate + orchestratedRate)
	before := o.confirmed()
	for deadline := time.Now().Add(time.Minute); o.confirmed() < before+more; {
		if time.Now().After(deadline) {
			o.Errorf("within a minute no %d orders of the load were confirmed", more)
			return
		}
		o.settles(client.NewKey(), shop.Choreographed)
	}
}

// everySecond runs look each second of the outage, which is over when it has lasted and look has been run.
func (o *outage) everySecond(look func(n int)) {
	over := time.NewTimer(o.lasts)
	defer over.Stop()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for n := 0; ; n++ {
		look(n)
		select {
		case <-o.Context().Done():
			o.Fatal(o.Context().Err())
		case <-over.C:
			return
		case <-second.C:
		}
	}
}

func (o *outage) withoutKafka() {
	before := o.unsent()
	accepted := 0
	o.everySecond(func(n int) {
		if id := o.places(fmt.Sprintf("without-kafka-%d", n), shop.Choreographed); id != "" {
			accepted++
			if n%3 == 0 {
				a := o.request(http.MethodPost, "/v1/orders/"+string(id)+"/cancel", fmt.Sprintf("cancel-%d", n), "")
				if a.status != http.StatusOK && a.status != http.StatusAccepted {
					o.Errorf("a cancel without Kafka: %+v", a)
				}
			}
		}
	})
	if ready := o.status(o.s.Addresses.Admin + "/readyz"); ready != http.StatusOK {
		o.Errorf("without Kafka the order service says by %d that it is not ready: nobody would send it orders", ready)
	}
	after := o.unsent()
	o.Logf("without Kafka %d orders of ours were accepted, and the events of the order service that wait rose from %g to %g", accepted, before, after)
	if least := 10 * o.lasts.Seconds(); after-before < least {
		o.Errorf("the outbox grew from %g to %g, want %g more at least", before, after, least)
	}
}

func (o *outage) withoutPostgres() {
	known := o.probes[0]
	told, copies, slowest := map[int]int{}, 0, time.Duration(0)
	o.everySecond(func(n int) {
		key := fmt.Sprintf("without-postgres-%d", n)
		place := o.request(http.MethodPost, "/v1/orders", key, fmt.Sprintf(`{"customer_id":"probe","currency":"EUR","lines":[{"sku":"TEA","quantity":1}],"shipping_address":{"name":"A. Reader","line1":"1 Long Street","city":"Berlin","postal_code":"10115","country":"DE"},"payment_method":"tok_ok","external_id":%q}`, key))
		cancel := o.request(http.MethodPost, "/v1/orders/"+string(known.ID)+"/cancel", "never-"+key, "")
		for what, a := range map[string]answer{"an order": place, "a cancel": cancel} {
			told[a.status]++
			slowest = max(slowest, a.took)
			if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
				o.Errorf("%s without PostgreSQL, after %d s: %d with Retry-After %q: %s", what, n, a.status, a.header.Get("Retry-After"), a.body)
			}
		}
		switch read := o.request(http.MethodGet, "/v1/orders/"+string(known.ID), "", ""); {
		case read.status == http.StatusOK && read.header.Get("Stale-As-Of") == "":
			o.Errorf("a read without PostgreSQL is not marked as stale: %s", read.body)
		case read.status == http.StatusOK:
			copies++
		case read.status != http.StatusServiceUnavailable:
			o.Errorf("a read without PostgreSQL: %d %s", read.status, read.body)
		}
	})
	o.Logf("without PostgreSQL orders and cancels were answered %v, in %s at most; %d reads were answered with a stale copy", told, slowest.Round(time.Millisecond), copies)
}

func (o *outage) withoutTemporal() {
	var waiting []shop.OrderID
	o.everySecond(func(n int) {
		waiting = append(waiting, o.places(fmt.Sprintf("without-temporal-%d", n), shop.Orchestrated))
		if n == 0 {
			o.settles("beside-temporal", shop.Choreographed)
		}
	})
	pending := 0
	for _, id := range waiting {
		order, err := o.c.GetOrder(o.Context(), id)
		if err != nil || order.Status != shop.Pending {
			o.Errorf("without Temporal an orchestrated order is %s: %v", order.Status, err)
			continue
		}
		pending++
	}
	o.Logf("without Temporal %d orchestrated orders of ours were accepted and are pending", pending)
	if len(waiting) > 1 {
		a := o.request(http.MethodPost, "/v1/orders/"+string(waiting[1])+"/cancel", "cancel-without-temporal", "")
		if a.status != http.StatusOK && a.status != http.StatusAccepted {
			o.Errorf("a cancel without Temporal: %+v", a)
		}
	}
}

// answer is one to a request that is sent once.
type answer struct {
	status int
	header http.Header
	body   string
	took   time.Duration
}

func (o *outage) request(method, path, key, body string) answer {
	o.Helper()
	req, err := http.NewRequestWithContext(o.Context(), method, o.s.Addresses.API+path, strings.NewReader(body))
	if err != nil {
		o.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+o.s.Key)
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
		req.Header.Set("Content-Type", "application/json")
	}
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{body: err.Error()}
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body) // half a body is shown as it is
	return answer{resp.StatusCode, resp.Header, string(text), time.Since(began)}
}

func (o *outage) status(url string) int {
	o.Helper()
	resp, err := http.Get(url)
	if err != nil {
		o.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// unsent is how many events of the order service wait to be sent.
func (o *outage) unsent() float64 {
	o.Helper()
	return o.metric("holdfast_outbox_unsent", "")
}

// confirmed is how many orders were.
func (o *outage) confirmed() float64 {
	o.Helper()
	return o.metric("holdfast_orders_reached_total", `status="confirmed"`)
}

// metric is the sum of the order service's metrics of a name, or of those with a label.
func (o *outage) metric(name, label string) float64 {
	o.Helper()
	resp, err := http.Get(o.s.Addresses.Admin + "/metrics")
	if err != nil {
		o.Fatal(err)
	}
	defer resp.Body.Close()
	sum, seen := 0.0, false
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if which, value, _ := strings.Cut(lines.Text(), " "); strings.HasPrefix(which, name) && strings.Contains(which, label) {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				o.Fatal(err)
			}
			sum, seen = sum+n, true
		}
	}
	if !seen {
		o.Fatalf("there is no %s with %q", name, label)
	}
	return sum
}
