package psp_test

import (
	"context"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// fault sets one fault.
func (p *provider) fault(members string) {
	p.t.Helper()
	p.must(200, "PUT", "/faults", "", `{"faults":[{`+members+`}]}`)
}

// heal takes the faults away, after the last one has hit so many calls.
func (p *provider) heal(hits int) {
	p.t.Helper()
	doc := decode[struct {
		Faults []struct {
			Hits int `json:"hits"`
		} `json:"faults"`
	}](p.t, p.must(200, "GET", "/faults", "", "").body)
	if len(doc.Faults) != 1 || doc.Faults[0].Hits != hits {
		p.t.Errorf("the faults: %+v, want %d hits", doc.Faults, hits)
	}
	p.must(204, "DELETE", "/faults", "", "")
}

// says asserts what the ledger says in short.
func (p *provider) says(want ...string) {
	p.t.Helper()
	if _, short := p.entries(); !slices.Equal(short, want) {
		p.t.Errorf("the ledger: %v, want %v", short, want)
	}
}

// cameFor asserts how many calls of an operation have come for ord_1.
func (p *provider) cameFor(kind string, n int64) {
	p.t.Helper()
	for _, query := range []string{"", "?reference=ord_1"} {
		if got := decode[arrivals](p.t, p.must(200, "GET", "/arrivals"+query, "", "").body).ByOperation[kind]; got != n {
			p.t.Errorf("arrivals%s: %d of %s, want %d", query, got, kind, n)
		}
	}
}

// TestFaultStatus: the answer is given without the effect, whatever the payment method asks for, and
// leaves the key free.
func TestFaultStatus(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.fault(`"operation":"authorise","status":503,"retry_after":"7s"`)
	for range 3 {
		for _, method := range []string{"tok_ok", "tok_declined", "tok_timeout_ok"} {
			a := p.must(503, "POST", "/v1/authorisations", "a", authorisation(method))
			if got := decode[document](t, a.body); got.Code != "fault" || a.replayed {
				t.Errorf("%s: %+v", method, a)
			}
		}
	}
	resp, err := http.Post(p.server.URL+"/v1/authorisations", "application/json", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("Retry-After"); got != "7" || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("%d, Retry-After is %q", resp.StatusCode, got)
	}
	p.query(404, "a")
	p.says()
	p.heal(10)
	a := p.authorise("tok_ok", "a")
	if got := decode[arrivals](t, p.must(200, "GET", "/arrivals?reference=ord_1", "", "").body).ByOperation["authorise"]; got != 10 {
		t.Errorf("%d authorise came for the order, want 10", got) // the one without a body is for nobody
	}
	p.fault(`"operation":"capture","status":500`)
	p.change(500, a.ID, "capture", "c", `{"amount":1400}`)
	p.cameFor("capture", 1)
	p.change(200, a.ID, "void", "v", `{}`)
	p.says("authorised a", "voided v")
	p.heal(1)
}

// TestFaultOperations: each is hit under its own name, and all of them under *.
func TestFaultOperations(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	a := p.authorise("tok_ok", "a")
	paths := map[string][]string{
		"authorise": {"POST /v1/authorisations"}, "capture": {"POST /v1/authorisations/" + a.ID + "/capture"},
		"void": {"POST /v1/authorisations/" + a.ID + "/void"}, "refund": {"POST /v1/authorisations/" + a.ID + "/refund"},
		"query": {"GET /v1/authorisations/" + a.ID, "GET /v1/operations/a"},
	}
	for set := range paths {
		for _, name := range []string{set, "*", ""} {
			p.fault(`"operation":"` + name + `","status":418`)
			for _, call := range paths[set] {
				method, path, _ := strings.Cut(call, " ")
				p.must(418, method, path, "k", `{}`)
			}
			for _, path := range []string{"/ledger", "/arrivals", "/healthz", "/faults"} {
				p.must(200, "GET", path, "", "")
			}
			p.heal(len(paths[set]))
		}
	}
	p.cameFor("query", 6)
	p.fault(`"operation":"query","status":500`)
	p.change(200, a.ID, "capture", "c", `{"amount":1400}`) // another one goes on
	p.heal(0)
}

func TestFaultLoseRequest(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.fault(`"operation":"authorise","lose":"request"`)
	giveUp := p.hang("/v1/authorisations", "a", authorisation("tok_ok"))
	p.cameFor("authorise", 1)
	p.query(404, "a")
	giveUp()
	p.heal(1)
	p.query(404, "a")
	p.says()
	p.authorise("tok_ok", "a")
	p.cameFor("authorise", 2)
	p.quiet()
}

// TestFaultLoseAnswer: it is done, a query tells, the webhook comes late, and a repetition learns of it.
func TestFaultLoseAnswer(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.fault(`"operation":"authorise","lose":"answer"`)
	giveUp := p.hang("/v1/authorisations", "a", authorisation("tok_ok"))
	op := p.query(200, "a")
	if op.Status != "succeeded" || op.Authorisation.Status != "authorised" {
		t.Errorf("the query: %+v", op)
	}
	giveUp()
	if d := p.delivered(); d.Type != "authorisation.succeeded" || d.Data != op {
		t.Errorf("the late webhook: %+v, want the operation %+v", d, op)
	}
	p.heal(1)
	p.cameFor("authorise", 1)
	if again := p.must(201, "POST", "/v1/authorisations", "a", authorisation("tok_ok")); !again.replayed || decode[document](t, again.body) != op.Authorisation {
		t.Errorf("the repetition: %+v", again)
	}
	p.says("authorised a")
	p.quiet()
}

// TestFaultHoldsAMinute, and then cuts the connection; the answer counts as late all the same.
func TestFaultHoldsAMinute(t *testing.T) {
	t.Parallel()
	for lose, said := range map[string][]string{"request": nil, "answer": {"authorised a"}} {
		t.Run(lose, func(t *testing.T) {
			t.Parallel()
			p := open(t, nil)
			p.fault(`"operation":"authorise","lose":"` + lose + `"`)
			// Over a connection of its own: Go's client repeats a call with an Idempotency-Key by itself
			// where a connection is cut that it has used before.
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.server.URL+"/v1/authorisations", strings.NewReader(authorisation("tok_ok")))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Idempotency-Key", "a")
			ended := make(chan error, 1)
			go func() {
				resp, err := client.Do(req)
				if err == nil {
					resp.Body.Close()
				}
				ended <- err
			}()
			p.waiters(1)
			p.clock.Advance(time.Minute)
			select {
			case err := <-ended:
				if err == nil {
					t.Error("it was answered")
				}
			case <-time.After(limit):
				t.Error("it is still held")
			}
			if lose == "answer" {
				p.delivered()
			}
			p.says(said...)
			p.heal(1)
			p.quiet()
		})
	}
}

