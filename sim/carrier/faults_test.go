package carrier_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// fault sets one fault.
func (p *hauler) fault(members string) {
	p.t.Helper()
	p.must(200, "PUT", "/faults", "", `{"faults":[{`+members+`}]}`)
}

// heal takes the fault away, which must have hit so many calls.
func (p *hauler) heal(hits int) {
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

// cameFor asserts how many calls of an operation have come for ord_1.
func (p *hauler) cameFor(kind string, n int64) {
	p.t.Helper()
	if got := decode[arrivals](p.t, p.must(200, "GET", "/arrivals?reference=ord_1", "", "").body).ByOperation[kind]; got != n {
		p.t.Errorf("%d of %s came, want %d", got, kind, n)
	}
}

// TestFaultStatus: the answer is given without the effect, whatever the postal code asks for, and leaves
// the key free.
func TestFaultStatus(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.fault(`"operation":"schedule","status":429,"retry_after":"2s"`)
	for _, postal := range []string{"00005", "00001", "00003", "00004"} {
		if a := p.must(429, "POST", "/v1/shipments", "s", parcel(postal)); decode[document](t, a.body).Code != "fault" {
			t.Errorf("%s: %+v", postal, a)
		}
	}
	p.query(404, "s")
	p.until()
	p.heal(4)
	p.cameFor("schedule", 4)
	doc := p.schedule("00005", "s")
	p.fault(`"operation":"cancel","status":500`)
	p.cancel(500, doc.ID, "c")
	p.cameFor("cancel", 1)
	p.query(404, "c")
	p.heal(1)
	p.cancel(200, doc.ID, "c")
	p.until("scheduled s", "cancelled c")
}

// TestFaultOperations: each is hit under its own name, and all of them under *.
func TestFaultOperations(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	doc := p.schedule("00005", "s")
	for set, calls := range map[string][]string{
		"schedule": {"POST /v1/shipments"}, "cancel": {"POST /v1/shipments/" + doc.ID + "/cancel"}, "rates": {"GET /v1/rates"},
		"query": {"GET /v1/shipments/" + doc.ID, "GET /v1/operations/s"},
	} {
		for _, name := range []string{set, "*"} {
			p.fault(`"operation":"` + name + `","status":418`)
			for _, call := range calls {
				method, path, _ := strings.Cut(call, " ")
				p.must(418, method, path, "k", `{}`)
			}
			p.heal(len(calls))
		}
	}
	a := p.must(422, "PUT", "/faults", "", `{"faults":[{"operation":"authorise","status":500}]}`)
	if want := "faults[0].operation must be schedule, cancel, query, rates or *, which stands for all."; !strings.Contains(a.body, want) {
		t.Errorf("%s, want %s", a.body, want)
	}
}

func TestFaultLoseRequest(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.fault(`"operation":"schedule","lose":"request"`)
	giveUp := p.hang("/v1/shipments", "s", parcel("10115"))
	p.cameFor("schedule", 1)
	p.query(404, "s")
	giveUp()
	p.heal(1)
	p.query(404, "s")
	p.until()
	p.quiet()
}

// TestFaultLoseAnswer: it is done, a query tells, and the parcel leaves.
func TestFaultLoseAnswer(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.fault(`"lose":"answer","operation":"schedule"`)
	giveUp := p.hang("/v1/shipments", "s", parcel("10115"))
	op := p.query(200, "s") // which waits for it
	if op.Status != "succeeded" || op.Shipment.Status != "scheduled" {
		t.Errorf("the operation: %+v", op)
	}
	giveUp()
	p.heal(1)
	p.cameFor("schedule", 1)
	if again := p.must(201, "POST", "/v1/shipments", "s", parcel("10115")); !again.replayed || decode[document](t, again.body) != op.Shipment {
		t.Errorf("again: %+v", again)
	}
	if d := p.eventually(); d.Data.ID != op.Shipment.ID {
		t.Errorf("the webhook: %+v", d)
	}
	p.until("scheduled s", "dispatched")
}

// TestFaultLatency comes before anything is done.
func TestFaultLatency(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.fault(`"latency":"2s","operation":"schedule"`)
	answered := make(chan answer, 1)
	go func() {
		a, err := p.call(t.Context(), http.MethodPost, "/v1/shipments", "s", parcel("00005"))
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	p.waiters(1)
	p.clock.Advance(2*time.Second - time.Nanosecond)
	p.waiters(1)
	p.query(404, "s")
	p.clock.Advance(time.Nanosecond)
	if a := <-answered; a.status != 201 {
		t.Errorf("%+v", a)
	}
	p.heal(1)
	p.until("scheduled s")
}

func TestFaultGarbage(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.fault(`"garbage":true,"for":"60s"`)
	if a := p.must(200, "POST", "/v1/shipments", "s", parcel("00005")); !strings.HasPrefix(a.body, "<!DOCTYPE html>") {
		t.Errorf("%+v", a)
	}
	p.clock.Advance(time.Minute)
	p.query(404, "s")
	p.until()
	p.heal(1)
}

// TestFaultsAreForgotten at a restart.
func TestFaultsAreForgotten(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.fault(`"status":500`)
	p.must(500, "GET", "/v1/rates", "", "")
	p.restart()
	p.must(200, "GET", "/v1/rates", "", "")
	if a := p.must(200, "GET", "/faults", "", ""); !strings.Contains(a.body, `"faults":[]`) {
		t.Errorf("%s", a.body)
	}
}

// TestRates are sorted, say when they held, and are counted.
func TestRates(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	for _, c := range []struct {
		rates map[string]int64
		want  string
	}{
		{nil, `[{"country":"*","amount":500}]`},
		{map[string]int64{"GB": 0, "*": 1_000_000, "DE": 390, "AT": 490}, `[{"country":"*","amount":1000000},{"country":"AT","amount":490},{"country":"DE","amount":390},{"country":"GB","amount":0}]`},
	} {
		if c.rates != nil {
			p.cfg.Rates = c.rates
			p.clock.Advance(time.Hour)
			p.restart()
		}
		a := p.must(200, "GET", "/v1/rates", "", "")
		at, err := p.clock.Now().UTC().MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if want := `{"as_of":"` + string(at) + `","rates":` + c.want + "}\n"; a.body != want {
			t.Errorf("%s, want %s", a.body, want)
		}
		if got := decode[arrivals](t, p.must(200, "GET", "/arrivals", "", "").body); got.Total != 1 || got.ByOperation["rates"] != 1 {
			t.Errorf("arrivals: %+v", got)
		}
	}
}
