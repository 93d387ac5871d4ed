package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/twmb/franz-go/pkg/kgo"
)

// readBus reads the whole bus, and compares it with the outboxes and the orders:
//
//   - an event whose row says that it was sent is on the bus (I13): the bus is read after the rows that are
//     missed, so what is still missing then is lost, or retention has removed it;
//   - an event on the bus is in an outbox (I14): the outboxes are read after the bus;
//   - of each order and source the versions come in order (I12), sent again or not;
//   - the orders that follow from the bus alone are the stores' (I12).
func (a *auditor) readBus(ctx context.Context) ([]finding, error) {
	if a.cfg.Bus == nil {
		return nil, nil
	}
	b := newBusReader(*a.cfg.Bus, a.recs.hash)
	var err error
	if b.client, err = kgo.NewClient(append(slices.Clone(b.bus.Options), kgo.RequestRetries(4))...); err != nil {
		return nil, err
	}
	defer b.client.Close()
	a.report.Sources = append(a.report.Sources, "the bus at "+b.bus.Name)
	if err := b.read(ctx); err != nil {
		return nil, errors.Join(errors.New("the bus could not be read"), err)
	}
	slices.Sort(b.ids)
	missing, written, err := a.unread(ctx, b)
	if err != nil {
		return nil, err
	}
	found := a.unwritten(b, written)
	behind, err := a.project(ctx, b)
	if err != nil {
		return nil, err
	}
	found = append(found, behind...)
	if len(missing) > 0 { // they may have been sent meanwhile
		if err := b.read(ctx); err != nil {
			return nil, err
		}
		slices.Sort(b.ids)
	}
	a.report.Counts.OnBus = b.records
	return append(append(found, b.found...), b.lost(missing)...), nil
}

// missed is an event that was sent, and was not met on the bus.
type missed struct {
	outboxRow
	service string
}

// unread reads all outboxes for events that were sent and not read, and for the hashes of all ids.
func (a *auditor) unread(ctx context.Context, b *busReader) (missing []missed, written []uint64, err error) {
	for _, service := range a.all() {
		var pos int64
		err := a.pages(ctx, a.stores[service], func(ctx context.Context, v *view) (bool, error) {
			n := 0
			var r missed
			err := v.query(ctx, `SELECT o.pos, o.event_id, o.topic, o.key, o.version, o.type, u.pos IS NOT NULL FROM outbox o LEFT JOIN outbox_unsent u ON u.pos = o.pos
				WHERE o.pos > ? ORDER BY o.pos LIMIT ?`, []any{pos, a.cfg.Page}, func(rows *sql.Rows) error {
				var unsent bool
				if err := rows.Scan(&r.pos, &r.id, &r.topic, &r.key, &r.version, &r.kind, &unsent); err != nil {
					return err
				}
				pos = r.pos
				n++
				hash := a.recs.hash(r.id)
				written = append(written, hash)
				if !unsent && !strings.HasSuffix(r.topic, ".dlq") && !has(b.ids, hash) && len(missing) < maxSuspects {
					r.service = service
					missing = append(missing, r)
				}
				return nil
			})
			return n == a.cfg.Page, err
		})
		if err != nil {
			return nil, nil, err
		}
	}
	slices.Sort(written)
	return missing, written, nil
}

// lost tells of events that were sent and are not on the bus. Where retention has removed the beginning of a
// topic, what is older than what is left of it cannot be told.
func (b *busReader) lost(missing []missed) (found []finding) {
	removed := map[string]string{}
	for at, cut := range b.cut {
		if cut {
			removed[at.topic] = max(removed[at.topic], b.oldest[at], "evt_")
		}
	}
	gone := map[string]int{}
	for _, m := range missing {
		if has(b.ids, b.hash(m.id)) {
			continue
		}
		// An id begins with the time at which the event was written; it may have been sent a little later.
		if oldest, cut := removed[m.topic]; cut && (len(oldest) < bucketBytes || len(m.id) < bucketBytes || m.id[:bucketBytes] <= oldest[:bucketBytes]) {
			gone[m.topic]++
			continue
		}
		found = append(found, finding{inv: "I13", id: m.id, detail: fmt.Sprintf("%s has sent version %d of %s, %s, and it is not on the bus", m.service, m.version, m.key, m.kind)})
	}
	for _, topic := range slices.Sorted(maps.Keys(gone)) {
		found = append(found, finding{inv: "I13", id: topic, untold: true, detail: fmt.Sprintf("retention has removed the beginning of the topic: %d older events cannot be compared", gone[topic])})
	}
	return found
}

// unwritten finds events on the bus that no outbox has. Where some are older than what outboxes keep, nothing
// can be said.
func (a *auditor) unwritten(b *busReader, written []uint64) (found []finding) {
	since := a.inboxes[orderStore].since
	for at, oldest := range b.oldest {
		if len(oldest) < bucketBytes || oldest[:bucketBytes] <= since {
			a.report.Sources = append(a.report.Sources, fmt.Sprintf("topic %s, partition %d, begins with events older than outboxes keep: nothing on the bus was looked for in the outboxes", at.topic, at.partition))
			return nil
		}
	}
	strange := 0
	for _, hash := range b.ids {
		if !has(written, hash) {
			strange++
		}
	}
	if strange > 0 {
		found = append(found, finding{inv: "I14", id: "bus", detail: fmt.Sprintf("%d records on the bus are in no outbox: nobody has written them", strange)})
	}
	return found
}

// project compares the orders that follow from the bus with the stores'.
func (a *auditor) project(ctx context.Context, b *busReader) (found []finding, err error) {
	bad := func(id, format string, args ...any) {
		found = append(found, finding{inv: "I12", id: id, detail: "on the bus: " + fmt.Sprintf(format, args...)})
	}
	from := ""
	err = a.pages(ctx, a.stores[orderStore], func(ctx context.Context, v *view) (bool, error) {
		n := 0
		err := v.query(ctx, `SELECT order_id, status, doc FROM orders WHERE order_id > ? ORDER BY order_id LIMIT ?`, []any{from, a.cfg.RowPage}, func(rows *sql.Rows) error {
			var status string
			var doc []byte
			if err := rows.Scan(&from, &status, &doc); err != nil {
				return err
			}
			n++
			o := b.orders[from]
			var d orderDoc
			if o == nil || json.Unmarshal(doc, &d) != nil {
				return nil // its events are missing, or its row cannot be read: both are told elsewhere
			}
			version := d.Order.Version
			switch {
			case o.last[srcOrder] > version:
				bad(from, "has version %d, and its row %d", o.last[srcOrder], version)
			case o.last[srcOrder] == version && string(o.status) != status:
				bad(from, "is %s at version %d, and its row says %s", o.status, version, status)
			case a.cfg.AtRest && !o.cut && o.last[srcOrder] == version && o.status.Final() && !ended(o.doc()):
				bad(from, "is %s with stock %q, payment %q, parcel %q", o.status, o.stock, o.payment, o.parcel)
			}
			return nil
		})
		return n == a.cfg.RowPage, err
	})
	return found, err
}
