package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"holdfast/shop"
)

// session is a client: it does one thing after the other, and remembers what is to be seen through.
type session struct {
	w      *workload
	client int
	rng    *rand.Rand
	keys   int

	customers map[string]bool
	placed    []placed // that were acknowledged
	open      []placed // those that have not come to their end, as far as the client knows
	doubt     []Request
}

// placed is an order that was acknowledged.
type placed struct {
	request Request
	id      shop.OrderID
	status  shop.OrderStatus
	stays   bool // the carrier never collects it: it has to be cancelled
}

// what the orders draw from: mostly well, with some of every kind of trouble.
var (
	payments = []string{"tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_declined", "tok_error_once", "tok_webhook_twice", "tok_webhook_first", "tok_void_fails_2"}
	postals  = []string{"10115", "10115", "10115", "10115", "10115", "10115", "00001", "00002", stayAway}
)

const stayAway = "00005" // where the carrier never collects

// step is something that a session does, and how often.
type step struct {
	weight int
	do     func(*session, context.Context)
}

func steps() []step {
	return []step{
		{30, (*session).order}, {7, (*session).twins}, {4, (*session).again}, {4, (*session).otherBody}, {2, (*session).refusedThenUsed},
		{10, (*session).undo}, {4, (*session).undoTwice}, {14, (*session).look}, {4, (*session).list}, {9, (*session).lookAtItem}, {4, (*session).restock},
	}
}

// load draws operations until the load is over or ctx ends.
func (s *session) load(ctx context.Context) {
	all := steps()
	sum := 0
	for _, st := range all {
		sum += st.weight
	}
	for ctx.Err() == nil && !s.w.enough() {
		if len(s.open) >= maxOpen {
			s.look(ctx)
		} else {
			at := s.rng.IntN(sum)
			for _, st := range all {
				if at -= st.weight; at < 0 {
					st.do(s, ctx)
					break
				}
			}
		}
		s.pause(ctx, time.Duration(s.rng.Int64N(int64(maxThink))))
	}
}

func (s *session) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (s *session) key() string {
	s.keys++
	return fmt.Sprintf("%s-%d-%d", s.w.cfg.Run, s.client, s.keys)
}

// place makes a request for an order of these lines.
func (s *session) place(lines []Want) (r Request, stays bool) {
	postal := postals[s.rng.IntN(len(postals))]
	key := s.key()
	r = Request{Client: s.client, Do: Place, Key: key, Lines: lines, Customer: fmt.Sprintf("%s-%d-%d", s.w.cfg.Run, s.client, len(s.placed)/perCustomer)}
	s.customers[r.Customer] = true
	text := ""
	for i, l := range lines {
		if i > 0 {
			text += ","
		}
		text += fmt.Sprintf(`{"sku":%q,"quantity":%d}`, l.SKU, l.Quantity)
	}
	r.Body = fmt.Sprintf(`{"customer_id":%q,"currency":"EUR","lines":[%s],"shipping_address":{"name":"A. Reader","line1":"1 Long Street","city":"Berlin","postal_code":%q,"country":"DE"},"payment_method":%q,"external_id":%q}`,
		r.Customer, text, postal, payments[s.rng.IntN(len(payments))], key)
	return r, postal == stayAway
}

// draw draws what to order: one item, or two at times.
func (s *session) draw(ctx context.Context) []Want {
	lines := []Want{{s.w.pick(ctx, s), 1 + s.rng.Int64N(3)}}
	if s.rng.IntN(6) == 0 {
		if second := s.w.pick(ctx, s); second != lines[0].SKU {
			lines = append(lines, Want{second, 1})
		}
	}
	if slices.ContainsFunc(lines, func(l Want) bool { return l.SKU == "" }) {
		return nil
	}
	return lines
}

// settle repeats a request, with its key, until it has an answer or ctx ends. Some are left in doubt for the
// end of the workload.
func (s *session) settle(ctx context.Context, r Request, outcome Kind, a Answer) (Kind, Answer) {
	if outcome == Unknown && s.rng.IntN(5) == 0 {
		s.doubt = append(s.doubt, r)
		return outcome, a
	}
	for wait := 20 * time.Millisecond; outcome == Unknown; wait = min(2*wait, 300*time.Millisecond) {
		s.pause(ctx, wait)
		if ctx.Err() != nil {
			s.doubt = append(s.doubt, r)
			return outcome, a
		}
		outcome, a = s.w.do(ctx, r)
	}
	return outcome, a
}

// sure sends a request until it has an answer. Now and then it does not wait long for the first.
func (s *session) sure(ctx context.Context, r Request) (Kind, Answer) {
	first := r
	if s.rng.IntN(8) == 0 {
		first.Patience = 1 + time.Duration(s.rng.Int64N(int64(maxPatience)))
	}
	outcome, a := s.w.do(ctx, first)
	return s.settle(ctx, r, outcome, a)
}

// keep remembers an order that was acknowledged.
func (s *session) keep(r Request, stays bool, outcome Kind, a Answer) {
	if outcome != OK || len(a.Saw) != 1 {
		return
	}
	p := placed{r, a.Saw[0].ID, a.Saw[0].Status, stays}
	if !slices.ContainsFunc(s.placed, func(o placed) bool { return o.id == p.id }) {
		s.placed, s.open = append(s.placed, p), append(s.open, p)
	}
}

// order places an order.
func (s *session) order(ctx context.Context) {
	lines := s.draw(ctx)
	if lines == nil {
		return
	}
	r, stays := s.place(lines)
	outcome, a := s.sure(ctx, r)
	s.keep(r, stays, outcome, a)
}

