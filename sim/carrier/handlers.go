package carrier

import (
	"net/http"
	"strconv"
	"strings"

	"holdfast/shop"
	"holdfast/sim/party"
)

// Document is a parcel as the API shows it.
type Document struct {
	ID        string `json:"id"`
	Status    string `json:"status"`
	Tracking  string `json:"tracking"`
	Reference string `json:"reference"`
}

func document(p *parcel) Document {
	return Document{ID: parcelID(p.number), Status: p.status, Tracking: "HF" + strconv.Itoa(1000000+p.number), Reference: p.reference}
}

// OperationDocument is what the API says of an idempotency key.
type OperationDocument struct {
	Key      string    `json:"key"`
	Kind     string    `json:"kind"`
	Status   string    `json:"status"` // succeeded, refused
	Shipment *Document `json:"shipment,omitempty"`
	Code     string    `json:"code"`
}

type scheduleRequest struct {
	Reference string              `json:"reference"`
	ShipTo    shop.Address        `json:"ship_to"`
	Lines     []shop.ReservedLine `json:"lines"`
}

var notShippable = party.Refuse(http.StatusUnprocessableEntity, "not_shippable", "the carrier does not go there")

func (s *Simulator) schedule(w http.ResponseWriter, r *http.Request) {
	var req scheduleRequest
	hash, err := party.Read(r, &req)
	key := r.Header.Get("Idempotency-Key")
	switch {
	case err != nil:
	case key == "":
		err = party.Refuse(http.StatusBadRequest, "key_missing", "send an Idempotency-Key")
	case req.Reference == "" || req.ShipTo.PostalCode == "" || len(req.Lines) == 0:
		err = party.Refuse(http.StatusBadRequest, "invalid_request", "reference, ship_to and lines are needed")
	}
	if err != nil {
		party.Fail(w, err)
		return
	}
	s.arrivals.Count("schedule", req.Reference, key)
	op, doc, fresh, err := s.decide(req, key, hash)
	if err == nil {
		err = op.commit.Wait()
	}
	if err == nil && op.parcel == nil {
		err = notShippable
	}
	if err != nil {
		party.Fail(w, err)
		return
	}
	if fresh && req.ShipTo.PostalCode == "00004" {
		party.Hold(r.Context(), s.deps.Clock, s.stopping, never)
		return
	}
	if !fresh {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	party.Write(w, http.StatusCreated, doc)
}

// decide finds the key's operation or makes it. fresh tells that it was made now.
func (s *Simulator) decide(req scheduleRequest, key string, hash uint64) (op operation, doc Document, fresh bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	op, found := s.ops[key]
	switch {
	case found && (op.hash != hash || op.kind != "schedule"):
		return op, doc, false, party.Refuse(http.StatusUnprocessableEntity, "key_reused", "this key was used for another request")
	case found && op.parcel == nil:
		return op, doc, false, nil
	case found:
		return op, document(op.parcel), false, nil
	}
	l := line{Entry: "scheduled", Reference: req.Reference, Key: key, Postal: req.ShipTo.PostalCode, Hash: hash}
	switch l.Postal {
	case "00001":
		l.Entry = "refused"
	case "00002", "00003":
		s.tried[key]++
		if l.Postal == "00003" || s.tried[key] == 1 {
			return op, doc, false, party.Refuse(http.StatusInternalServerError, "failed", "the carrier failed, as this postal code asks for")
		}
	}
	s.write(l)
	op = s.ops[key]
	if op.parcel == nil {
		return op, doc, true, nil
	}
	s.collect(op.parcel)
	return op, document(op.parcel), true, nil
}

func (s *Simulator) cancel(w http.ResponseWriter, r *http.Request) {
	hash, err := party.Read(r, &struct{}{})
	key := r.Header.Get("Idempotency-Key")
	if err == nil && key == "" {
		err = party.Refuse(http.StatusBadRequest, "key_missing", "send an Idempotency-Key")
	}
	if err != nil {
		party.Fail(w, err)
		return
	}
	op, doc, replayed, err := s.decideCancel(r.PathValue("id"), key, hash)
	if err == nil {
		err = op.commit.Wait()
	}
	if err != nil {
		party.Fail(w, err)
		return
	}
	if replayed {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	party.Write(w, http.StatusOK, doc)
}

func (s *Simulator) decideCancel(id, key string, hash uint64) (op operation, doc Document, replayed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.find(id)
	if p == nil {
		return op, doc, false, party.Refuse(http.StatusNotFound, "not_found", "there is no such parcel")
	}
	s.arrivals.Count("cancel", p.reference, key)
	op, replayed = s.ops[key]
	switch {
	case replayed && (op.kind != "cancel" || op.parcel != p):
		return op, doc, false, party.Refuse(http.StatusUnprocessableEntity, "key_reused", "this key was used for another request")
	case replayed || p.status == "cancelled":
		return op, document(p), replayed, nil
	case p.status == "dispatched":
		return op, doc, false, party.Refuse(http.StatusConflict, "dispatched", "the parcel has left")
	}
	s.write(line{Entry: "cancelled", ID: id, Reference: p.reference, Key: key, Hash: hash})
	return s.ops[key], document(p), false, nil
}

// query tells what became of an idempotency key.
func (s *Simulator) query(w http.ResponseWriter, r *http.Request) {
	key := r.PathValue("key")
	reference, _, _ := strings.Cut(key, ":")
	s.arrivals.Count("query", reference, "")
	s.mu.Lock()
	op, found := s.ops[key]
	answer := OperationDocument{Key: key, Kind: op.kind, Status: "succeeded"}
	if found && op.parcel != nil {
		doc := document(op.parcel)
		answer.Shipment = &doc
	} else {
		answer.Status, answer.Code = "refused", notShippable.Code
	}
	s.mu.Unlock()
	if !found {
		party.Fail(w, party.Refuse(http.StatusNotFound, "not_found", "the carrier has not done anything under this key"))
		return
	}
	if err := op.commit.Wait(); err != nil {
		party.Fail(w, err)
		return
	}
	party.Write(w, http.StatusOK, answer)
}
