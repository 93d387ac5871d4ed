package calls

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"holdfast/platform/run"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/resilience"
	"holdfast/shop"
)

// settleTries bounds how often an outcome is offered to the store; after that the call is left to
// its lease, and the next attempt asks the other party what happened.
const settleTries = 5

// settleBatch bounds the outcomes that are stored in one transaction.
const settleBatch = 64

// maxRetryIn is the longest wait before another attempt. A call that waits for longer was put off by a clock
// that was ahead.
const maxRetryIn = 10 * time.Minute

// leaveTimeout is how long a stop may take for giving back what was not begun.
const leaveTimeout = 2 * time.Second

// failurePause is the least time between two looks at a database that refuses them.
const failurePause = time.Second

// Runner performs calls.
type Runner[B any] struct {
	cfg      Config
	db       *sqldb.DB
	deps     shop.Deps
	tel      *telemetry.Telemetry
	perform  Performer[B]
	store    Store[B]
	lanes    []*lane
	outcomes chan outcome[B]
	running  atomic.Bool
	life     atomic.Pointer[life]

	pace  *pace // of claim
	young bool  // claim took the youngest last
	looks int   // for due calls

	mu       sync.Mutex
	returned []Call // taken up, and without a worker
}

// outcome is an attempt that was made and is not stored yet.
type outcome[B any] struct {
	ctx  context.Context
	call Call
	res  Result[B]
}

// claimed is a call that this process holds the lease of.
type claimed struct {
	Call
	held
}

// held is how a call is held.
type held struct {
	life  *life     // of this process when it was taken up
	since time.Time // on this process's clock, and not after its lease began
}

// Parts is what a runner works with.
type Parts struct {
	DB   *sqldb.DB
	Deps shop.Deps
	Tel  *telemetry.Telemetry
	// Operations are the policies of the operations, by kind of call.
	Operations map[string]*resilience.Policy
	// ProcessorWait tells how busy this process is; nil: run.ProcessorWait.
	ProcessorWait func() time.Duration
}

// New makes a runner; Run runs it.
func New[B any](cfg Config, p Parts, perform Performer[B], store Store[B]) (*Runner[B], error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Alive == 0 {
		cfg.Alive = 2 * time.Second
		if p.DB != nil && p.DB.Dialect() == sqldb.SQLite {
			cfg.Alive = maxAlive
		}
		cfg.Alive = min(cfg.Alive, cfg.Lease)
	}
	wait := p.ProcessorWait
	if wait == nil {
		wait = run.ProcessorWait()
	}
	return &Runner[B]{cfg: cfg, db: p.DB, deps: p.Deps, tel: p.Tel, perform: perform, store: store,
		lanes: newLanes(cfg, p.Operations), outcomes: make(chan outcome[B], cfg.Workers), pace: newPace(cfg.Queue, wait)}, nil
}

// Run performs calls until ctx ends, and lets those that are under way end first.
func (r *Runner[B]) Run(ctx context.Context) error {
	if err := r.reclaim(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // stopped before it began
		}
		return fmt.Errorf("take up calls of an earlier run: %w", err)
	}
	var workers, settler, signs sync.WaitGroup
	living, die := context.WithCancel(context.WithoutCancel(ctx)) // for as long as something is under way
	defer die()
	signs.Go(func() { r.live(living) })
	settler.Go(r.settleAll)
	for _, l := range r.lanes {
		for range l.workers {
			workers.Go(func() { r.work(ctx, l.queue) })
		}
	}
	r.running.Store(true)
	for ctx.Err() == nil {
		pause := r.cfg.Poll
		if err := r.claim(ctx); err != nil && ctx.Err() == nil {
			pause = max(pause, failurePause)
			r.deps.Log.WarnContext(ctx, "looking for due calls failed", "err", err)
		}
		if r.deps.Clock.Sleep(ctx, pause) != nil {
			break
		}
	}
	r.running.Store(false)
	workers.Wait()
	close(r.outcomes)
	settler.Wait()
	die()
	signs.Wait()
	r.leave(ctx)
	return nil
}

// leave makes the calls due again that this process still has, so that another need not wait for the end of
// their leases. Those that nobody has begun are not asked for first.
func (r *Runner[B]) leave(ctx context.Context) {
	for _, l := range r.lanes {
		for len(l.queue) > 0 {
			r.handBack((<-l.queue).Call)
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	err := r.giveBack(ctx)
	if err == nil {
		err = r.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return bury(ctx, tx, r.cfg.Owner) })
	}
	if err != nil {
		r.deps.Log.WarnContext(ctx, "giving back calls at the stop failed; their leases run out", "err", err)
	}
}

// offer hands a call to a worker; it never blocks, since it runs on the store's writer. A call for which
// there is no room any more goes back to the store: see giveBack.
func (r *Runner[B]) offer(c Call, from held) {
	to, _ := r.of(c.Kind)
	select {
	case to.queue <- claimed{c, from}:
	default:
		r.handBack(c)
	}
}

