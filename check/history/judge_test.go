package history_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/check/audit"
	"holdfast/check/history"
	"holdfast/shop"
)

// script writes a history by hand. An operation lasts from one instant, in seconds, to another.
type script struct {
	buf bytes.Buffer
	ops int
}

func newScript() *script {
	s := &script{}
	s.line(history.Line{Kind: history.Begin, Head: &history.Head{Version: 1, Seed: 1, Run: "h"}})
	return s
}

func (s *script) line(l history.Line) {
	b, err := json.Marshal(l)
	if err != nil {
		panic(err)
	}
	s.buf.Write(append(b, '\n'))
}

func (s *script) op(from, to int, r history.Request, outcome history.Kind, a history.Answer) {
	s.ops++
	s.line(history.Line{Kind: history.Invoke, Op: s.ops, At: time.Duration(from) * time.Second, Request: &r})
	s.line(history.Line{Kind: outcome, Op: s.ops, At: time.Duration(to) * time.Second, Answer: &a})
}

// end ends the history as a workload that was carried out does.
func (s *script) end() *history.Report {
	s.line(history.Line{Kind: history.End})
	return s.judge(history.Options{})
}

func (s *script) judge(opt history.Options) *history.Report {
	r, err := history.Judge(&s.buf, opt)
	if err != nil {
		panic(err)
	}
	return r
}

// ask is a request for n of an item under a key.
func ask(key string, n int64) history.Request {
	return history.Request{Do: history.Place, Key: key, Customer: "h-1-0", Body: fmt.Sprintf(`%s of "%d"`, key, n), Lines: []history.Want{{SKU: "A", Quantity: n}}}
}

// saw is an order of a key as it is shown.
func saw(key string, n, version int64, status shop.OrderStatus, reason shop.Reason) history.Seen {
	s := history.Seen{ID: shop.OrderID("ord_" + key), Version: version, Status: status, Reason: reason, Customer: "h-1-0", External: key, Total: 100,
		Lines: []history.Shown{{Want: history.Want{SKU: "A", Quantity: n}}}}
	if status == shop.Confirmed {
		s.Lines[0].Reserved = n
	}
	if status == shop.Fulfilled {
		s.Lines[0].Shipped = n
	}
	return s
}

// place has an order placed and acknowledged.
func (s *script) place(from, to int, key string, n int64) {
	s.op(from, to, ask(key, n), history.OK, history.Answer{Status: 201, Digest: key, Saw: []history.Seen{saw(key, n, 1, shop.Pending, "")}})
}

func (s *script) read(from, to int, seen history.Seen) {
	s.op(from, to, history.Request{Do: history.Read, Order: seen.ID}, history.OK, history.Answer{Status: 200, Saw: []history.Seen{seen}})
}

func (s *script) cancel(from, to int, seen history.Seen, key string, outcome history.Kind, status int, code string) {
	a := history.Answer{Status: status, Code: code, Digest: key}
	if outcome == history.OK {
		a.Saw = []history.Seen{seen}
	}
	s.op(from, to, history.Request{Do: history.Cancel, Key: key, Order: seen.ID}, outcome, a)
}

func (s *script) receive(from, to int, key string, n, onHand, reserved int64) {
	s.op(from, to, history.Request{Do: history.Receive, Key: key, SKU: "A", Quantity: n}, history.OK,
		history.Answer{Status: 200, Digest: key, Item: &history.Stock{OnHand: onHand, Reserved: reserved}})
}

func (s *script) look(at int, onHand, reserved int64) {
	s.op(at, at, history.Request{Do: history.Look, SKU: "A"}, history.OK, history.Answer{Status: 200, Item: &history.Stock{OnHand: onHand, Reserved: reserved}})
}

// whole is a history of everything in order: two of three are received, sold, cancelled, shipped.
func whole() *script {
	s := newScript()
	s.receive(1, 2, "r1", 2, 2, 0)
	s.place(3, 4, "a", 1)
	s.read(5, 6, saw("a", 1, 2, shop.Confirmed, ""))
	s.look(7, 2, 1)
	s.place(8, 9, "b", 2)
	s.read(10, 11, saw("b", 2, 2, shop.Rejected, shop.ReasonOutOfStock))
	s.cancel(12, 13, saw("a", 1, 3, shop.Cancelling, ""), "c1", history.OK, 202, "")
	s.read(14, 15, saw("a", 1, 4, shop.Cancelled, shop.ReasonRequested))
	s.look(16, 2, 0)
	s.place(17, 18, "c", 2)
	s.read(19, 20, saw("c", 2, 3, shop.Fulfilled, ""))
	s.look(21, 0, 0)
	return s
}

