// Package steps is what the services' shop.Step have in common: those who ask for the step of an order, or for its
// undo, are served together where several ask at once, and wait for the outcome, however many ways there are by which
// that may come.
package steps

import (
	"context"
	"slices"
	"sync"
	"time"

	"holdfast/platform/calls"
	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// poll is how often an outcome is looked for that another process may have stored.
const poll = time.Second

// Rows are how a step reads and changes the row R of an order. B is what a service works on in a transaction.
type Rows[B, R any] struct {
	Store calls.Store[B]
	// Row returns an order's row; nil where there is none.
	Row func(B, shop.OrderID) *R
	// Find returns the rows of orders that have one. It locks them as the last argument says, by "" not at all.
	Find func(context.Context, *sqldb.Tx, []shop.OrderID, string) (map[shop.OrderID]*R, error)
}

// Steps serves those who ask for a step or its undo.
type Steps[B, R any] struct {
	rows    Rows[B, R]
	clock   shop.Clock
	begin   *sqldb.Batcher[ask[B, R], Answer]
	look    *sqldb.Batcher[ask[B, R], Answer]
	waiters waiters
}

// Answer is what is said to one who asks. An error is about this order alone, and does not undo what was done for those
// who asked at the same time.
type Answer struct {
	Outcome shop.StepOutcome
	Err     error
}

// ask is for the step of an order or its undo.
type ask[B, R any] struct {
	id    shop.OrderID
	begin func(B) error
	of    func(row *R, parked bool) shop.StepOutcome
	undo  bool // which an operator may have to do
}

// New makes steps; nobody waits yet.
func New[B, R any](db *sqldb.DB, clock shop.Clock, rows Rows[B, R]) *Steps[B, R] {
	s := &Steps[B, R]{rows: rows, clock: clock, waiters: waiters{waiting: map[shop.OrderID][]chan struct{}{}}}
	s.begin, s.look = sqldb.NewBatcher(db, s.beginAll), sqldb.NewReader(db, s.lookAll)
	return s
}

// Do begins the step of an order, and waits until it is no longer pending or ctx ends. begin changes the order's row or
// makes one; of tells where the step stands. begin's error of kind shop.Conflict is the answer, where it has changed
// nothing.
func (s *Steps[B, R]) Do(ctx context.Context, id shop.OrderID, begin func(B) error, of func(*R) shop.StepOutcome) (shop.StepOutcome, error) {
	return s.ask(ctx, ask[B, R]{id: id, begin: begin, of: func(row *R, _ bool) shop.StepOutcome { return of(row) }})
}

// Undo is as Do, of the undo of a step. of is told also whether a call of the order waits for an operator.
func (s *Steps[B, R]) Undo(ctx context.Context, id shop.OrderID, begin func(B) error, of func(row *R, parked bool) shop.StepOutcome) (shop.StepOutcome, error) {
	return s.ask(ctx, ask[B, R]{id: id, begin: begin, of: of, undo: true})
}

// Settled wakes those who wait for the orders. That only shortens their wait, since the outcome is read from the store.
func (s *Steps[B, R]) Settled(ids ...shop.OrderID) { s.waiters.settled(ids) }

func (s *Steps[B, R]) ask(ctx context.Context, a ask[B, R]) (shop.StepOutcome, error) {
	woken, leave := s.waiters.join(a.id)
	defer leave()
	answer, err := s.begin.Do(ctx, a)
	for err == nil && answer.Err == nil && answer.Outcome.State == shop.StepPending && ctx.Err() == nil {
		again, stop := s.clock.Timer(poll)
		select {
		case <-woken:
		case <-again:
		case <-ctx.Done():
			stop()
			return answer.Outcome, nil
		}
		stop()
		answer, err = s.look.Do(ctx, a)
	}
	return Told(ctx, answer, err)
}

// Told is what to say. Where nothing came of asking before ctx ended, whether the step was begun shows when it is asked
// for again.
func Told(ctx context.Context, a Answer, err error) (shop.StepOutcome, error) {
	switch {
	case err != nil && ctx.Err() != nil:
		return shop.StepOutcome{State: shop.StepPending}, nil
	case err != nil:
		return shop.StepOutcome{}, err
	default:
		return a.Outcome, a.Err
	}
}

// beginAll begins steps in one transaction.
func (s *Steps[B, R]) beginAll(ctx context.Context, tx *sqldb.Tx, asks []ask[B, R]) ([]Answer, error) {
	// In one order, as all who lock these rows do.
	b, err := s.rows.Store.Load(ctx, tx, orders(asks))
	if err != nil {
		return nil, err
	}
	parked, err := parkedOf(ctx, tx, asks)
	if err != nil {
		return nil, err
	}
	answers := make([]Answer, len(asks))
	for i, a := range asks {
		switch err := a.begin(b); {
		case err == nil:
			answers[i].Outcome = a.of(s.rows.Row(b, a.id), parked[a.id])
		case shop.KindOf(err) == shop.Conflict:
			answers[i].Err = err
		default:
			return nil, err
		}
	}
	return answers, s.rows.Store.Save(ctx, tx, b)
}

// lookAll tells where steps stand.
func (s *Steps[B, R]) lookAll(ctx context.Context, tx *sqldb.Tx, asks []ask[B, R]) ([]Answer, error) {
	found, err := s.rows.Find(ctx, tx, orders(asks), "")
	if err != nil {
		return nil, err
	}
	parked, err := parkedOf(ctx, tx, asks)
	if err != nil {
		return nil, err
	}
	answers := make([]Answer, len(asks))
	for i, a := range asks {
		answers[i].Outcome.State = shop.StepPending
		if row := found[a.id]; row != nil {
			answers[i].Outcome = a.of(row, parked[a.id])
		}
	}
	return answers, nil
}

// parkedOf tells which of the orders whose undo is asked for have a call that waits for an operator.
func parkedOf[B, R any](ctx context.Context, tx *sqldb.Tx, asks []ask[B, R]) (map[shop.OrderID]bool, error) {
	return calls.Parked(ctx, tx, orders(slices.DeleteFunc(slices.Clone(asks), func(a ask[B, R]) bool { return !a.undo })))
}

// orders returns the orders that are asked for, each once, in their order.
func orders[B, R any](asks []ask[B, R]) []shop.OrderID {
	ids := make([]shop.OrderID, len(asks))
	for i, a := range asks {
		ids[i] = a.id
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// waiters are those who wait for the outcome of a step.
type waiters struct {
	mu      sync.Mutex
	waiting map[shop.OrderID][]chan struct{} // one token each
}

// settled wakes those who wait for the orders.
func (w *waiters) settled(ids []shop.OrderID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		return
	}
	for _, id := range ids {
		for _, c := range w.waiting[id] {
			select {
			case c <- struct{}{}:
			default: // it has a token already
			}
		}
	}
}

func (w *waiters) join(id shop.OrderID) (woken <-chan struct{}, leave func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting[id] = append(w.waiting[id], c)
	return c, func() { w.leave(id, c) }
}

func (w *waiters) leave(id shop.OrderID, c chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.waiting[id]
	for i := range list {
		if list[i] == c {
			list[i] = list[len(list)-1]
			list = list[:len(list)-1]
			break
		}
	}
	if len(list) == 0 {
		delete(w.waiting, id)
		return
	}
	w.waiting[id] = list
}
