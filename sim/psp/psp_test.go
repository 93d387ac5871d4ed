package psp_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/sim/psp"
)

func TestAnAuthorisationsLife(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	a := p.authorise("tok_ok", "a")
	want := document{ID: a.ID, Status: "authorised", Amount: 1400, Currency: "EUR", Reference: "ord_1", ExpiresAt: start.Add(p.cfg.Hold)}
	if a != want || !strings.HasPrefix(a.ID, "auth_") {
		t.Errorf("authorised: %+v, want %+v", a, want)
	}
	want.Status, want.Captured = "captured", 1400
	if got := p.change(200, a.ID, "capture", "c", `{"amount":1400}`); got != want {
		t.Errorf("captured: %+v, want %+v", got, want)
	}
	want.Refunded = 400
	if got := p.change(200, a.ID, "refund", "r1", `{"amount":400}`); got != want {
		t.Errorf("refunded in part: %+v, want %+v", got, want)
	}
	p.change(400, a.ID, "refund", "too much", `{"amount":1001}`)
	want.Status, want.Refunded = "refunded", 1400
	if got := p.change(200, a.ID, "refund", "r2", `{"amount":1000}`); got != want {
		t.Errorf("refunded: %+v, want %+v", got, want)
	}
	if got := decode[document](t, p.must(200, "GET", "/v1/authorisations/"+a.ID, "", "").body); got != want {
		t.Errorf("shown: %+v, want %+v", got, want)
	}
	b := p.authorise("tok_ok", "b")
	if got := p.change(200, b.ID, "void", "v", `{}`); got.Status != "voided" || got.Captured != 0 {
		t.Errorf("voided: %+v", got)
	}
	at := start
	entries, _ := p.entries()
	for i, e := range []entry{
		{Entry: "authorised", Authorisation: a.ID, Key: "a", Amount: 1400}, {Entry: "captured", Authorisation: a.ID, Key: "c", Amount: 1400},
		{Entry: "refunded", Authorisation: a.ID, Key: "r1", Amount: 400}, {Entry: "refunded", Authorisation: a.ID, Key: "r2", Amount: 1000},
		{Entry: "authorised", Authorisation: b.ID, Key: "b", Amount: 1400}, {Entry: "voided", Authorisation: b.ID, Key: "v", Amount: 1400},
	} {
		e.Seq, e.At, e.Reference, e.Currency = int64(i+1), at, "ord_1", "EUR"
		if i >= len(entries) || entries[i] != e {
			t.Errorf("entry %d of %+v, want %+v", i, entries, e)
		}
	}
}

func TestCaptureAtOnce(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	body := strings.Replace(authorisation("tok_ok"), "false", "true", 1)
	a := p.must(201, "POST", "/v1/authorisations", "a", body)
	doc := decode[document](t, a.body)
	if doc.Status != "captured" || doc.Captured != 1400 {
		t.Errorf("%+v", doc)
	}
	for range 2 {
		if again := p.must(201, "POST", "/v1/authorisations", "a", body); again.body != a.body || !again.replayed {
			t.Errorf("the repetition: %+v, want %s", again, a.body)
		}
		if op := p.query(200, "a"); op.Kind != "authorise" || op.Status != "succeeded" || op.Authorisation != doc {
			t.Errorf("the operation: %+v", op)
		}
		if _, short := p.entries(); !slices.Equal(short, []string{"authorised a", "captured a"}) {
			t.Errorf("the ledger: %v", short)
		}
		p.restart()
	}
	if got := p.change(200, doc.ID, "refund", "r", `{"amount":1400}`); got.Status != "refunded" {
		t.Errorf("refunded: %+v", got)
	}
}

