package party

import (
	"container/heap"
	"context"
	"math"
	"sync"
	"time"

	"holdfast/shop"
)

const (
	// workers is how many jobs are done at once: at 100 ms each, 1,280 in a second.
	workers = 128
	// A job that fails is tried again after up to retryMin, which doubles each time up to retryMax.
	retryMin = 200 * time.Millisecond
	retryMax = 5 * time.Second
)

// Job is something to do at some time.
type Job struct {
	Due   time.Time
	Place int64 // of its line in the ledger
}

// job is a Job as it waits: there may be very many.
type job struct {
	due   int64 // nanoseconds since 1970
	place int64
	tries int
}

// Queue does jobs when they are due, some at once, and those that fail again and again, for ever. It is
// kept in memory only; the ledger tells what to put into it after a restart.
type Queue struct {
	clock shop.Clock
	rand  shop.Rand
	wake  chan struct{} // has room for one

	mu   sync.Mutex
	jobs jobs
}

// NewQueue returns an empty queue.
func NewQueue(deps shop.Deps) *Queue {
	return &Queue{clock: deps.Clock, rand: deps.Rand, wake: make(chan struct{}, 1)}
}

// Add puts a job into the queue. It does not block.
func (q *Queue) Add(j Job) { q.add(job{due: j.Due.UnixNano(), place: j.Place}) }

func (q *Queue) add(j job) {
	q.mu.Lock()
	heap.Push(&q.jobs, j)
	first := q.jobs[0] == j
	q.mu.Unlock()
	if !first {
		return
	}
	select {
	case q.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Run does jobs until ctx ends, and waits for those that are under way. do gets a job's place, and
// returns false for one that must be done again.
func (q *Queue) Run(ctx context.Context, do func(ctx context.Context, place int64) bool) {
	work := make(chan job)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for j := range work {
				if !do(ctx, j.place) {
					q.again(j)
				}
			}
		})
	}
	for ctx.Err() == nil {
		j, wait := q.pop()
		switch wait {
		case 0:
			select {
			case work <- j:
			case <-ctx.Done():
			}
		case nothing:
			select {
			case <-q.wake:
			case <-ctx.Done():
			}
		default:
			c, stop := q.clock.Timer(wait)
			select {
			case <-c:
			case <-q.wake:
			case <-ctx.Done():
			}
			stop()
		}
	}
	close(work)
	group.Wait()
}

// nothing is the wait of an empty queue.
const nothing = time.Duration(math.MaxInt64)

// pop returns the job that is due, or for how long there will be none.
func (q *Queue) pop() (job, time.Duration) {
	now := q.clock.Now().UnixNano()
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.jobs) == 0 {
		return job{}, nothing
	}
	if wait := q.jobs[0].due - now; wait > 0 {
		return job{}, time.Duration(wait)
	}
	return heap.Pop(&q.jobs).(job), 0
}

// again puts a job back. The wait is exponential with full jitter: M. Brooker, "Exponential Backoff And
// Jitter", 2015.
func (q *Queue) again(j job) {
	most := math.Min(float64(retryMax), float64(retryMin)*math.Pow(2, float64(j.tries)))
	wait := max(time.Duration(q.rand.Float64()*most), retryMin/10)
	q.add(job{due: q.clock.Now().Add(wait).UnixNano(), place: j.place, tries: j.tries + 1})
}

// jobs is a heap, the earliest first.
type jobs []job

func (h jobs) Len() int           { return len(h) }
func (h jobs) Less(i, j int) bool { return h[i].due < h[j].due }
func (h jobs) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *jobs) Push(x any)        { *h = append(*h, x.(job)) }
func (h *jobs) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
