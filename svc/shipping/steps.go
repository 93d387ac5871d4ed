package shipping

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"holdfast/platform/calls"
	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// batch is the work of one transaction: rows are loaded once, changed in memory, and saved once.
type batch struct {
	s         *Service
	now       time.Time
	shipments map[shop.OrderID]*shipment
	events    []shop.Event
	calls     []calls.Call
}

// load locks the rows of the orders.
func (s *Service) load(ctx context.Context, tx *sqldb.Tx, ids []shop.OrderID) (*batch, error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return nil, err
	}
	found, err := shipmentsOf(ctx, tx, ids, forUpdate)
	return &batch{s: s, now: now, shipments: found}, err
}

// store is how the rows of a transaction are loaded and saved.
func (s *Service) store() calls.Store[*batch] { return calls.Store[*batch]{Load: s.load, Save: save} }

// save writes what was changed.
func save(ctx context.Context, tx *sqldb.Tx, b *batch) error {
	var dirty []*shipment
	for _, sh := range b.shipments {
		if sh.dirty {
			dirty = append(dirty, sh)
		}
	}
	slices.SortFunc(dirty, func(x, y *shipment) int { return cmp.Compare(x.OrderID, y.OrderID) })
	if err := saveShipments(ctx, tx, dirty); err != nil {
		return err
	}
	if err := b.s.runner.Enqueue(ctx, tx, b.calls...); err != nil {
		return err
	}
	tx.AfterCommit(func() {
		for _, sh := range dirty {
			b.s.steps.Settled(sh.OrderID)
		}
	})
	return b.s.outbox.Append(ctx, tx, b.events...)
}

// open makes a row in the given state.
func (b *batch) open(id shop.OrderID, state shop.ShipmentStatus) *shipment {
	sh := &shipment{dirty: true, Shipment: shop.Shipment{OrderID: id, ID: shop.ShipmentID(b.s.deps.IDs.New(shop.ShipmentPrefix)),
		Status: state, Lines: []shop.ReservedLine{}, CreatedAt: b.now, UpdatedAt: b.now}}
	b.shipments[id] = sh
	return sh
}

// to moves a row to a state.
func (b *batch) to(sh *shipment, state shop.ShipmentStatus) {
	sh.Status, sh.UpdatedAt, sh.dirty = state, b.now, true
}

// schedule asks the carrier for a parcel.
func (b *batch) schedule(cause shop.Event, brief *shop.Brief) error {
	sh := b.open(brief.OrderID, scheduling)
	sh.caller, sh.saga, sh.Lines = brief.Caller, brief.Saga, brief.Lines
	return b.call(sh, opSchedule, cause.TraceParent, request{ShipTo: &brief.ShipTo, Lines: brief.Lines})
}

// undo cancels the parcel, or sees to it that there will be none. It is remembered in the row, so that
// a parcel that turns out to be scheduled later is cancelled as well.
func (b *batch) undo(sh *shipment, id shop.OrderID, saga shop.SagaStyle, traceParent string) error {
	if sh == nil {
		sh = b.open(id, shop.ShipmentCancelled)
		sh.undo, sh.saga = true, saga
		return b.emit(sh, traceParent, false)
	}
	if sh.undo {
		return nil
	}
	sh.undo, sh.dirty = true, true
	if sh.Status != shop.ShipmentScheduled {
		return nil // rejected: nothing to undo; scheduling: its outcome decides
	}
	b.to(sh, cancelling)
	return b.call(sh, opCancel, traceParent, request{Reference: sh.Reference})
}

// scheduled applies the carrier's yes. It is safe to repeat: the answer, a query and a webhook may all
// bring it. A yes for an order that is being undone, or was given up, is cancelled.
func (b *batch) scheduled(sh *shipment, traceParent string, doc parcel) error {
	late := sh.Reference == "" && (sh.Status == shop.ShipmentRejected || sh.Status == shop.ShipmentCancelled)
	if sh.Status != scheduling && !late {
		return nil
	}
	sh.Reference, sh.Tracking = doc.ID, doc.Tracking
	if sh.undo || late {
		sh.undo = true
		b.to(sh, cancelling)
		return b.call(sh, opCancel, traceParent, request{Reference: doc.ID})
	}
	b.to(sh, shop.ShipmentScheduled)
	return b.emit(sh, traceParent, false)
}

// rejected ends a parcel that did not come about.
func (b *batch) rejected(sh *shipment, c calls.Call, why shop.Reason) error {
	if sh.Status != scheduling {
		return nil
	}
	sh.Reason = why
	b.to(sh, shop.ShipmentRejected)
	return b.emit(sh, c.TraceParent, false)
}

// neverAsked closes a shipment whose order was undone before the carrier was asked.
func (b *batch) neverAsked(sh *shipment, c calls.Call) error {
	if sh.Status != scheduling {
		return nil
	}
	b.to(sh, shop.ShipmentCancelled)
	return b.emit(sh, c.TraceParent, false)
}

// cancelled applies the carrier's word that the parcel will not leave.
func (b *batch) cancelled(sh *shipment, c calls.Call) error {
	if sh.Status != cancelling && sh.Status != shop.ShipmentNeedsAttention {
		return nil
	}
	b.to(sh, shop.ShipmentCancelled)
	return b.emit(sh, c.TraceParent, true)
}

// dispatched applies the carrier's word that the parcel leaves; the order has allowed it.
func (b *batch) dispatched(sh *shipment, traceParent string) error {
	if sh.Status != shop.ShipmentScheduled {
		return nil
	}
	sh.DispatchedAt = b.now
	b.to(sh, shop.ShipmentDispatched)
	return b.emit(sh, traceParent, false)
}

// park leaves a cancel that keeps failing to an operator.
func (b *batch) park(sh *shipment, c calls.Call) error {
	if sh.Status != cancelling {
		return nil
	}
	sh.Reason = shop.ReasonCarrierCancelFailed
	b.to(sh, shop.ShipmentNeedsAttention)
	return b.emit(sh, c.TraceParent, false)
}

func (b *batch) call(sh *shipment, op, traceParent string, r request) error {
	body, err := json.Marshal(r)
	b.calls = append(b.calls, calls.Call{Key: callKey(sh.OrderID, op), OrderID: sh.OrderID, Kind: op, Request: body, TraceParent: traceParent})
	return err
}

// emit says sh's state, also as a compensation if it is one; states under way say nothing.
func (b *batch) emit(sh *shipment, traceParent string, compensation bool) error {
	t, ok := map[shop.ShipmentStatus]shop.EventType{
		shop.ShipmentScheduled: shop.EventShipmentScheduled, shop.ShipmentRejected: shop.EventShipmentRejected,
		shop.ShipmentCancelled: shop.EventShipmentCancelled, shop.ShipmentDispatched: shop.EventShipmentDispatched,
		shop.ShipmentNeedsAttention: shop.EventShipmentNeedsAttention,
	}[sh.Status]
	if !ok {
		return nil
	}
	sh.version++
	sh.dirty = true
	e, err := shop.NewEvent(t, shop.TopicShipping, sh.OrderID, sh.version, traceParent,
		shop.ShipmentData{ID: sh.ID, OrderID: sh.OrderID, Status: sh.Status, Reason: sh.Reason, Tracking: sh.Tracking, Saga: sh.saga})
	b.events = append(b.events, e)
	if compensation {
		e.Topic, e.Version = shop.TopicCompensations, 0
		b.events = append(b.events, e)
	}
	return err
}
