package order

import (
	"context"
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"
	"time"

	"holdfast/platform/idem"
	"holdfast/platform/sqldb"
	"holdfast/platform/telemetry"
	"holdfast/shop"
)

const (
	maxLines    = 100
	maxQuantity = 1_000_000
	maxTotal    = shop.Amount(1)<<53 - 1 // the largest integer that every JSON reader holds
)

var tokenPattern = regexp.MustCompile(`^tok_[a-z0-9_]{1,64}$`)

// Place implements shop.Orders.
func (s *Service) Place(ctx context.Context, by shop.Request, cmd shop.PlaceOrder) (shop.Order, bool, error) {
	named := cmd.Saga
	if cmd.Saga == "" {
		cmd.Saga = shop.Choreographed // also where the configuration decides: a repetition is judged by what was sent
	}
	if err := s.validate(cmd); err != nil {
		return shop.Order{}, false, err
	}
	scope := idem.Scope{Caller: by.Caller, Route: "POST /v1/orders", Key: by.Key}
	o, refused := s.price(ctx, cmd)
	if refused != nil {
		// A repetition gets its first answer, whatever has become of the prices since.
		o, found, err := idem.Find[shop.Order](ctx, s.db, scope, cmd)
		if err == nil && !found {
			err = refused
		}
		return o, found, err
	}
	if named == "" {
		o.Saga = ""
	}
	placed, err := s.placing.Do(ctx, placement{scope: scope, cmd: cmd, order: o, traceParent: telemetry.TraceParent(ctx)})
	if err != nil {
		return shop.Order{}, false, err
	}
	if placed.Err == nil {
		s.shedder.recent.add(by.Caller, by.Key)
	}
	return placed.Answer, placed.Replayed, placed.Err
}

// placement is an order to be placed. Its saga is empty where the configuration decides.
type placement struct {
	scope       idem.Scope
	cmd         shop.PlaceOrder
	order       shop.Order
	traceParent string
}

// placed is an order with the key under which it was placed.
type placed = idem.Command[shop.Order]

// placeAll stores orders and says that they were placed, which starts their sagas.
func (s *Service) placeAll(ctx context.Context, tx *sqldb.Tx, placements []placement) ([]*placed, error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return nil, err
	}
	rows, all := make([]*row, len(placements)), make([]*placed, len(placements))
	for i, p := range placements {
		rows[i] = s.open(now, p)
		all[i] = &placed{Scope: p.scope, Cmd: p.cmd, Answer: rows[i].Order}
	}
	if err := idem.Claim(ctx, tx, all); err != nil {
		return nil, err
	}
	b := &batch{s: s, now: now, rows: make(map[shop.OrderID]*row, len(rows))}
	for i, r := range rows {
		if !all[i].Fresh() {
			continue
		}
		b.rows[r.Order.ID] = r
		if err := b.say(r, shop.EventOrderPlaced, placements[i].traceParent); err != nil {
			return nil, err
		}
	}
	return all, b.save(ctx, tx)
}

// open makes the row of a new order.
func (s *Service) open(now time.Time, p placement) *row {
	o := p.order
	o.ID = shop.OrderID(s.deps.IDs.New(shop.OrderPrefix))
	o.CreatedAt = now
	if o.Saga == "" {
		o.Saga = s.cfg.Saga.style(o.ID)
	}
	r := &row{caller: p.scope.Caller, state: state{Order: o, ShipTo: p.cmd.ShippingAddress, PaymentMethod: p.cmd.PaymentMethod, ProgressAt: now}}
	r.next(now)
	return r
}

// style is how the steps of an order that names none are driven.
func (c Saga) style(id shop.OrderID) shop.SagaStyle {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // a hash takes everything
	if h.Sum32()%100 < uint32(c.OrchestratedPercent) {
		return shop.Orchestrated
	}
	return shop.Choreographed
}

