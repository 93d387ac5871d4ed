package audit

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"holdfast/shop"
)

// readChunk bounds the ids in one statement.
const readChunk = 400

// orderDoc is what is read of an order's document.
type orderDoc struct {
	Order         shop.Order             `json:"order"`
	Stock         shop.ReservationStatus `json:"stock"`
	Parcel        shop.ShipmentStatus    `json:"parcel"`
	Undo          shop.Reason            `json:"undo"`
	DispatchBegun bool                   `json:"dispatch_begun"`
	Stuck         bool                   `json:"stuck"`
	Seen          struct {
		Inventory int64 `json:"inventory"`
		Payment   int64 `json:"payment"`
		Shipping  int64 `json:"shipping"`
	} `json:"seen"`
}

type orderRow struct {
	orderDoc
	caller, customer, external, status string
	rev                                int64
	unreadable                         bool
}

type reservationRow struct {
	status  shop.ReservationStatus
	lines   []shop.ReservedLine
	version int64
	rev     int64
}

type paymentRow struct {
	state                                  shop.PaymentStatus
	currency                               shop.Currency
	amount, authorised, captured, refunded shop.Amount
	version, rev                           int64
}

type shipmentRow struct {
	state        shop.ShipmentStatus
	version, rev int64
	dispatchedAt int64
}

// booking is one side of a transaction of the payment's books.
type booking struct {
	txn, account, currency string
	amount                 shop.Amount
}

// facts are everything that is known of one order.
type facts struct {
	id       string
	rec      record
	order    *orderRow
	stock    *reservationRow
	payment  *paymentRow
	parcel   *shipmentRow
	bookings []booking
	calls    int // to outside parties, under way
	parked   int // the same, given up until somebody says so
	unsent   bool
	money    *money
	parcels  *parcels
}

// gather reads the rows of a store about orders.
func gather(ctx context.Context, v *view, service string, w which, into map[string]*facts) error {
	of := func(id string) *facts {
		f := into[id]
		if f == nil {
			f = &facts{id: id}
			into[id] = f
		}
		return f
	}
	switch service {
	case sagaStore:
		return nil // it knows of no order what another store does not
	case orderStore:
		return gatherOrders(ctx, v, w, of)
	case inventoryStore:
		return gatherStock(ctx, v, w, of)
	case paymentStore:
		if err := gatherPayments(ctx, v, w, of); err != nil {
			return err
		}
	default:
		if err := gatherParcels(ctx, v, w, of); err != nil {
			return err
		}
	}
	where, args := w.where("order_id")
	return v.query(ctx, `SELECT order_id, parked FROM calls WHERE `+where, args, func(rows *sql.Rows) error {
		var id string
		var parked int
		err := rows.Scan(&id, &parked)
		f := of(id)
		f.calls, f.parked = f.calls+1-parked, f.parked+parked
		return err
	})
}

const orderColumns = `SELECT order_id, caller, customer_id, external_id, status, rev, doc FROM orders WHERE `

func gatherOrders(ctx context.Context, v *view, w which, of func(string) *facts) error {
	where, args := w.where("order_id")
	return v.query(ctx, orderColumns+where, args, func(rows *sql.Rows) error { return scanOrder(rows, of) })
}

func scanOrder(rows *sql.Rows, of func(string) *facts) error {
	var id string
	var doc []byte
	o := &orderRow{}
	if err := rows.Scan(&id, &o.caller, &o.customer, &o.external, &o.status, &o.rev, &doc); err != nil {
		return err
	}
	o.unreadable = json.Unmarshal(doc, &o.orderDoc) != nil
	of(id).order = o
	return nil
}

func gatherStock(ctx context.Context, v *view, w which, of func(string) *facts) error {
	where, args := w.where("order_id")
	return v.query(ctx, `SELECT order_id, status, lines, version, rev FROM reservations WHERE `+where, args, func(rows *sql.Rows) error {
		var id string
		var lines []byte
		r := &reservationRow{}
		if err := rows.Scan(&id, &r.status, &lines, &r.version, &r.rev); err != nil {
			return err
		}
		of(id).stock = r
		return json.Unmarshal(lines, &r.lines)
	})
}

func gatherPayments(ctx context.Context, v *view, w which, of func(string) *facts) error {
	where, args := w.where("order_id")
	err := v.query(ctx, `SELECT order_id, state, currency, amount, authorised, captured, refunded, version, rev FROM payments WHERE `+where, args, func(rows *sql.Rows) error {
		var id string
		p := &paymentRow{}
		err := rows.Scan(&id, &p.state, &p.currency, &p.amount, &p.authorised, &p.captured, &p.refunded, &p.version, &p.rev)
		of(id).payment = p
		return err
	})
	if err != nil {
		return err
	}
	return v.query(ctx, `SELECT order_id, txn, account, amount, currency FROM ledger WHERE `+where, args, func(rows *sql.Rows) error {
		var id string
		var b booking
		err := rows.Scan(&id, &b.txn, &b.account, &b.amount, &b.currency)
		f := of(id)
		f.bookings = append(f.bookings, b)
		return err
	})
}

