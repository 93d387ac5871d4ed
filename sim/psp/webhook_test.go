package psp_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"holdfast/sim/psp"
	"holdfast/test/fakes"
)

func all(c *psp.Config) { c.Webhooks = psp.WebhooksAll }

func TestWebhooksOfEveryOperation(t *testing.T) {
	t.Parallel()
	p := open(t, all)
	a := p.authorise("tok_ok", "a")
	if d := p.delivered(); d.Type != "authorisation.succeeded" || d.Data != (operation{"a", "authorise", "succeeded", a}) {
		t.Errorf("authorise: %+v", d)
	}
	ids := map[string]bool{}
	for _, step := range []struct{ kind, key, body string }{{"capture", "c", `{"amount":1400}`}, {"refund", "r", `{"amount":1400}`}} {
		doc := p.change(200, a.ID, step.kind, step.key, step.body)
		d := p.delivered()
		if d.Type != step.kind+".succeeded" || d.Data != (operation{step.key, step.kind, "succeeded", doc}) {
			t.Errorf("%s: %+v", step.kind, d)
		}
		ids[d.id] = true
	}
	b := p.authorise("tok_ok", "b")
	ids[p.delivered().id] = true
	p.change(200, b.ID, "void", "v", `{}`)
	if d := p.delivered(); d.Type != "void.succeeded" || d.Data.Authorisation.Status != "voided" {
		t.Errorf("void: %+v", d)
	}
	p.must(402, "POST", "/v1/authorisations", "d", authorisation("tok_declined"))
	if d := p.delivered(); d.Type != "authorisation.declined" || d.Data.Status != "declined" || d.Data.Authorisation.DeclineCode != "card_declined" {
		t.Errorf("declined: %+v", d)
	}
	if len(ids) != 3 {
		t.Errorf("messages share an id: %v", ids)
	}
	p.must(201, "POST", "/v1/authorisations", "a", authorisation("tok_ok")) // a repetition is no news
	p.noted(6)
	p.restart()
	p.quiet()
}

// TestWebhooksLate: by default no webhook tells what an answer has told.
func TestWebhooksLate(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	a := p.authorise("tok_ok", "a")
	p.change(200, a.ID, "capture", "c", `{"amount":1400}`)
	p.must(402, "POST", "/v1/authorisations", "d", authorisation("tok_declined"))
	p.quiet()
}

func TestWebhookIsSentUntilItIsTaken(t *testing.T) {
	t.Parallel()
	p := open(t, all)
	p.customer.then(500, 0, 404, 302, 204)
	p.authorise("tok_ok", "a")
	first := p.delivered()
	for _, status := range []string{"404", "302", "204"} { // the one without an answer is not noted
		d := p.eventually()
		if d.id != first.id || d.Data != first.Data {
			t.Errorf("%s was told %+v, and the first %+v", status, d, first)
		}
	}
	p.quiet()
}

// eventually waits for the next webhook while time passes.
func (p *provider) eventually() delivery {
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

// TestUndeliveredWebhooksSurvive a restart, and delivered ones are not repeated.
func TestUndeliveredWebhooksSurvive(t *testing.T) {
	t.Parallel()
	p := open(t, all)
	p.authorise("tok_ok", "taken")
	p.delivered()
	p.noted(1)
	p.customer.then(500)
	p.authorise("tok_ok", "not taken")
	p.delivered()
	p.waiters(1) // it will be sent again
	p.restart()
	if d := p.delivered(); d.Data.Key != "not taken" {
		t.Errorf("after the restart came %+v", d)
	}
	p.quiet()
}

func TestWebhookTwice(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.authorise("tok_webhook_twice", "a")
	one, two := p.delivered(), p.delivered()
	if one != two || one.Data.Key != "a" {
		t.Errorf("%+v and then %+v", one, two)
	}
	p.quiet()
}

// TestWebhookFirst: when the answer comes, the webhook has come; if nobody takes it, the answer comes all
// the same.
func TestWebhookFirst(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.authorise("tok_webhook_first", "a")
	select {
	case d := <-p.customer.came:
		if d.Data.Key != "a" {
			t.Errorf("%+v", d)
		}
	default:
		t.Error("the answer came first")
	}
	p.customer.then(500)
	p.authorise("tok_webhook_first", "b")
	p.delivered()
	if d := p.eventually(); d.Data.Key != "b" {
		t.Errorf("%+v", d)
	}
	p.quiet()
}

func TestWebhookCarriesTheTrace(t *testing.T) {
	t.Parallel()
	p := open(t, all)
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.server.URL+"/v1/authorisations", strings.NewReader(authorisation("tok_ok")))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", "a")
	req.Header.Set("Traceparent", trace)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if d := p.delivered(); d.trace != trace {
		t.Errorf("the trace is %q", d.trace)
	}
}

