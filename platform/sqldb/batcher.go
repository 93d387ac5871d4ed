package sqldb

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"holdfast/shop"
)

const (
	maxBatch = 64 // commands in one transaction
	// maxBatches are under way at once. One connection that hangs must not hold up all that come.
	maxBatches = 4
	// anotherBatch is how many commands have to wait, or patience how long one, before a transaction is begun beside
	// those under way: they may be waiting for a lock, or hang.
	anotherBatch = 32
	patience     = 100 * time.Millisecond
	// batchLimit is how long a transaction may take; callers leave at their own deadlines.
	batchLimit = 10 * time.Second
)

// A Batcher carries out commands, or questions, of one kind together: those that come while a transaction is under way
// wait for its end, and then become one transaction. Each transaction has its statements and its commit whatever the
// number of its commands, so the more come at once the less each costs; one that comes alone does not wait.
type Batcher[In, Out any] struct {
	db    *DB
	do    func(ctx context.Context, tx *Tx, in []In) ([]Out, error)
	run   func(context.Context, func(context.Context, *Tx) error) error
	write bool

	mu      sync.Mutex
	waiting []*command[In, Out]
	running int
}

// command is what one caller waits for.
type command[In, Out any] struct {
	ctx  context.Context
	in   In
	out  Out
	err  error
	done chan struct{}
}

// NewBatcher makes a batcher. do carries out commands and returns an answer for each, in their order; its error undoes
// all of them. It may run more than once, with other commands beside. What it needs of a caller's context, as a trace,
// must be in the command.
func NewBatcher[In, Out any](db *DB, do func(ctx context.Context, tx *Tx, in []In) ([]Out, error)) *Batcher[In, Out] {
	return &Batcher[In, Out]{db: db, do: do, run: db.engine.update, write: true}
}

// NewReader makes a batcher of questions that one query answers, as in DB.Read. Each is asked after it has come.
func NewReader[In, Out any](db *DB, do func(ctx context.Context, tx *Tx, in []In) ([]Out, error)) *Batcher[In, Out] {
	return &Batcher[In, Out]{db: db, do: do, run: db.engine.read}
}

// Do carries out a command, perhaps together with others. Its error is as that of DB.Update or DB.Read, and no command fails
// because of another: those that fail together for what they are, are carried out one by one. Where ctx ends first,
// its error is returned, and the outcome of a command that was begun is unknown.
func (b *Batcher[In, Out]) Do(ctx context.Context, in In) (out Out, err error) {
	err = b.db.guarded(ctx, b.write, func(ctx context.Context) error {
		c := &command[In, Out]{ctx: ctx, in: in, done: make(chan struct{})}
		b.add(c)
		impatient, stop := b.db.deps.Clock.Timer(patience)
		defer stop()
		for {
			select {
			case <-c.done:
				out = c.out
				return c.err
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-impatient: // once: the channel is never closed
				b.relieve(c)
			}
		}
	})
	return out, err
}

// add has a command carried out.
func (b *Batcher[In, Out]) add(c *command[In, Out]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, c)
	if b.running == 0 || b.running < maxBatches && len(b.waiting) >= anotherBatch {
		b.running++
		go b.work()
	}
}

// relieve begins another transaction where c still waits.
func (b *Batcher[In, Out]) relieve(c *command[In, Out]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running < maxBatches && slices.Contains(b.waiting, c) {
		b.running++
		go b.work()
	}
}

// work carries out what waits until nothing does.
func (b *Batcher[In, Out]) work() {
	for {
		batch := b.next()
		if batch == nil {
			return
		}
		b.carryOut(batch)
	}
}

// next takes the commands that have waited longest, but for those whose callers have gone; nil where none wait.
func (b *Batcher[In, Out]) next() []*command[In, Out] {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = slices.DeleteFunc(b.waiting, func(c *command[In, Out]) bool { return c.ctx.Err() != nil })
	if len(b.waiting) == 0 {
		b.running--
		return nil
	}
	n := min(len(b.waiting), maxBatch)
	batch := slices.Clone(b.waiting[:n])
	b.waiting = slices.Delete(b.waiting, 0, n)
	return batch
}

// carryOut carries out commands and tells their callers.
func (b *Batcher[In, Out]) carryOut(batch []*command[In, Out]) {
	out, err := b.together(batch)
	if err != nil && len(batch) > 1 && !shop.KindOf(err).Retryable() && !isContext(err) {
		for _, c := range batch {
			b.carryOut([]*command[In, Out]{c})
		}
		return
	}
	for i, c := range batch {
		if c.err = err; err == nil {
			c.out = out[i]
		}
		close(c.done)
	}
}

// together carries out commands in one transaction.
func (b *Batcher[In, Out]) together(batch []*command[In, Out]) (out []Out, err error) {
	defer func() {
		if p := recover(); p != nil {
			b.db.deps.Log.Error("panic in a transaction", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = shop.E(shop.Internal, "sqldb", "panic in a transaction")
		}
	}()
	// Of the command that has waited longest: it goes on where its caller leaves the others.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(batch[0].ctx), batchLimit)
	defer cancel()
	in := make([]In, len(batch))
	for i, c := range batch {
		in[i] = c.in
	}
	err = b.run(ctx, func(ctx context.Context, tx *Tx) (err error) {
		out, err = b.do(ctx, tx, in)
		return err
	})
	if err == nil && len(out) != len(in) {
		err = shop.E(shop.Internal, "sqldb", fmt.Sprintf("%d answers to %d commands", len(out), len(in)))
	}
	return out, err
}
