package carrier

import (
	"context"
	"net/http"

	"holdfast/shop"
	"holdfast/sim/party"
)

// maxLines is how many lines a parcel may have.
const maxLines = 1000

// The postal codes that make something happen.
const (
	postalRefused    = "00001"
	postalFailsOnce  = "00002"
	postalFails      = "00003"
	postalSilent     = "00004"
	postalNeverLeave = "00005"
)

// call is an operation that somebody asks for.
type call struct {
	kind  string
	key   string
	print string
	trace string
	locks []string // what is to be held while it is done
}

type scheduleRequest struct {
	Reference string       `json:"reference"`
	ShipTo    shop.Address `json:"ship_to"`
	Lines     []parcelLine `json:"lines"`
}

func (q scheduleRequest) check() *party.Problem {
	if q.ShipTo.PostalCode == "" {
		return party.Invalid("ship_to.postal_code is needed.")
	}
	if len(q.Lines) == 0 || len(q.Lines) > maxLines {
		return party.Invalid("lines must be 1 to 1000.")
	}
	for _, l := range q.Lines {
		if !l.SKU.Valid() || l.Quantity <= 0 {
			return party.Invalid("each line must have a sku and a positive quantity.")
		}
	}
	return party.CheckReference(q.Reference)
}

func (s *Simulator) schedule(w http.ResponseWriter, r *http.Request) {
	var q scheduleRequest
	c, problem := s.receive(w, r, kindSchedule, &q)
	if problem == nil {
		problem = q.check()
	}
	if problem != nil {
		problem.ServeHTTP(w, r)
		return
	}
	s.arrivals.For(c.kind, c.key, q.Reference)
	c.print = party.Print(c.kind, "", q)
	l, replayed, problem := s.once(r.Context(), c, func() (line, *party.Problem) { return s.decideSchedule(c, q) })
	if problem == nil && !replayed && q.ShipTo.PostalCode == postalSilent {
		s.door.Hold(r.Context())
		party.Drop()
	}
	answer(w, r, l, replayed, problem)
}

func (s *Simulator) cancel(w http.ResponseWriter, r *http.Request) {
	c, problem := s.receive(w, r, kindCancel, &struct{}{})
	if problem != nil {
		problem.ServeHTTP(w, r)
		return
	}
	id := r.PathValue("id")
	was, _, problem := s.look(s.parcels, id, "a parcel of this id")
	if problem != nil {
		problem.ServeHTTP(w, r)
		return
	}
	s.arrivals.For(c.kind, c.key, was.Reference)
	c.print = party.Print(c.kind, id, nil)
	c.locks = append(c.locks, "parcel "+id)
	l, replayed, problem := s.once(r.Context(), c, func() (line, *party.Problem) { return s.decideCancel(c, id) })
	answer(w, r, l, replayed, problem)
}

// answer sends the answer to the operation that a line is of.
func answer(w http.ResponseWriter, r *http.Request, l line, replayed bool, problem *party.Problem) {
	if replayed {
		party.Replayed(w)
	}
	switch {
	case problem != nil:
		problem.ServeHTTP(w, r)
	case l.Entry == entryRefused:
		(&party.Problem{Status: http.StatusUnprocessableEntity, Code: notShippable, Message: "We do not go there."}).ServeHTTP(w, r)
	case l.Entry == entryScheduled:
		party.Answer(w, http.StatusCreated, encode(l.document()))
	default:
		party.Answer(w, http.StatusOK, encode(l.document()))
	}
}

// receive reads a call.
func (s *Simulator) receive(w http.ResponseWriter, r *http.Request, kind string, q any) (call, *party.Problem) {
	key, problem := party.Key(r)
	if problem == nil {
		problem = party.Read(w, r, q)
	}
	return call{kind: kind, key: key, trace: party.TraceParent(r), locks: []string{"key " + key}}, problem
}

// once finds the line that was written under the key of a call, or has decide return one and writes it.
func (s *Simulator) once(ctx context.Context, c call, decide func() (line, *party.Problem)) (l line, replayed bool, p *party.Problem) {
	release, err := s.locks.Hold(ctx, c.locks...)
	if err != nil {
		return l, false, party.Unavailable() // the caller has gone
	}
	defer release()
	l, _, p = s.look(s.keys, c.key, "")
	switch {
	case p == nil && l.Print != c.print:
		return l, false, party.KeyReused()
	case p == nil:
		return l, true, nil
	case p.Status != http.StatusNotFound:
		return l, false, p
	}
	if l, p = decide(); p != nil || l.Seq > 0 { // or it stands in the ledger already
		return l, false, p
	}
	place, p := s.write(l)
	if p == nil && l.Entry == entryScheduled && l.Dispatch != never {
		s.collect(place, l.At)
	}
	return l, false, p
}

func (s *Simulator) decideSchedule(c call, q scheduleRequest) (line, *party.Problem) {
	l := line{At: s.now(), Entry: entryScheduled, Reference: q.Reference, Key: c.key, Print: c.print}
	switch q.ShipTo.PostalCode {
	case postalRefused:
		l.Entry = entryRefused
		return l, nil
	case postalFails:
		return l, party.Failed()
	case postalFailsOnce:
		if s.fails(c.key) {
			return l, party.Failed()
		}
	case postalNeverLeave:
		l.Dispatch = never
	}
	l.ID, l.Lines, l.Trace = s.deps.IDs.New("par"), q.Lines, c.trace
	return l, nil
}

// fails tells whether the key's operation is to fail now, since it has not done so before.
func (s *Simulator) fails(key string) bool {
	s.mu.Lock()
	_, before := s.failed[key]
	s.mu.Unlock()
	if before {
		return false
	}
	// If it cannot be kept the call fails all the more.
	_, _ = s.write(line{Note: noteFailed, At: s.now(), Key: key})
	return true
}

func (s *Simulator) decideCancel(c call, id string) (line, *party.Problem) {
	was, _, problem := s.look(s.parcels, id, "a parcel of this id")
	switch {
	case problem != nil:
		return was, problem
	case was.Entry == entryDispatched:
		return was, party.Conflict("dispatched", "The parcel has left.")
	case was.Entry == entryCancelled:
		return was, nil
	}
	return line{At: s.now(), Entry: entryCancelled, ID: id, Reference: was.Reference, Key: c.key, Print: c.print}, nil
}