// TestNotInThatState: what an authorisation does not allow is a conflict, and leaves no trace.
func TestNotInThatState(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	states := map[string]document{"authorised": p.authorise("tok_ok", "1"), "captured": p.authorise("tok_ok", "2"), "voided": p.authorise("tok_ok", "3"), "refunded": p.authorise("tok_ok", "4")}
	p.change(200, states["captured"].ID, "capture", "c2", `{"amount":1000}`)
	p.change(200, states["voided"].ID, "void", "v3", `{}`)
	p.change(200, states["refunded"].ID, "capture", "c4", `{"amount":1400}`)
	p.change(200, states["refunded"].ID, "refund", "r4", `{"amount":1400}`)
	states["declined"] = decode[document](t, p.must(402, "POST", "/v1/authorisations", "5", authorisation("tok_declined")).body)
	before, _ := p.entries()
	for _, c := range []struct {
		state, kind, body string
		status            int
	}{
		{"authorised", "refund", `{"amount":1}`, 409}, {"authorised", "capture", `{"amount":1401}`, 400}, {"authorised", "capture", `{"amount":0}`, 400},
		{"authorised", "capture", `{"amount":-1}`, 400}, {"authorised", "capture", `{}`, 400},
		{"captured", "capture", `{"amount":400}`, 409}, {"captured", "void", `{}`, 409}, {"captured", "refund", `{"amount":1001}`, 400},
		{"captured", "refund", `{"amount":9223372036854775807}`, 400},
		{"voided", "capture", `{"amount":1400}`, 409}, {"voided", "void", `{}`, 409}, {"voided", "refund", `{"amount":1}`, 409},
		{"refunded", "refund", `{"amount":1}`, 409}, {"refunded", "void", `{}`, 409}, {"refunded", "capture", `{"amount":1}`, 409},
		{"declined", "capture", `{"amount":1}`, 409}, {"declined", "void", `{}`, 409}, {"declined", "refund", `{"amount":1}`, 409},
	} {
		key := c.state + c.kind + c.body
		if got := p.change(c.status, states[c.state].ID, c.kind, key, c.body); got.Code == "" {
			t.Errorf("%s: no code: %+v", key, got)
		}
		p.query(404, key)
	}
	if after, _ := p.entries(); !slices.Equal(before, after) {
		t.Errorf("the ledger has grown: %v", after)
	}
	p.clock.Advance(p.cfg.Hold)
	if got := p.change(409, states["authorised"].ID, "capture", "late", `{"amount":1}`); got.Code != "expired" {
		t.Errorf("captured too late: %+v", got)
	}
	p.change(200, states["authorised"].ID, "void", "late", `{}`)
}

func TestDeclines(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	for method, code := range map[string]string{"tok_declined": "card_declined", "tok_insufficient_funds": "insufficient_funds"} {
		a := p.must(402, "POST", "/v1/authorisations", method, authorisation(method))
		doc := decode[document](t, a.body)
		if want := (document{ID: doc.ID, Status: "declined", Amount: 1400, Currency: "EUR", Reference: "ord_1", DeclineCode: code}); doc != want {
			t.Errorf("%s: %+v, want %+v", method, doc, want)
		}
		if again := p.must(402, "POST", "/v1/authorisations", method, authorisation(method)); again.body != a.body || !again.replayed {
			t.Errorf("%s again: %+v", method, again)
		}
		if op := p.query(200, method); op.Status != "declined" || op.Kind != "authorise" || op.Authorisation != doc {
			t.Errorf("the operation: %+v", op)
		}
	}
	if _, short := p.entries(); len(short) != 2 || !strings.HasPrefix(short[0], "declined") {
		t.Errorf("the ledger: %v", short)
	}
}

// TestErrors: tok_error_once fails once for each key, also over a restart; tok_error always. A key that
// failed is free.
func TestErrors(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	for _, key := range []string{"a", "b"} {
		p.must(500, "POST", "/v1/authorisations", key, authorisation("tok_error_once"))
		p.query(404, key)
	}
	p.restart()
	for _, key := range []string{"a", "b"} {
		p.authorise("tok_error_once", key)
	}
	for range 5 {
		p.must(500, "POST", "/v1/authorisations", "c", authorisation("tok_error"))
	}
	p.query(404, "c")
	p.authorise("tok_ok", "c")
	if _, short := p.entries(); !slices.Equal(short, []string{"authorised a", "authorised b", "authorised c"}) {
		t.Errorf("the ledger: %v", short)
	}
}

func TestTimeoutThatSucceeds(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	giveUp := p.hang("/v1/authorisations", "a", authorisation("tok_timeout_ok"))
	op := p.query(200, "a")
	if op.Status != "succeeded" || op.Authorisation.Status != "authorised" {
		t.Errorf("the query: %+v", op)
	}
	giveUp()
	if d := p.delivered(); d.Type != "authorisation.succeeded" || d.Data != op || !d.Timestamp.Equal(start) {
		t.Errorf("the late webhook: %+v, want the operation %+v", d, op)
	}
	p.restart()
	if again := p.must(201, "POST", "/v1/authorisations", "a", authorisation("tok_timeout_ok")); !again.replayed {
		t.Errorf("the repetition: %+v", again)
	}
	p.change(200, op.Authorisation.ID, "void", "v", `{}`)
	if _, short := p.entries(); !slices.Equal(short, []string{"authorised a", "voided v"}) {
		t.Errorf("the ledger: %v", short)
	}
}

func TestTimeoutThatFails(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.hang("/v1/authorisations", "a", authorisation("tok_timeout_fail"))()
	for range 2 {
		if op, want := p.query(200, "a"), (operation{Key: "a", Kind: "authorise", Status: "failed"}); op != want {
			t.Errorf("the query: %+v, want %+v", op, want)
		}
		p.hang("/v1/authorisations", "a", authorisation("tok_timeout_fail"))() // it never will be done
		p.must(422, "POST", "/v1/authorisations", "a", authorisation("tok_ok"))
		p.restart()
	}
	if _, short := p.entries(); len(short) != 0 {
		t.Errorf("the ledger: %v", short)
	}
	p.quiet()
}

