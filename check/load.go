// Package check looks at a running Holdfast from outside, as its customers do: it puts load on the public
// API, keeps a history of what it was told, and compares that with what the API and the ledgers of the
// outside parties say in the end. It knows nothing of the inside.
package check

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/shop"
)

// Plan is a load: orders of one line each, at a steady rate.
type Plan struct {
	URL, Key   string
	Run        string // names the run; the customer id of its orders
	Keys       string // begins their idempotency keys and external ids; Run where it is empty
	Rate       float64
	Duration   time.Duration
	SKU        shop.SKU
	Quantity   int64
	Payment    func(i int) string // of order i; nil: tok_ok
	PostalCode func(i int) string // nil: 10115
	Saga       shop.SagaStyle
	Observed   float64 // per second: orders whose confirmation is waited for, at most
	Progress   func(Progress)
	Stop       <-chan struct{} // ends the load before its time, with what is under way let finish; may be nil
	Timeout    time.Duration   // after which a request is given up, and its order is in doubt; 0: never
	Each       func(Sent)      // told every answer, from several goroutines; may be nil
}

// Progress is a look at a running load.
type Progress struct {
	Elapsed            time.Duration
	Sent, Accepted     int
	Refused, Unknown   int
	Observed, InFlight int
}

// Sent is one order as its sender saw it.
type Sent struct {
	Number int
	Key    string
	ID     shop.OrderID // "" where no 201 came
	Total  shop.Amount
	Status int // of HTTP; 0: no answer, so it may have been stored
	Code   string
	Due    time.Time     // when it was to be sent
	Took   time.Duration // from then until its answer, or until it was given up
	// Repeated is set where net/http sent it again by itself, as it does with a request that has an Idempotency-Key and
	// breaks a connection that was used before: the answer, if it is a refusal, does not speak for what was sent first.
	Repeated bool
}

// InDoubt tells whether the order may have been stored without the sender's knowing: no answer came, or
// one that says that the server failed, or one that refuses what net/http had sent before. An overload's answer counts
// as one; see Refused.
func (s Sent) InDoubt() bool {
	return s.Status == 0 || s.Status >= http.StatusInternalServerError || s.Repeated && s.Status >= http.StatusBadRequest
}

// Refused tells whether the sender was told that the order is not stored: an overload refuses before it stores anything.
func (s Sent) Refused() bool {
	return !s.Repeated && (s.Status >= http.StatusBadRequest && s.Status < http.StatusInternalServerError || s.Code == "overloaded")
}

// History is what a load has seen.
type History struct {
	Plan    Plan
	Began   time.Time
	Ended   time.Time // the last answer
	Orders  []Sent    // by number
	Accept  []time.Duration
	Confirm []time.Duration // of the observed
	Late    int             // observed orders that had no outcome within the wait
}

const (
	maxInFlight = 8192 // requests at once; more wait, and their latency counts from when they were due
	tick        = time.Millisecond
	settleWait  = 30 * time.Second
	resendPause = 200 * time.Millisecond
)

// load is a running Plan.
type load struct {
	plan   Plan
	http   *http.Client
	began  time.Time
	slots  chan struct{}
	wg     sync.WaitGroup
	stride int

	mu      sync.Mutex
	history History
	now     Progress
}

// Run sends a plan's orders. The load is open: each order has its time, and is sent then whatever has
// become of those before it, and its latency counts from that time. So a server that stalls is seen
// stalling (no coordinated omission).
func Run(ctx context.Context, plan Plan) (*History, error) {
	if plan.Rate <= 0 || plan.Duration <= 0 {
		return nil, errors.New("rate and duration must be positive")
	}
	n := int(plan.Rate * plan.Duration.Seconds())
	l := &load{plan: plan, slots: make(chan struct{}, maxInFlight), stride: 1,
		http: &http.Client{Timeout: plan.Timeout, Transport: &http.Transport{MaxIdleConnsPerHost: 1024, MaxIdleConns: 1024, DisableCompression: true}}}
	defer l.http.CloseIdleConnections()
	if plan.Observed > 0 {
		l.stride = max(1, int(plan.Rate/plan.Observed))
	}
	l.history = History{Plan: plan, Orders: make([]Sent, n)}
	l.began = time.Now()
	l.history.Began = l.began
	stop := l.report(ctx)
	l.send(ctx, n)
	l.wg.Wait()
	stop()
	l.history.Orders = slices.DeleteFunc(l.history.Orders, func(s Sent) bool { return s.Key == "" })
	return &l.history, ctx.Err()
}

