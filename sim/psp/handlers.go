package psp

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/shop"
	"holdfast/sim/party"
)

// The operations.
const (
	kindAuthorise = "authorise"
	kindCapture   = "capture"
	kindVoid      = "void"
	kindRefund    = "refund"

	autoCapture = "#capture" // ends the key of a capture that came with its authorisation
)

// never is how long a request that is never answered is held at most.
const never = time.Minute

// OperationDocument is what the API says of an idempotency key.
type OperationDocument struct {
	Key           string    `json:"key"`
	Kind          string    `json:"kind"`
	Status        string    `json:"status"`
	Authorisation *Document `json:"authorisation,omitempty"`
}

type authoriseRequest struct {
	Amount        shop.Amount   `json:"amount"`
	Currency      shop.Currency `json:"currency"`
	PaymentMethod string        `json:"payment_method"`
	Reference     string        `json:"reference"`
	Capture       bool          `json:"capture"`
}

func (r authoriseRequest) check() error {
	if _, ok := r.Currency.Exponent(); !ok || r.Amount <= 0 || r.Reference == "" || !strings.HasPrefix(r.PaymentMethod, "tok_") {
		return party.Refuse(http.StatusBadRequest, "invalid_request", "amount must be positive, currency known, reference not empty and payment_method a token")
	}
	return nil
}

