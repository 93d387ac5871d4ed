package carrier_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/shop"
	"holdfast/sim/carrier"
	"holdfast/test/fakes"
)

// limit bounds every wait of these tests.
const limit = 30 * time.Second

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// hauler is a simulator that runs, and somebody who takes its webhooks.
type hauler struct {
	t        *testing.T
	cfg      carrier.Config
	deps     shop.Deps
	clock    *fakes.Clock
	disk     *disk
	customer *customer

	sim    *carrier.Simulator
	server *httptest.Server
	stop   func()
}

// open starts a carrier on a clock that stands still.
func open(t *testing.T, change func(*carrier.Config)) *hauler {
	t.Helper()
	p := &hauler{t: t, cfg: carrier.Defaults(), deps: fakes.Deps(t), clock: fakes.NewClock(start)}
	p.disk = &disk{Files: p.deps.Files}
	p.deps.Clock, p.deps.Files = p.clock, p.disk
	p.customer = newCustomer(t, p.clock)
	p.cfg.Dir, p.cfg.SyncEvery = t.TempDir(), 0
	p.cfg.WebhookURL, p.cfg.WebhookSecret = p.customer.server.URL, secret
	if change != nil {
		change(&p.cfg)
	}
	p.start()
	t.Cleanup(func() { p.stop() })
	return p
}

func (p *hauler) start() {
	p.t.Helper()
	sim, err := carrier.New(p.cfg, p.deps)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- sim.Run(ctx) }()
	p.sim, p.server = sim, httptest.NewServer(sim.Handler())
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-ended, sim.Close()); err != nil {
			p.t.Errorf("stop: %v", err)
		}
		p.server.Close()
	})
}

// restart stops the carrier, lets something be done to its directory, and starts it again.
func (p *hauler) restart(meanwhile ...func()) {
	p.t.Helper()
	p.stop()
	for _, f := range meanwhile {
		f()
	}
	p.start()
}

// answer is what a call was answered with.
type answer struct {
	status   int
	replayed bool
	body     string
}

// document is what an answer or a webhook says.
type document struct {
	ID        string `json:"id"`
	Status    string `json:"status"`
	Tracking  string `json:"tracking"`
	Reference string `json:"reference"`
	Code      string `json:"code"` // of a refusal
}

type operation struct {
	Key      string   `json:"key"`
	Kind     string   `json:"kind"`
	Status   string   `json:"status"`
	Shipment document `json:"shipment"`
	Code     string   `json:"code"`
}

type entry struct {
	Seq       int64     `json:"seq"`
	At        time.Time `json:"at"`
	Entry     string    `json:"entry"`
	ID        string    `json:"id"`
	Reference string    `json:"reference"`
	Key       string    `json:"key"`
	Lines     []line    `json:"lines"`
}

type line struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v
}

// call makes a call; err is that of the connection.
func (p *hauler) call(ctx context.Context, method, path, key, body string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.server.URL+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header.Get("Idempotent-Replayed") == "true", string(b)}, err
}

// must makes a call that has to be answered with a status.
func (p *hauler) must(status int, method, path, key, body string) answer {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), limit)
	defer cancel()
	a, err := p.call(ctx, method, path, key, body)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	if a.status != status {
		p.t.Fatalf("%s %s %s: %d %s, want %d", method, path, key, a.status, a.body, status)
	}
	return a
}

// parcel is what is to be scheduled to a postal code.
func parcel(postal string) string {
	return `{"reference":"ord_1","ship_to":{"name":"A. Reader","line1":"1 Long Street","city":"Berlin","postal_code":"` + postal +
		`","country":"DE"},"lines":[{"line":1,"sku":"TEA","quantity":2}]}`
}

// schedule schedules a parcel, which must be taken.
func (p *hauler) schedule(postal, key string) document {
	p.t.Helper()
	return decode[document](p.t, p.must(http.StatusCreated, http.MethodPost, "/v1/shipments", key, parcel(postal)).body)
}

func (p *hauler) cancel(status int, id, key string) document {
	p.t.Helper()
	return decode[document](p.t, p.must(status, http.MethodPost, "/v1/shipments/"+id+"/cancel", key, `{}`).body)
}

func (p *hauler) status(id string) string {
	p.t.Helper()
	return decode[document](p.t, p.must(http.StatusOK, http.MethodGet, "/v1/shipments/"+id, "", "").body).Status
}

func (p *hauler) query(status int, key string) operation {
	p.t.Helper()
	return decode[operation](p.t, p.must(status, http.MethodGet, "/v1/operations/"+url.PathEscape(key), "", "").body)
}

// entries returns the ledger, and what it says in short.
func (p *hauler) entries() (all []entry, short []string) {
	p.t.Helper()
	for text := range strings.Lines(p.must(http.StatusOK, http.MethodGet, "/ledger", "", "").body) {
		e := decode[entry](p.t, text)
		if e.Seq != int64(len(all)+1) {
			p.t.Errorf("entry %d is numbered %d", len(all)+1, e.Seq)
		}
		all, short = append(all, e), append(short, strings.TrimSpace(e.Entry+" "+e.Key))
	}
	return all, short
}

// hang makes a call that is held, and returns a function that gives it up.
func (p *hauler) hang(path, key, body string) (giveUp func()) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if a, err := p.call(ctx, http.MethodPost, path, key, body); err == nil {
			p.t.Errorf("%s was answered: %d %s", key, a.status, a.body)
		}
	}()
	p.waiters(1)
	return func() { cancel(); <-ended }
}

