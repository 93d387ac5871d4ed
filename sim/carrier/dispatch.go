package carrier

import (
	"context"
	"net/http"
	"time"

	"holdfast/sim/party"
)

// collect has the parcel that was scheduled at a place of the ledger collected when its time has come.
// Where there is nobody who could allow it, it stays.
func (s *Simulator) collect(place int64, scheduled time.Time) {
	if s.sender.Enabled() {
		s.queue.Add(party.Job{Due: scheduled.Add(s.cfg.DispatchAfter), Place: place})
	}
}

// dispatch asks the customer whether a parcel may leave, and tells whether there was an answer.
func (s *Simulator) dispatch(ctx context.Context, place int64) bool {
	l, err := s.read(place)
	if err != nil {
		return false
	}
	if !s.waits(l.ID, place) {
		return true // cancelled
	}
	m := party.Message{ID: party.MessageID(l.ID), TraceParent: l.Trace, Body: encode(l.leaving(l.At.Add(s.cfg.DispatchAfter)))}
	status := s.sender.Send(ctx, m)
	switch {
	case party.Taken(status):
		return s.end(ctx, l, place, entryDispatched)
	case status == http.StatusConflict:
		return s.end(ctx, l, place, entryHeld)
	default:
		return false
	}
}

// waits tells whether nothing has happened to a parcel since it was scheduled.
func (s *Simulator) waits(id string, scheduled int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	latest, found := s.parcels.Place(id)
	return found && latest == scheduled
}

// end writes how the customer's answer ended the wait of a parcel.
func (s *Simulator) end(ctx context.Context, l line, place int64, entry string) bool {
	// There was an answer: it is kept even while we are stopping.
	release, err := s.locks.Hold(context.WithoutCancel(ctx), "parcel "+l.ID)
	if err != nil {
		return false
	}
	defer release()
	if !s.waits(l.ID, place) {
		if entry == entryDispatched {
			s.deps.Log.Warn("a parcel was cancelled while its customer allowed it to leave", "parcel", l.ID)
		}
		return true
	}
	_, problem := s.write(line{At: s.now(), Entry: entry, ID: l.ID, Reference: l.Reference})
	return problem == nil
}