func TestNobodyToTell(t *testing.T) {
	t.Parallel()
	p := open(t, func(c *psp.Config) { c.Webhooks, c.WebhookURL, c.WebhookSecret = psp.WebhooksAll, "", "" })
	for i, method := range []string{"tok_ok", "tok_webhook_twice", "tok_webhook_first"} {
		p.authorise(method, fmt.Sprint(i))
	}
	p.clock.Advance(time.Hour)
	if n := len(p.customer.came); n != 0 {
		t.Errorf("%d webhooks came", n)
	}
}

// noted waits until n webhooks are known to have been taken.
func (p *provider) noted(n int) {
	p.t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); runtime.Gosched() {
		content, err := os.ReadFile(p.ledgerFile())
		if err != nil {
			p.t.Fatal(err)
		}
		if strings.Count(string(content), `"note":"delivered"`) == n {
			return
		}
	}
	p.t.Fatalf("there are not %d webhooks that were taken", n)
}

// ledgerFile is where the ledger is; the file is cut and damaged as a crash would.
func (p *provider) ledgerFile() string {
	p.t.Helper()
	files, err := os.ReadDir(p.cfg.Dir)
	if err != nil || len(files) != 1 {
		p.t.Fatalf("%v %v", files, err)
	}
	return filepath.Join(p.cfg.Dir, files[0].Name())
}

// TestTornEnd cuts the ledger at every byte of its last entry: it is gone as a whole, and its key free.
func TestTornEnd(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"one line": authorisation("tok_ok"), "two lines": strings.Replace(authorisation("tok_ok"), "false", "true", 1)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := open(t, nil)
			a := p.authorise("tok_ok", "a")
			p.stop()
			whole, err := os.Stat(p.ledgerFile())
			if err != nil {
				t.Fatal(err)
			}
			p.start()
			p.must(201, "POST", "/v1/authorisations", "b", body)
			p.stop()
			content, err := os.ReadFile(p.ledgerFile())
			if err != nil {
				t.Fatal(err)
			}
			for cut := len(content) - 1; cut >= int(whole.Size()); cut -= 7 {
				if err := os.WriteFile(p.ledgerFile(), content[:cut], 0o600); err != nil {
					t.Fatal(err)
				}
				p.start()
				if entries, _ := p.entries(); len(entries) != 1 {
					t.Errorf("cut to %d of %d bytes: %v", cut, len(content), entries)
				}
				p.query(404, "b")
				p.must(201, "POST", "/v1/authorisations", "b", body)
				p.change(200, a.ID, "void", "v", `{}`)
				p.restart()
				p.query(200, "b")
				p.query(200, "v")
				p.stop()
			}
		})
	}
}

// TestDamagedLedger: damage that no crash makes is not passed over.
func TestDamagedLedger(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(string) string{
		"a line is missing":   func(s string) string { _, rest, _ := strings.Cut(s, "\n"); return rest },
		"a line is no JSON":   func(s string) string { return "hello\n" + s },
		"a line stands twice": func(s string) string { one, _, _ := strings.Cut(s, "\n"); return one + "\n" + s },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := open(t, nil)
			p.authorise("tok_ok", "a")
			p.authorise("tok_ok", "b")
			p.authorise("tok_ok", "c")
			p.stop()
			content, err := os.ReadFile(p.ledgerFile())
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p.ledgerFile(), []byte(damage(string(content))), 0o600); err != nil {
				t.Fatal(err)
			}
			if sim, err := psp.New(p.cfg, p.deps); err == nil {
				t.Error("it opened")
				_ = sim.Close()
			}
		})
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*psp.Config){
		"no directory":  func(c *psp.Config) { c.Dir = "" },
		"webhooks":      func(c *psp.Config) { c.Webhooks = "some" },
		"url":           func(c *psp.Config) { c.WebhookURL = "127.0.0.1:80" },
		"secret":        func(c *psp.Config) { c.WebhookSecret = secret[6:] },
		"short secret":  func(c *psp.Config) { c.WebhookSecret = "whsec_AAAA" },
		"sync":          func(c *psp.Config) { c.SyncEvery = -1 },
		"slow":          func(c *psp.Config) { c.Slow = -1 },
		"hold":          func(c *psp.Config) { c.Hold = 0 },
		"not a folder":  func(c *psp.Config) { c.Dir = "/dev/null/x" },
		"no permission": func(c *psp.Config) { c.Dir = "/proc/x" },
	} {
		c := psp.Defaults()
		c.Dir, c.WebhookURL, c.WebhookSecret = t.TempDir(), "http://127.0.0.1:1/webhooks/psp", secret
		change(&c)
		if sim, err := psp.New(c, fakes.Deps(t)); err == nil {
			t.Errorf("%s: accepted", name)
			_ = sim.Close()
		}
	}
}
