package carrier_test

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/sim/carrier"
)

// TestAParcelLeaves when its time has come and its customer says yes, and cannot be cancelled any more.
func TestAParcelLeaves(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	doc := p.schedule("10115", "s")
	if want := (document{ID: doc.ID, Status: "scheduled", Tracking: doc.Tracking, Reference: "ord_1"}); doc != want ||
		!strings.HasPrefix(doc.ID, "par_") || !strings.HasPrefix(doc.Tracking, "HF") || len(doc.Tracking) < 10 {
		t.Errorf("scheduled: %+v", doc)
	}
	p.pass(p.cfg.DispatchAfter - time.Millisecond)
	p.waiters(1)
	if got := p.status(doc.ID); got != "scheduled" || len(p.customer.came) != 0 {
		t.Errorf("too early it is %s", got)
	}
	p.pass(time.Millisecond)
	d := p.delivered()
	want := doc
	want.Status = "dispatched"
	if d.Type != "shipment.dispatched" || d.Data != want || !d.Timestamp.Equal(start.Add(p.cfg.DispatchAfter)) {
		t.Errorf("the webhook: %+v", d)
	}
	p.until("scheduled s", "dispatched")
	for range 2 {
		if got := p.status(doc.ID); got != "dispatched" {
			t.Errorf("it is %s", got)
		}
		if got := p.cancel(409, doc.ID, "c"); got.Code != "dispatched" {
			t.Errorf("cancelled too late: %+v", got)
		}
		p.query(404, "c")
		if op := p.query(200, "s"); op.Shipment != doc || op.Kind != "schedule" || op.Status != "succeeded" {
			t.Errorf("the operation: %+v", op)
		}
		p.restart()
	}
	p.quiet()
	entries, _ := p.entries()
	first, second := entries[0], entries[1]
	if !slices.Equal(first.Lines, []line{{"TEA", 2}}) || first.ID != doc.ID || first.Reference != "ord_1" || !first.At.Equal(start) {
		t.Errorf("the first entry: %+v", first)
	}
	if second.ID != doc.ID || second.Reference != "ord_1" || !second.At.Equal(start.Add(p.cfg.DispatchAfter)) {
		t.Errorf("the second entry: %+v", second)
	}
}

// TestAParcelIsHeld when its customer says no; it waits to be cancelled.
func TestAParcelIsHeld(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.customer.then(http.StatusConflict)
	doc := p.schedule("10115", "s")
	p.pass(p.cfg.DispatchAfter)
	p.delivered()
	p.until("scheduled s", "held")
	p.quiet()
	p.restart()
	if got := p.status(doc.ID); got != "scheduled" {
		t.Errorf("it is %s", got)
	}
	if got := p.cancel(200, doc.ID, "c"); got.Status != "cancelled" || got.ID != doc.ID {
		t.Errorf("cancelled: %+v", got)
	}
	if op := p.query(200, "c"); op.Kind != "cancel" || op.Status != "succeeded" || op.Shipment.Status != "cancelled" {
		t.Errorf("the operation: %+v", op)
	}
}

// TestNoAnswerChangesNothing: the message is sent again until somebody answers it, over restarts.
func TestNoAnswerChangesNothing(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	p.customer.then(500, 0, 404, 429, 302, 204)
	doc := p.schedule("10115", "s")
	p.pass(p.cfg.DispatchAfter)
	first := p.delivered()
	for _, status := range []int{404, 429, 302} { // the one without an answer is not noted
		d := p.eventually()
		if d != first {
			t.Errorf("%d was told %+v, and the first %+v", status, d, first)
		}
		if got := p.status(doc.ID); got != "scheduled" {
			t.Errorf("after %d it is %s", status, got)
		}
		if status == 429 {
			p.restart()
		}
	}
	if d := p.eventually(); d != first {
		t.Errorf("the last was told %+v, and the first %+v", d, first)
	}
	p.until("scheduled s", "dispatched")
	p.quiet()
}

// TestCancelled parcels do not leave: nobody is asked about them.
func TestCancelled(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	doc := p.schedule("10115", "s")
	a := p.must(200, "POST", "/v1/shipments/"+doc.ID+"/cancel", "c", `{}`)
	if again := p.must(200, "POST", "/v1/shipments/"+doc.ID+"/cancel", "c", `{}`); again.body != a.body || !again.replayed {
		t.Errorf("the repetition: %+v", again)
	}
	if got := p.cancel(200, doc.ID, "c2"); got.Status != "cancelled" {
		t.Errorf("cancelled with another key: %+v", got)
	}
	p.until("scheduled s", "cancelled c")
	p.quiet()
	p.restart()
	p.cancel(200, doc.ID, "c")
	p.cancel(200, doc.ID, "c3")
}

