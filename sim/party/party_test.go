package party_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sim/party"
	"holdfast/test/fakes"
)

func TestField(t *testing.T) {
	t.Parallel()
	for value, line := range map[string]string{
		"plain":       `{"seq":1,"key":"plain","other":"x"}`,
		"":            `{"keys":"x","a":"key"}`,
		"k":           `{"a":"\"key\":\"no\"","key":"k"}`,
		`a"b\c/dé`:    `{"key":"a\"b\\c\/d\u00e9","x":1}`,
		"last":        `{"key":"last"}`,
		"with \x7f ,": "{\"key\":\"with \x7f ,\"}",
	} {
		if got := party.Field([]byte(line), "key"); got != value {
			t.Errorf("%s: %q, want %q", line, got, value)
		}
	}
	for _, line := range []string{`{"key":"torn`, `{"key":"torn\`, `{"key":7}`, ``} {
		if got := party.Field([]byte(line), "key"); got != "" {
			t.Errorf("%s: %q", line, got)
		}
	}
	// Whatever a value is, it is found, and looks like no other member.
	for _, value := range []string{`","id":"x`, `\`, `\"`, "\u2028<>&", `"id":"x"`} {
		b, err := json.Marshal(map[string]string{"key": value})
		if err != nil {
			t.Fatal(err)
		}
		if got, id := party.Field(b, "key"), party.Field(b, "id"); got != value || id != "" {
			t.Errorf("%s: key %q, id %q", b, got, id)
		}
	}
}

func TestIndex(t *testing.T) {
	t.Parallel()
	x := party.NewIndex()
	const n = 100_000
	for i := range int64(n) {
		x.Put(fmt.Sprint(i), i)
	}
	x.Put("7", n)
	for i, want := range map[string]int64{"0": 0, "7": n, "99999": 99999} {
		if got, found := x.Place(i); !found || got != want {
			t.Errorf("%s is at %d (%v), want %d", i, got, found, want)
		}
	}
	if _, found := x.Place("100000"); found {
		t.Error("found what was never put")
	}
}

func TestLocks(t *testing.T) {
	t.Parallel()
	locks := party.NewLocks()
	var a, b, both int // guarded by the locks, as the race detector knows
	var group sync.WaitGroup
	add := func(names []string, n ...*int) {
		group.Go(func() {
			for range 200 {
				release, err := locks.Hold(t.Context(), names...)
				if err != nil {
					t.Error(err)
					return
				}
				for _, p := range n {
					*p++
				}
				release()
			}
		})
	}
	for range 8 {
		add([]string{"a"}, &a)
		add([]string{"b"}, &b)
		add([]string{"a", "b"}, &a, &b, &both)
		add([]string{"b", "a"}, &a, &b, &both)
	}
	group.Wait()
	if a != 24*200 || b != 24*200 || both != 16*200 {
		t.Errorf("%d, %d, %d", a, b, both)
	}
	release, err := locks.Hold(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := locks.Hold(ctx, "b", "a"); err == nil {
		t.Error("held what another holds")
	}
	release()
	if _, err := locks.Hold(ctx, "b", "a"); err != nil {
		t.Errorf("free names: %v", err)
	}
}

// TestQueueBacksOff: the waits grow from 200 ms to 5 s, each a random part of it, and never end.
func TestQueueBacksOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := party.NewQueue(fakes.Deps(t))
		ctx, cancel := context.WithCancel(t.Context())
		var waits []time.Duration
		last := time.Now()
		q.Add(party.Job{Due: last.Add(time.Second), Place: 42})
		q.Run(ctx, func(_ context.Context, place int64) bool {
			if place != 42 {
				t.Errorf("place %d", place)
			}
			waits = append(waits, time.Since(last))
			last = time.Now()
			if len(waits) == 200 {
				cancel()
			}
			return false
		})
		if waits[0] != time.Second {
			t.Errorf("the first try came after %s", waits[0])
		}
		longest, most := time.Duration(0), 200*time.Millisecond
		for i, d := range waits[1:] {
			if d > most || d < 20*time.Millisecond {
				t.Errorf("wait %d is %s, want 20ms to %s", i, d, most)
			}
			longest, most = max(longest, d), min(2*most, 5*time.Second)
		}
		if longest < 3*time.Second {
			t.Errorf("of 200 waits the longest is %s", longest)
		}
	})
}

// TestQueueIsInOrderOfTime, whatever the order of adding is.
func TestQueueIsInOrderOfTime(t *testing.T) {
	t.Parallel()
	clock := fakes.NewClock(time.Unix(1_700_000_000, 0))
	deps := fakes.Deps(t)
	deps.Clock = clock
	q := party.NewQueue(deps)
	places := make(chan int64, 100)
	var group sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	group.Go(func() { q.Run(ctx, func(_ context.Context, place int64) bool { places <- place; return true }) })
	for _, second := range []int64{5, 3, 9, 1, 7} {
		q.Add(party.Job{Due: clock.Now().Add(time.Duration(second) * time.Second), Place: second})
	}
	for second := int64(1); second < 10; second++ {
		if err := clock.Waiters(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		clock.Advance(time.Second)
		if second%2 == 1 {
			if got := <-places; got != second {
				t.Errorf("after %d s came %d", second, got)
			}
		} else if len(places) != 0 {
			t.Errorf("after %d s came %d too early", second, <-places)
		}
	}
	cancel()
	group.Wait()
}

// TestSender: what is sent is signed per Standard Webhooks. The signature that is wanted was made with
//
//	printf 'msg_1.1700000000.{"x":1}' | openssl dgst -sha256 -hmac 'a key of 32 bytes for the tests.' -binary | base64
func TestSender(t *testing.T) {
	t.Parallel()
	clock := fakes.NewClock(time.Unix(1_700_000_000, 0))
	deps := fakes.Deps(t)
	deps.Clock = clock
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte("a key of 32 bytes for the tests."))
	connections := sync.Map{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connections.Store(r.RemoteAddr, true)
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != `{"x":1}` {
			t.Errorf("%s, %v", body, err)
		}
		for name, want := range map[string]string{"Webhook-Id": "msg_1", "Webhook-Timestamp": "1700000000", "Webhook-Signature": "v1,h5oMpjHoArari8IpNdON3BHaqeCaIAm80/+PRanNcQs=", "Content-Type": "application/json"} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write(make([]byte, 1000))
	}))
	defer server.Close()
	s, err := party.NewSender(server.URL, secret, deps)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 20 {
		if status := s.Send(t.Context(), party.Message{ID: "msg_1", Body: []byte(`{"x":1}`)}); status != http.StatusAccepted || !party.Taken(status) {
			t.Errorf("answered %d", status)
		}
	}
	n := 0
	connections.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d connections for 20 messages in turn", n)
	}
	server.Close()
	if status := s.Send(t.Context(), party.Message{ID: "msg_1"}); status != 0 || party.Taken(status) {
		t.Errorf("nobody answered %d", status)
	}
}

func TestMessageID(t *testing.T) {
	t.Parallel()
	if a, b := party.MessageID("a"), party.MessageID("b"); a == b || a != party.MessageID("a") || len(a) > 64 {
		t.Errorf("%s, %s", a, b)
	}
}
