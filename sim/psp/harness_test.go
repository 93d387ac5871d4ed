package psp_test

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
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/shop"
	"holdfast/sim/psp"
	"holdfast/test/fakes"
)

// limit bounds every wait of these tests.
const limit = 30 * time.Second

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// provider is a simulator that runs, and somebody who takes its webhooks.
type provider struct {
	t        *testing.T
	cfg      psp.Config
	deps     shop.Deps
	clock    *fakes.Clock
	disk     *disk
	customer *customer

	sim    *psp.Simulator
	server *httptest.Server
	cancel func() // ends Run
	stop   func()
}

// open starts a provider on a clock that stands still.
func open(t *testing.T, change func(*psp.Config)) *provider {
	t.Helper()
	p := &provider{t: t, cfg: psp.Defaults(), deps: fakes.Deps(t), clock: fakes.NewClock(start)}
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

func (p *provider) start() {
	p.t.Helper()
	sim, err := psp.New(p.cfg, p.deps)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- sim.Run(ctx) }()
	p.sim, p.server = sim, httptest.NewServer(sim.Handler())
	p.cancel = cancel
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-ended, sim.Close()); err != nil {
			p.t.Errorf("stop: %v", err)
		}
		p.server.Close()
	})
}

// restart stops the provider, lets something be done to its directory, and starts it again.
func (p *provider) restart(meanwhile ...func()) {
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
	ID          string        `json:"id"`
	Status      string        `json:"status"`
	Amount      shop.Amount   `json:"amount"`
	Currency    shop.Currency `json:"currency"`
	Reference   string        `json:"reference"`
	Captured    shop.Amount   `json:"captured"`
	Refunded    shop.Amount   `json:"refunded"`
	DeclineCode string        `json:"decline_code"`
	ExpiresAt   time.Time     `json:"expires_at"`
	Code        string        `json:"code"` // of a refusal
}

type operation struct {
	Key           string   `json:"key"`
	Kind          string   `json:"kind"`
	Status        string   `json:"status"`
	Authorisation document `json:"authorisation"`
}

type entry struct {
	Seq           int64     `json:"seq"`
	At            time.Time `json:"at"`
	Entry         string    `json:"entry"`
	Authorisation string    `json:"authorisation"`
	Reference     string    `json:"reference"`
	Key           string    `json:"key"`
	Amount        int64     `json:"amount"`
	Currency      string    `json:"currency"`
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v
}

// call makes a call; err is that of the connection.
func (p *provider) call(ctx context.Context, method, path, key, body string) (answer, error) {
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
func (p *provider) must(status int, method, path, key, body string) answer {
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

func authorisation(method string) string {
	return `{"amount":1400,"currency":"EUR","payment_method":"` + method + `","reference":"ord_1","capture":false}`
}

// authorise makes an authorisation that must come about.
func (p *provider) authorise(method, key string) document {
	p.t.Helper()
	return decode[document](p.t, p.must(http.StatusCreated, http.MethodPost, "/v1/authorisations", key, authorisation(method)).body)
}

func (p *provider) change(status int, id, kind, key, body string) document {
	p.t.Helper()
	return decode[document](p.t, p.must(status, http.MethodPost, "/v1/authorisations/"+id+"/"+kind, key, body).body)
}

func (p *provider) query(status int, key string) operation {
	p.t.Helper()
	return decode[operation](p.t, p.must(status, http.MethodGet, "/v1/operations/"+url.PathEscape(key), "", "").body)
}

// entries returns the ledger, and what it says in short.
func (p *provider) entries() (all []entry, short []string) {
	p.t.Helper()
	for text := range strings.Lines(p.must(http.StatusOK, http.MethodGet, "/ledger", "", "").body) {
		e := decode[entry](p.t, text)
		if e.Seq != int64(len(all)+1) {
			p.t.Errorf("entry %d is numbered %d", len(all)+1, e.Seq)
		}
		all, short = append(all, e), append(short, e.Entry+" "+e.Key)
	}
	return all, short
}

// hang makes a call that is held, and returns a function that gives it up.
func (p *provider) hang(path, key, body string) (giveUp func()) {
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
func (p *provider) waiters(n int) {
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
	Data      operation `json:"data"`
}

// customer takes webhooks.
type customer struct {
	server *httptest.Server
	came   chan delivery

	mu      sync.Mutex
	answers []int // to the next deliveries; 204 after them
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
		status := c.next()
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

func (c *customer) next() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answers) == 0 {
		return http.StatusNoContent
	}
	next := c.answers[0]
	c.answers = c.answers[1:]
	return next
}

// delivered waits for the next webhook.
func (p *provider) delivered() delivery {
	p.t.Helper()
	select {
	case d := <-p.customer.came:
		return d
	case <-time.After(limit):
		p.t.Fatal("no webhook came")
		return delivery{}
	}
}

// quiet asserts that no webhook is under way or waits to be sent at any time: the next one that comes is
// that of an operation made now.
func (p *provider) quiet() {
	p.t.Helper()
	p.clock.Advance(time.Hour)
	p.authorise("tok_webhook_first", "sentinel")
	if d := p.delivered(); d.Data.Key != "sentinel" {
		p.t.Errorf("a webhook came: %+v", d)
	}
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
