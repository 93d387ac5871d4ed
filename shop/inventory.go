package shop

import (
	"context"
	"time"
)

// Item is something that is sold, with its stock. 0 <= Reserved <= OnHand at every instant.
type Item struct {
	SKU       SKU      `json:"sku"`
	Name      string   `json:"name"`
	UnitPrice Amount   `json:"unit_price"`
	Currency  Currency `json:"currency"`
	OnHand    int64    `json:"on_hand"`
	Reserved  int64    `json:"reserved"`
	Available int64    `json:"available"` // on_hand - reserved
	Version   int64    `json:"version"`
}

// PutItem describes an item; the JSON form is the body of PUT /v1/items/{sku}.
type PutItem struct {
	Name      string   `json:"name"`
	UnitPrice Amount   `json:"unit_price"`
	Currency  Currency `json:"currency"`
}

// Receipt is stock that came in.
type Receipt struct {
	Quantity  int64  `json:"quantity"`
	Reference string `json:"reference,omitempty"`
}

// Adjustment corrects the stock by hand; Quantity may be negative, not zero.
type Adjustment struct {
	Quantity int64  `json:"quantity"`
	Reason   string `json:"reason"`
}

// ItemQuery selects items by SKU in ascending order.
type ItemQuery struct {
	Limit  int    // 1..200
	Cursor string // opaque
}

// ItemPage is one page of items.
type ItemPage struct {
	Items      []Item `json:"items"`
	NextCursor string `json:"next_cursor"`
}

// ReservationStatus is where the stock of one order stands.
type ReservationStatus string

// The statuses of a reservation.
const (
	StockReserved ReservationStatus = "reserved"
	StockRejected ReservationStatus = "rejected" // not enough of some SKU; nothing was taken
	StockReleased ReservationStatus = "released" // put back, or closed before it was taken
	StockShipped  ReservationStatus = "shipped"
)

// ReservedLine is the stock held for a line of an order.
type ReservedLine struct {
	Line     int   `json:"line"`
	SKU      SKU   `json:"sku"`
	Quantity int64 `json:"quantity"`
}

// Reservation is the stock of one order. All lines stand together.
type Reservation struct {
	ID        ReservationID     `json:"id"`
	OrderID   OrderID           `json:"order_id"`
	Status    ReservationStatus `json:"status"`
	Reason    Reason            `json:"reason,omitempty"`
	Lines     []ReservedLine    `json:"lines,omitempty"`
	ExpiresAt time.Time         `json:"expires_at,omitzero"`
}

// Catalogue is what other services ask of the inventory.
type Catalogue interface {
	// Prices returns the items of skus that exist.
	Prices(ctx context.Context, skus []SKU) (map[SKU]Item, error)
}

// Inventory is the inventory service. Errors are *Error.
type Inventory interface {
	Catalogue
	// Put makes an item or changes its name and price; stock is untouched. ifVersion > 0 demands
	// that version (VersionConflict). The currency of an item with stock cannot change (Conflict).
	Put(ctx context.Context, sku SKU, ifVersion int64, item PutItem) (it Item, created bool, err error)
	// Receive adds stock. Idempotent by key as Orders.Place is.
	Receive(ctx context.Context, by Request, sku SKU, r Receipt) (it Item, replayed bool, err error)
	// Adjust changes on_hand by hand. Conflict where it would fall below what is reserved.
	Adjust(ctx context.Context, by Request, sku SKU, a Adjustment) (it Item, replayed bool, err error)
	// Item returns one item or NotFound.
	Item(ctx context.Context, sku SKU) (Item, error)
	// Items returns a page of items.
	Items(ctx context.Context, q ItemQuery) (ItemPage, error)
}
