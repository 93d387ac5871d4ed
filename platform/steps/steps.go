// Package steps is what the services' shop.Step have in common: how they come by the row of their order, and that who
// asks for a step waits for its outcome, however many ways there are by which that may come.
package steps

import (
	"context"
	"sync"
	"time"

	"holdfast/platform/calls"
	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// poll is how often an outcome is looked for that another process may have stored.
const poll = time.Second

// Waiters are those who wait for the outcome of a step. They are woken by Settled; that only shortens
// their wait, since the outcome is read from the store.
type Waiters struct {
	clock shop.Clock

	mu      sync.Mutex
	waiting map[shop.OrderID][]chan struct{} // one token each
}

// New makes waiters; there are none yet.
func New(clock shop.Clock) *Waiters {
	return &Waiters{clock: clock, waiting: map[shop.OrderID][]chan struct{}{}}
}

// Look tells where a step stands.
type Look func(ctx context.Context) (shop.StepOutcome, error)

// Rows are how a step reads and changes the row R of an order. B is what a service works on in a transaction.
type Rows[B, R any] struct {
	DB    *sqldb.DB
	Store calls.Store[B]
	// Find returns the rows of orders that have one. It locks them as the last argument says, by "" not at all.
	Find func(context.Context, *sqldb.Tx, []shop.OrderID, string) (map[shop.OrderID]*R, error)
}

// Begin returns what runs fn on an order's row in a transaction, and saves it.
func (r Rows[B, R]) Begin(id shop.OrderID, fn func(context.Context, *sqldb.Tx, B) (shop.StepOutcome, error)) Look {
	return func(ctx context.Context) (out shop.StepOutcome, err error) {
		err = r.DB.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			b, err := r.Store.Load(ctx, tx, []shop.OrderID{id})
			if err != nil {
				return err
			}
			if out, err = fn(ctx, tx, b); err != nil {
				return err
			}
			return r.Store.Save(ctx, tx, b)
		})
		return out, err
	}
}

// Look returns what reads where the step of an order stands, as of tells of its row, and of whether a call of it waits
// for an operator.
func (r Rows[B, R]) Look(id shop.OrderID, of func(row *R, parked bool) shop.StepOutcome) Look {
	return func(ctx context.Context) (out shop.StepOutcome, err error) {
		err = r.DB.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			found, err := r.Find(ctx, tx, []shop.OrderID{id}, "")
			if err != nil || found[id] == nil {
				out = shop.StepOutcome{State: shop.StepPending}
				return err
			}
			parked, err := calls.Parked(ctx, tx, id)
			out = of(found[id], parked)
			return err
		})
		return out, err
	}
}

// Ask begins a step or its undo, and waits until it is no longer pending or ctx ends. begin is run once;
// look must only read.
func (w *Waiters) Ask(ctx context.Context, id shop.OrderID, begin, look Look) (shop.StepOutcome, error) {
	woken, leave := w.join(id)
	defer leave()
	out, err := begin(ctx)
	for err == nil && out.State == shop.StepPending && ctx.Err() == nil {
		again, stop := w.clock.Timer(poll)
		select {
		case <-woken:
		case <-again:
		case <-ctx.Done():
			stop()
			return out, nil
		}
		stop()
		out, err = look(ctx)
	}
	return Answer(ctx, out, err)
}

// Answer is what to say where nothing came of asking before ctx ended: whether the step was begun shows when it
// is asked for again.
func Answer(ctx context.Context, out shop.StepOutcome, err error) (shop.StepOutcome, error) {
	if err != nil && ctx.Err() != nil {
		return shop.StepOutcome{State: shop.StepPending}, nil
	}
	return out, err
}

// Settled wakes those who wait for the orders.
func (w *Waiters) Settled(ids ...shop.OrderID) {
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

func (w *Waiters) join(id shop.OrderID) (woken <-chan struct{}, leave func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting[id] = append(w.waiting[id], c)
	return c, func() { w.leave(id, c) }
}

func (w *Waiters) leave(id shop.OrderID, c chan struct{}) {
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