// handBack notes a call that goes back to the store; see giveBack.
func (r *Runner[B]) handBack(c Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.returned = append(r.returned, c)
}

// reclaim gives up what this owner held before it was killed, and gives the first sign of life.
func (r *Runner[B]) reclaim(ctx context.Context) error {
	if err := r.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error { return bury(ctx, tx, r.cfg.Owner) }); err != nil {
		return err
	}
	begun := r.deps.Clock.Now()
	if _, err := r.register(ctx); err != nil {
		return err
	}
	r.begin(begun)
	return nil
}

// take takes due calls of a kind, in an order, no more than limit.
func (r *Runner[B]) take(ctx context.Context, tx *sqldb.Tx, kind, order string, limit int) ([]Call, error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, `SELECT key, order_id, kind, request, traceparent, begun, attempts, failures, first_at`+
		dueWhere+order+` LIMIT ? FOR UPDATE SKIP LOCKED`, kind, sqldb.Micros(now), sqldb.Micros(now), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var taken []Call
	lease := sqldb.Micros(now.Add(r.cfg.Lease))
	args := []any{r.cfg.Owner, lease}
	for rows.Next() {
		var c Call
		var request string
		var begun, first int64
		if err := rows.Scan(&c.Key, &c.OrderID, &c.Kind, &request, &c.TraceParent, &begun, &c.Attempts, &c.Failures, &first); err != nil {
			return nil, err
		}
		c.Request, c.Unknown, c.FirstAt = []byte(request), begun == 1, sqldb.FromMicros(first)
		c.lease = lease
		taken, args = append(taken, c), append(args, c.Key)
	}
	if err := rows.Err(); err != nil || len(taken) == 0 {
		return nil, err
	}
	rows.Close()
	_, err = tx.Exec(ctx, `UPDATE calls SET begun = 1, owner = ?, lease_until = ? WHERE key IN `+sqldb.In(len(taken)), args...)
	return taken, err
}

func (r *Runner[B]) work(ctx context.Context, queue <-chan claimed) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-queue:
			if ctx.Err() != nil { // both were ready
				r.handBack(c.Call)
				return
			}
			// One that waited long may be about to lose its lease: it is left to the poll, and goes back
			// as not begun where the lease is surely ours still. So does one of an earlier life, where
			// nobody has taken it over.
			switch waited := r.deps.Clock.Now().Sub(c.since); {
			case !r.lives(c.life):
				r.handBack(c.Call)
			case waited < r.cfg.Lease-2*r.cfg.Timeout:
				r.attempt(ctx, c)
			case waited < r.cfg.Lease-r.cfg.Timeout:
				r.handBack(c.Call)
			}
		}
	}
}

// attempt makes one attempt and hands over what came of it.
func (r *Runner[B]) attempt(ctx context.Context, of claimed) {
	c := of.Call
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(of.life.ctx, cancel)()
	ctx = telemetry.WithOrder(telemetry.WithTraceParent(ctx, c.TraceParent), c.OrderID)
	ctx, span := r.tel.Tracer.Start(ctx, "call "+c.Kind, trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(attribute.String("order_id", string(c.OrderID)), attribute.Int("attempt", c.Attempts+1))
	}
	res := r.budgeted(ctx, c)
	if res.Settle == nil {
		span.SetStatus(codes.Error, "to be tried again")
	}
	span.End()
	// The attempt was made: what came of it is stored even while the process is stopping.
	r.outcomes <- outcome[B]{context.WithoutCancel(ctx), c, res}
}