// holds has a history judged and wants all checks to pass.
func holds(t *testing.T, r *history.Report) {
	t.Helper()
	for _, v := range r.Violations() {
		t.Errorf("alarm: %s", v)
	}
}

func TestWhole(t *testing.T) {
	t.Parallel()
	holds(t, whole().end())
}

func placed(key, digest string) history.Answer {
	return history.Answer{Status: 201, Digest: digest, Saw: []history.Seen{saw(key, 1, 1, shop.Pending, "")}}
}

func refused(status int, code string) history.Answer {
	return history.Answer{Status: status, Code: code}
}

// bad are histories that break one invariant each, which is named.
var bad = map[string]struct {
	want string // the invariant, and what is said
	add  func(*script)
}{
	"key with two answers": {"I3 place a", func(s *script) { s.op(30, 31, ask("a", 1), history.OK, placed("a", "other")) }},
	"body ignored":         {"I3 place a", func(s *script) { s.op(30, 31, ask("a", 5), history.OK, placed("a", "a")) }},
	"answer of what was never carried out": {"I3 place d", func(s *script) {
		s.op(30, 31, ask("d", 1), history.Unknown, refused(500, "internal"))
		s.op(32, 33, ask("d", 2), history.Fail, refused(422, "idempotency_key_reused"))
		s.op(34, 35, ask("d", 2), history.Fail, refused(422, "idempotency_key_reused"))
		s.op(36, 37, ask("d", 1), history.Fail, refused(422, "unknown_sku"))
	}},
	"key taken by a refusal": {"I3 place d", func(s *script) {
		s.op(30, 31, ask("d", 1), history.Fail, refused(422, "unknown_sku"))
		s.op(32, 33, ask("d", 2), history.Fail, refused(422, "idempotency_key_reused"))
	}},
	"in progress with nobody": {"I3 place a", func(s *script) { s.op(30, 31, ask("a", 1), history.Fail, refused(409, "idempotency_in_progress")) }},
	"cancel with two answers": {"I3 cancel ord_a c1", func(s *script) {
		s.op(30, 31, history.Request{Do: history.Cancel, Key: "c1", Order: "ord_a"}, history.OK,
			history.Answer{Status: 200, Digest: "c2", Again: true, Saw: []history.Seen{saw("a", 1, 4, shop.Cancelled, shop.ReasonRequested)}})
	}},
	"sold twice": {"I7 A", func(s *script) {
		s.receive(30, 31, "r2", 1, 1, 0)
		s.place(32, 33, "d", 1)
		s.place(32, 33, "e", 1)
		s.read(34, 35, saw("d", 1, 2, shop.Fulfilled, ""))
		s.read(34, 35, saw("e", 1, 2, shop.Fulfilled, ""))
	}},
	"refused with stock": {"I7 A", func(s *script) {
		s.receive(30, 31, "r2", 1, 1, 0)
		s.place(32, 33, "d", 1)
		s.read(34, 35, saw("d", 1, 2, shop.Rejected, shop.ReasonOutOfStock))
	}},
	"not put back": {"I7 A", func(s *script) {
		s.receive(30, 31, "r2", 1, 1, 0)
		s.place(32, 33, "d", 1)
		s.read(34, 35, saw("d", 1, 2, shop.Rejected, shop.ReasonPaymentDeclined))
		s.look(36, 1, 1)
	}},
	"put back twice": {"I7 A", func(s *script) {
		s.receive(30, 31, "r2", 3, 3, 0)
		s.place(32, 33, "d", 1)
		s.place(32, 33, "e", 1)
		s.read(34, 35, saw("e", 1, 2, shop.Confirmed, ""))
		s.read(34, 35, saw("d", 1, 2, shop.Rejected, shop.ReasonPaymentDeclined))
		s.look(36, 3, 0)
		s.read(38, 39, saw("e", 1, 4, shop.Fulfilled, ""))
	}},
	"shipped and kept":     {"I7 A", func(s *script) { s.look(30, 2, 0) }},
	"receipt booked twice": {"I7 A", func(s *script) { s.receive(30, 31, "r2", 1, 1, 0); s.look(32, 2, 0) }},
	"older read":           {"I15 ord_a", func(s *script) { s.read(30, 31, saw("a", 1, 2, shop.Confirmed, "")) }},
	"ended, and went on":   {"I15 ord_c", func(s *script) { s.read(30, 31, saw("c", 2, 4, shop.Cancelled, "")) }},
	"two of one version":   {"I15 ord_b", func(s *script) { s.read(30, 31, saw("b", 2, 2, shop.Rejected, shop.ReasonPaymentDeclined)) }},
	"cancelled, and left":  {"I16 ord_a", func(s *script) { s.read(30, 31, saw("a", 1, 5, shop.Fulfilled, "")) }},
	"cancelled after too late": {"I16 ord_a", func(s *script) {
		s.cancel(30, 31, saw("a", 1, 0, "", ""), "c2", history.Fail, 409, "order_dispatched")
	}},
	"confirmed after its cancel": {"I16 ord_d", func(s *script) {
		s.receive(30, 31, "r2", 1, 1, 0)
		s.place(32, 33, "d", 1)
		s.cancel(34, 35, saw("d", 1, 2, shop.Cancelling, ""), "c2", history.OK, 202, "")
		s.read(36, 37, saw("d", 1, 3, shop.Confirmed, ""))
		s.read(38, 39, saw("d", 1, 4, shop.Cancelled, shop.ReasonRequested))
	}},
	"acknowledged, and gone": {"I1 ord_a", func(s *script) {
		s.op(30, 31, history.Request{Do: history.Read, Order: "ord_a"}, history.Fail, refused(404, "not_found"))
	}},
	"another total": {"I1 ord_a", func(s *script) {
		o := saw("a", 1, 4, shop.Cancelled, shop.ReasonRequested)
		o.Total = 99
		s.read(30, 31, o)
	}},
	"not in the list": {"I1 ord_b", func(s *script) {
		s.op(30, 31, history.Request{Do: history.List, Customer: "h-1-0"}, history.OK,
			history.Answer{Status: 200, Whole: true, Saw: []history.Seen{saw("a", 1, 4, shop.Cancelled, shop.ReasonRequested), saw("c", 2, 3, shop.Fulfilled, "")}})
	}},
	"nobody asked": {"I2 ord_x", func(s *script) {
		s.op(30, 31, history.Request{Do: history.List, Customer: "h-1-1"}, history.OK, history.Answer{Status: 200, Saw: []history.Seen{saw("x", 1, 1, shop.Pending, "")}})
	}},
	"two orders of a key": {"I3 ord_z", func(s *script) {
		o := saw("a", 1, 1, shop.Pending, "")
		o.ID = "ord_z"
		s.op(30, 31, history.Request{Do: history.List, Customer: "h-1-1"}, history.OK, history.Answer{Status: 200, Saw: []history.Seen{o}})
	}},
	"never ended": {"I10 ord_d", func(s *script) { s.place(30, 31, "d", 1); s.read(32, 33, saw("d", 1, 1, shop.Pending, "")) }},
}