// TestHeldCallsAreLetGo when the provider stops, and after a minute.
func TestHeldCallsAreLetGo(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*provider){
		"close":  func(p *provider) { _ = p.sim.Close() },
		"stop":   func(p *provider) { p.cancel() },
		"minute": func(p *provider) { p.clock.Advance(time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := open(t, nil)
			ended := make(chan error, 1)
			go func() {
				_, err := p.call(t.Context(), "POST", "/v1/authorisations", "a", authorisation("tok_timeout_ok"))
				ended <- err
			}()
			p.waiters(1)
			end(p)
			select {
			case err := <-ended:
				if err == nil {
					t.Error("it was answered")
				}
			case <-time.After(limit):
				t.Error("it is still held")
			}
		})
	}
}

func TestSlow(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	answered := make(chan answer, 1)
	go func() {
		a, err := p.call(t.Context(), "POST", "/v1/authorisations", "a", authorisation("tok_slow"))
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	p.waiters(1)
	p.clock.Advance(2*time.Second - time.Millisecond)
	p.waiters(1)
	select {
	case a := <-answered:
		t.Errorf("answered too early: %+v", a)
	default:
	}
	p.clock.Advance(time.Millisecond)
	if a := <-answered; a.status != 201 || decode[document](t, a.body).Status != "authorised" {
		t.Errorf("answered %+v", a)
	}
	if d := p.delivered(); d.Type != "authorisation.succeeded" || d.Data.Key != "a" {
		t.Errorf("the late webhook: %+v", d)
	}
}

// TestVoidFails: the failures are counted per authorisation, over restarts, and leave the key free.
func TestVoidFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind     string
		restarts bool
	}{{"void", false}, {"void", true}, {"refund", false}, {"refund", true}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			p := open(t, nil)
			var ids []string
			for _, key := range []string{"a", "b"} {
				a := p.authorise("tok_void_fails_3", key)
				if c.kind == "refund" {
					p.change(200, a.ID, "capture", key+"c", `{"amount":1400}`)
				}
				ids = append(ids, a.ID)
			}
			for range 3 {
				for _, id := range ids {
					p.change(500, id, c.kind, id, `{"amount":1400}`)
					p.query(404, id)
				}
				if c.restarts {
					p.restart()
				}
			}
			for _, id := range ids {
				p.change(200, id, c.kind, id, `{"amount":1400}`)
			}
		})
	}
	t.Run("for ever", func(t *testing.T) {
		t.Parallel()
		p := open(t, nil)
		a := p.authorise("tok_void_fails", "a")
		for range 20 {
			p.change(500, a.ID, "void", "v", `{}`)
		}
		p.restart()
		p.change(500, a.ID, "void", "v", `{}`)
		p.change(200, a.ID, "capture", "c", `{"amount":1400}`)
		p.change(500, a.ID, "refund", "r", `{"amount":1400}`)
	})
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	first := p.must(201, "POST", "/v1/authorisations", "a", authorisation("tok_ok"))
	id := decode[document](t, first.body).ID
	captured := p.must(200, "POST", "/v1/authorisations/"+id+"/capture", "c", `{"amount":1400}`)
	if first.replayed || captured.replayed {
		t.Error("the first answer says that it is not")
	}
	other := p.authorise("tok_ok", "other")
	for range 2 {
		if again := p.must(201, "POST", "/v1/authorisations", "a", authorisation("tok_ok")); again.body != first.body || !again.replayed {
			t.Errorf("the repetition after the capture: %+v, want %s", again, first.body)
		}
		if again := p.must(200, "POST", "/v1/authorisations/"+id+"/capture", "c", ` {"amount": 1400 } `); again.body != captured.body || !again.replayed {
			t.Errorf("the repetition: %+v, want %s", again, captured.body)
		}
		for _, use := range []struct{ path, key, body string }{
			{"", "a", strings.Replace(authorisation("tok_ok"), "1400", "1401", 1)},
			{"", "a", authorisation("tok_error")},
			{"", "c", authorisation("tok_ok")},
			{"/" + id + "/capture", "c", `{"amount":1399}`},
			{"/" + other.ID + "/capture", "c", `{"amount":1400}`},
			{"/" + id + "/void", "c", `{}`},
			{"/" + id + "/capture", "a", `{"amount":1400}`},
		} {
			if a := p.must(422, "POST", "/v1/authorisations"+use.path, use.key, use.body); decode[document](t, a.body).Code != "key_reused" {
				t.Errorf("%v: %+v", use, a)
			}
		}
		p.restart()
	}
	if _, short := p.entries(); !slices.Equal(short, []string{"authorised a", "captured c", "authorised other"}) {
		t.Errorf("the ledger: %v", short)
	}
}