// budgeted performs a call. One that was tried before is a retry, and needs a token of its dependency's
// budget: where that is spent the call stays in the store for a while.
func (r *Runner[B]) budgeted(ctx context.Context, c Call) Result[B] {
	_, k := r.of(c.Kind)
	budget := k.policy.Budget()
	if c.Attempts > 0 && !budget.TryRetry() {
		return Result[B]{Rejected: true, Unknown: c.Unknown, RetryIn: pauseWithoutBudget.Delay(1, 0, r.deps.Rand.Float64)}
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	res := r.perform(ctx, c)
	switch {
	case c.Attempts == 0 && !res.Rejected:
		budget.Call() // once for each call: what a policy rejects comes again and must not pay each time
	case c.Attempts > 0 && res.Rejected:
		budget.Return()
	}
	return res
}

// pauseWithoutBudget is the wait of a retry that the budget refused.
var pauseWithoutBudget = resilience.Backoff{Base: time.Second, Max: time.Second, Floor: 100 * time.Millisecond}

// settleAll stores outcomes until there are no more: those that wait together in one transaction, so
// that a worker need not wait for a commit, and one by one where that fails.
func (r *Runner[B]) settleAll() {
	batch := make([]outcome[B], 0, settleBatch)
	for first := range r.outcomes {
		batch = append(batch[:0], first)
	more:
		for len(batch) < settleBatch {
			select {
			case o, ok := <-r.outcomes:
				if !ok {
					break more
				}
				batch = append(batch, o)
			default:
				break more
			}
		}
		// In one order, as all who lock these rows do.
		slices.SortFunc(batch, func(a, b outcome[B]) int { return cmp.Compare(a.call.OrderID, b.call.OrderID) })
		if len(batch) > 1 && r.settle(batch) == nil {
			continue
		}
		for i := range batch {
			r.settleOne(batch[i])
		}
	}
}

// settle stores outcomes in one transaction.
func (r *Runner[B]) settle(batch []outcome[B]) error {
	return r.db.Update(batch[0].ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		if err := record(ctx, tx, batch); err != nil {
			return err
		}
		var done []string // keys
		var ended []outcome[B]
		for _, o := range batch {
			if o.res.Settle == nil {
				if err := r.again(ctx, tx, o.call, o.res); err != nil {
					return err
				}
				continue
			}
			if o.res.WhileHeld {
				if ours, err := r.holds(ctx, tx, o.call); err != nil {
					return err
				} else if !ours {
					continue
				}
			}
			ended = append(ended, o)
			if !o.res.Park {
				done = append(done, o.call.Key)
				continue
			}
			if _, err := tx.Exec(ctx, `UPDATE calls SET parked = 1, attempts = ?, lease_until = 0 WHERE key = ?`, o.call.Attempts+1, o.call.Key); err != nil {
				return err
			}
		}
		if len(done) > 0 {
			where, args := sqldb.Among(tx, "key", done)
			if _, err := tx.Exec(ctx, `DELETE FROM calls WHERE `+where, args...); err != nil {
				return err
			}
		}
		return r.apply(ctx, tx, ended)
	})
}

// holds tells whether the call is still this process's, under the lease of its attempt, and keeps it so.
func (r *Runner[B]) holds(ctx context.Context, tx *sqldb.Tx, c Call) (bool, error) {
	n, err := tx.Exec(ctx, `UPDATE calls SET owner = owner WHERE key = ? AND owner = ? AND lease_until = ?`, c.Key, r.cfg.Owner, c.lease)
	return n > 0, err
}

// apply applies outcomes to the orders' rows.
func (r *Runner[B]) apply(ctx context.Context, tx *sqldb.Tx, ended []outcome[B]) error {
	if len(ended) == 0 {
		return nil
	}
	ids := make([]shop.OrderID, len(ended))
	for i, o := range ended {
		ids[i] = o.call.OrderID
	}
	b, err := r.store.Load(ctx, tx, ids)
	if err != nil {
		return err
	}
	for _, o := range ended {
		if err := o.res.Settle(b); err != nil {
			return err
		}
	}
	return r.store.Save(ctx, tx, b)
}

// settleOne stores one outcome, if need be again.
func (r *Runner[B]) settleOne(o outcome[B]) {
	for try := 1; ; try++ {
		err := r.settle([]outcome[B]{o})
		if err == nil {
			return
		}
		r.deps.Log.WarnContext(o.ctx, "storing the outcome of a call failed", "kind", o.call.Kind, "try", try, "err", err)
		if try == settleTries || r.deps.Clock.Sleep(o.ctx, time.Duration(try)*100*time.Millisecond) != nil {
			return
		}
	}
}

// again makes the call due after res.RetryIn, unless it was taken over meanwhile.
func (r *Runner[B]) again(ctx context.Context, tx *sqldb.Tx, c Call, res Result[B]) error {
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	attempts, failures, begun := c.Attempts+1, c.Failures, 0
	if res.Rejected {
		attempts = c.Attempts
	}
	if res.Failed {
		failures++
	}
	if res.Unknown {
		begun = 1
	}
	_, err = tx.Exec(ctx, `UPDATE calls SET begun = ?, attempts = ?, failures = ?, owner = '', lease_until = 0, next_at = ? WHERE key = ? AND owner = ? AND lease_until = ?`,
		begun, attempts, failures, sqldb.Micros(now.Add(min(res.RetryIn, maxRetryIn))), c.Key, r.cfg.Owner, c.lease)
	return err
}

// record writes the attempts into the orders' stories.
func record[B any](ctx context.Context, tx *sqldb.Tx, batch []outcome[B]) error {
	const columns = 8
	var args []any
	for _, o := range batch {
		for _, a := range o.res.Attempts {
			args = append(args, string(o.call.OrderID), sqldb.Micros(a.At), a.Operation, a.Number, a.Outcome, a.Code, a.Reference, a.TraceID)
		}
	}
	if len(args) == 0 {
		return nil
	}
	values, args := tx.Values(columns, args)
	_, err := tx.Exec(ctx, `INSERT INTO call_attempts (order_id, at, operation, number, outcome, code, reference, trace_id) `+values, args...)
	return err
}