// send starts each order when it is due.
func (l *load) send(ctx context.Context, n int) {
	timer := time.NewTicker(tick)
	defer timer.Stop()
	for i := 0; i < n && ctx.Err() == nil; {
		due := l.began.Add(time.Duration(float64(i) / l.plan.Rate * float64(time.Second)))
		if time.Until(due) > 0 {
			select {
			case <-timer.C:
			case <-l.plan.Stop:
				return
			case <-ctx.Done():
			}
			continue
		}
		select {
		case l.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		number := i
		l.wg.Go(func() { l.order(ctx, number, due) })
		i++
	}
}

// order places one order and, where it is one of the observed, waits for its outcome.
func (l *load) order(ctx context.Context, i int, due time.Time) {
	s := l.place(ctx, i)
	s.Due, s.Took = due, time.Since(due)
	<-l.slots
	if l.plan.Each != nil {
		l.plan.Each(s)
	}
	observe := s.ID != "" && l.plan.Observed > 0 && i%l.stride == 0
	l.mu.Lock()
	l.history.Orders[i] = s
	l.history.Ended = time.Now()
	l.now.Sent++
	switch {
	case s.ID != "":
		l.history.Accept = append(l.history.Accept, s.Took)
		l.now.Accepted++
	case s.InDoubt():
		l.now.Unknown++
	default:
		l.now.Refused++
	}
	l.mu.Unlock()
	if !observe {
		return
	}
	settled := l.settled(ctx, s.ID)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now.Observed++
	if !settled {
		l.history.Late++
		return
	}
	l.history.Confirm = append(l.history.Confirm, time.Since(due))
}

// key is the idempotency key and the external id of order i of a plan.
func (p Plan) key(i int) string { return cmp.Or(p.Keys, p.Run) + "-" + strconv.Itoa(i) }

// body is order i of a plan.
func (p Plan) body(i int) []byte {
	payment, postal := "tok_ok", "10115"
	if p.Payment != nil {
		payment = p.Payment(i)
	}
	if p.PostalCode != nil {
		postal = p.PostalCode(i)
	}
	saga := p.Saga
	if saga == "" {
		saga = shop.Choreographed
	}
	return fmt.Appendf(nil, `{"customer_id":%q,"currency":"EUR","lines":[{"sku":%q,"quantity":%d}],"shipping_address":{"name":"A. Reader","line1":"1 Long Street","city":"Berlin","postal_code":%q,"country":"DE"},"payment_method":%q,"saga":%q,"external_id":%q}`,
		p.Run, p.SKU, p.Quantity, postal, payment, saga, p.key(i))
}

// place sends order i once. A request without an answer is left in doubt.
func (l *load) place(ctx context.Context, i int) Sent {
	s := Sent{Number: i, Key: l.plan.key(i)}
	var times atomic.Int32
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { times.Add(1) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.plan.URL+"/v1/orders", bytes.NewReader(l.plan.body(i)))
	if err != nil {
		return s
	}
	req.Header.Set("Authorization", "Bearer "+l.plan.Key)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", s.Key)
	var answer struct {
		ID    shop.OrderID `json:"id"`
		Total shop.Amount  `json:"total"`
		Code  string       `json:"code"`
	}
	s.Status = l.do(req, &answer)
	s.Code, s.Repeated = answer.Code, times.Load() > 1
	if s.Status == http.StatusCreated {
		s.ID, s.Total = answer.ID, answer.Total
	}
	return s
}

// Resend sends again, with their keys, the orders of a history that are in doubt, and keeps the answers, which may be
// refusals. plan is the history's, at the server's present address.
func Resend(ctx context.Context, plan Plan, orders []Sent) error {
	l := &load{plan: plan, http: &http.Client{Timeout: settleWait}}
	defer l.http.CloseIdleConnections()
	for i := range orders {
		if !orders[i].InDoubt() {
			continue
		}
		s := l.place(ctx, orders[i].Number)
		for end := time.Now().Add(settleWait); s.askAgain() && time.Now().Before(end) && ctx.Err() == nil; {
			<-time.After(resendPause) // it asks to be asked again
			s = l.place(ctx, orders[i].Number)
		}
		if s.ID == "" && (s.InDoubt() || s.askAgain()) {
			return fmt.Errorf("the repetition of %s was answered with %d %s", s.Key, s.Status, s.Code)
		}
		s.Due, s.Took = orders[i].Due, orders[i].Took
		orders[i] = s
	}
	return nil
}

// askAgain tells whether the answer asks for the order to be sent again.
func (s Sent) askAgain() bool {
	return s.Status == http.StatusServiceUnavailable || s.Status == http.StatusTooManyRequests || s.Code == "idempotency_in_progress"
}

// settled waits for the order's outcome, and tells whether it came in time.
func (l *load) settled(ctx context.Context, id shop.OrderID) bool {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.plan.URL+"/v1/orders/"+string(id), nil)
		if err != nil {
			return false
		}
		req.Header.Set("Authorization", "Bearer "+l.plan.Key)
		req.Header.Set("Prefer", "wait=30")
		var o struct {
			Status shop.OrderStatus `json:"status"`
		}
		if l.do(req, &o) == http.StatusOK && o.Status.Settled() {
			return true
		}
	}
	return false
}

// do sends a request and decodes its answer. It returns the status, or 0 where no whole answer came.
func (l *load) do(req *http.Request, answer any) int {
	resp, err := l.http.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || json.Unmarshal(b, answer) != nil {
		return 0
	}
	return resp.StatusCode
}

// report calls Progress every five seconds until stop.
func (l *load) report(ctx context.Context) (stop func()) {
	if l.plan.Progress == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(5 * time.Second)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			l.mu.Lock()
			p := l.now
			l.mu.Unlock()
			p.Elapsed, p.InFlight = time.Since(l.began).Round(time.Second), len(l.slots)
			l.plan.Progress(p)
		}
	})
	return func() { cancel(); wg.Wait() }
}

// Quantile returns the q-quantile of durations: the smallest that is not below a share q of them.
func Quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(q*float64(len(sorted))+0.9999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}
