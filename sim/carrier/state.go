package carrier

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"holdfast/sim/party"
)

// write puts a line into the ledger, and remembers where it is.
func (s *Simulator) write(l line) (int64, *party.Problem) {
	var place int64
	var err error
	if l.Note != "" {
		place, err = s.ledger.Note(encode(l))
	} else {
		place, err = s.ledger.Append(encode(l))
	}
	if s.unwritten(err) {
		return 0, party.Unavailable()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.Note == noteFailed {
		s.failed[l.Key] = struct{}{}
		return place, nil
	}
	if l.Key != "" {
		s.keys.Put(l.Key, place)
		delete(s.failed, l.Key)
	}
	if l.ID != "" {
		s.parcels.Put(l.ID, place)
	}
	return place, nil
}

// look reads the line that an index has for a name.
func (s *Simulator) look(in *party.Index, name, what string) (l line, place int64, p *party.Problem) {
	s.mu.Lock()
	place, found := in.Place(name)
	s.mu.Unlock()
	if !found {
		return l, 0, party.NotFound(what)
	}
	l, err := s.read(place)
	if err != nil {
		return l, 0, party.Unavailable()
	}
	return l, place, nil
}

// reference returns what a parcel is for, "" if there is none.
func (s *Simulator) reference(id string) string {
	l, _, problem := s.look(s.parcels, id, "")
	if problem != nil {
		return ""
	}
	return l.Reference
}

func (s *Simulator) read(place int64) (l line, err error) {
	text, err := s.ledger.Line(place)
	if err == nil {
		err = json.Unmarshal(text, &l)
	}
	if err != nil && !errors.Is(err, party.ErrClosed) {
		s.deps.Log.Error("the carrier's ledger cannot be read", "err", err)
	}
	return l, err
}

// unwritten tells whether a write has failed. A run of them is logged once.
func (s *Simulator) unwritten(err error) bool {
	s.mu.Lock()
	before := s.full
	s.full = err != nil
	s.mu.Unlock()
	if err != nil && !before && !errors.Is(err, party.ErrClosed) {
		s.deps.Log.Error("the carrier's ledger cannot be written", "err", err)
	}
	return err != nil
}

// get shows a parcel.
func (s *Simulator) get(w http.ResponseWriter, r *http.Request) {
	l, _, problem := s.look(s.parcels, r.PathValue("id"), "a parcel of this id")
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

func (s *Simulator) now() time.Time { return s.deps.Clock.Now().UTC().Truncate(time.Microsecond) }
