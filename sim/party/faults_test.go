package party_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/sim/party"
	"holdfast/test/fakes"
)

// dice is a source of randomness that is known beforehand.
type dice struct {
	mu    sync.Mutex
	rolls []float64
}

func (d *dice) Uint64() uint64 { panic("nobody asks for this") }

func (d *dice) Float64() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := d.rolls[0] // a draw that is not expected panics
	d.rolls = d.rolls[1:]
	return next
}

// stall is a party with two operations that do nothing but count.
type stall struct {
	t     *testing.T
	clock *fakes.Clock
	mux   *http.ServeMux

	mu   sync.Mutex // calls may come at once
	sold int
}

func newStall(t *testing.T, rolls ...float64) *stall {
	t.Helper()
	s := &stall{t: t, clock: fakes.NewClock(time.Unix(1_700_000_000, 0)), mux: http.NewServeMux()}
	deps := fakes.Deps(t)
	deps.Clock, deps.Rand = s.clock, &dice{rolls: rolls}
	arrivals, door := party.NewArrivals("buy", "look"), party.NewDoor(s.clock)
	faults := party.NewFaults(arrivals, door, deps)
	faults.Mount(s.mux)
	s.mux.Handle("GET /arrivals", arrivals)
	for pattern, operation := range map[string]string{"POST /buy": "buy", "GET /look": "look"} {
		s.mux.HandleFunc(pattern, faults.Around(operation, func(string) string { return "" }, func(w http.ResponseWriter, _ *http.Request) {
			s.mu.Lock()
			s.sold++
			s.mu.Unlock()
			party.Answer(w, http.StatusOK, []byte(`{}`))
		}))
	}
	return s
}

func (s *stall) call(method, path, body string) *httptest.ResponseRecorder {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.mux.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w
}

func (s *stall) put(body string) {
	s.t.Helper()
	if w := s.call(http.MethodPut, "/faults", body); w.Code != http.StatusOK {
		s.t.Fatalf("%s: %d %s", body, w.Code, w.Body)
	}
}

// buys makes n calls and returns their statuses.
func (s *stall) buys(n int) (statuses []int) {
	s.t.Helper()
	for range n {
		statuses = append(statuses, s.call(http.MethodPost, "/buy", `{}`).Code)
	}
	return statuses
}

// hits returns how many calls each fault has hit.
func (s *stall) hits() (hits []int) {
	s.t.Helper()
	var doc struct {
		Faults []struct {
			Hits int `json:"hits"`
		} `json:"faults"`
	}
	w := s.call(http.MethodGet, "/faults", "")
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		s.t.Fatalf("%s: %v", w.Body, err)
	}
	for _, f := range doc.Faults {
		hits = append(hits, f.Hits)
	}
	return hits
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestFaultsAreShown as they act, with what was left out.
func TestFaultsAreShown(t *testing.T) {
	t.Parallel()
	s := newStall(t)
	const kept = `{"kept":"in memory only: a restart forgets them","faults":[`
	same(t, "none", s.call(http.MethodGet, "/faults", "").Body.String(), kept+"]}\n")
	w := s.call(http.MethodPut, "/faults", `{"faults":[
		{"operation": "buy", "status": 503, "retry_after": "2s", "latency": "250ms", "for": "60s"},
		{"operation": "", "lose": "answer", "rate": 0.5}, {"operation": "*", "garbage": true}]}`)
	want := kept + `{"operation":"buy","latency":"250ms","status":503,"retry_after":"2s","rate":1,"for":"1m0s","ends_at":"2023-11-14T22:14:20Z","hits":0},` +
		`{"operation":"*","lose":"answer","rate":0.5,"hits":0},{"operation":"*","garbage":true,"rate":1,"hits":0}]}` + "\n"
	same(t, "set", w.Body.String(), want)
	same(t, "shown", s.call(http.MethodGet, "/faults", "").Body.String(), want)
	if w := s.call(http.MethodDelete, "/faults", ""); w.Code != http.StatusNoContent || w.Body.Len() > 0 {
		t.Errorf("DELETE: %d %s", w.Code, w.Body)
	}
	same(t, "deleted", s.call(http.MethodGet, "/faults", "").Body.String(), kept+"]}\n")
}