// TestOneKeyAtOnce: any number of calls with one key do one thing, and calls with different keys to
// one authorisation exclude each other.
func TestOneKeyAtOnce(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	free := p.disk.pause()
	bodies := at(50, func(int) string {
		return p.must(201, "POST", "/v1/authorisations", "a", authorisation("tok_ok")).body
	}, func() { p.arrived(50); free() })
	if len(slices.Compact(bodies)) != 1 {
		t.Errorf("different answers: %v", bodies)
	}
	id := decode[document](t, bodies[0]).ID
	free = p.disk.pause()
	statuses := at(50, func(i int) string {
		kind, body := "capture", `{"amount":1400}`
		if i%2 == 0 {
			kind, body = "void", `{}`
		}
		a, err := p.call(t.Context(), "POST", "/v1/authorisations/"+id+"/"+kind, fmt.Sprint("k", i), body)
		if err != nil {
			t.Error(err)
		}
		return fmt.Sprint(a.status)
	}, func() { p.arrived(100); free() })
	slices.Sort(statuses)
	if statuses[0] != "200" || statuses[1] != "409" {
		t.Errorf("captured and voided: %v", statuses)
	}
	if _, short := p.entries(); len(short) != 2 {
		t.Errorf("the ledger: %v", short)
	}
}

// arrived waits until n calls have come in.
func (p *provider) arrived(n int64) {
	p.t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); runtime.Gosched() {
		if decode[arrivals](p.t, p.must(200, "GET", "/arrivals", "", "").body).Total == n {
			return
		}
	}
	p.t.Fatalf("%d calls have not come", n)
}

// at calls f n times at once, and meanwhile something else once.
func at(n int, f func(i int) string, meanwhile func()) []string {
	results := make([]string, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { results[i] = f(i) })
	}
	meanwhile()
	group.Wait()
	return results
}

// TestAbruptEnd: what was answered before the end is there after it, and nothing twice.
func TestAbruptEnd(t *testing.T) {
	t.Parallel()
	p := open(t, func(c *psp.Config) { c.Webhooks, c.WebhookURL = psp.WebhooksLate, "" })
	var mu sync.Mutex
	known := map[string]string{}
	enough := make(chan struct{})
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			for n := 0; ; n++ {
				key := fmt.Sprintf("%d-%d", i, n)
				a, err := p.call(t.Context(), "POST", "/v1/authorisations", key, authorisation("tok_ok"))
				if err != nil || a.status == 503 {
					return
				}
				mu.Lock()
				known[key] = decode[document](t, a.body).ID
				if len(known) == 200 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	<-enough
	if err := p.sim.Close(); err != nil {
		t.Error(err)
	}
	group.Wait()
	p.restart()
	entries, _ := p.entries()
	byKey := map[string]string{}
	for _, e := range entries {
		if _, twice := byKey[e.Key]; twice {
			t.Errorf("%s stands twice in the ledger", e.Key)
		}
		byKey[e.Key] = e.Authorisation
	}
	for key, id := range known {
		if byKey[key] != id || p.query(200, key).Authorisation.ID != id {
			t.Errorf("%s was answered with %s and is %s", key, id, byKey[key])
		}
	}
	p.authorise("tok_ok", "afterwards")
}

// TestFullDisk: nothing is done and nothing is claimed while the ledger cannot be written; afterwards all
// goes on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	for name, broken := range map[string][]string{
		"write": {"write"}, "sync": {"sync"}, "write and truncate": {"write", "truncate"}, "sync and truncate": {"sync", "truncate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := open(t, nil)
			a := p.authorise("tok_ok", "a")
			p.disk.breaks(func(op string) error {
				if slices.Contains(broken, op) {
					return full
				}
				return nil
			})
			for range 3 {
				p.must(503, "POST", "/v1/authorisations", "b", authorisation("tok_ok"))
				p.change(503, a.ID, "capture", "c", `{"amount":1400}`)
				p.query(404, "b")
				p.query(404, "c")
				p.must(500, "POST", "/v1/authorisations", "d", authorisation("tok_error_once"))
			}
			if again := p.must(201, "POST", "/v1/authorisations", "a", authorisation("tok_ok")); !again.replayed {
				t.Errorf("what was done before: %+v", again)
			}
			p.disk.breaks(nil)
			p.authorise("tok_ok", "b")
			p.change(200, a.ID, "capture", "c", `{"amount":1400}`)
			for range 2 {
				if _, short := p.entries(); !slices.Equal(short, []string{"authorised a", "authorised b", "captured c"}) {
					t.Errorf("the ledger: %v", short)
				}
				p.restart()
			}
		})
	}
}
