package outbox

import (
	"context"
	"maps"
	"strconv"

	"holdfast/platform/bus"
	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// The headers that a dead letter has beside those of the event that it copies.
const (
	HeaderDeadID        = "dlq_id"        // of this letter; the event may be a dead letter of other consumers too
	HeaderDeadCause     = "dlq_cause"     // the error, or "behind <event id>"
	HeaderDeadConsumer  = "dlq_consumer"  // who could not handle it
	HeaderDeadTopic     = "dlq_topic"     // where it was
	HeaderDeadPartition = "dlq_partition" //
	HeaderDeadOffset    = "dlq_offset"    //
	HeaderDeadCut       = "dlq_cut"       // how many bytes of the data are missing, where it was too large with these
)

// letterRoom is kept free in a dead letter for its headers; data beyond it is cut off.
const letterRoom = 32 << 10

// noType is the type of a dead letter that was no event and named no type.
const noType shop.EventType = "Undecodable"

// letter returns the dead letter of an item: the record as it was, with its own headers, and why it is
// here. In the outbox it is an event of its own, with version 0.
func (c *Consumer) letter(it *item, cause string) shop.Event {
	e := it.event
	e.ID = shop.EventID(c.deps.IDs.New(shop.EventPrefix))
	e.Version = 0
	e.Topic = shop.DeadLetters(it.event.Topic)
	e.Headers = make(map[string]string, len(it.event.Headers)+8)
	if it.Err == nil {
		e.Headers[bus.HeaderID] = string(it.event.ID)
		e.Headers[bus.HeaderVersion] = strconv.FormatInt(it.event.Version, 10)
	} else {
		e.Type = noType
		if t := it.event.Headers[bus.HeaderType]; t != "" {
			e.Type = shop.EventType(t)
		}
		e.Source = it.event.Headers[bus.HeaderSource]
		if e.OrderID == "" {
			e.OrderID = "-" // a key is needed, and there was none
		}
	}
	maps.Copy(e.Headers, it.event.Headers)
	e.Headers[HeaderDeadID] = string(e.ID)
	e.Headers[HeaderDeadCause] = short(cause, errorBytes)
	e.Headers[HeaderDeadConsumer] = c.cfg.Name
	e.Headers[HeaderDeadTopic] = it.event.Topic
	e.Headers[HeaderDeadPartition] = strconv.Itoa(int(it.Partition))
	e.Headers[HeaderDeadOffset] = strconv.FormatInt(it.Offset, 10)
	if room := c.maxMessage - letterRoom; len(e.Data) > room {
		e.Headers[HeaderDeadCut] = strconv.Itoa(len(e.Data) - room)
		e.Data = e.Data[:room]
	}
	return e
}

// bury makes a dead letter of an item and parks its key: what comes later for the key would build on
// what has not happened.
func (c *Consumer) bury(ctx context.Context, it item) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	fresh := false
	err := c.parts.DB.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		todo, err := c.note(ctx, tx, []item{it})
		if fresh = len(todo) > 0; err != nil || !fresh {
			return err
		}
		if err := c.parts.Outbox.Append(ctx, tx, c.letter(&it, it.cause)); err != nil {
			return err
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO parked_keys (consumer, key, event_id, at) VALUES (?, ?, ?, ?)
			ON CONFLICT (consumer, key) DO NOTHING`, c.cfg.Name, string(it.event.OrderID), it.id, sqldb.Micros(now))
		return err
	})
	if err != nil {
		return shop.Wrap(shop.Unavailable, "outbox.Consumer", "a dead letter could not be stored", err)
	}
	if fresh {
		c.parked.Add(1)
		c.metrics.dead.Add(ctx, 1, c.metrics.consumer)
	}
	return nil
}

// loadParked counts the parked keys. Only a consumer that has the partition of a key parks it, so the
// count is refreshed when partitions have been gained.
func (c *Consumer) loadParked(ctx context.Context) error {
	n, err := c.countParked(ctx)
	if err == nil {
		c.parked.Store(n)
	}
	return err
}

func (c *Consumer) countParked(ctx context.Context) (n int64, err error) {
	err = c.parts.DB.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM parked_keys WHERE consumer = ?`, c.cfg.Name).Scan(&n)
	})
	return n, err
}

// parkedKeys returns the dead letters that the keys of items are parked behind.
func (c *Consumer) parkedKeys(ctx context.Context, tx *sqldb.Tx, items []item) (map[shop.OrderID]string, error) {
	args := []any{c.cfg.Name}
	for i := range items {
		args = append(args, string(items[i].event.OrderID))
	}
	rows, err := tx.Query(ctx, `SELECT key, event_id FROM parked_keys WHERE consumer = ? AND key IN `+sqldb.In(len(items)), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	parked := make(map[shop.OrderID]string)
	for rows.Next() {
		var key, event string
		if err := rows.Scan(&key, &event); err != nil {
			return nil, err
		}
		parked[shop.OrderID(key)] = event
	}
	return parked, rows.Err()
}

// Unpark lets the consumer handle the events of a key again, from the next one on. What is a dead
// letter stays one. It returns false where the key is not parked.
func (c *Consumer) Unpark(ctx context.Context, key shop.OrderID) (was bool, err error) {
	err = c.parts.DB.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		n, err := tx.Exec(ctx, `DELETE FROM parked_keys WHERE consumer = ? AND key = ?`, c.cfg.Name, string(key))
		was = n > 0
		return err
	})
	return was, err
}