// TestFaultsBadInput: what is refused is named, and leaves the list as it was.
func TestFaultsBadInput(t *testing.T) {
	t.Parallel()
	s := newStall(t)
	s.put(`{"faults":[{"operation":"buy","status":500}]}`)
	for body, want := range map[string]string{
		`[]`:                            "The body must be an object with the member faults.",
		`null`:                          "The body must be an object with the member faults.",
		`{}`:                            "faults must be a list of at most 100 faults.",
		`{"faults":null}`:               "faults must be a list of at most 100 faults.",
		`{"faults":{}}`:                 "faults must be a list of at most 100 faults.",
		`{"faults":[],"fault":1}`:       `"fault" is not known here; the members are faults and seed.`,
		`{"faults":[],"seed":0}`:        "seed must be a whole number above 0.",
		`{"faults":[],"seed":-1}`:       "seed must be a whole number above 0.",
		`{"faults":[],"seed":"x"}`:      "seed must be a whole number above 0.",
		`{"faults":[{"status":500},7]}`: "faults[1] must be an object.",
		`{"faults":[null]}`:             "faults[0] must be an object.",
		`{"faults":[` + strings.Repeat(`{"status":500},`, 100) + `{"status":500}]}`: "faults must be a list of at most 100 faults.",
	} {
		s.refuses(body, want)
	}
	const (
		status    = "faults[0].status must be a whole number from 400 to 599."
		latency   = `faults[0].latency must be a duration above 0 and up to 1m, such as "2s" or "250ms".`
		wait      = `faults[0].retry_after must be whole seconds from "1s" to "1h".`
		rate      = "faults[0].rate must be a number above 0 and up to 1."
		lasts     = `faults[0].for must be a duration above 0, such as "60s".`
		operation = "faults[0].operation must be buy, look or *, which stands for all."
		lose      = "faults[0].lose must be request, so that nothing is done, or answer, so that nobody learns what was done."
		unknown   = " is not known; a fault has operation, latency, status, retry_after, lose, garbage, reset, truncate, drip, rate, count, after, for."
		more      = "faults[0] has more than one of status, lose, garbage, reset, truncate and drip; each can have a latency, and none another."
		nothing   = "faults[0] does nothing; it must have latency, status, lose, garbage, reset, truncate or drip."
	)
	for fault, want := range map[string]string{
		`"status":200`: status, `"status":399`: status, `"status":600`: status, `"status":"503"`: status, `"status":503.5`: status, `"status":null`: status,
		`"latency":"0s"`: latency, `"latency":"-1s"`: latency, `"latency":"61s"`: latency, `"latency":2`: latency, `"latency":"2"`: latency, `"latency":null`: latency,
		`"status":503,"retry_after":"1500ms"`: wait, `"status":503,"retry_after":"0s"`: wait, `"status":503,"retry_after":1`: wait, `"status":429,"retry_after":"2h"`: wait,
		`"status":500,"retry_after":"1s"`: "faults[0].retry_after goes with status 429 or 503 only.",
		`"lose":"answer","rate":0`:        rate, `"lose":"answer","rate":-0.5`: rate, `"lose":"answer","rate":1.01`: rate, `"lose":"answer","rate":"1"`: rate,
		`"lose":"answer","for":"0s"`: lasts, `"lose":"answer","for":60`: lasts, `"lose":"answer","for":"a minute"`: lasts,
		`"operation":"capture","status":500`: operation, `"operation":7,"status":500`: operation, `"operation":"Buy","status":500`: operation,
		`"lose":"both"`: lose, `"lose":true`: lose, `"lose":""`: lose,
		`"garbage":"yes"`:                   "faults[0].garbage must be true or false.",
		`"reset":"both"`:                    "faults[0].reset must be request, so that nothing is done, or answer, so that nobody learns what was done.",
		`"truncate":1`:                      "faults[0].truncate must be true or false.",
		`"drip":"61s"`:                      `faults[0].drip must be a duration above 0 and up to 1m, such as "5s".`,
		`"status":500,"count":0`:            "faults[0].count must be a whole number above 0.",
		`"status":500,"count":1.5`:          "faults[0].count must be a whole number above 0.",
		`"status":500,"after":"0s"`:         `faults[0].after must be a duration above 0, such as "10s".`,
		`"reset":"answer","truncate":true`:  more,
		`"drip":"1s","truncate":true`:       more,
		`"drip":"1s","status":500`:          more,
		`"truncate":false`:                  nothing,
		`"state":503`:                       "faults[0].state" + unknown,
		`"Status":503`:                      "faults[0].Status" + unknown,
		`"status":503,"hits":1`:             "faults[0].hits" + unknown,
		`"status":503,"lose":"answer"`:      more,
		`"status":503,"garbage":true`:       more,
		`"lose":"request","garbage":true`:   more,
		``:                                  nothing,
		`"operation":"buy","garbage":false`: nothing,
	} {
		s.refuses(`{"faults":[{`+fault+`}]}`, want)
	}
	for body, want := range map[string]int{"": 400, `{"faults":[`: 400, `{"faults":[]}{}`: 400, `{"faults":"` + strings.Repeat("x", party.MaxBody) + `"}`: 413} {
		if w := s.call(http.MethodPut, "/faults", body); w.Code != want {
			t.Errorf("%.20s…: %d %s, want %d", body, w.Code, w.Body, want)
		}
	}
	same(t, "what was set before", s.buys(1), []int{500})
}