func TestBad(t *testing.T) {
	t.Parallel()
	for name, c := range bad {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := whole()
			c.add(s)
			found := s.end().Violations()
			for _, v := range found {
				if strings.HasPrefix(v.String(), c.want) {
					return
				}
			}
			t.Errorf("wanted %s, and found %v", c.want, found)
		})
	}
}

// TestUnknown: what had no answer may have been carried out, at any time from its invoke, or not.
func TestUnknown(t *testing.T) {
	t.Parallel()
	lost := history.Answer{Error: "reset"}
	for name, add := range map[string]func(*script){
		"carried out": func(s *script) {
			s.op(30, 31, ask("d", 1), history.Unknown, lost)
			s.receive(32, 33, "r2", 1, 1, 0)
			s.place(34, 35, "d", 1)
			s.read(36, 37, saw("d", 1, 4, shop.Fulfilled, ""))
			s.look(38, 0, 0)
		},
		"not carried out, and its key used for another": func(s *script) {
			s.op(30, 31, ask("d", 9), history.Unknown, lost)
			s.receive(32, 33, "r2", 1, 1, 0)
			s.place(34, 35, "d", 1)
			s.read(36, 37, saw("d", 1, 4, shop.Fulfilled, ""))
		},
		"carried out while its repetition was told to wait": func(s *script) {
			s.op(30, 31, ask("d", 1), history.Unknown, lost)
			s.op(32, 33, ask("d", 1), history.Fail, history.Answer{Status: 409, Code: "idempotency_in_progress"})
			s.op(34, 35, ask("d", 2), history.Fail, history.Answer{Status: 422, Code: "idempotency_key_reused"})
		},
		"a receipt, twice, carried out once": func(s *script) {
			s.op(30, 31, history.Request{Do: history.Receive, Key: "r2", SKU: "A", Quantity: 3}, history.Unknown, lost)
			s.look(32, 3, 0)
			s.receive(33, 34, "r2", 3, 3, 0)
			s.look(35, 3, 0)
		},
		"an order holds whose customer was never told": func(s *script) {
			s.receive(30, 31, "r2", 5, 5, 0)
			s.op(32, 33, ask("d", 3), history.Unknown, lost)
			s.look(34, 5, 0)
			s.look(35, 5, 3)
			s.look(36, 2, 0)
		},
		"cancelled before it was reserved": func(s *script) {
			s.receive(30, 31, "r2", 1, 1, 0)
			s.place(32, 33, "d", 1)
			s.cancel(34, 35, saw("d", 1, 2, shop.Cancelling, ""), "c2", history.OK, 202, "")
			s.read(36, 37, saw("d", 1, 3, shop.Cancelled, shop.ReasonRequested))
			s.look(38, 1, 0)
		},
		"a copy is old and says so": func(s *script) {
			s.op(30, 31, history.Request{Do: history.Read, Order: "ord_a"}, history.OK,
				history.Answer{Status: 200, Stale: true, Saw: []history.Seen{saw("a", 1, 2, shop.Confirmed, "")}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := whole()
			add(s)
			holds(t, s.end())
		})
	}
}

// TestNotTold: what could not be checked is no success.
func TestNotTold(t *testing.T) {
	t.Parallel()
	verdict := func(r *history.Report, name string) audit.Verdict {
		for _, c := range r.Checks {
			if c.Name == name {
				return c.Verdict
			}
		}
		return audit.NotRun
	}
	if r := whole().judge(history.Options{}); verdict(r, "ended") != audit.Inconclusive || len(r.Violations()) != 1 {
		t.Errorf("a workload that was broken off: %v", r.Violations())
	}
	if r := newScript().end(); len(r.Violations()) != len(r.Checks) {
		t.Errorf("nothing was recorded: %v", r.Violations())
	}
	s := newScript() // many orders at once, and a look that nothing explains
	s.receive(1, 2, "r1", 1000, 1000, 0)
	for i := range 40 {
		s.place(3, 4, fmt.Sprint("k", i), int64(2+i))
	}
	s.look(90, 999, 1)
	r := s.judge(history.Options{Limit: 20 * time.Millisecond})
	if verdict(r, "stock") != audit.Inconclusive {
		t.Errorf("a check that takes too long: %v", r.Violations())
	}
}

// TestParse: a file that a kill cut off can be judged; one that is none, or was changed, cannot.
func TestParse(t *testing.T) {
	t.Parallel()
	text := whole().buf.String()
	h, err := history.Parse(strings.NewReader(text + `{"kind":"invoke","op":99,"cli`))
	if err != nil || h.Ended || len(h.Ops) != 12 {
		t.Errorf("cut off: %v, %+v", err, h)
	}
	begin, rest, _ := strings.Cut(text, "\n")
	for name, bad := range map[string]string{
		"empty": "", "no beginning": rest, "begun twice": text + rest, "another version": strings.Replace(text, `"version":1`, `"version":9`, 1),
		"after the end": begin + "\n" + `{"kind":"end","at_ns":1,"wall":"2026-01-01T00:00:00Z"}` + "\n" + rest,
	} {
		if _, err := history.Parse(strings.NewReader(bad)); err == nil {
			t.Errorf("%s: it was read", name)
		}
	}
}
