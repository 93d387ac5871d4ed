package party

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/shop"
)

// keptWhere says in each list how long it lasts.
const keptWhere = "in memory only: a restart forgets them"

// garbage is the answer of something that is in front of a party, and broken.
const garbage = "<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>\n"

// Faults are what goes wrong with calls, whatever they ask for. They act in front of what a call itself
// makes a party do. Who tests against a party sets them over HTTP. They are kept in memory only.
type Faults struct {
	arrivals *Arrivals
	door     *Door
	clock    shop.Clock
	rand     shop.Rand
	list     atomic.Pointer[[]*active] // replaced as a whole
}

// active is a fault that was set.
type active struct {
	fault
	ends time.Time // zero: it is taken away
	hits atomic.Int64
}

// NewFaults returns an empty list of faults, for the operations that arrivals counts.
func NewFaults(arrivals *Arrivals, door *Door, deps shop.Deps) *Faults {
	f := &Faults{arrivals: arrivals, door: door, clock: deps.Clock, rand: deps.Rand}
	f.list.Store(new([]*active))
	return f
}

// Mount serves the list: GET shows it, PUT replaces it, DELETE empties it. Calls that a fault holds when
// it goes stay held.
func (f *Faults) Mount(mux *http.ServeMux) {
	mux.HandleFunc("GET /faults", f.show)
	mux.HandleFunc("PUT /faults", f.replace)
	mux.HandleFunc("DELETE /faults", func(w http.ResponseWriter, _ *http.Request) {
		f.list.Store(new([]*active))
		w.WriteHeader(http.StatusNoContent)
	})
}

// show answers with the list, and how many calls each fault has hit. One that has ended stays in it, so
// that a test can see afterwards that it was there.
func (f *Faults) show(w http.ResponseWriter, _ *http.Request) {
	type shown struct {
		fault
		EndsAt time.Time `json:"ends_at,omitzero"`
		Ended  bool      `json:"ended,omitempty"`
		Hits   int64     `json:"hits"`
	}
	doc := struct {
		Kept   string  `json:"kept"`
		Faults []shown `json:"faults"`
	}{keptWhere, []shown{}}
	now := f.clock.Now()
	for _, a := range *f.list.Load() {
		doc.Faults = append(doc.Faults, shown{a.fault, a.ends.UTC(), a.ended(now), a.hits.Load()})
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err) // what was read can be written
	}
	Answer(w, http.StatusOK, b)
}

func (f *Faults) replace(w http.ResponseWriter, r *http.Request) {
	var body json.RawMessage
	if problem := Read(w, r, &body); problem != nil {
		problem.ServeHTTP(w, r)
		return
	}
	faults, problem := parseFaults(body, f.arrivals.operations)
	if problem != nil {
		problem.ServeHTTP(w, r)
		return
	}
	now := f.clock.Now()
	list := make([]*active, len(faults))
	for i, one := range faults {
		list[i] = &active{fault: one}
		if one.For > 0 {
			list[i].ends = now.Add(time.Duration(one.For))
		}
	}
	f.list.Store(&list)
	f.show(w, r)
}

func (a *active) ended(now time.Time) bool { return !a.ends.IsZero() && !now.Before(a.ends) }

// draw returns the first fault that hits a call, nil if none does.
func (f *Faults) draw(operation string) *active {
	for _, a := range *f.list.Load() {
		if a.Operation != allOperations && a.Operation != operation || a.ended(f.clock.Now()) {
			continue
		}
		if a.Rate < 1 && f.rand.Float64() >= a.Rate {
			continue
		}
		a.hits.Add(1)
		return a
	}
	return nil
}

// Around returns the handler of an operation. It counts each call, lets a fault act, and has do serve the
// calls that no fault keeps from it. reference returns what the thing with the {id} of the path is for,
// "" if that is not known.
func (f *Faults) Around(operation string, reference func(id string) string, do http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.arrivals.Arrive(operation, r)
		hit := f.draw(operation)
		if hit == nil {
			do(w, r)
			return
		}
		body := hear(r)
		turnAway := func() { // do would have told the arrivals
			if about := about(r, body, reference); about != "" {
				f.arrivals.For(operation, keyOf(r), about)
			}
		}
		if !hit.passes() {
			turnAway()
		}
		if hit.Latency > 0 && !f.door.Delay(r.Context(), time.Duration(hit.Latency)) {
			if hit.passes() {
				turnAway()
			}
			Drop()
		}
		f.act(hit, w, r, do)
	}
}

// act does what a fault does once its latency has passed.
func (f *Faults) act(hit *active, w http.ResponseWriter, r *http.Request, do http.HandlerFunc) {
	switch {
	case hit.Status != 0:
		if hit.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(time.Duration(hit.RetryAfter)/time.Second)))
		}
		(&Problem{hit.Status, "fault", "Nothing was done: PUT /faults asks for this answer."}).ServeHTTP(w, r)
	case hit.Garbage:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, garbage) // where nobody listens any more, nobody is told
	case hit.Lose == loseRequest:
		f.door.Hold(r.Context())
		Drop()
	case hit.Lose == loseAnswer:
		ctx, gone := context.WithCancel(r.Context())
		defer gone()
		lost := &lostAnswer{header: make(http.Header), hold: sync.OnceFunc(func() { f.door.Hold(ctx); gone() })}
		do(lost, r.WithContext(ctx))
		lost.hold()
		Drop()
	default:
		do(w, r)
	}
}

// lostAnswer takes an answer that its caller will not get. It holds whoever writes it until the caller has
// given up, and then ends the call's context: so the party finds out what it finds out of any lost answer.
type lostAnswer struct {
	header http.Header
	hold   func()
}

// Header returns headers that nobody will see.
func (l *lostAnswer) Header() http.Header { return l.header }

// WriteHeader waits.
func (l *lostAnswer) WriteHeader(int) { l.hold() }

// Write waits, and takes all of it.
func (l *lostAnswer) Write(p []byte) (int, error) {
	l.hold()
	return len(p), nil
}

// hear reads the body of a call that a fault has hit, and leaves it to be read again. A server notices that
// its caller gives up only once the body is read. What is wrong with the body the next reader finds out.
func hear(r *http.Request) []byte {
	body, _ := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), r.Body))
	return body
}

// about returns the reference that a call is for, "" if it does not tell.
func about(r *http.Request, body []byte, reference func(id string) string) string {
	if id := r.PathValue("id"); id != "" {
		return reference(id)
	}
	var doc struct {
		Reference string `json:"reference"`
	}
	if json.Unmarshal(body, &doc) != nil {
		return ""
	}
	return doc.Reference
}
