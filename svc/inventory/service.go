// Package inventory is the inventory service: items with their prices and stock, reservations for
// orders, and the ledger of movements whose sums the stock is.
package inventory

import (
	"context"
	"embed"
	"errors"
	"io/fs"
	"slices"

	"holdfast/platform/bus"
	"holdfast/platform/idem"
	"holdfast/platform/outbox"
	"holdfast/platform/run"
	"holdfast/platform/sqldb"
	"holdfast/platform/steps"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

// Name is the service's name everywhere: folder, event source, consumer group, telemetry.
const Name = "inventory"

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations returns every migration that the service's database needs.
func Migrations() (fs.FS, error) {
	own, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return sqldb.Merge(outbox.Migrations(), idem.Migrations(), own)
}

// Parts are what the service stands on.
type Parts struct {
	DB     *sqldb.DB // migrated
	Outbox *outbox.Outbox
	Bus    bus.Config
	Orders shop.Decisions
	Deps   shop.Deps
	Tel    *telemetry.Telemetry
}

// Service implements shop.Inventory and the inventory's step of the saga.
type Service struct {
	cfg      Config
	db       *sqldb.DB
	outbox   *outbox.Outbox
	orders   shop.Decisions
	deps     shop.Deps
	consumer *outbox.Consumer
	pricing  *sqldb.Batcher[[]shop.SKU, map[shop.SKU]shop.Item]
	asking   *sqldb.Batcher[ask, steps.Answer]
}

var _ shop.Inventory = (*Service)(nil)

// New makes the service; its Components run it.
func New(cfg Config, p Parts) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, db: p.DB, outbox: p.Outbox, orders: p.Orders, deps: p.Deps, pricing: sqldb.NewReader(p.DB, pricesOf)}
	s.asking = sqldb.NewBatcher(p.DB, s.answerAll)
	consumer, err := outbox.NewConsumer(outbox.ConsumerConfig{Name: Name, Topics: topics, Types: types, Asks: asks},
		outbox.ConsumerParts{DB: p.DB, Outbox: p.Outbox, Bus: p.Bus, Deps: p.Deps, Tel: p.Tel}, s.consume)
	if err != nil {
		return nil, err
	}
	s.consumer = consumer
	return s, nil
}

// Components returns what has to run, in the order of starting.
func (s *Service) Components() []run.Component {
	return []run.Component{
		{Name: Name + " outbox", Run: s.outbox.Run},
		{Name: Name + " consumer", Run: s.consumer.Run, Intake: true},
		{Name: Name + " expiry", Run: s.sweep},
		{Name: Name + " purge", Run: idem.Purger(s.db, s.deps)},
	}
}

// Prices implements shop.Inventory.
func (s *Service) Prices(ctx context.Context, skus []shop.SKU) (map[shop.SKU]shop.Item, error) {
	return s.pricing.Do(ctx, skus)
}

// pricesOf answers each of several questions with the items that exist.
func pricesOf(ctx context.Context, tx *sqldb.Tx, questions [][]shop.SKU) ([]map[shop.SKU]shop.Item, error) {
	found, err := itemsBySKU(ctx, tx, slices.Concat(questions...), false)
	if err != nil {
		return nil, err
	}
	answers := make([]map[shop.SKU]shop.Item, len(questions))
	for i, skus := range questions {
		answers[i] = make(map[shop.SKU]shop.Item, len(skus))
		for _, sku := range skus {
			if item, ok := found[sku]; ok {
				answers[i][sku] = item
			}
		}
	}
	return answers, nil
}

// Item implements shop.Inventory.
func (s *Service) Item(ctx context.Context, sku shop.SKU) (shop.Item, error) {
	items, err := s.Prices(ctx, []shop.SKU{sku})
	if err != nil {
		return shop.Item{}, err
	}
	item, ok := items[sku]
	if !ok {
		return item, noItem("inventory.Item")
	}
	return item, nil
}

// Items implements shop.Inventory.
func (s *Service) Items(ctx context.Context, q shop.ItemQuery) (page shop.ItemPage, err error) {
	if q.Cursor != "" && !shop.SKU(q.Cursor).Valid() {
		return page, badField("inventory.Items", "query/cursor", "is not a cursor of this list")
	}
	err = s.db.View(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		page.Items, err = itemsAfter(ctx, tx, shop.SKU(q.Cursor), q.Limit+1)
		return err
	})
	if len(page.Items) > q.Limit {
		page.Items = page.Items[:q.Limit]
		page.NextCursor = string(page.Items[q.Limit-1].SKU)
	}
	return page, err
}

// Put implements shop.Inventory.
func (s *Service) Put(ctx context.Context, sku shop.SKU, ifVersion int64, put shop.PutItem) (item shop.Item, created bool, err error) {
	const op = "inventory.Put"
	if err := checkPut(op, sku, put); err != nil {
		return item, false, err
	}
	err = s.db.Update(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		var err error
		item, err = oneItem(ctx, tx, sku)
		if err != nil && shop.KindOf(err) != shop.NotFound {
			return err
		}
		created = err != nil
		if ifVersion > 0 && item.Version != ifVersion {
			return shop.E(shop.VersionConflict, op, "the item has another version; read it again and repeat the change")
		}
		if !created && item.OnHand > 0 && item.Currency != put.Currency {
			return shop.E(shop.Conflict, op, "the currency of an item that is in stock cannot change; sell it under another SKU")
		}
		item.SKU, item.Name, item.UnitPrice, item.Currency = sku, put.Name, put.UnitPrice, put.Currency
		item.Version++
		return upsertItem(ctx, tx, item)
	})
	return item, created, err
}

