package saga

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"

	"holdfast/platform/calls"
	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// topics and types are what begins, changes and ends the saga of an orchestrated order.
var topics = []string{shop.TopicOrders}

var types = []shop.EventType{
	shop.EventOrderPlaced, shop.EventOrderUndoRequested, shop.EventOrderRedriven,
	shop.EventOrderRejected, shop.EventOrderCancelled, shop.EventOrderFulfilled,
}

// Topics are those that the service reads. The embedded bus keeps a record until its readers have it.
func Topics() []string { return topics }

// asks tells whether an event asks for anything: those of orchestrated orders do. One that cannot be read may be such
// an order's, and does too: it becomes a dead letter, as everywhere.
func asks(e shop.Event) bool {
	style := e.Saga()
	return style == shop.Orchestrated || style == "" && json.Unmarshal(e.Data, new(shop.OrderData)) != nil
}

// notes are what is written down of the events of a poll.
type notes struct {
	briefs []*shop.Brief
	calls  []calls.Call
	ended  []shop.OrderID
}

// consume notes what Temporal has to be told. That is a call to be made, so a Temporal that is down keeps
// no event waiting and makes no dead letter.
func (s *Service) consume(ctx context.Context, tx *sqldb.Tx, events []shop.Event) error {
	var n notes
	for _, e := range events {
		var d shop.OrderData
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return fmt.Errorf("decode %s: %w", e.Type, err)
		}
		switch {
		case d.Order.Status.Final():
			n.ended = append(n.ended, e.OrderID) // also a redrive of it: what is left of it needs no orchestrator
		default:
			if err := n.take(ctx, tx, e, &d); err != nil {
				return err
			}
		}
	}
	if err := saveBriefs(ctx, tx, n.briefs); err != nil {
		return err
	}
	for _, c := range n.calls {
		// One that waits already says the same, unless it is of before the undo. Each alone: where not all of a poll's
		// can go to a worker at once, the first can.
		if err := s.runner.Enqueue(ctx, tx, c); err != nil {
			return err
		}
	}
	return dropBriefs(ctx, tx, n.ended)
}

// take notes what one event asks for.
func (n *notes) take(ctx context.Context, tx *sqldb.Tx, e shop.Event, d *shop.OrderData) error {
	op, request := opStart, `{}`
	switch e.Type {
	case shop.EventOrderUndoRequested:
		op = opUndo
	case shop.EventOrderRedriven:
		op = opRedrive
		if d.Undo {
			request = `{"undo":true}`
		}
	}
	if op != opUndo {
		if d.Brief == nil {
			return fmt.Errorf("%s has no brief", e.Type)
		}
		n.briefs = append(n.briefs, d.Brief)
	}
	if e.Type == shop.EventOrderRedriven && !d.Undo {
		if waits, err := n.starts(ctx, tx, e.OrderID); err != nil || waits {
			return err
		}
	}
	n.calls = append(n.calls, calls.Call{Key: callKey(e.OrderID, op, d.Undo), OrderID: e.OrderID, Kind: op,
		Request: []byte(request), TraceParent: e.TraceParent})
	return nil
}

// starts tells whether the start of an order waits to be told. It asks for all there is to ask for, and a Temporal that
// is slow needs no second one. Where it has been told already and the answer was lost, it is told again as a redrive.
func (n *notes) starts(ctx context.Context, tx *sqldb.Tx, id shop.OrderID) (bool, error) {
	key := callKey(id, opStart, false)
	if slices.ContainsFunc(n.calls, func(c calls.Call) bool { return c.Key == key }) {
		return true, nil
	}
	_, waits, err := calls.Find(ctx, tx, key)
	return waits, err
}

func callKey(id shop.OrderID, op string, undo bool) string {
	return fmt.Sprintf("%s:%s:%t", id, op, undo)
}