func (s *Simulator) authorise(w http.ResponseWriter, r *http.Request) {
	var req authoriseRequest
	hash, err := party.Read(r, &req)
	key := r.Header.Get("Idempotency-Key")
	if err == nil {
		err = req.check()
	}
	if err == nil && key == "" {
		err = party.Refuse(http.StatusBadRequest, "key_missing", "send an Idempotency-Key")
	}
	if err != nil {
		party.Fail(w, err)
		return
	}
	s.arrivals.Count(kindAuthorise, req.Reference, key)
	op, doc, fresh, err := s.decide(req, key, hash)
	if err == nil {
		err = op.commit.Wait()
	}
	if err != nil {
		party.Fail(w, err)
		return
	}
	if fresh && !s.deliver(r.Context(), req.PaymentMethod, key, op, doc) {
		return
	}
	if !fresh {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	status := http.StatusCreated
	if op.status == "declined" {
		status = http.StatusPaymentRequired
	}
	party.Write(w, status, doc)
}

// decide finds the key's operation or makes it. fresh tells that it was made now.
func (s *Simulator) decide(req authoriseRequest, key string, hash uint64) (op operation, doc Document, fresh bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if op, found := s.ops[key]; found {
		if op.hash != hash {
			return op, doc, false, party.Refuse(http.StatusUnprocessableEntity, "key_reused", "this key was used for another request")
		}
		if op.status != "failed" {
			return op, s.document(op.auth), false, nil
		}
	}
	l := line{Entry: "authorised", Reference: req.Reference, Key: key, Amount: req.Amount, Currency: req.Currency, Method: req.PaymentMethod, Hash: hash}
	switch req.PaymentMethod {
	case "tok_declined":
		l.Entry, l.Code = "declined", "card_declined"
	case "tok_insufficient_funds":
		l.Entry, l.Code = "declined", "insufficient_funds"
	case "tok_error_once", "tok_error":
		s.tried[key]++
		if req.PaymentMethod == "tok_error" || s.tried[key] == 1 {
			return op, doc, false, party.Refuse(http.StatusInternalServerError, "failed", "the provider failed, as this payment method asks for")
		}
	case "tok_timeout_fail":
		l.Entry = "failed"
		return s.write(l), doc, true, nil
	}
	op = s.write(l)
	if req.Capture && op.status == "succeeded" {
		op2 := line{Entry: "captured", Authorisation: authID(op.auth.number), Reference: req.Reference, Key: key + autoCapture, Amount: req.Amount, Currency: req.Currency, Hash: hash}
		s.write(op2)
	}
	return op, s.document(op.auth), true, nil
}

// deliver does with a fresh authorisation what its payment method asks for, and tells whether to answer.
func (s *Simulator) deliver(ctx context.Context, method, key string, op operation, doc Document) bool {
	hook := func() *party.Hook { return s.hook(key, op, doc) }
	switch method {
	case "tok_slow":
		return party.Hold(ctx, s.deps.Clock, s.stopping, s.cfg.Slow)
	case "tok_timeout_ok", "tok_timeout_fail":
		return party.Hold(ctx, s.deps.Clock, s.stopping, never) && false
	case "tok_webhook_twice":
		h := hook()
		s.hooks.Add(h)
		again := *h // the same message, delivered once more
		s.hooks.Add(&again)
	case "tok_webhook_first":
		h := hook()
		if status := s.hooks.Post(ctx, h); !h.Answer(status) {
			s.hooks.Add(h)
		}
	default:
		if s.cfg.Webhooks == WebhooksAll {
			s.hooks.Add(hook())
		}
	}
	return true
}

// hook is the message about an operation.
func (s *Simulator) hook(key string, op operation, doc Document) *party.Hook {
	return &party.Hook{ID: s.deps.IDs.New("msg"), Due: s.deps.Clock.Now(), Type: map[string]string{kindAuthorise: "authorisation", kindCapture: "capture", kindVoid: "void", kindRefund: "refund"}[op.kind] + "." + op.status,
		Data:   OperationDocument{Key: key, Kind: op.kind, Status: op.status, Authorisation: &doc},
		Answer: func(status int) bool { return status >= 200 && status < 300 }}
}

// change captures, voids or refunds.
func (s *Simulator) change(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Amount shop.Amount `json:"amount"`
	}
	hash, err := party.Read(r, &req)
	key, kind, id := r.Header.Get("Idempotency-Key"), r.PathValue("kind"), r.PathValue("id")
	switch {
	case err != nil:
	case kind != kindCapture && kind != kindVoid && kind != kindRefund:
		err = party.Refuse(http.StatusNotFound, "not_found", "there are capture, void and refund")
	case key == "":
		err = party.Refuse(http.StatusBadRequest, "key_missing", "send an Idempotency-Key")
	}
	if err != nil {
		party.Fail(w, err)
		return
	}
	op, doc, fresh, err := s.decideChange(kind, id, key, req.Amount, hash)
	if err == nil {
		err = op.commit.Wait()
	}
	if err != nil {
		party.Fail(w, err)
		return
	}
	if fresh && s.cfg.Webhooks == WebhooksAll {
		s.hooks.Add(s.hook(key, op, doc))
	}
	if !fresh {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	party.Write(w, http.StatusOK, doc)
}

func (s *Simulator) decideChange(kind, id, key string, amount shop.Amount, hash uint64) (op operation, doc Document, fresh bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.find(id)
	if a == nil {
		return op, doc, false, party.Refuse(http.StatusNotFound, "not_found", "there is no such authorisation")
	}
	s.arrivals.Count(kind, a.reference, key)
	if op, found := s.ops[key]; found {
		if op.hash != hash || op.kind != kind || op.auth != a {
			return op, doc, false, party.Refuse(http.StatusUnprocessableEntity, "key_reused", "this key was used for another request")
		}
		return op, s.document(a), false, nil
	}
	if kind != kindCapture && s.failsUndo(a) {
		return op, doc, false, party.Refuse(http.StatusInternalServerError, "failed", "the provider failed, as this payment method asks for")
	}
	l := line{Authorisation: id, Reference: a.reference, Key: key, Amount: amount, Currency: a.currency, Hash: hash}
	allowed := false
	switch kind {
	case kindCapture:
		l.Entry = "captured"
		allowed = a.declined == "" && !a.voided && a.captured == 0 && amount > 0 && amount <= a.amount
	case kindVoid:
		l.Entry, l.Amount = "voided", a.amount
		allowed = a.declined == "" && !a.voided && a.captured == 0
	case kindRefund:
		l.Entry = "refunded"
		allowed = amount > 0 && a.refunded+amount <= a.captured
	}
	if !allowed {
		return op, doc, false, party.Refuse(http.StatusConflict, "not_allowed", "an authorisation that is "+s.document(a).Status+" does not allow this "+kind)
	}
	op = s.write(l)
	return op, s.document(a), true, nil
}

// failsUndo tells whether this void or refund is one of those that fail.
func (s *Simulator) failsUndo(a *authorisation) bool {
	rest, ok := strings.CutPrefix(a.method, "tok_void_fails")
	if !ok {
		return false
	}
	if rest == "" {
		return true
	}
	n, err := strconv.Atoi(strings.TrimPrefix(rest, "_"))
	if err != nil {
		return false
	}
	id := authID(a.number)
	s.tried[id]++
	return s.tried[id] <= n
}

func (s *Simulator) get(w http.ResponseWriter, r *http.Request) {
	s.arrivals.Count("query", "", "")
	s.mu.Lock()
	a := s.find(r.PathValue("id"))
	var doc Document
	if a != nil {
		doc = s.document(a)
	}
	s.mu.Unlock()
	if a == nil {
		party.Fail(w, party.Refuse(http.StatusNotFound, "not_found", "there is no such authorisation"))
		return
	}
	party.Write(w, http.StatusOK, doc)
}

// query tells what became of an idempotency key.
func (s *Simulator) query(w http.ResponseWriter, r *http.Request) {
	key := r.PathValue("key")
	reference, _, _ := strings.Cut(key, ":")
	s.arrivals.Count("query", reference, "")
	s.mu.Lock()
	op, found := s.ops[key]
	answer := OperationDocument{Key: key, Kind: op.kind, Status: op.status}
	if found && op.auth != nil {
		doc := s.document(op.auth)
		answer.Authorisation = &doc
	}
	s.mu.Unlock()
	if !found {
		party.Fail(w, party.Refuse(http.StatusNotFound, "not_found", "the provider has not done anything under this key"))
		return
	}
	if err := op.commit.Wait(); err != nil {
		party.Fail(w, err)
		return
	}
	party.Write(w, http.StatusOK, answer)
}