// TestFaultLosesRefusals as well. What a payment method loses by itself it loses behind a fault.
func TestFaultLosesRefusals(t *testing.T) {
	t.Parallel()
	for method, c := range map[string]struct {
		status int
		query  string
		ledger []string
	}{
		"no token":         {404, "", nil},
		"tok_error":        {404, "", nil},
		"tok_timeout_fail": {200, "failed", nil},
		"tok_declined":     {200, "declined", []string{"declined a"}},
		"tok_timeout_ok":   {200, "succeeded", []string{"authorised a"}},
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			p := open(t, nil)
			p.fault(`"lose":"answer","operation":"authorise"`)
			p.hang("/v1/authorisations", "a", authorisation(method))()
			p.heal(1)
			if op := p.query(c.status, "a"); op.Status != c.query {
				t.Errorf("%+v, want %s", op, c.query)
			}
			p.says(c.ledger...)
		})
	}
}

// TestFaultLatency comes before anything is done.
func TestFaultLatency(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.fault(`"latency":"2s","operation":"authorise"`)
	answered := p.later("a", authorisation("tok_ok"))
	p.clock.Advance(2*time.Second - time.Nanosecond)
	p.waiters(1)
	p.query(404, "a")
	p.says()
	p.clock.Advance(time.Nanosecond)
	if a := <-answered; a.status != 201 {
		t.Errorf("%+v", a)
	}
	p.cameFor("authorise", 1)
	p.heal(1)

	p.fault(`"latency":"3s","status":429,"retry_after":"1s"`)
	answered = p.later("b", authorisation("tok_ok"))
	p.clock.Advance(3 * time.Second)
	if a := <-answered; a.status != 429 {
		t.Errorf("with a status: %+v", a)
	}
	p.cameFor("authorise", 2)
	p.heal(1)

	p.fault(`"latency":"3s","garbage":true`)
	answered = p.later("b", authorisation("tok_ok"))
	p.clock.Advance(3 * time.Second)
	if a := <-answered; a.status != 200 {
		t.Errorf("with garbage: %+v", a)
	}
	p.heal(1)

	p.fault(`"latency":"3s","lose":"answer","operation":"authorise"`)
	giveUp := p.hang("/v1/authorisations", "c", authorisation("tok_ok"))
	p.query(404, "c")
	p.clock.Advance(3 * time.Second)
	p.waiters(1) // now the answer is held
	p.query(200, "c")
	giveUp()
	p.heal(1)
	p.says("authorised a", "authorised c")
}

