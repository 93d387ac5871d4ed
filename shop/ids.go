package shop

import (
	"regexp"
	"strings"
)

// The prefixes of ids. An id is a prefix, an underscore and 26 characters that sort by time.
const (
	OrderPrefix       = "ord"
	PaymentPrefix     = "pay"
	ShipmentPrefix    = "shp"
	ReservationPrefix = "res"
	EventPrefix       = "evt"
	WebhookPrefix     = "whk"
)

// OrderID names an order: "ord_" and 26 characters.
type OrderID string

// PaymentID names a payment: "pay_" and 26 characters.
type PaymentID string

// ShipmentID names a shipment: "shp_" and 26 characters.
type ShipmentID string

// ReservationID names a reservation: "res_" and 26 characters.
type ReservationID string

// EventID names an event: "evt_" and 26 characters.
type EventID string

// SKU names an item: 1 to 64 of A-Z a-z 0-9 . _ - and the first a letter or digit.
type SKU string

var (
	idPattern  = regexp.MustCompile(`^[a-z]{3}_[0-9a-v]{26}$`)
	skuPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
)

// Valid tells whether id has the form of an order id; it need not exist.
func (id OrderID) Valid() bool {
	return strings.HasPrefix(string(id), OrderPrefix+"_") && idPattern.MatchString(string(id))
}

// Valid tells whether s has the form of a SKU; it need not exist.
func (s SKU) Valid() bool { return skuPattern.MatchString(string(s)) }
