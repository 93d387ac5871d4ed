package audit

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"

	"holdfast/shop"
)

// cursor is how far the long tables of a store have been read. PostgreSQL numbers rows before they are
// committed, so what was not there below it is looked for again.
type cursor struct {
	outbox, movements, requests int64
	holes                       []int64 // of the outbox
}

// maxHoles bounds what is looked for again; what is left by it is found when its order is suspected.
const maxHoles = 10_000

// pages calls page in one short transaction after the other.
func (a *auditor) pages(ctx context.Context, s *store, page func(context.Context, *view) (more bool, err error)) error {
	for more := true; more; {
		err := s.view(ctx, func(ctx context.Context, v *view) (err error) {
			more, err = page(ctx, v)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// scan reads the long tables of all stores once, a short transaction for each page.
func (a *auditor) scan(ctx context.Context) error {
	for _, service := range a.all() {
		s := a.stores[service]
		if err := a.pages(ctx, s, func(ctx context.Context, v *view) (bool, error) { return a.outboxPage(ctx, v, service) }); err != nil {
			return err
		}
		if err := a.scanInbox(ctx, s); err != nil {
			return err
		}
	}
	if err := a.pages(ctx, a.stores[inventoryStore], a.movementsPage); err != nil {
		return err
	}
	return a.pages(ctx, a.stores[orderStore], a.requestsPage)
}

// tail reads to the end, within one snapshot, what was written since.
func (a *auditor) tail(ctx context.Context, v *view, service string) error {
	if err := a.holes(ctx, v, service); err != nil {
		return err
	}
	parts := []func(context.Context, *view) (bool, error){func(ctx context.Context, v *view) (bool, error) { return a.outboxPage(ctx, v, service) }}
	switch service {
	case inventoryStore:
		parts = append(parts, a.movementsPage)
	case orderStore:
		parts = append(parts, a.requestsPage)
	}
	for _, page := range parts {
		for more := true; more; {
			var err error
			if more, err = page(ctx, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// outboxRow is an event, and of what it carries only whether its order is orchestrated, where that decides who handles it.
type outboxRow struct {
	pos, version         int64
	id, topic, key, kind string
	orchestrated         bool
}

// events selects from the outbox.
func (v *view) events(where string) string {
	contains := `instr(data, CAST('%s' AS BLOB)) > 0`
	if v.postgres {
		contains = `position('%s'::bytea IN data) > 0`
	}
	return `SELECT pos, event_id, topic, key, version, type, CASE WHEN type IN (` + styledTypes + `) THEN ` + fmt.Sprintf(contains, `"saga":"`+string(shop.Orchestrated)+`"`) +
		` ELSE FALSE END FROM outbox WHERE ` + where
}

func (r *outboxRow) scan(rows *sql.Rows) error {
	return rows.Scan(&r.pos, &r.id, &r.topic, &r.key, &r.version, &r.kind, &r.orchestrated)
}

func (a *auditor) outboxPage(ctx context.Context, v *view, service string) (bool, error) {
	c := a.cursors[service]
	n := 0
	var r outboxRow
	err := v.query(ctx, v.events(`pos > ? ORDER BY pos LIMIT ?`), []any{c.outbox, a.cfg.Page}, func(rows *sql.Rows) error {
		if err := r.scan(rows); err != nil {
			return err
		}
		if v.postgres && c.outbox > 0 {
			for hole := c.outbox + 1; hole < r.pos && len(c.holes) < maxHoles; hole++ {
				c.holes = append(c.holes, hole)
			}
		}
		c.outbox = r.pos
		n++
		a.event(service, &r)
		return nil
	})
	return n == a.cfg.Page, err
}

// holes looks for events that were committed after later ones.
func (a *auditor) holes(ctx context.Context, v *view, service string) error {
	c := a.cursors[service]
	if len(c.holes) == 0 {
		return nil
	}
	var left []int64
	for from := 0; from < len(c.holes); from += readChunk {
		chunk := c.holes[from:min(from+readChunk, len(c.holes))]
		args := make([]any, len(chunk))
		for i, pos := range chunk {
			args[i] = pos
		}
		found := map[int64]bool{}
		var r outboxRow
		marks := strings.TrimSuffix(strings.Repeat("?,", len(chunk)), ",")
		if err := v.query(ctx, v.events(`pos IN (`+marks+`)`), args, func(rows *sql.Rows) error {
			err := r.scan(rows)
			if err == nil {
				found[r.pos] = true
				a.event(service, &r)
			}
			return err
		}); err != nil {
			return err
		}
		for _, pos := range chunk {
			if !found[pos] {
				left = append(left, pos)
			}
		}
	}
	c.holes = left
	return nil
}

// event takes an event of an outbox into account.
func (a *auditor) event(service string, r *outboxRow) {
	a.report.Counts.Events++
	if strings.HasSuffix(r.topic, ".dlq") {
		a.report.Counts.DeadLetters++
		if len(a.letters) < maxOffenders {
			a.letters = append(a.letters, Offender{ID: r.key, Detail: service + " could not handle " + r.kind + ": it is a dead letter"})
		}
		return
	}
	if r.version == 0 {
		return // a copy
	}
	a.recs.of(r.key).event(sourceOf[service], r.version, kinds[r.kind])
	for _, consumer := range readers[r.topic+" "+r.kind] {
		if in := a.inboxes[consumer]; in != nil && r.asks(consumer) { // there may be no saga
			in.expect(r.id, a.recs.hash(r.id))
		}
	}
}

// movementsPage reads the stock's ledger.
func (a *auditor) movementsPage(ctx context.Context, v *view) (bool, error) {
	c := a.cursors[inventoryStore]
	n := 0
	err := v.query(ctx, `SELECT pos, sku, kind, on_hand_delta, reserved_delta, order_id FROM movements WHERE pos > ? ORDER BY pos LIMIT ?`,
		[]any{c.movements, a.cfg.Page}, func(rows *sql.Rows) error {
			var sku, kind, id string
			var onHand, reserved int64
			if err := rows.Scan(&c.movements, &sku, &kind, &onHand, &reserved, &id); err != nil {
				return err
			}
			n++
			a.moved++
			sum := a.stock[sku]
			sum.onHand, sum.reserved = sum.onHand+onHand, sum.reserved+reserved
			a.stock[sku] = sum
			if id == "" {
				return nil
			}
			switch rec := a.recs.of(id); kind {
			case "reserve":
				rec.reserved += int32(reserved)
			case "release":
				rec.released -= int32(reserved)
			case "ship":
				rec.parted -= int32(reserved)
			}
			return nil
		})
	return n == a.cfg.Page, err
}

// acknowledged is what is read of a stored answer.
type acknowledged struct {
	ID     string           `json:"id"`
	Status shop.OrderStatus `json:"status"`
	Total  shop.Amount      `json:"total"`
	Lines  []shop.OrderLine `json:"lines"`
}

const placeRoute = "POST /v1/orders"

// requestsPage reads the stored answers to orders and cancels.
func (a *auditor) requestsPage(ctx context.Context, v *view) (bool, error) {
	c := a.cursors[orderStore]
	n := 0
	err := v.query(ctx, `SELECT pos, route, answer FROM idempotency WHERE pos > ? ORDER BY pos LIMIT ?`, []any{c.requests, a.cfg.Page}, func(rows *sql.Rows) error {
		var route string
		var answer []byte
		if err := rows.Scan(&c.requests, &route, &answer); err != nil {
			return err
		}
		n++
		a.requests++
		cancel := strings.HasSuffix(route, "/cancel")
		if route != placeRoute && !cancel {
			return nil
		}
		var ack acknowledged
		if err := json.Unmarshal(answer, &ack); err != nil || ack.ID == "" {
			a.unreadable++
			return nil
		}
		rec := a.recs.of(ack.ID)
		switch {
		case !cancel:
			rec.asked = min(rec.asked+1, 100)
			rec.answer = a.fingerprint(ack.Total, ack.Lines)
		case ack.Status == shop.Cancelling || ack.Status == shop.Cancelled:
			rec.marks |= markPromised
		}
		return nil
	})
	return n == a.cfg.Page, err
}

// fingerprint tells orders apart by what their customers were told.
func (a *auditor) fingerprint(total shop.Amount, lines []shop.OrderLine) uint32 {
	h := uint64(total) * 0x9e3779b97f4a7c15
	for _, l := range lines {
		h = (h ^ a.recs.hash(string(l.SKU))) * 0x100000001b3
		h = (h ^ uint64(l.Quantity)<<20 ^ uint64(l.UnitPrice)) * 0x9e3779b97f4a7c15
	}
	return uint32(h >> 32)
}

// unknown finds the ids of orders that the long tables name and that have no row.
func (a *auditor) unknown(ctx context.Context) error {
	hashes := a.recs.unseen()
	if len(hashes) == 0 {
		return nil
	}
	take := func(id string) {
		if hashes[a.recs.hash(id)] {
			a.suspect(id)
		}
	}
	for _, service := range services {
		queries := []string{`SELECT pos, key FROM outbox WHERE version > 0 AND pos > ? ORDER BY pos LIMIT ?`}
		switch service {
		case inventoryStore:
			queries = append(queries, `SELECT pos, order_id FROM movements WHERE pos > ? ORDER BY pos LIMIT ?`)
		case orderStore:
			queries = append(queries, `SELECT pos, answer FROM idempotency WHERE pos > ? ORDER BY pos LIMIT ?`)
		}
		for i, query := range queries {
			var pos int64
			err := a.pages(ctx, a.stores[service], func(ctx context.Context, v *view) (bool, error) {
				n := 0
				err := v.query(ctx, query, []any{pos, a.cfg.Page}, func(rows *sql.Rows) error {
					var id string
					err := rows.Scan(&pos, &id)
					if n++; i > 0 && service == orderStore {
						var ack acknowledged
						_ = json.Unmarshal([]byte(id), &ack) // what cannot be read was counted before
						id = ack.ID
					}
					take(id)
					return err
				})
				return n == a.cfg.Page, err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