// TestFaultLatencyIsTooLong for a caller: nothing is done if it gives up meanwhile.
func TestFaultLatencyIsTooLong(t *testing.T) {
	t.Parallel()
	for _, more := range []string{``, `,"status":500`, `,"lose":"answer"`, `,"lose":"request"`} {
		t.Run(more, func(t *testing.T) {
			t.Parallel()
			p := open(t, nil)
			p.fault(`"latency":"2s","operation":"authorise"` + more)
			p.hang("/v1/authorisations", "a", authorisation("tok_ok"))()
			p.arrivedFor("authorise", 1)
			p.query(404, "a")
			p.heal(1)
			p.authorise("tok_ok", "a")
			p.says("authorised a")
			p.quiet()
		})
	}
}

// arrivedFor waits until n calls of an operation have been counted for ord_1.
func (p *provider) arrivedFor(kind string, n int64) {
	p.t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); runtime.Gosched() {
		if decode[arrivals](p.t, p.must(200, "GET", "/arrivals?reference=ord_1", "", "").body).ByOperation[kind] == n {
			return
		}
	}
	p.t.Fatalf("%d of %s have not come for ord_1", n, kind)
}

// later makes a call that waits for something, and returns where its answer comes.
func (p *provider) later(key, body string) chan answer {
	p.t.Helper()
	answered := make(chan answer, 1)
	go func() {
		ctx, cancel := context.WithTimeout(p.t.Context(), limit)
		defer cancel()
		a, err := p.call(ctx, "POST", "/v1/authorisations", key, body)
		if err != nil {
			p.t.Error(err)
		}
		answered <- a
	}()
	p.waiters(1)
	return answered
}

// TestFaultGarbage is an answer, and nothing else.
func TestFaultGarbage(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	a := p.authorise("tok_ok", "a")
	p.fault(`"garbage":true`)
	for _, path := range []string{"", "/" + a.ID + "/capture"} {
		if got := p.must(200, "POST", "/v1/authorisations"+path, "k", `{"amount":1400}`); !strings.HasPrefix(got.body, "<!DOCTYPE html>") {
			t.Errorf("%q", got.body)
		}
	}
	p.heal(2)
	p.query(404, "k")
	p.says("authorised a")
	p.cameFor("capture", 1)
}

// TestFaultLargeBody: a body that is too large is still found to be so behind a fault.
func TestFaultLargeBody(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.fault(`"operation":"capture","latency":"1ns"`)
	answered := make(chan answer, 1)
	go func() {
		answered <- p.must(413, "POST", "/v1/authorisations/auth_1/capture", "k", `{"x":"`+strings.Repeat("x", 1<<20)+`"}`)
	}()
	p.waiters(1)
	p.clock.Advance(time.Nanosecond)
	if got := decode[document](t, (<-answered).body); got.Code != "too_large" {
		t.Errorf("%+v", got)
	}
	p.heal(1)
}

// TestFaultsAreForgotten at a restart, and calls that they hold are let go.
func TestFaultsAreForgotten(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.fault(`"lose":"request"`)
	held := p.hang("/v1/authorisations", "a", authorisation("tok_ok"))
	p.cancel()
	held()
	p.restart()
	p.authorise("tok_ok", "a")
}