// twins places an order twice at once under one key, as an impatient customer does.
func (s *session) twins(ctx context.Context) {
	lines := s.draw(ctx)
	if lines == nil {
		return
	}
	r, stays := s.place(lines)
	s.both(ctx, r, func(outcome Kind, a Answer) { s.keep(r, stays, outcome, a) })
}

// both sends a request twice at once, and then once more where neither has an answer that counts.
func (s *session) both(ctx context.Context, r Request, take func(Kind, Answer)) {
	var other Kind
	var otherAnswer Answer
	var wg sync.WaitGroup
	wg.Go(func() { other, otherAnswer = s.w.do(ctx, r) })
	outcome, a := s.w.do(ctx, r)
	wg.Wait()
	if outcome != OK {
		outcome, a = other, otherAnswer
	}
	outcome, a = s.settle(ctx, r, outcome, a)
	take(outcome, a)
}

// some draws one of the orders of a session.
func (s *session) some(from []placed) *placed {
	if len(from) == 0 {
		return nil
	}
	return &from[s.rng.IntN(len(from))]
}

// again sends an order's request again.
func (s *session) again(ctx context.Context) {
	if p := s.some(s.placed); p != nil {
		s.w.do(ctx, p.request)
	}
}

// otherBody uses an order's key for another order.
func (s *session) otherBody(ctx context.Context) {
	p := s.some(s.placed)
	if p == nil {
		return
	}
	r, _ := s.place(p.request.Lines) // another external id, at least
	r.Key = p.request.Key
	s.w.do(ctx, r)
}

// refusedThenUsed orders what there is not, and then something else under the same key, which is free.
func (s *session) refusedThenUsed(ctx context.Context) {
	lines := s.draw(ctx)
	if lines == nil {
		return
	}
	r, stays := s.place(lines)
	bad, _ := s.place([]Want{{shop.SKU(s.w.cfg.Run + "-none"), 1}})
	bad.Key = r.Key
	s.w.do(ctx, bad)
	outcome, a := s.sure(ctx, r)
	s.keep(r, stays, outcome, a)
}

// undo looks at an order, mostly one that is under way, cancels it, and looks again.
func (s *session) undo(ctx context.Context) {
	p := s.some(s.open)
	if p == nil || s.rng.IntN(8) == 0 {
		p = s.some(s.placed)
	}
	if p != nil {
		read := Request{Client: s.client, Do: Read, Order: p.id}
		s.w.do(ctx, read)
		s.sure(ctx, s.cancel(read.Order))
		s.w.do(ctx, read)
	}
}

// undoTwice cancels an order twice at once, under one key or two.
func (s *session) undoTwice(ctx context.Context) {
	p := s.some(s.open)
	if p == nil {
		return
	}
	if s.rng.IntN(2) == 0 {
		s.both(ctx, s.cancel(p.id), func(Kind, Answer) {})
		return
	}
	first, second := s.cancel(p.id), s.cancel(p.id)
	var wg sync.WaitGroup
	wg.Go(func() { s.w.do(ctx, second) })
	s.w.do(ctx, first)
	wg.Wait()
}

func (s *session) cancel(id shop.OrderID) Request {
	return Request{Client: s.client, Do: Cancel, Key: s.key(), Order: id}
}

// look reads an order that is under way, or now and then an old one.
func (s *session) look(ctx context.Context) {
	if len(s.open) == 0 || s.rng.IntN(10) == 0 {
		if p := s.some(s.placed); p != nil {
			s.w.do(ctx, Request{Client: s.client, Do: Read, Order: p.id})
		}
		return
	}
	s.follow(ctx, s.rng.IntN(len(s.open)))
}

// follow reads an open order, and cancels it where it would stay for ever.
func (s *session) follow(ctx context.Context, at int) {
	p := &s.open[at]
	outcome, a := s.w.do(ctx, Request{Client: s.client, Do: Read, Order: p.id})
	if outcome != OK || len(a.Saw) != 1 {
		if outcome == Unknown {
			s.pause(ctx, 50*time.Millisecond)
		}
		return
	}
	p.status = a.Saw[0].Status
	switch {
	case p.status.Final():
		s.open = slices.Delete(s.open, at, at+1)
	case p.status == shop.Confirmed && p.stays:
		s.sure(ctx, s.cancel(p.id))
	}
}

// list reads the orders of a customer.
func (s *session) list(ctx context.Context) {
	if p := s.some(s.placed); p != nil {
		s.w.do(ctx, Request{Client: s.client, Do: List, Customer: p.request.Customer})
	}
}

func (s *session) lookAtItem(ctx context.Context) {
	sku := s.w.scarce(s.rng.IntN(slots))
	if p := s.some(s.placed); sku == "" && p != nil {
		sku = p.request.Lines[0].SKU
	}
	if sku != "" {
		s.w.do(ctx, Request{Client: s.client, Do: Look, SKU: sku})
	}
}

// restock adds to an item that runs out.
func (s *session) restock(ctx context.Context) {
	if sku := s.w.scarce(s.rng.IntN(slots)); sku != "" {
		s.sure(ctx, s.receipt(sku, 1+s.rng.Int64N(4)))
	}
}

func (s *session) receipt(sku shop.SKU, quantity int64) Request {
	return Request{Client: s.client, Do: Receive, Key: s.key(), SKU: sku, Quantity: quantity, Body: `{"quantity":` + strconv.FormatInt(quantity, 10) + `}`}
}

// fill makes an item with its first stock, and tells whether it is there.
func (s *session) fill(ctx context.Context, sku shop.SKU, stock int64) bool {
	for !s.w.wire.putItem(ctx, sku) {
		if s.pause(ctx, 100*time.Millisecond); ctx.Err() != nil {
			return false
		}
	}
	s.sure(ctx, s.receipt(sku, stock))
	return ctx.Err() == nil
}
