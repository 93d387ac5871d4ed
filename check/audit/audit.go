// Package audit checks the invariants of ARCHITECTURE.md over the stores of a Holdfast, running or stopped, by
// SQL of its own and without writing anything. It knows no service: what an order's rows and events must be is
// written here once more, from the documents.
//
// Stores are read at different instants, and orders move meanwhile. So whatever is met wrong is only suspected;
// suspects are read again, each store in one snapshot and in an order in which causes are found after their
// effects, until they are right or the grace has passed.
package audit

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"time"

	"holdfast/shop"
)

// Config says what to look at.
type Config struct {
	Data     string // the directory with a SQLite file for each service; not used with DSN
	DSN      string // of PostgreSQL; {service} in it stands for the service's name
	Password string // of PostgreSQL, where it is not in the DSN
	PSP      string // the provider's ledger: its simulator's address, or the ledger's file; "" for none
	Carrier  string // the carrier's
	Bus      *Bus   // read from the start and compared with the stores; nil: it is not

	// AtRest says that the load has stopped and every fault is healed: everything must have come to its end.
	AtRest bool
	// Grace is how long what is wrong may take to come right.
	Grace time.Duration
	// Keep is how long the outboxes keep sent events, and stores the answers to requests.
	Keep time.Duration

	Page    int // rows of a long table in one transaction
	RowPage int // orders in one
}

const (
	// DefaultGrace is how long what is wrong may take to come right.
	DefaultGrace = 10 * time.Second
	defaultKeep  = 7 * 24 * time.Hour
	defaultPage  = 10_000
	// keepSlack is how far the clocks of stores and services may be apart.
	keepSlack = time.Minute
	// maxSuspects bounds the orders that are looked at again.
	maxSuspects = 50_000
	// looks is how often suspects are looked at during the grace.
	looks = 8
)

// Defaults fills what is zero.
func (c Config) Defaults() Config {
	if c.Grace == 0 {
		c.Grace = DefaultGrace
	}
	if c.Keep == 0 {
		c.Keep = defaultKeep
	}
	if c.Page == 0 {
		c.Page = defaultPage
	}
	if c.RowPage == 0 {
		c.RowPage = 1000
	}
	return c
}

// auditor is a running audit.
type auditor struct {
	cfg      Config
	now      time.Time
	stores   map[string]*store
	recs     *records
	cursors  map[string]*cursor
	inboxes  map[string]*inbox
	stock    map[string]sums
	psp      map[uint64]money
	carrier  map[uint64]parcels
	suspects map[string]bool
	waits    map[string]waits
	letters  []Offender
	report   *Report

	itemsBad                               []finding
	itemsSeen                              int64
	moved, requests, unreadable, bookCount int64
	shares                                 []share         // of the inboxes, that differed
	missing                                map[string]bool // ids and consumers of what differed in them
}

// Run looks at everything. An error means that it could not; what it found is in the report.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	cfg = cfg.Defaults()
	began := time.Now()
	a := &auditor{cfg: cfg, now: began, recs: newRecords(), cursors: map[string]*cursor{}, inboxes: map[string]*inbox{}, stock: map[string]sums{},
		suspects: map[string]bool{}, waits: map[string]waits{},
		report: &Report{Version: 1, At: began.UTC(), AtRest: cfg.AtRest, Grace: cfg.Grace, Results: catalogue()}}
	var err error
	if a.stores, err = openStores(ctx, cfg); err != nil {
		return nil, err
	}
	defer closeStores(a.stores)
	for _, service := range a.all() {
		a.cursors[service] = &cursor{}
		a.inboxes[service] = &inbox{buckets: map[string]*bucket{}, since: idAt(began.Add(keepSlack - cfg.Keep))}
	}
	a.sources()
	found, err := a.find(ctx)
	if err != nil {
		return nil, shop.Wrap(shop.Unavailable, "audit", "the stores could not be read to the end; nothing can be said", err)
	}
	onBus, err := a.readBus(ctx)
	if err != nil {
		return nil, shop.Wrap(shop.Unavailable, "audit", "the bus could not be compared with the stores; nothing can be said", err)
	}
	if err := a.settle(ctx, append(found, onBus...)); err != nil {
		return nil, shop.Wrap(shop.Unavailable, "audit", "the stores could not be read to the end; nothing can be said", err)
	}
	a.report.conclude()
	a.report.Took = time.Since(began)
	return a.report, nil
}

// sources notes what is looked at.
func (a *auditor) sources() {
	where := "SQLite in " + a.cfg.Data
	if a.cfg.DSN != "" {
		where = "PostgreSQL"
	}
	a.report.Sources = append(a.report.Sources, where)
	for _, ledger := range []string{a.cfg.PSP, a.cfg.Carrier} {
		if ledger != "" {
			a.report.Sources = append(a.report.Sources, ledger)
		}
	}
}