func gatherParcels(ctx context.Context, v *view, w which, of func(string) *facts) error {
	where, args := w.where("order_id")
	return v.query(ctx, `SELECT order_id, state, version, rev, dispatched_at FROM shipments WHERE `+where, args, func(rows *sql.Rows) error {
		var id string
		s := &shipmentRow{}
		err := rows.Scan(&id, &s.state, &s.version, &s.rev, &s.dispatchedAt)
		of(id).parcel = s
		return err
	})
}

// look reads the rows of all orders, a page at a time, and judges them as they were met. What was met wrong
// may have moved between two stores, and is only suspected.
func (a *auditor) look(ctx context.Context) error {
	from, last := "", false
	for !last {
		into := map[string]*facts{}
		to := ""
		n := 0
		of := func(id string) *facts {
			f := &facts{id: id}
			into[id], to = f, id
			n++
			return f
		}
		err := a.stores[orderStore].view(ctx, func(ctx context.Context, v *view) error {
			return v.query(ctx, orderColumns+`order_id > ? ORDER BY order_id LIMIT ?`, []any{from, a.cfg.RowPage}, func(rows *sql.Rows) error { return scanOrder(rows, of) })
		})
		if err != nil {
			return err
		}
		if last = n < a.cfg.RowPage; last {
			to = "" // what comes after the last order has none
		}
		for _, service := range services[1:] {
			if err := a.stores[service].view(ctx, func(ctx context.Context, v *view) error {
				return gather(ctx, v, service, which{from: from, to: to}, into)
			}); err != nil {
				return err
			}
		}
		for _, f := range into {
			a.complete(f)
			a.count(f)
			if len(a.judge(f)) > 0 {
				a.suspect(f.id)
			}
		}
		from = to
	}
	return nil
}

// complete adds to the rows of an order what the long tables and the outside parties say of it.
func (a *auditor) complete(f *facts) {
	f.rec = a.recs.get(f.id)
	h := a.recs.hash(f.id)
	if m, ok := a.psp[h]; ok {
		m.seen = true
		a.psp[h], f.money = m, &m
	}
	if p, ok := a.carrier[h]; ok {
		p.seen = true
		a.carrier[h], f.parcels = p, &p
	}
}

// again reads everything about the suspected orders once more: each store in one snapshot, events included,
// and who heard of something before who said it.
func (a *auditor) again(ctx context.Context) (map[string]*facts, error) {
	ids := make([]string, 0, len(a.suspects))
	for id := range a.suspects {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	into := make(map[string]*facts, len(ids))
	for _, id := range ids {
		into[id] = &facts{id: id}
	}
	for _, service := range a.all() {
		err := a.stores[service].view(ctx, func(ctx context.Context, v *view) error {
			if err := a.tail(ctx, v, service); err != nil {
				return err
			}
			for chunk := range slices.Chunk(ids, readChunk) {
				if err := gather(ctx, v, service, which{ids: chunk}, into); err != nil {
					return err
				}
			}
			if service == inventoryStore {
				if err := a.items(ctx, v); err != nil {
					return err
				}
			}
			return a.waiting(ctx, v, service, into)
		})
		if err != nil {
			return nil, err
		}
	}
	if len(ids) > 0 {
		if err := a.ledgers(ctx); err != nil {
			return nil, err
		}
	}
	for _, f := range into {
		a.complete(f)
	}
	return into, nil
}

// maxLanes bounds the unsent events whose orders are told apart.
const maxLanes = 100_000

// waiting counts what waits in a store, and marks the orders that have events unsent.
func (a *auditor) waiting(ctx context.Context, v *view, service string, into map[string]*facts) error {
	w := waits{}
	for into, query := range map[*int64]string{
		&w.unsent: `SELECT count(*) FROM outbox_unsent`, &w.oldest: `SELECT COALESCE(min(pos), 0) FROM outbox_unsent`,
		&w.lanes: `SELECT count(*) FROM outbox_blocked WHERE parked = 1`, &w.keys: `SELECT count(*) FROM parked_keys`,
	} {
		if err := v.row(ctx, into, query); err != nil {
			return err
		}
	}
	if service == paymentStore || service == shippingStore || service == sagaStore {
		if err := v.row(ctx, &w.calls, `SELECT count(*) FROM calls WHERE parked = 1`); err != nil {
			return err
		}
	}
	a.waits[service] = w
	if w.unsent == 0 || len(into) == 0 {
		return nil
	}
	return v.query(ctx, `SELECT lane FROM outbox_unsent LIMIT ?`, []any{maxLanes}, func(rows *sql.Rows) error {
		var lane string
		err := rows.Scan(&lane)
		_, id, _ := strings.Cut(lane, "/")
		if f := into[id]; f != nil {
			f.unsent = true
		}
		return err
	})
}

// waits are what waits in a store.
type waits struct{ unsent, oldest, lanes, keys, calls int64 }

// age is how long ago an order was placed; 0 where there is no order.
func (f *facts) age(now time.Time) time.Duration {
	if f.order == nil {
		return 0
	}
	return now.Sub(f.order.Order.CreatedAt)
}