// waiters waits until n timers are running.
func (p *hauler) waiters(n int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), limit)
	defer cancel()
	if err := p.clock.Waiters(ctx, n); err != nil {
		p.t.Fatalf("%d timers: %v", n, err)
	}
}

var secret = "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))

// delivery is a webhook that came with a good signature.
type delivery struct {
	id, trace string
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      document  `json:"data"`
}

// customer takes webhooks.
type customer struct {
	server *httptest.Server
	came   chan delivery

	mu      sync.Mutex
	answers []int  // to the next deliveries; 204 after them
	before  func() // an answer, if it is set
}

func newCustomer(t *testing.T, clock shop.Clock) *customer {
	t.Helper()
	c := &customer{came: make(chan delivery, 1000)}
	began := clock.Now().Add(-time.Second) // a timestamp has whole seconds
	c.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = verify(r.Header, body, began, clock.Now())
		}
		d := delivery{id: r.Header.Get("Webhook-Id"), trace: r.Header.Get("Traceparent")}
		if err == nil {
			err = json.Unmarshal(body, &d)
		}
		if err != nil {
			t.Errorf("a webhook: %v", err)
		}
		status, before := c.next()
		if before != nil {
			before()
		}
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(status)
		c.came <- d
	}))
	t.Cleanup(c.server.Close)
	return c
}

// verify verifies a message per Standard Webhooks. How old it may be is not checked: the tests move their
// clock on by any amount while it is under way.
func verify(h http.Header, body []byte, began, now time.Time) error {
	id, stamp := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp")
	mac := hmac.New(sha256.New, bytes.Repeat([]byte{7}, 32))
	fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	if got, want := h.Get("Webhook-Signature"), "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)); id == "" || got != want {
		return fmt.Errorf("the signature of %q is %q, want %q", id, got, want)
	}
	if seconds, err := strconv.ParseInt(stamp, 10, 64); err != nil || time.Unix(seconds, 0).After(now) || time.Unix(seconds, 0).Before(began) {
		return fmt.Errorf("the timestamp is %q", stamp)
	}
	return nil
}

// then sets the answers to the next deliveries.
func (c *customer) then(statuses ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers = statuses
}

func (c *customer) next() (status int, before func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answers) == 0 {
		return http.StatusNoContent, c.before
	}
	status = c.answers[0]
	c.answers = c.answers[1:]
	return status, c.before
}

// hold has f called before an answer.
func (c *customer) hold(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before = f
}

// delivered waits for the next webhook.
func (p *hauler) delivered() delivery {
	p.t.Helper()
	select {
	case d := <-p.customer.came:
		return d
	case <-time.After(limit):
		p.t.Fatal("no webhook came")
		return delivery{}
	}
}

// eventually waits for the next webhook while time passes.
func (p *hauler) eventually() delivery {
	p.t.Helper()
	deadline := time.After(limit)
	for {
		select {
		case d := <-p.customer.came:
			return d
		case <-deadline:
			p.t.Fatal("no webhook came")
		default:
			p.clock.Advance(10 * time.Millisecond)
			runtime.Gosched()
		}
	}
}

// until waits for the ledger to say something.
func (p *hauler) until(short ...string) {
	p.t.Helper()
	var got []string
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); runtime.Gosched() {
		if _, got = p.entries(); slices.Equal(got, short) {
			return
		}
	}
	p.t.Fatalf("the ledger says %q, want %q", got, short)
}

// quiet asserts that no webhook is under way or waits to be sent at any time: the next one that comes is
// that of a parcel that is scheduled now.
func (p *hauler) quiet() {
	p.t.Helper()
	p.clock.Advance(time.Hour)
	sentinel := p.schedule("10115", "sentinel")
	p.pass(p.cfg.DispatchAfter)
	if d := p.delivered(); d.Data.ID != sentinel.ID {
		p.t.Errorf("a webhook came: %+v", d)
	}
}

// pass lets time pass once the carrier waits for something.
func (p *hauler) pass(d time.Duration) {
	p.t.Helper()
	p.waiters(1)
	p.clock.Advance(d)
}

// disk is a file system that can be full.
type disk struct {
	shop.Files
	unsynced bool // it only says that it syncs

	mu    sync.Mutex
	fault func(op string) error
}

func (d *disk) breaks(fault func(op string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = fault
}

// pause makes syncs wait until free is called.
func (d *disk) pause() (free func()) {
	c := make(chan struct{})
	d.breaks(func(op string) error {
		if op == "sync" {
			<-c
		}
		return nil
	})
	return func() { close(c) }
}

func (d *disk) at(op string) error {
	d.mu.Lock()
	fault := d.fault
	d.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(op)
}

func (d *disk) Append(name string, mode fs.FileMode) (shop.File, error) {
	f, err := d.Files.Append(name, mode)
	return &diskFile{f, d}, err
}

type diskFile struct {
	shop.File
	d *disk
}

func (f *diskFile) Write(p []byte) (int, error) {
	if err := f.d.at("write"); err != nil {
		n, _ := f.File.Write(p[:len(p)/2]) // a full disk takes a part
		return n, err
	}
	return f.File.Write(p)
}

func (f *diskFile) Sync() error {
	if f.d.unsynced {
		return nil
	}
	return errors.Join(f.d.at("sync"), f.File.Sync())
}

func (f *diskFile) Truncate(size int64) error {
	if err := f.d.at("truncate"); err != nil {
		return err
	}
	return f.File.Truncate(size)
}