// TestCancelledWhileAsking: a cancel that comes while the customer is being asked is not overruled by
// the answer.
func TestCancelledWhileAsking(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{"allowed": 204, "forbidden": 409, "no answer": 500} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := open(t, nil)
			asked, answer := make(chan struct{}), make(chan struct{})
			p.customer.hold(func() { close(asked); <-answer })
			p.customer.then(status)
			doc := p.schedule("10115", "s")
			p.pass(p.cfg.DispatchAfter)
			<-asked
			p.cancel(200, doc.ID, "c")
			p.customer.hold(nil)
			close(answer)
			p.delivered()
			p.quiet()
			if got := p.status(doc.ID); got != "cancelled" {
				t.Errorf("it is %s", got)
			}
			if _, short := p.entries(); !slices.Equal(short[:2], []string{"scheduled s", "cancelled c"}) {
				t.Errorf("the ledger: %v", short)
			}
		})
	}
}

func TestPostalCodes(t *testing.T) {
	t.Parallel()
	t.Run("00001", func(t *testing.T) {
		t.Parallel()
		p := open(t, nil)
		a := p.must(422, "POST", "/v1/shipments", "s", parcel("00001"))
		if a.replayed || decode[document](t, a.body).Code != "not_shippable" {
			t.Errorf("%+v", a)
		}
		for range 2 {
			if again := p.must(422, "POST", "/v1/shipments", "s", parcel("00001")); again.body != a.body || !again.replayed {
				t.Errorf("again: %+v", again)
			}
			if op, want := p.query(200, "s"), (operation{Key: "s", Kind: "schedule", Status: "refused", Code: "not_shippable"}); op != want {
				t.Errorf("the operation: %+v, want %+v", op, want)
			}
			p.until("refused s")
			p.restart()
		}
		p.quiet()
	})
	t.Run("00002", func(t *testing.T) {
		t.Parallel()
		p := open(t, nil)
		for _, key := range []string{"a", "b"} {
			p.must(500, "POST", "/v1/shipments", key, parcel("00002"))
			p.query(404, key)
		}
		p.restart()
		p.schedule("00002", "a")
		p.schedule("00002", "b")
		p.until("scheduled a", "scheduled b")
	})
	t.Run("00003", func(t *testing.T) {
		t.Parallel()
		p := open(t, nil)
		for range 5 {
			p.must(500, "POST", "/v1/shipments", "a", parcel("00003"))
		}
		p.restart()
		p.must(500, "POST", "/v1/shipments", "a", parcel("00003"))
		p.query(404, "a")
		p.until()
	})
	t.Run("00004", func(t *testing.T) {
		t.Parallel()
		p := open(t, nil)
		giveUp := p.hang("/v1/shipments", "s", parcel("00004"))
		op := p.query(200, "s")
		if op.Status != "succeeded" || op.Shipment.Status != "scheduled" {
			t.Errorf("the operation: %+v", op)
		}
		giveUp()
		if again := p.must(201, "POST", "/v1/shipments", "s", parcel("00004")); !again.replayed || decode[document](t, again.body) != op.Shipment {
			t.Errorf("again: %+v", again)
		}
		if d := p.eventually(); d.Data.ID != op.Shipment.ID {
			t.Errorf("the webhook: %+v", d)
		}
		p.until("scheduled s", "dispatched")
	})
	t.Run("00005", func(t *testing.T) {
		t.Parallel()
		p := open(t, nil)
		doc := p.schedule("00005", "s")
		p.clock.Advance(100 * 24 * time.Hour)
		p.restart()
		p.quiet()
		p.cancel(200, doc.ID, "c")
	})
}

// TestRestart: parcels that are due leave at once, others when their time comes.
func TestRestart(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	due := p.schedule("10115", "a")
	p.waiters(1)
	p.stop()
	p.clock.Advance(p.cfg.DispatchAfter - time.Second)
	p.start()
	p.schedule("10115", "b")
	p.waiters(1)
	if len(p.customer.came) != 0 {
		t.Error("one left too early")
	}
	p.stop()
	p.clock.Advance(time.Second)
	p.start()
	if d := p.delivered(); d.Data.ID != due.ID {
		t.Errorf("%+v left first, want %s", d, due.ID)
	}
	p.until("scheduled a", "scheduled b", "dispatched")
	p.pass(p.cfg.DispatchAfter)
	p.delivered()
	p.until("scheduled a", "scheduled b", "dispatched", "dispatched")
	p.restart()
	p.quiet()
}

