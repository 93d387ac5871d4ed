package psp

import (
	"time"

	"holdfast/shop"
	"holdfast/sim/party"
)

// decideAuthorise returns the lines that an authorisation writes.
func (s *Simulator) decideAuthorise(c call, q authoriseRequest) ([]line, *party.Problem) {
	b := c.b
	l := line{At: s.now(), Reference: q.Reference, Key: c.key, Print: c.print}
	switch {
	case b.failAlways, b.failOnce && s.fails(c.key):
		return nil, party.Failed()
	case b.never:
		l.Note = noteNever
		return []line{l}, nil
	}
	l.Entry, l.Authorisation, l.Amount, l.Total, l.Currency = entryAuthorised, s.deps.IDs.New("auth"), q.Amount, q.Amount, q.Currency
	if b.undoFails > 0 {
		l.Method = q.PaymentMethod
	}
	if b.decline != "" {
		l.Entry, l.Code = entryDeclined, b.decline
		return []line{s.hooked(l, c)}, nil
	}
	l.Expires = l.At.Add(s.cfg.Hold)
	if !q.Capture {
		return []line{s.hooked(l, c)}, nil
	}
	taken := l
	taken.Entry, taken.Captured, taken.Kind = entryCaptured, q.Amount, kindAuthorise
	return []line{l, s.hooked(taken, c)}, nil
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
	_, _ = s.write([]line{{Note: noteFailed, At: s.now(), Key: key}})
	return true
}

// decideChange returns the line that a capture, void or refund of an authorisation writes.
func (s *Simulator) decideChange(c call, was line, amount shop.Amount) ([]line, *party.Problem) {
	l := was
	l.Seq, l.At, l.Key, l.Print, l.Kind, l.Hook, l.Trace = 0, s.now(), c.key, c.print, "", "", ""
	var problem *party.Problem
	switch c.kind {
	case kindCapture:
		l.Entry, l.Amount, l.Captured = entryCaptured, amount, amount
		problem = mayCapture(was, amount, l.At)
	case kindVoid:
		l.Entry, l.Amount = entryVoided, was.Total
		if was.status() != entryAuthorised {
			problem = notNow(was, "voided")
		}
	case kindRefund:
		l.Entry, l.Amount, l.Refunded = entryRefunded, amount, was.Refunded+amount
		problem = mayRefund(was, amount)
	}
	if problem == nil && c.kind != kindCapture && s.undoFails(was) {
		problem = party.Failed()
	}
	if problem != nil {
		return nil, problem
	}
	return []line{s.hooked(l, c)}, nil
}

func mayCapture(was line, amount shop.Amount, now time.Time) *party.Problem {
	switch {
	case was.status() != entryAuthorised:
		return notNow(was, "captured")
	case amount <= 0 || amount > was.Total:
		return party.Invalid("amount must be positive, and at most what is authorised.")
	case !now.Before(was.Expires):
		return party.Conflict("expired", "The authorisation has expired.")
	}
	return nil
}

func mayRefund(was line, amount shop.Amount) *party.Problem {
	switch {
	case was.status() != entryCaptured:
		return notNow(was, "refunded")
	case amount <= 0 || amount > was.Captured-was.Refunded:
		return party.Invalid("amount must be positive, and at most what is captured and not refunded yet.")
	}
	return nil
}

func notNow(was line, what string) *party.Problem {
	return party.Conflict("not_allowed", "The authorisation is "+was.status()+"; it cannot be "+what+".")
}

// undoFails tells whether a void or refund is one of those that are to fail.
func (s *Simulator) undoFails(was line) bool {
	if was.Method == "" {
		return false
	}
	limit := behaviourOf(was.Method).undoFails
	s.mu.Lock()
	failed := s.undosFailed[was.Authorisation]
	s.mu.Unlock()
	if failed >= limit {
		return false
	}
	if limit <= maxUndoFails { // for ever needs no counting
		// If it cannot be kept it fails all the more.
		_, _ = s.write([]line{{Note: noteUndoFailed, At: s.now(), Authorisation: was.Authorisation}})
	}
	return true
}

// hooked marks a line whose webhook has to be delivered.
func (s *Simulator) hooked(l line, c call) line {
	if !s.sender.Enabled() {
		return l
	}
	l.Hook = c.b.hook
	if l.Hook == "" && s.cfg.Webhooks == WebhooksAll {
		l.Hook = hookOnce
	}
	if l.Hook != "" {
		l.Trace = c.trace
	}
	return l
}

func (s *Simulator) now() time.Time { return s.deps.Clock.Now().UTC().Truncate(time.Microsecond) }
