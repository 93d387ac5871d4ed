package chaos

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"holdfast/check"
	"holdfast/shop"
)

// request is one to the public API as its client met it. Times are since the start of the experiment.
type request struct {
	id     shop.OrderID // "" where it is not known
	at     time.Duration
	took   time.Duration
	status int  // of HTTP; 0: no answer
	extra  bool // of a burst, which is a fault itself

	settled time.Duration // of an order: when it had its outcome; 0: not yet
	outcome shop.EventType
}

func (r request) created() bool { return r.status == http.StatusCreated }

// settledCancel tells whether a cancel was answered: it is done, it is being done, or it is too late.
func (r request) settledCancel() bool {
	return r.status == http.StatusOK || r.status == http.StatusAccepted || r.status == http.StatusConflict
}

func (r request) read() bool { return r.status == http.StatusOK }

// recorder keeps what the clients met.
type recorder struct {
	began time.Time
	seen  func(shop.OrderID) (outcome, bool)

	mu      sync.Mutex
	orders  []request
	cancels []request
	reads   []request
}

func (r *recorder) order(s check.Sent, extra bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.orders = append(r.orders, request{id: s.ID, at: s.Due.Sub(r.began), took: s.Took, status: s.Status, extra: extra})
}

func (r *recorder) add(list *[]request, at time.Time, id shop.OrderID, status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*list = append(*list, request{id: id, at: at.Sub(r.began), took: time.Since(at), status: status})
}

// snapshot returns the orders by when they were due, with their outcomes as far as they are known.
func (r *recorder) snapshot() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.orders {
		o := &r.orders[i]
		if o.id == "" || o.settled != 0 {
			continue
		}
		if found, ok := r.seen(o.id); ok {
			o.settled, o.outcome = max(found.at.Sub(r.began), o.at+1), found.is
		}
	}
	all := slices.Clone(r.orders)
	slices.SortStableFunc(all, func(a, b request) int { return int(a.at - b.at) })
	return all
}

// timeline is the experiment second by second, up to an instant; a second that is not over is left out.
func timeline(orders []request, until time.Duration) []Point {
	points := make([]Point, max(1, int(until/time.Second)))
	until = time.Duration(len(points)) * time.Second
	orders = slices.DeleteFunc(slices.Clone(orders), func(o request) bool { return o.at >= until })
	took := make([][]time.Duration, len(points))
	second := func(at time.Duration) int { return min(max(0, int(at/time.Second)), len(points)-1) }
	for _, o := range orders {
		p := &points[second(o.at)]
		p.Sent++
		switch {
		case o.created():
			p.Accepted++
			took[second(o.at)] = append(took[second(o.at)], o.took)
		case o.status == 0:
			p.Unknown++
		default:
			p.Refused++
		}
		if o.outcome == shop.EventOrderConfirmed && o.settled < until {
			points[second(o.settled)].Confirmed++
		}
	}
	for i := range points {
		q := check.QuantilesOf(took[i])
		points[i].Second, points[i].P50, points[i].P99 = i, q.P50, q.P99
		points[i].Backlog = backlogAt(orders, time.Duration(i+1)*time.Second)
	}
	return points
}

// backlogAt is how many orders had been accepted at an instant and had no outcome.
func backlogAt(orders []request, at time.Duration) (n int) {
	for _, o := range orders {
		if o.created() && o.at+o.took <= at && (o.settled == 0 || o.settled > at) {
			n++
		}
	}
	return n
}

// phaseReport is what the clients met in a phase.
func phaseReport(name string, orders, cancels []request, from, to time.Duration) PhaseReport {
	p := PhaseReport{Name: name, Began: from, Lasted: to - from}
	var took []time.Duration
	for _, o := range orders {
		if o.outcome == shop.EventOrderConfirmed && o.settled >= from && o.settled < to {
			p.Confirmed++
		}
		if o.at < from || o.at >= to {
			continue
		}
		p.Sent++
		switch {
		case o.created():
			p.Accepted++
			took = append(took, o.took)
		case o.status == 0:
			p.Unknown++
		default:
			p.Refused++
		}
	}
	for _, c := range cancels {
		if c.at < from || c.at >= to {
			continue
		}
		p.Cancels++
		if c.settledCancel() {
			p.Answered++
		}
	}
	p.Accept = check.QuantilesOf(took)
	return p
}