// TestNobodyAllows: without an address for webhooks no parcel leaves.
func TestNobodyAllows(t *testing.T) {
	t.Parallel()
	p := open(t, func(c *carrier.Config) { c.WebhookURL, c.WebhookSecret = "", "" })
	doc := p.schedule("10115", "s")
	p.clock.Advance(time.Hour)
	if got := p.status(doc.ID); got != "scheduled" || len(p.customer.came) != 0 {
		t.Errorf("it is %s", got)
	}
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	first := p.must(201, "POST", "/v1/shipments", "s", parcel("10115"))
	doc := decode[document](t, first.body)
	p.pass(p.cfg.DispatchAfter)
	p.delivered()
	p.until("scheduled s", "dispatched")
	other := p.schedule("00005", "other")
	p.cancel(200, other.ID, "c")
	for range 2 {
		if again := p.must(201, "POST", "/v1/shipments", "s", parcel("10115")); again.body != first.body || !again.replayed {
			t.Errorf("the repetition: %+v, want %s", again, first.body)
		}
		for _, use := range []struct{ path, key, body string }{
			{"", "s", parcel("10116")}, {"", "s", strings.Replace(parcel("10115"), `"quantity":2`, `"quantity":3`, 1)},
			{"", "c", parcel("10115")}, {"/" + other.ID + "/cancel", "s", `{}`}, {"/" + doc.ID + "/cancel", "c", `{}`},
		} {
			if a := p.must(422, "POST", "/v1/shipments"+use.path, use.key, use.body); decode[document](t, a.body).Code != "key_reused" {
				t.Errorf("%v: %+v", use, a)
			}
		}
		p.restart()
	}
}

func TestOneKeyAtOnce(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	free := p.disk.pause()
	bodies := at(50, func(int) string { return p.must(201, "POST", "/v1/shipments", "s", parcel("10115")).body }, func() { p.arrived(50); free() })
	if len(slices.Compact(bodies)) != 1 {
		t.Errorf("different answers: %v", bodies)
	}
	id := decode[document](t, bodies[0]).ID
	free = p.disk.pause()
	at(50, func(i int) string { return p.cancel(200, id, fmt.Sprint("c", i)).Status }, func() { p.arrived(100); free() })
	if _, short := p.entries(); len(short) != 2 {
		t.Errorf("the ledger: %v", short)
	}
}

// arrived waits until n calls have come in.
func (p *hauler) arrived(n int64) {
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

// TestManyLeaveAtOnce: far more than are asked about at a time.
func TestManyLeaveAtOnce(t *testing.T) {
	t.Parallel()
	p := open(t, nil)
	const n = 500
	at(n, func(i int) string { return p.schedule("10115", fmt.Sprint(i)).ID }, func() {})
	p.pass(p.cfg.DispatchAfter)
	ids := map[string]bool{}
	for range n {
		ids[p.delivered().Data.ID] = true
	}
	if len(ids) != n {
		t.Errorf("%d of %d left", len(ids), n)
	}
	p.quiet()
}

// TestFullDisk: nothing is done and nothing is claimed while the ledger cannot be written.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	for _, broken := range []string{"write", "sync", "truncate"} {
		t.Run(broken, func(t *testing.T) {
			t.Parallel()
			p := open(t, nil)
			doc := p.schedule("10115", "a")
			stays := p.schedule("00005", "stays")
			p.disk.breaks(func(op string) error {
				if op == broken || op == "write" {
					return full
				}
				return nil
			})
			for range 3 {
				p.must(503, "POST", "/v1/shipments", "b", parcel("10115"))
				p.query(404, "b")
				p.cancel(503, stays.ID, "c")
			}
			p.pass(p.cfg.DispatchAfter)
			first := p.delivered()
			if got := p.status(doc.ID); got != "scheduled" || first.Data.ID != doc.ID {
				t.Errorf("%+v was asked about, and it is %s", first, got)
			}
			p.waiters(1) // it will be asked again, since the answer could not be kept
			p.disk.breaks(nil)
			if again := p.eventually(); again != first {
				t.Errorf("it was asked %+v, and first %+v", again, first)
			}
			p.until("scheduled a", "scheduled stays", "dispatched")
			p.restart()
			p.quiet()
		})
	}
}
