// Package flow stands in for the bus where one service is tested alone: what it appended to its outbox can
// be read, and nothing is sent.
package flow

import (
	"context"
	"testing"

	"holdfast/platform/outbox"
	"holdfast/platform/policy"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

// Outbox is an outbox on db whose relay does not run.
func Outbox(t testing.TB, db *sqldb.DB, source string, deps shop.Deps) *outbox.Outbox {
	t.Helper()
	o, err := outbox.New(outbox.Config{Owner: "test"}, outbox.Parts{DB: db, Producer: nobody{}, Deps: deps, Tel: telemetry.Nop(), Source: source})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// nobody sends nothing, since nothing runs the relay.
type nobody struct{}

func (nobody) Send(context.Context, []shop.Event) []error { panic("the relay runs") }

// Events are those in the outbox of db on a topic, in their order.
func Events(t testing.TB, db *sqldb.DB, topic string) []shop.Event {
	t.Helper()
	var events []shop.Event
	err := db.View(context.Background(), func(ctx context.Context, tx *sqldb.Tx) error {
		events = nil
		rows, err := tx.Query(ctx, `SELECT event_id, key, version, type, source, traceparent, data FROM outbox WHERE topic = ? ORDER BY pos`, topic)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			e := shop.Event{Topic: topic}
			if err := rows.Scan(&e.ID, &e.OrderID, &e.Version, &e.Type, &e.Source, &e.TraceParent, &e.Data); err != nil {
				return err
			}
			events = append(events, e)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// Types lists the types of events.
func Types(events []shop.Event) []shop.EventType {
	types := make([]shop.EventType, len(events))
	for i, e := range events {
		types[i] = e.Type
	}
	return types
}

// Event makes an event as another service would send it.
func Event(t testing.TB, kind shop.EventType, topic string, id shop.OrderID, version int64, data any) shop.Event {
	t.Helper()
	e, err := shop.NewEvent(kind, topic, id, version, "", data)
	if err != nil {
		t.Fatal(err)
	}
	e.ID = shop.EventID(string(kind) + "-" + string(id))
	return e
}

// Policies is an empty set of policies.
func Policies(t testing.TB, deps shop.Deps) *policy.Set {
	t.Helper()
	set, err := policy.New(deps, telemetry.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return set
}