// refuses asserts that a list is refused with a message.
func (s *stall) refuses(body, message string) {
	s.t.Helper()
	w := s.call(http.MethodPut, "/faults", body)
	var got struct{ Code, Message string }
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 422 || got.Code != "invalid_fault" || got.Message != message {
		s.t.Errorf("%.80s: %d %s, want %s", body, w.Code, w.Body, message)
	}
}

// TestFaultsRate: a fault hits the share of calls that it is drawn for; those that it leaves go on to the
// next fault.
func TestFaultsRate(t *testing.T) {
	t.Parallel()
	s := newStall(t, 0.1, 0.25, 0.9, 0, 0.2499, 0.5, 0.4999, 0.75, 0.5)
	s.put(`{"faults":[{"operation":"look","status":400},{"operation":"buy","status":503,"rate":0.25}]}`)
	same(t, "the draws", s.buys(5), []int{503, 200, 200, 503, 503})
	same(t, "hits", s.hits(), []int{0, 3})
	s.put(`{"faults":[{"status":503,"rate":0.5},{"status":429,"rate":0.5}]}`)
	same(t, "new hits", s.hits(), []int{0, 0})
	same(t, "the draws of both", s.buys(2), []int{429, 200})
	same(t, "hits of both", s.hits(), []int{0, 1})
	s.put(`{"faults":[{"operation":"buy","status":500},{"status":501},{"status":502}]}`)
	same(t, "the first", s.buys(3), []int{500, 500, 500})
	same(t, "all", s.call(http.MethodGet, "/look", "").Code, 501)
	same(t, "hits of the first", s.hits(), []int{3, 1, 0})
	same(t, "done", s.sold, 3)
}

// TestFaultsEnd by themselves when their time has passed since the PUT, and stay in the list.
func TestFaultsEnd(t *testing.T) {
	t.Parallel()
	s := newStall(t)
	s.put(`{"faults":[{"status":503,"for":"60s"},{"status":429,"for":"2m"},{"status":500,"for":"1s"}]}`)
	same(t, "at first", s.buys(2), []int{503, 503})
	s.clock.Advance(time.Minute - time.Nanosecond)
	same(t, "right before", s.buys(1), []int{503})
	s.clock.Advance(time.Nanosecond)
	same(t, "the next one", s.buys(1), []int{429})
	s.clock.Advance(time.Minute)
	same(t, "afterwards", s.buys(1), []int{200})
	same(t, "hits", s.hits(), []int{3, 1, 0})
	if body := s.call(http.MethodGet, "/faults", "").Body.String(); strings.Count(body, `"ended":true`) != 3 {
		t.Errorf("they have not ended: %s", body)
	}
	s.put(`{"faults":[{"status":503}]}`)
	s.clock.Advance(1000 * time.Hour)
	same(t, "without end", s.buys(1), []int{503})
	s.call(http.MethodDelete, "/faults", "")
	same(t, "deleted", s.buys(1), []int{200})
	same(t, "arrivals", s.call(http.MethodGet, "/arrivals", "").Body.String(), `{"total":7,"by_operation":{"buy":7,"look":0},"keys_repeated":0}`+"\n")
}