// price makes the order from the catalogue's prices, names and currencies.
func (s *Service) price(ctx context.Context, cmd shop.PlaceOrder) (shop.Order, error) {
	const op = "order.Place"
	skus := make([]shop.SKU, len(cmd.Lines))
	for i, l := range cmd.Lines {
		skus[i] = l.SKU
	}
	items, err := s.inventory.Prices(ctx, skus)
	if err != nil {
		return shop.Order{}, err
	}
	o := shop.Order{Status: shop.Pending, Saga: cmd.Saga, CustomerID: cmd.CustomerID, ExternalID: cmd.ExternalID, Currency: cmd.Currency,
		Metadata: cmd.Metadata, Payment: shop.OrderPayment{Status: shop.PaymentNone}, Lines: make([]shop.OrderLine, len(cmd.Lines))}
	unknown := shop.E(shop.UnknownSKU, op, "the catalogue does not have every SKU of the order")
	foreign := shop.E(shop.Invalid, op, "an order has one currency, its items' own")
	changed := shop.E(shop.PriceChanged, op, "a price is not the expected one; read the item and decide again")
	for i, l := range cmd.Lines {
		at := "/lines/" + strconv.Itoa(i)
		item, ok := items[l.SKU]
		switch {
		case !ok:
			unknown.Fields = append(unknown.Fields, shop.Field{Pointer: at + "/sku", Detail: "is not in the catalogue"})
		case item.Currency != cmd.Currency:
			foreign.Fields = append(foreign.Fields, shop.Field{Pointer: at + "/sku", Detail: "is sold in " + string(item.Currency)})
		case l.ExpectedUnitPrice != nil && *l.ExpectedUnitPrice != item.UnitPrice:
			changed.Fields = append(changed.Fields, shop.Field{Pointer: at + "/expected_unit_price", Detail: fmt.Sprintf("the price is %d", item.UnitPrice)})
		}
		o.Lines[i] = shop.OrderLine{Line: i + 1, SKU: l.SKU, Name: item.Name, Quantity: l.Quantity, UnitPrice: item.UnitPrice}
	}
	for _, e := range []*shop.Error{unknown, foreign, changed} {
		if len(e.Fields) > 0 {
			return o, e
		}
	}
	err = s.total(&o, cmd.ShippingAddress.Country)
	return o, err
}

// total computes the order's sums. An order whose lines are free ships free.
func (s *Service) total(o *shop.Order, country string) error {
	tooMuch := fieldError("order.Place", "/lines", "cost more than "+strconv.FormatInt(int64(maxTotal), 10)+" minor units together")
	for i := range o.Lines {
		l := &o.Lines[i]
		var err error
		if l.Total, err = l.UnitPrice.Times(l.Quantity); err != nil {
			return tooMuch
		}
		if o.Subtotal, err = o.Subtotal.Plus(l.Total); err != nil {
			return tooMuch
		}
	}
	if o.Subtotal > 0 {
		o.Shipping = s.rates.ShippingFee(country)
	}
	var err error
	if o.Total, err = o.Subtotal.Plus(o.Shipping); err != nil || o.Total > maxTotal {
		return tooMuch
	}
	return nil
}

// validate checks what the command says by itself. The public API has checked forms and lengths before;
// this holds whoever calls.
func (s *Service) validate(cmd shop.PlaceOrder) error {
	e := shop.E(shop.Invalid, "order.Place", "the order is not valid; errors names each field at fault")
	bad := func(pointer, detail string) {
		e.Fields = append(e.Fields, shop.Field{Pointer: pointer, Detail: detail})
	}
	if cmd.CustomerID == "" {
		bad("/customer_id", "must not be empty")
	}
	if _, ok := cmd.Currency.Exponent(); !ok {
		bad("/currency", "is not an ISO 4217 currency in circulation")
	}
	if len(cmd.Lines) == 0 || len(cmd.Lines) > maxLines {
		bad("/lines", "must be from 1 to "+strconv.Itoa(maxLines))
	}
	for i, l := range cmd.Lines {
		at := "/lines/" + strconv.Itoa(i)
		if !l.SKU.Valid() {
			bad(at+"/sku", "is not a SKU: 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit")
		}
		if l.Quantity < 1 || l.Quantity > maxQuantity {
			bad(at+"/quantity", "must be from 1 to "+strconv.Itoa(maxQuantity))
		}
	}
	a := cmd.ShippingAddress
	for field, value := range map[string]string{"name": a.Name, "line1": a.Line1, "city": a.City, "postal_code": a.PostalCode, "country": a.Country} {
		if strings.TrimSpace(value) == "" {
			bad("/shipping_address/"+field, "must not be empty")
		}
	}
	if !tokenPattern.MatchString(cmd.PaymentMethod) {
		bad("/payment_method", "is not a payment provider's token")
	}
	switch cmd.Saga {
	case shop.Choreographed:
	case shop.Orchestrated:
		if !s.orchestrates {
			bad("/saga", "orchestrated needs Temporal, which is not configured here; leave it out, or send choreographed")
		}
	default:
		bad("/saga", "must be choreographed or orchestrated")
	}
	if len(e.Fields) > 0 {
		return e
	}
	return nil
}