// find looks at everything once, and then at what is suspected until it is right or the grace has passed.
func (a *auditor) find(ctx context.Context) ([]finding, error) {
	for _, step := range []func(context.Context) error{a.joined, a.scan, a.ledgers, a.look, a.unknown, a.strangers} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	var before map[string]int64
	var oldest map[string]waits
	end := time.Now().Add(a.cfg.Grace)
	for {
		found, moved, err := a.round(ctx, before)
		if err != nil {
			return nil, err
		}
		if before == nil {
			before, oldest = moved, a.copyWaits()
		}
		left := time.Until(end)
		if len(found) == 0 && (!a.cfg.AtRest || a.unsent() == 0) || left <= 0 {
			return append(found, a.unsentFindings(oldest)...), nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(min(left, a.cfg.Grace/looks)):
		}
	}
}

// round looks at the suspects again and keeps those that still are. What has changed since before is moving.
func (a *auditor) round(ctx context.Context, before map[string]int64) (found []finding, revs map[string]int64, err error) {
	all, err := a.again(ctx)
	if err != nil {
		return nil, nil, err
	}
	revs = make(map[string]int64, len(all))
	for id, f := range all {
		revs[id] = f.rev()
		wrong := a.judge(f)
		if len(wrong) == 0 {
			delete(a.suspects, id)
			continue
		}
		for i := range wrong {
			wrong[i].open = wrong[i].open || before != nil && before[id] != revs[id]
		}
		found = append(found, wrong...)
	}
	found = append(found, a.itemsBad...)
	events, err := a.reread(ctx)
	return append(found, events...), revs, err
}

// rev changes whenever a row of the order does.
func (f *facts) rev() (sum int64) {
	if f.order != nil {
		sum += f.order.rev
	}
	if f.stock != nil {
		sum += f.stock.rev
	}
	if f.payment != nil {
		sum += f.payment.rev
	}
	if f.parcel != nil {
		sum += f.parcel.rev
	}
	return sum
}

// suspect has an order looked at again.
func (a *auditor) suspect(id string) {
	if a.suspects[id] {
		return
	}
	if len(a.suspects) >= maxSuspects {
		a.report.Unjudged++
		return
	}
	a.suspects[id] = true
	a.report.Counts.Reread++
}

// count counts an order, once.
func (a *auditor) count(f *facts) {
	c := &a.report.Counts
	a.bookCount += int64(len(f.bookings))
	if f.order == nil {
		return
	}
	c.Orders++
	switch s := f.order.Order.Status; {
	case s == shop.Confirmed:
		c.Confirmed++
	case s == shop.NeedsAttention:
		c.NeedsAttention++
	case !s.Final():
		c.Moving++
	}
}

func (a *auditor) unsent() (n int64) {
	for _, w := range a.waits {
		n += w.unsent
	}
	return n
}

func (a *auditor) copyWaits() map[string]waits {
	m := make(map[string]waits, len(a.waits))
	for s, w := range a.waits {
		m[s] = w
	}
	return m
}

// unsentFindings tells of events that wait: at rest any, otherwise one that has waited all the time.
func (a *auditor) unsentFindings(before map[string]waits) (found []finding) {
	for _, service := range a.all() {
		w := a.waits[service]
		switch {
		case w.unsent == 0:
		case a.cfg.AtRest:
			found = append(found, finding{inv: "I13", id: service, rest: true, detail: fmt.Sprintf("%d events have not been sent", w.unsent)})
		case before[service].oldest == w.oldest:
			found = append(found, finding{inv: "I13", id: service, rest: true, open: true, detail: fmt.Sprintf("%d events wait, and the oldest has waited since before the grace", w.unsent)})
		}
	}
	return found
}

// twice finds requests that were stored more than once.
func (a *auditor) twice(ctx context.Context) (found []finding, err error) {
	for _, service := range []string{orderStore, inventoryStore} {
		err := a.stores[service].view(ctx, func(ctx context.Context, v *view) error {
			return v.query(ctx, `SELECT caller, route, key, count(*) FROM idempotency GROUP BY caller, route, key HAVING count(*) > 1 LIMIT ?`, []any{maxOffenders}, func(rows *sql.Rows) error {
				var caller, route, key string
				var n int
				err := rows.Scan(&caller, &route, &key, &n)
				found = append(found, finding{inv: "I3", id: key, detail: fmt.Sprintf("%s: %d answers are stored for it", route, n)})
				return err
			})
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// SimulatorLedgers returns where the simulators in a data directory keep their ledgers.
func SimulatorLedgers(data string) (psp, carrier string) {
	return filepath.Join(data, "psp", "ledger.ndjson"), filepath.Join(data, "carrier", "ledger.ndjson")
}
