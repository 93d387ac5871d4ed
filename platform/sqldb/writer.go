package sqldb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"holdfast/shop"
)

const (
	maxQueued    = 1024                  // updates that wait for the writer; more wait to be let in
	maxGroup     = 256                   // transactions in one commit
	maxGroupTime = 20 * time.Millisecond // after which a group takes no more
	// minCommits is the least time from one commit to the next while transactions keep coming: each
	// commit writes whole pages and syncs the disk, so fewer and larger ones carry more. A
	// transaction that comes after a pause is committed at once.
	minCommits = 5 * time.Millisecond

	// complainEvery is the least time between two complaints about failing transactions.
	complainEvery = 10 * time.Second
)

// writer is the goroutine that owns the writing connection of a SQLite file.
type writer struct {
	deps  shop.Deps
	path  string
	db    *sql.DB
	queue chan *job
	stop  chan struct{}
	done  chan struct{}

	// Of the goroutine alone.
	c     *conn  // nil after it broke and could not be replaced
	group []*job // those of the current commit that have no answer yet
	log   logWatch

	failing    bool // the latest group was undone, and the log says so
	complained time.Time
	committed  time.Time // when the latest group was

	groups, transactions, largest, logBytes atomic.Int64
}

// job is an update that waits for its turn or its answer.
type job struct {
	ctx   context.Context // of the caller, who waits
	fn    func(context.Context, *Tx) error
	state atomic.Int32
	done  chan struct{} // closed when answered
	tx    Tx

	// The answer.
	err      error
	panicked any
	exited   bool
}

// The states of a job: whoever moves it on from waiting, the writer or its caller, decides whether it runs.
const (
	waiting int32 = iota
	running
	abandoned
)

func startWriter(c *conn, db *sqliteDB) *writer {
	w := &writer{deps: db.deps, path: db.path, db: db.writeDB, c: c, queue: make(chan *job, maxQueued),
		stop: make(chan struct{}), done: make(chan struct{}), log: newLogWatch(db.path, db.readers, db.deps)}
	go w.run()
	return w
}

// close ends the goroutine and waits for it.
func (w *writer) close() {
	close(w.stop)
	<-w.done
}

func (w *writer) stats() Stats {
	return Stats{Queued: len(w.queue), Groups: w.groups.Load(), Transactions: w.transactions.Load(),
		LargestGroup: int(w.largest.Load()), LogBytes: w.logBytes.Load()}
}

