package psp

import (
	"context"
	"net/http"

	"holdfast/sim/party"
)

// answer sends the answer to the operation that a line is of.
func answer(w http.ResponseWriter, l line) {
	status := http.StatusOK
	switch {
	case l.Entry == entryDeclined:
		status = http.StatusPaymentRequired
	case l.kind() == kindAuthorise:
		status = http.StatusCreated
	}
	party.Answer(w, status, encode(l.document()))
}

// done is an operation that was done just now.
type done struct {
	line  line
	place int64
}

// reply answers a call that was just done, in the way that b says.
func (s *Simulator) reply(w http.ResponseWriter, r *http.Request, b behaviour, d done) {
	ctx := r.Context()
	told := false
	switch {
	case b.silent:
		s.door.Hold(ctx)
		s.tell(d.place)
		party.Drop()
	case b.slow:
		heard := s.door.Delay(ctx, s.cfg.Slow)
		s.tell(d.place)
		if !heard {
			party.Drop()
		}
		told = true
	case b.hookFirst:
		limited, cancel := context.WithTimeout(ctx, firstLimit)
		if !s.deliver(limited, d.place) {
			s.tell(d.place)
		}
		cancel()
		told = true
	}
	answer(w, d.line)
	if !told && (d.line.Hook != "" || ctx.Err() != nil) { // an answer that was lost counts as late
		s.tell(d.place)
	}
}

// tell has the webhook about an entry delivered.
func (s *Simulator) tell(place int64) {
	if s.sender.Enabled() {
		s.queue.Add(party.Job{Due: s.deps.Clock.Now(), Place: place})
	}
}

// deliver sends the webhook about an entry, and tells whether it was taken.
func (s *Simulator) deliver(ctx context.Context, place int64) bool {
	if !s.sender.Enabled() {
		return true
	}
	l, err := s.read(place)
	if err != nil {
		return false
	}
	times := 1
	if l.Hook == hookTwice {
		times = 2
	}
	m := party.Message{ID: party.MessageID(l.Key), TraceParent: l.Trace, Body: encode(l.message())}
	for range times {
		if !party.Taken(s.sender.Send(ctx, m)) {
			return false
		}
	}
	if l.Hook != "" {
		// If it cannot be kept, the webhook comes once more after the next start.
		_, _ = s.write([]line{{Note: noteDelivered, At: s.now(), Key: l.Key}})
	}
	return true
}

// get shows an authorisation.
func (s *Simulator) get(w http.ResponseWriter, r *http.Request) {
	l, _, problem := s.look(s.auths, r.PathValue("id"), "an authorisation of this id")
	if problem != nil {
		problem.ServeHTTP(w, r)
		return
	}
	s.arrivals.For(kindQuery, "", l.Reference)
	party.Answer(w, http.StatusOK, encode(l.document()))
}

// query tells what became of a key. It waits for an operation that is under way.
func (s *Simulator) query(w http.ResponseWriter, r *http.Request) {
	key := r.PathValue("key")
	release, err := s.locks.Hold(r.Context(), "key "+key)
	if err != nil {
		return // nobody listens any more
	}
	l, _, problem := s.look(s.keys, key, "an operation with this key")
	release()
	if problem != nil {
		problem.ServeHTTP(w, r)
		return
	}
	party.Answer(w, http.StatusOK, encode(l.operation()))
}
