package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// patience is how long a replica may be silent while a request waits for it.
	patience = 500 * time.Millisecond
	// pingTimeout is how long it may then take to answer a ping. A machine that starves should not be taken for a hang.
	pingTimeout = time.Second
	// lookEvery is how often it is looked at whether a replica is silent.
	lookEvery = 250 * time.Millisecond
	// outFor is how long a replica is ejected at least.
	outFor = 2 * time.Second
)

// errSilent ends an attempt whose replica does not answer.
var errSilent = errors.New("the replica does not answer")

// replica is one process of the service.
type replica struct {
	url   *url.URL
	out   atomic.Int64 // since when it is ejected, as Upstream.now has it; 0 where it is not
	heard atomic.Int64 // when an answer began last

	mu      sync.Mutex
	waiting map[*attempt]bool // those that have no answer yet
}

// attempt is a request that was sent to a replica.
type attempt struct {
	movable bool
	end     context.CancelCauseFunc
}

func (r *replica) ejected() bool { return r.out.Load() != 0 }

func (r *replica) begin(a *attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting[a] = true
}

func (r *replica) finish(a *attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, a)
}

// awaited tells whether a request waits for its answer.
func (r *replica) awaited() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting) > 0
}

// silent tells whether nothing has come from it for a while.
func (r *replica) silent(now time.Duration) bool {
	return now-time.Duration(r.heard.Load()) >= patience
}

// now is a time that no change of the clock moves. It is never 0.
func (u *Upstream) now() time.Duration { return u.deps.Clock.Now().Sub(u.began) + 1 }

// Run looks after the replicas until ctx ends. That a request waits long says nothing: what it asks for may take its
// time. So a replica that is silent is pinged, and ejected where it does not answer that either; and one that is ejected
// comes back when it answers a ping.
func (u *Upstream) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, r := range u.replicas {
		all.Go(func() {
			for u.deps.Clock.Sleep(ctx, lookEvery) == nil {
				u.look(ctx, r)
			}
		})
	}
	all.Wait()
	return nil
}

func (u *Upstream) look(ctx context.Context, r *replica) {
	now, out := u.now(), time.Duration(r.out.Load())
	switch {
	case out != 0 && now-out >= outFor:
		if u.ping(ctx, r) {
			u.restore(ctx, r)
		}
	case out == 0 && len(u.replicas) > 1 && r.silent(now) && r.awaited():
		if !u.ping(ctx, r) && r.silent(u.now()) && ctx.Err() == nil {
			u.eject(ctx, r, errSilent)
		}
	}
}

// ping asks a replica whether it is there (RFC 9110, section 9.3.7: OPTIONS with an asterisk). net/http's server
// answers that by itself; and any answer is one.
func (u *Upstream) ping(ctx context.Context, r *replica) bool {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	req := &http.Request{Method: http.MethodOptions, URL: &url.URL{Scheme: r.url.Scheme, Host: r.url.Host, Path: "*"}, Header: http.Header{}}
	resp, err := u.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return false
	}
	r.heard.Store(int64(u.now()))
	_ = resp.Body.Close()
	return true
}

// failed ejects the replica of a failed attempt.
func (u *Upstream) failed(ctx context.Context, r *replica, err error) {
	if !errors.Is(err, errSilent) { // which was the ejection
		u.eject(ctx, r, err)
	}
}

// eject leaves a replica out, unless it is the last that is left. What waits for a silent one is moved to the others, as
// far as it may be repeated and the budget lasts; the rest goes on waiting.
func (u *Upstream) eject(ctx context.Context, r *replica, why error) {
	if !u.leaveOut(r) {
		return
	}
	u.counts.ejected(ctx, r, why)
	u.deps.Log.WarnContext(ctx, "a replica is ejected", "service", u.cfg.Name, "replica", r.url.Host, "err", why)
	if !errors.Is(why, errSilent) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock() // until all are told: what has finished is not moved
	for a := range r.waiting {
		if a.movable && u.mayRepeat() {
			a.end(errSilent)
		}
	}
}

// leaveOut is false where the replica is out, or is the last that is not.
func (u *Upstream) leaveOut(r *replica) bool {
	u.ejecting.Lock()
	defer u.ejecting.Unlock()
	in := 0
	for _, other := range u.replicas {
		if !other.ejected() {
			in++
		}
	}
	return in > 1 && r.out.CompareAndSwap(0, int64(u.now()))
}

func (u *Upstream) restore(ctx context.Context, r *replica) {
	since := r.out.Swap(0)
	u.counts.restored(ctx, r)
	u.deps.Log.InfoContext(ctx, "an ejected replica answers again", "service", u.cfg.Name, "replica", r.url.Host, "after", u.now()-time.Duration(since))
}