// Receive implements shop.Inventory.
func (s *Service) Receive(ctx context.Context, by shop.Request, sku shop.SKU, r shop.Receipt) (shop.Item, bool, error) {
	const op = "inventory.Receive"
	if r.Quantity < 1 || r.Quantity > maxQuantity {
		return shop.Item{}, false, badField(op, "/quantity", "must be from 1 to 1000000000")
	}
	scope := idem.Scope{Caller: by.Caller, Route: "POST /v1/items/" + string(sku) + "/receipts", Key: by.Key}
	return idem.Do(ctx, s.db, scope, r, func(ctx context.Context, tx *sqldb.Tx) (shop.Item, error) {
		return s.move(ctx, tx, op, sku, movement{kind: "receipt", onHand: r.Quantity, reference: r.Reference})
	})
}

// Adjust implements shop.Inventory.
func (s *Service) Adjust(ctx context.Context, by shop.Request, sku shop.SKU, a shop.Adjustment) (shop.Item, bool, error) {
	const op = "inventory.Adjust"
	if a.Quantity == 0 || a.Quantity < -maxQuantity || a.Quantity > maxQuantity {
		return shop.Item{}, false, badField(op, "/quantity", "must be from -1000000000 to 1000000000 and not 0")
	}
	scope := idem.Scope{Caller: by.Caller, Route: "POST /v1/items/" + string(sku) + "/adjustments", Key: by.Key}
	return idem.Do(ctx, s.db, scope, a, func(ctx context.Context, tx *sqldb.Tx) (shop.Item, error) {
		return s.move(ctx, tx, op, sku, movement{kind: "adjustment", onHand: a.Quantity, reference: a.Reason})
	})
}

// move books a change of on_hand that no order asked for.
func (s *Service) move(ctx context.Context, tx *sqldb.Tx, op string, sku shop.SKU, m movement) (shop.Item, error) {
	item, err := oneItem(ctx, tx, sku)
	if err != nil {
		return item, err
	}
	onHand := item.OnHand + m.onHand
	switch {
	case onHand < item.Reserved:
		return item, shop.E(shop.Conflict, op, "that would leave less on hand than is reserved for orders")
	case onHand > maxOnHand:
		return item, badField(op, "/quantity", "would bring the stock above 1000000000000")
	}
	item.OnHand, item.Version = onHand, item.Version+1
	item.Available = item.OnHand - item.Reserved
	m.sku = sku
	if err := insertMovements(ctx, tx, []movement{m}); err != nil {
		return item, err
	}
	return item, upsertItem(ctx, tx, item)
}

const (
	maxQuantity = 1_000_000_000     // of one receipt or adjustment
	maxOnHand   = 1_000_000_000_000 // keeps every sum far from 64 bits
	maxPrice    = 1_000_000_000_000 // minor units
)

func checkPut(op string, sku shop.SKU, p shop.PutItem) error {
	var fields []shop.Field
	if !sku.Valid() {
		fields = append(fields, shop.Field{Pointer: "path/sku", Detail: "must be 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or digit"})
	}
	if n := len(p.Name); n < 1 || n > 200 {
		fields = append(fields, shop.Field{Pointer: "/name", Detail: "must have 1 to 200 bytes"})
	}
	if p.UnitPrice < 0 || p.UnitPrice > maxPrice {
		fields = append(fields, shop.Field{Pointer: "/unit_price", Detail: "must be from 0 to 1000000000000 minor units"})
	}
	if _, ok := p.Currency.Exponent(); !ok {
		fields = append(fields, shop.Field{Pointer: "/currency", Detail: "must be an ISO 4217 code in capitals"})
	}
	if len(fields) == 0 {
		return nil
	}
	return &shop.Error{Kind: shop.Invalid, Op: op, Msg: "the item is not valid", Fields: fields}
}

func badField(op, pointer, detail string) error {
	return &shop.Error{Kind: shop.Invalid, Op: op, Msg: "the request is not valid", Fields: []shop.Field{{Pointer: pointer, Detail: detail}}}
}

func noItem(op string) error { return shop.E(shop.NotFound, op, "there is no such item") }

// oneItem locks and returns an item.
func oneItem(ctx context.Context, tx *sqldb.Tx, sku shop.SKU) (shop.Item, error) {
	items, err := itemsBySKU(ctx, tx, []shop.SKU{sku}, true)
	if err != nil {
		return shop.Item{}, err
	}
	item, ok := items[sku]
	if !ok {
		return item, noItem("inventory.oneItem")
	}
	return item, nil
}

// errStale is a lost race for a row; the transaction is run again.
var errStale = errors.New("row changed meanwhile")