// do has fn run by the writer and waits for the commit.
func (w *writer) do(ctx context.Context, fn func(context.Context, *Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j := &job{ctx: ctx, fn: fn, done: make(chan struct{})}
	select {
	case w.queue <- j:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.done:
		return shop.E(shop.Unavailable, "sqldb", msgClosed)
	}
	select {
	case <-j.done:
	case <-ctx.Done():
		if j.state.CompareAndSwap(waiting, abandoned) {
			return ctx.Err()
		}
		<-j.done
	case <-w.done:
		if j.state.CompareAndSwap(waiting, abandoned) {
			return shop.E(shop.Unavailable, "sqldb", msgClosed)
		}
		<-j.done
	}
	switch {
	case j.exited:
		runtime.Goexit() // fn ended its goroutine, as a failing test does: it meant this one
	case j.panicked != nil:
		panic(j.panicked)
	}
	return j.err
}

func (w *writer) run() {
	ended := false
	defer func() {
		if !ended { // by runtime.Goexit in a transaction: see commitGroup
			go w.run()
		}
	}()
	for !ended {
		select {
		case <-w.stop:
			ended = true
		case j := <-w.queue:
			w.commitGroup(j)
		}
	}
	if w.c != nil {
		w.c.close()
	}
	w.log.close()
	close(w.done)
}

// commitGroup runs first and those that wait behind it in one transaction and answers them.
func (w *writer) commitGroup(first *job) {
	defer func() {
		if len(w.group) > 0 { // the goroutine is ending: whoever did it, the others need an answer
			w.fail(errors.New("a transaction ended the writer goroutine"))
		}
	}()
	start := w.deps.Clock.Now()
	for j := first; j != nil; j = w.next(start) {
		if !j.state.CompareAndSwap(waiting, running) {
			continue
		}
		w.group = append(w.group, j)
		if err := w.step(j); err != nil {
			w.fail(err)
			return
		}
	}
	if len(w.group) == 0 {
		return
	}
	if err := w.c.run(w.group[0].ctx, "COMMIT"); err != nil {
		w.fail(err)
		return
	}
	w.committed = w.deps.Clock.Now()
	w.answer()
}

// next returns the job behind, or nil where the group is to be committed.
func (w *writer) next(start time.Time) *job {
	if len(w.group) >= maxGroup || w.deps.Clock.Now().Sub(start) > maxGroupTime {
		return nil
	}
	select {
	case j := <-w.queue:
		return j
	default:
	}
	wait := minCommits - w.deps.Clock.Now().Sub(w.committed)
	if wait <= 0 || len(w.group) == 0 {
		return nil
	}
	late, stop := w.deps.Clock.Timer(wait)
	defer stop()
	select {
	case j := <-w.queue:
		return j
	case <-late:
		return nil
	case <-w.stop:
		return nil
	}
}

func (w *writer) begin(ctx context.Context) error {
	if w.c == nil {
		c, err := connect(context.WithoutCancel(ctx), w.db, w.deps.Clock)
		if err != nil {
			return err
		}
		w.c = c
	}
	return w.c.run(ctx, "BEGIN IMMEDIATE")
}

// step runs one job inside a savepoint. Its error is that of the whole group.
func (w *writer) step(j *job) error {
	if len(w.group) == 1 {
		if err := w.begin(j.ctx); err != nil {
			return err
		}
	}
	if err := w.c.run(j.ctx, "SAVEPOINT t"); err != nil {
		return err
	}
	j.tx = Tx{on: w.c, begun: w.c.clock.Now()}
	err := j.tx.end(w.call(j))
	if err == nil {
		return w.c.run(j.ctx, "RELEASE t")
	}
	j.err = err
	j.tx.after = nil
	if err := w.c.run(j.ctx, "ROLLBACK TO t"); err != nil {
		// SQLite has ended the whole transaction by itself, as it may when the disk is full: the cause
		// says more than the missing savepoint.
		return cmp.Or(j.tx.failure, err)
	}
	return w.c.run(j.ctx, "RELEASE t")
}

// call runs the job's function and catches its panic for its caller.
func (w *writer) call(j *job) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if p := recover(); p != nil {
			j.panicked = p
			err = fmt.Errorf("panic in a transaction: %v", p)
			w.deps.Log.Error("panic in a transaction", "stack", string(debug.Stack()))
			return
		}
		j.exited = true
		j.tx.closeRows()
	}()
	err = j.fn(j.ctx, &j.tx)
	returned = true
	return err
}

// answer tells the group that it is durable.
func (w *writer) answer() {
	if w.failing {
		w.failing = false
		w.deps.Log.Info("the database takes transactions again", "path", w.path)
	}
	n := int64(len(w.group))
	w.groups.Add(1)
	w.transactions.Add(n)
	w.largest.Store(max(n, w.largest.Load()))
	group := w.group
	for _, j := range group {
		runAfter(j.tx.after, w.deps)
		w.group = w.group[1:]
		close(j.done)
	}
	clear(group)
	w.group = group[:0]
	w.logBytes.Store(w.log.look(w.c))
}

// fail undoes the whole group and tells it so. The connection is replaced, since a failed disk may have
// left it in any state.
func (w *writer) fail(cause error) {
	// A full disk fails them by the thousand, and lets small ones pass in between.
	if now := w.deps.Clock.Now(); !w.failing && now.Sub(w.complained) >= complainEvery {
		w.failing, w.complained = true, now
		w.deps.Log.Error("the database refuses transactions", "path", w.path, "err", cause)
	}
	if w.c != nil {
		_ = w.c.run(context.Background(), "ROLLBACK")
		w.c.close()
		w.c = nil
		w.log.close() // with the last connection SQLite removes the file, and the next one makes another
	}
	w.transactions.Add(int64(len(w.group)))
	err := classify(cause, sqliteUnavailable, false)
	if shop.KindOf(err) != shop.Unavailable {
		err = shop.Wrap(shop.Unavailable, "sqldb", msgCommit, cause)
	}
	for _, j := range w.group {
		j.err = err
		close(j.done)
	}
	clear(w.group)
	w.group = w.group[:0]
}

// runAfter runs what was to happen after the commit. The commit stands whatever becomes of it.
func runAfter(fns []func(), deps shop.Deps) {
	for _, fn := range fns {
		func() {
			defer func() {
				if p := recover(); p != nil {
					deps.Log.Error("panic after a commit", "stack", string(debug.Stack()))
				}
			}()
			fn()
		}()
	}
}
