package psp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"holdfast/shop"
	"holdfast/sim/party"
)

// call is an operation that somebody asks for.
type call struct {
	kind  string
	id    string // the authorisation, "" if there is none yet
	key   string
	print string
	trace string
	b     behaviour
}

type authoriseRequest struct {
	Amount        shop.Amount   `json:"amount"`
	Currency      shop.Currency `json:"currency"`
	PaymentMethod string        `json:"payment_method"`
	Reference     string        `json:"reference"`
	Capture       bool          `json:"capture"`
}

func (q authoriseRequest) check() *party.Problem {
	if _, known := q.Currency.Exponent(); !known {
		return party.Invalid("currency must be a code of ISO 4217.")
	}
	if q.Amount <= 0 {
		return party.Invalid("amount must be positive, in minor units.")
	}
	if !strings.HasPrefix(q.PaymentMethod, "tok_") {
		return party.Invalid("payment_method must be a token.")
	}
	return party.CheckReference(q.Reference)
}

func (s *Simulator) authorise(w http.ResponseWriter, r *http.Request) {
	var q authoriseRequest
	c, problem := s.receive(w, r, kindAuthorise, &q)
	if problem == nil {
		problem = q.check()
	}
	if problem != nil {
		problem.ServeHTTP(w, r)
		return
	}
	s.arrivals.For(c.kind, c.key, q.Reference)
	c.print = party.Print(c.kind, "", q)
	c.b = behaviourOf(q.PaymentMethod)
	s.once(w, r, c, func() ([]line, *party.Problem) { return s.decideAuthorise(c, q) })
}

func (s *Simulator) capture(w http.ResponseWriter, r *http.Request) { s.change(w, r, kindCapture) }
func (s *Simulator) void(w http.ResponseWriter, r *http.Request)    { s.change(w, r, kindVoid) }
func (s *Simulator) refund(w http.ResponseWriter, r *http.Request)  { s.change(w, r, kindRefund) }

// change captures, voids or refunds an authorisation.
func (s *Simulator) change(w http.ResponseWriter, r *http.Request, kind string) {
	var q struct {
		Amount shop.Amount `json:"amount"`
	}
	c, problem := s.receive(w, r, kind, &q)
	if problem != nil {
		problem.ServeHTTP(w, r)
		return
	}
	c.id = r.PathValue("id")
	c.print = party.Print(kind, c.id, q)
	if reference := s.reference(c.id); reference != "" {
		s.arrivals.For(kind, c.key, reference)
	}
	s.once(w, r, c, func() ([]line, *party.Problem) {
		was, _, problem := s.look(s.auths, c.id, "an authorisation of this id")
		if problem != nil {
			return nil, problem
		}
		return s.decideChange(c, was, q.Amount)
	})
}

// receive reads a call.
func (s *Simulator) receive(w http.ResponseWriter, r *http.Request, kind string, q any) (call, *party.Problem) {
	key, problem := party.Key(r)
	if problem == nil {
		problem = party.Read(w, r, q)
	}
	return call{kind: kind, key: key, trace: party.TraceParent(r)}, problem
}

// once does what decide decides on, once for a key, and answers.
func (s *Simulator) once(w http.ResponseWriter, r *http.Request, c call, decide func() ([]line, *party.Problem)) {
	l, place, replayed, problem := s.settle(r.Context(), c, decide)
	switch {
	case problem != nil:
		problem.ServeHTTP(w, r)
	case l.Note == noteNever:
		s.door.Hold(r.Context())
		party.Drop()
	case replayed:
		party.Replayed(w)
		answer(w, l)
	default:
		s.reply(w, r, c.b, done{l, place})
	}
}

// settle finds what was done under the key of a call, or does it.
func (s *Simulator) settle(ctx context.Context, c call, decide func() ([]line, *party.Problem)) (l line, place int64, replayed bool, p *party.Problem) {
	names := []string{"key " + c.key}
	if c.id != "" {
		names = append(names, "authorisation "+c.id)
	}
	release, err := s.locks.Hold(ctx, names...)
	if err != nil {
		return l, 0, false, party.Unavailable() // the caller has gone
	}
	defer release()
	l, place, p = s.look(s.keys, c.key, "")
	switch {
	case p == nil && l.Print != c.print:
		return l, 0, false, party.KeyReused()
	case p == nil:
		return l, place, true, nil
	case p.Status != http.StatusNotFound:
		return l, 0, false, p
	}
	lines, p := decide()
	if p != nil {
		return l, 0, false, p
	}
	place, p = s.write(lines)
	return lines[len(lines)-1], place, false, p
}

// write puts lines into the ledger, and remembers where the last one is.
func (s *Simulator) write(lines []line) (int64, *party.Problem) {
	last := lines[len(lines)-1]
	var place int64
	var err error
	if last.Note != "" {
		place, err = s.ledger.Note(encode(last))
	} else {
		texts := make([][]byte, len(lines))
		for i, l := range lines {
			texts[i] = encode(l)
		}
		place, err = s.ledger.Append(texts...)
	}
	if s.unwritten(err) {
		return 0, party.Unavailable()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch last.Note {
	case "":
		s.keys.Put(last.Key, place)
		s.auths.Put(last.Authorisation, place)
		delete(s.failed, last.Key)
	case noteNever:
		s.keys.Put(last.Key, place)
	case noteFailed:
		s.failed[last.Key] = struct{}{}
	case noteUndoFailed:
		s.undosFailed[last.Authorisation]++
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

// reference returns what an authorisation is for, "" if there is none.
func (s *Simulator) reference(id string) string {
	s.mu.Lock()
	place, found := s.auths.Place(id)
	s.mu.Unlock()
	if !found {
		return ""
	}
	text, err := s.ledger.Line(place)
	if err != nil {
		return ""
	}
	return party.Field(text, "reference")
}

func (s *Simulator) read(place int64) (l line, err error) {
	text, err := s.ledger.Line(place)
	if err == nil {
		err = json.Unmarshal(text, &l)
	}
	if err != nil && !errors.Is(err, party.ErrClosed) {
		s.deps.Log.Error("the payment provider's ledger cannot be read", "err", err)
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
		s.deps.Log.Error("the payment provider's ledger cannot be written", "err", err)
	}
	return err != nil
}
