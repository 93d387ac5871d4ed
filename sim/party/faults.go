package party

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"holdfast/shop"
)

// keptWhere says in each list how long it lasts.
const keptWhere = "in memory only: a restart forgets them"

// Faults are what goes wrong with calls, whatever they ask for. They act in front of what a call itself
// makes a party do. Who tests against a party sets them over HTTP. They are kept in memory only.
type Faults struct {
	arrivals *Arrivals
	door     *Door
	clock    shop.Clock
	rand     shop.Rand
	list     atomic.Pointer[set] // replaced as a whole
}

// set are the faults of one PUT. With a seed they draw from it, so that the same calls in the same order
// meet the same faults again.
type set struct {
	seed   uint64
	rand   shop.Rand
	faults []*active
}

// active is a fault that was set.
type active struct {
	fault
	begins time.Time
	ends   time.Time // zero: it is taken away
	hits   atomic.Int64
}

// NewFaults returns an empty list of faults, for the operations that arrivals counts.
func NewFaults(arrivals *Arrivals, door *Door, deps shop.Deps) *Faults {
	f := &Faults{arrivals: arrivals, door: door, clock: deps.Clock, rand: deps.Rand}
	f.list.Store(new(set))
	return f
}

// Mount serves the list: GET shows it, PUT replaces it, DELETE empties it. Calls that a fault holds when
// it goes stay held.
func (f *Faults) Mount(mux *http.ServeMux) {
	mux.HandleFunc("GET /faults", f.show)
	mux.HandleFunc("PUT /faults", f.replace)
	mux.HandleFunc("DELETE /faults", func(w http.ResponseWriter, _ *http.Request) {
		f.list.Store(new(set))
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
		Seed   uint64  `json:"seed,omitempty"`
		Faults []shown `json:"faults"`
	}{Kept: keptWhere, Faults: []shown{}}
	now, list := f.clock.Now(), f.list.Load()
	doc.Seed = list.seed
	for _, a := range list.faults {
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
	faults, seed, problem := parseFaults(body, f.arrivals.operations)
	if problem != nil {
		problem.ServeHTTP(w, r)
		return
	}
	now := f.clock.Now()
	list := &set{seed: seed, rand: f.rand}
	if seed != 0 {
		list.rand = &seeded{state: seed}
	}
	for _, one := range faults {
		a := &active{fault: one, begins: now.Add(time.Duration(one.After))}
		if one.For > 0 {
			a.ends = a.begins.Add(time.Duration(one.For))
		}
		list.faults = append(list.faults, a)
	}
	f.list.Store(list)
	f.show(w, r)
}

// ended tells whether a fault will hit nothing more.
func (a *active) ended(now time.Time) bool {
	return !a.ends.IsZero() && !now.Before(a.ends) || a.Count > 0 && a.hits.Load() >= a.Count
}

// hit counts a call, unless the fault has hit as many as it may.
func (a *active) hit() bool {
	if n := a.hits.Add(1); a.Count == 0 || n <= a.Count {
		return true
	}
	a.hits.Add(-1)
	return false
}

// draw returns the first fault that hits a call, nil if none does.
func (f *Faults) draw(operation string) *active {
	list := f.list.Load()
	for _, a := range list.faults {
		now := f.clock.Now()
		if a.Operation != allOperations && a.Operation != operation || now.Before(a.begins) || a.ended(now) {
			continue
		}
		if a.Rate < 1 && list.rand.Float64() >= a.Rate {
			continue
		}
		if a.hit() {
			return a
		}
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
