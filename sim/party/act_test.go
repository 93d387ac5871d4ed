package party_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestFaultsCount: a fault hits so many calls, no more, also of calls at once.
func TestFaultsCount(t *testing.T) {
	t.Parallel()
	s := newStall(t)
	s.put(`{"faults":[{"status":503,"count":2},{"status":500,"count":1}]}`)
	same(t, "in turn", s.buys(5), []int{503, 503, 500, 200, 200})
	same(t, "hits", s.hits(), []int{2, 1})
	if body := s.call(http.MethodGet, "/faults", "").Body.String(); strings.Count(body, `"ended":true`) != 2 {
		t.Errorf("they have not ended: %s", body)
	}
	s = newStall(t)
	s.put(`{"faults":[{"status":503,"count":50}]}`)
	codes := make([]int, 200)
	var group sync.WaitGroup
	for i := range codes {
		group.Go(func() { codes[i] = s.call(http.MethodGet, "/look", "").Code })
	}
	group.Wait()
	failed := 0
	for _, code := range codes {
		if code == http.StatusServiceUnavailable {
			failed++
		}
	}
	same(t, "of 200 at once", failed, 50)
	same(t, "hits of them", s.hits(), []int{50})
}

// TestFaultsAfter begin later; for counts from there.
func TestFaultsAfter(t *testing.T) {
	t.Parallel()
	s := newStall(t)
	s.put(`{"faults":[{"status":503,"after":"10s","for":"5s"}]}`)
	same(t, "before", s.buys(1), []int{200})
	s.clock.Advance(10*time.Second - 1)
	same(t, "right before", s.buys(1), []int{200})
	s.clock.Advance(1)
	same(t, "then", s.buys(1), []int{503})
	s.clock.Advance(5*time.Second - 1)
	same(t, "at its end", s.buys(1), []int{503})
	s.clock.Advance(1)
	same(t, "afterwards", s.buys(1), []int{200})
	same(t, "hits", s.hits(), []int{2})
}

// TestFaultsSeed: the same seed hits the same calls; another one hits others. The first draws of
// splitmix64 from 42 are 0.74, 0.16, 0.28, 0.34, 0.04.
func TestFaultsSeed(t *testing.T) {
	t.Parallel()
	run := func(seed string) []int {
		s := newStall(t) // without rolls: a draw from the party's own randomness panics
		s.put(`{"seed":` + seed + `,"faults":[{"status":503,"rate":0.3}]}`)
		return s.buys(40)
	}
	first := run("42")
	same(t, "again", run("42"), first)
	same(t, "the first of 42", first[:5], []int{200, 503, 503, 200, 503})
	if same := run("43"); strings.Join(strings.Fields(string(statuses(same))), "") == string(statuses(first)) {
		t.Error("another seed hits the same calls")
	}
	s := newStall(t)
	s.put(`{"seed":42,"faults":[]}`)
	if body := s.call(http.MethodGet, "/faults", "").Body.String(); !strings.Contains(body, `"seed":42`) {
		t.Errorf("the seed is not shown: %s", body)
	}
}

func statuses(codes []int) (b []byte) {
	for _, c := range codes {
		b = append(b, byte('0'+c/100))
	}
	return b
}

// over serves the stall on a real connection, and makes one call.
func (s *stall) over(t *testing.T, client *http.Client) (status int, body string, err error) {
	t.Helper()
	server := httptest.NewServer(s.mux)
	defer server.Close()
	resp, err := client.Post(server.URL+"/buy", "application/json", strings.NewReader(`{}`))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// TestFaultReset: the connection is reset, before anything is done or after it.
func TestFaultReset(t *testing.T) {
	t.Parallel()
	for what, sold := range map[string]int{"request": 0, "answer": 1} {
		s := newStall(t)
		s.put(`{"faults":[{"reset":"` + what + `"}]}`)
		if _, _, err := s.over(t, &http.Client{}); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v, want a reset", what, err)
		}
		same(t, "done", s.sold, sold)
	}
}

// TestFaultTruncate: it is done, and half of the answer comes.
func TestFaultTruncate(t *testing.T) {
	t.Parallel()
	s := newStall(t)
	s.put(`{"faults":[{"truncate":true}]}`)
	status, body, err := s.over(t, &http.Client{})
	if status != http.StatusOK || body != "{" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d %q %v", status, body, err)
	}
	same(t, "done", s.sold, 1)
}

// TestFaultDrip: the answer is whole, and takes its time: three pieces, a third of it before each.
func TestFaultDrip(t *testing.T) {
	t.Parallel()
	s := newStall(t)
	s.put(`{"faults":[{"drip":"6s","count":1}]}`)
	type answer struct {
		status int
		body   string
		err    error
	}
	got := make(chan answer, 1)
	go func() {
		status, body, err := s.over(t, &http.Client{})
		got <- answer{status, body, err}
	}()
	for range 3 {
		if err := s.clock.Waiters(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		select {
		case a := <-got:
			t.Fatalf("too early: %+v", a)
		default:
		}
		s.clock.Advance(2 * time.Second)
	}
	same(t, "the answer", <-got, answer{http.StatusOK, "{}\n", nil})
	same(t, "done", s.sold, 1)
}
