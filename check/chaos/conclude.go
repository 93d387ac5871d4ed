package chaos

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"holdfast/check"
	"holdfast/check/audit"
	"holdfast/shop"
)

// counts are what the outside parties have counted since their start.
type counts struct {
	psp, carrier int // requests
	pspAuthorise int
}

// counts asks the outside parties. Those that do not answer, since they are down, have counted nothing.
func (r *run) counts(ctx context.Context) (n counts) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	type arrivals struct {
		Total       int            `json:"total"`
		ByOperation map[string]int `json:"by_operation"`
	}
	var psp, carrier arrivals
	if check.GetJSON(ctx, r.target.Addresses.PSP+"/arrivals", &psp) != nil || check.GetJSON(ctx, r.target.Addresses.Carrier+"/arrivals", &carrier) != nil {
		return counts{}
	}
	return counts{psp: psp.Total, carrier: carrier.Total, pspAuthorise: psp.ByOperation["authorise"]}
}

// conclude brings everything to rest, and looks at the world. Where asked ends first nothing is looked at: what is on its
// way would be taken for lost.
func (r *run) conclude(asked context.Context) error {
	r.campaign.Say("  the load has ended; waiting until all is at rest")
	ctx, cancel := context.WithTimeout(asked, r.campaign.Rest)
	defer cancel()
	if err := r.resend(ctx); err != nil {
		return err
	}
	if err := r.cancelRest(ctx); err != nil {
		return err
	}
	stores := r.campaign.System.Stores()
	ours := stores.Data != "" || stores.DSN != ""
	r.rest(ctx, ours)
	r.result.Drain = time.Since(r.ended)
	if asked.Err() != nil {
		return asked.Err()
	}
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), r.campaign.Rest)
	defer cancel()
	w, err := check.Look(ctx, r.api, r.target.Addresses, r.name)
	if err != nil {
		return err
	}
	for _, o := range w.Orders {
		r.result.Outcomes[string(o.Status)]++
	}
	r.verify(w, ours)
	found, err := r.audit(ctx, stores, ours)
	if err != nil {
		return err
	}
	r.result.Violations = append(r.result.Violations, slices.DeleteFunc(found, r.expected)...)
	if n := r.counts(ctx).pspAuthorise - r.before.pspAuthorise; n > 0 { // else it was started again, and counts anew
		r.result.Attempts = float64(n) / float64(max(1, len(w.Orders)))
	}
	if p := r.campaign.System.Target().Process; p != nil { // as it is now: it may have been started again
		u, err := p.Usage()
		if err != nil {
			return err
		}
		r.result.PeakMB = float64(u.Peak) / 1e6
	}
	return nil
}

// resend sends again, with their keys, the orders whose clients do not know what has become of them. A client
// that was told to come again later knows: nothing was stored.
func (r *run) resend(ctx context.Context) error {
	for _, h := range append(slices.Clone(r.histories), r.bursts...) {
		var places []int
		var doubtful []check.Sent
		for i, s := range h.Orders {
			if s.InDoubt() && !s.Refused() {
				places, doubtful = append(places, i), append(doubtful, s)
			}
		}
		if err := check.Resend(ctx, h.Plan, doubtful); err != nil {
			return err
		}
		for i, place := range places {
			h.Orders[place] = doubtful[i]
		}
	}
	return nil
}

// cancelRest repeats the cancels without an answer, and cancels what the carrier would never collect.
func (r *run) cancelRest(ctx context.Context) error {
	for i := range r.record.cancels {
		if c := &r.record.cancels[i]; !c.settledCancel() {
			if c.status = r.cancelled(ctx, c.id); !c.settledCancel() {
				return fmt.Errorf("the cancel of %s is answered %d", c.id, c.status)
			}
		}
	}
	for _, h := range r.histories {
		for _, s := range h.Orders {
			if s.ID == "" || h.Plan.PostalCode == nil || h.Plan.PostalCode(s.Number) != neverCollected {
				continue
			}
			if slices.ContainsFunc(r.record.cancels, func(c request) bool { return c.id == s.ID }) {
				continue
			}
			began := time.Now()
			r.record.add(&r.record.cancels, began, s.ID, r.cancelled(ctx, s.ID))
		}
	}
	return nil
}

// cancelled cancels an order, again and again until it is answered.
func (r *run) cancelled(ctx context.Context, id shop.OrderID) (status int) {
	for {
		status = r.ask(ctx, http.MethodPost, "/v1/orders/"+string(id)+"/cancel", cancelKey(id))
		if status == http.StatusOK || status == http.StatusAccepted || status == http.StatusConflict || !pauseFor(ctx, backoff) {
			return status
		}
	}
}

// rest waits until every order has come to its end, or to its outcome where the Holdfast is not ours alone.
func (r *run) rest(ctx context.Context, ours bool) {
	for {
		left, err := check.Rest(ctx, r.api, ours)
		if err == nil && left == 0 || !pauseFor(ctx, backoff) {
			return
		}
	}
}

// verify compares the world with what the clients were told.
func (r *run) verify(w *check.World, ours bool) {
	var sent []check.Sent
	for _, h := range append(slices.Clone(r.histories), r.bursts...) {
		sent = append(sent, h.Orders...)
	}
	found := append(w.Verify(sent), contradicted(r.record.cancels, w.Orders)...)
	for _, v := range found {
		if !ours && (v.Invariant == "I6" || v.Invariant == "I8") { // dispatches go on while the world is looked at
			continue
		}
		if !r.tolerated(v, w.Orders) {
			r.result.Violations = append(r.result.Violations, v)
		}
	}
}

// tolerated tells whether a violation is none under more than one fault: an operator may then be needed.
func (r *run) tolerated(v check.Violation, orders []shop.Order) bool {
	return r.SafetyOnly && v.Invariant == "I10" && slices.ContainsFunc(orders, func(o shop.Order) bool {
		return string(o.ID) == v.Order && o.Status == shop.NeedsAttention
	})
}

// contradicted finds orders that have not become what the answer to their cancel said.
func contradicted(cancels []request, orders []shop.Order) (found []check.Violation) {
	status := make(map[shop.OrderID]shop.OrderStatus, len(orders))
	for _, o := range orders {
		status[o.ID] = o.Status
	}
	for _, c := range cancels {
		is := status[c.id]
		undone := is == shop.Cancelled || is == shop.Rejected
		if is != shop.NeedsAttention && (c.status == http.StatusConflict) == undone { // I10 tells of the former
			found = append(found, check.Violation{Invariant: "I16", Order: string(c.id), Detail: fmt.Sprintf("the cancel was answered %d, and it is %s", c.status, is)})
		}
	}
	return found
}

// audit checks the stores: with our own eyes where we may, else by the running Holdfast's.
func (r *run) audit(ctx context.Context, stores audit.Config, ours bool) ([]check.Violation, error) {
	if !ours {
		return check.Stores(ctx, r.target.Addresses)
	}
	stores.AtRest = true
	report, err := audit.Run(ctx, stores)
	if err != nil {
		return nil, err
	}
	return check.Failures(report), nil
}

// expected tells whether a violation is what an experiment has brought about on purpose: a dead letter of an
// event that nobody could handle.
func (r *run) expected(v check.Violation) bool {
	return v.Invariant == "I14" && r.campaign.expected[v.Order]
}
