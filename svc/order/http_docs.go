package order

import (
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/platform/httpx"
	"holdfast/shop"
)

// describe gives the vocabulary's types their documented forms: the same fields, with the limits and
// texts of the public contract.
func describe(api *httpx.API) {
	httpx.Describe[shop.PlaceOrder, placeOrderDoc](api)
	httpx.Describe[shop.PlaceLine, placeLineDoc](api)
	httpx.Describe[shop.Address, addressDoc](api)
	httpx.Describe[shop.Order, orderDoc](api)
	httpx.Describe[shop.OrderLine, orderLineDoc](api)
	httpx.Describe[map[string]string, metadataDoc](api)
}

// The conversions break the build when a field is added to one side only.
var (
	_ = placeOrderDoc(shop.PlaceOrder{})
	_ = placeLineDoc(shop.PlaceLine{})
	_ = addressDoc(shop.Address{})
	_ = orderDoc(shop.Order{})
	_ = orderLineDoc(shop.OrderLine{})
)

type placeOrderDoc struct {
	CustomerID      string            `json:"customer_id" minLength:"1" maxLength:"64" doc:"Whose order it is, by your own naming" example:"cus_42"`
	Currency        shop.Currency     `json:"currency" pattern:"^[A-Z]{3}$" patternDescription:"an ISO 4217 code in capitals" doc:"ISO 4217; the same as the items'" example:"EUR"`
	Lines           []shop.PlaceLine  `json:"lines" minItems:"1" maxItems:"100"`
	ShippingAddress shop.Address      `json:"shipping_address"`
	PaymentMethod   string            `json:"payment_method" pattern:"^tok_[a-z0-9_]{1,64}$" patternDescription:"a payment provider's token: tok_ and 1 to 64 of a-z 0-9 _" doc:"A provider's token; never a card number" example:"tok_ok"`
	Saga            shop.SagaStyle    `json:"saga,omitempty" enum:"choreographed,orchestrated" doc:"How the steps are driven; as the installation is configured by default, which is choreographed where it is not. orchestrated needs a Temporal"`
	ExternalID      string            `json:"external_id,omitempty" maxLength:"128" doc:"The order's name in your system" example:"web-1001"`
	Metadata        map[string]string `json:"metadata,omitempty" doc:"Up to 20 entries of your own; keys of 1 to 40 characters, values of up to 500"`
}

type placeLineDoc struct {
	SKU               shop.SKU     `json:"sku" pattern:"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" patternDescription:"1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit" example:"TEA-EARL-100"`
	Quantity          int64        `json:"quantity" minimum:"1" maximum:"1000000" example:"2"`
	ExpectedUnitPrice *shop.Amount `json:"expected_unit_price,omitempty" minimum:"0" maximum:"1000000000000" doc:"In minor units; another price in the catalogue refuses the order with price_changed" example:"450"`
}

type addressDoc struct {
	Name       string `json:"name" minLength:"1" maxLength:"200" example:"A. Reader"`
	Line1      string `json:"line1" minLength:"1" maxLength:"200" example:"1 Long Street"`
	Line2      string `json:"line2,omitempty" maxLength:"200"`
	City       string `json:"city" minLength:"1" maxLength:"200" example:"Berlin"`
	Region     string `json:"region,omitempty" maxLength:"200"`
	PostalCode string `json:"postal_code" minLength:"1" maxLength:"16" example:"10115"`
	Country    string `json:"country" pattern:"^[A-Z]{2}$" patternDescription:"an ISO 3166-1 alpha-2 code in capitals" doc:"ISO 3166-1 alpha-2" example:"DE"`
}

type orderDoc struct {
	ID         shop.OrderID        `json:"id" doc:"ord_ and 26 characters that sort by time"`
	Status     shop.OrderStatus    `json:"status" doc:"pending, confirmed, rejected, cancelling, cancelled, fulfilled or needs_attention; others may be added"`
	Reason     shop.Reason         `json:"reason" doc:"Why it was rejected or cancelled, or what failed; empty otherwise"`
	Version    int64               `json:"version" doc:"Counts the changes from 1; also the ETag"`
	Saga       shop.SagaStyle      `json:"saga"`
	CustomerID string              `json:"customer_id"`
	ExternalID string              `json:"external_id,omitempty"`
	Currency   shop.Currency       `json:"currency" doc:"ISO 4217, of every amount in the order"`
	Lines      []shop.OrderLine    `json:"lines"`
	Subtotal   shop.Amount         `json:"subtotal" doc:"In minor units, as all amounts are"`
	Shipping   shop.Amount         `json:"shipping"`
	Tax        shop.Amount         `json:"tax"`
	Total      shop.Amount         `json:"total" doc:"subtotal + shipping + tax"`
	Payment    shop.OrderPayment   `json:"payment"`
	Shipment   *shop.OrderShipment `json:"shipment" doc:"null until one is scheduled"`
	Metadata   map[string]string   `json:"metadata,omitempty"`
	CreatedAt  time.Time           `json:"created_at"`
	UpdatedAt  time.Time           `json:"updated_at"`
}

type orderLineDoc struct {
	Line      int         `json:"line" doc:"From 1"`
	SKU       shop.SKU    `json:"sku"`
	Name      string      `json:"name" doc:"As the catalogue had it when the order was placed"`
	Quantity  int64       `json:"quantity"`
	UnitPrice shop.Amount `json:"unit_price"`
	Total     shop.Amount `json:"total"`
	Reserved  int64       `json:"reserved" doc:"Of quantity, held in stock"`
	Shipped   int64       `json:"shipped" doc:"Of quantity, handed to the carrier"`
	Cancelled int64       `json:"cancelled" doc:"Of quantity, given up"`
}

// metadataDoc bounds the entries that a client may hang on an order.
type metadataDoc map[string]string

// Schema writes the schema by hand: tags have no words for keys and values.
func (metadataDoc) Schema(huma.Registry) *huma.Schema {
	one, twenty, forty, fiveHundred := 1, 20, 40, 500
	return &huma.Schema{
		Type: huma.TypeObject, MaxProperties: &twenty,
		AdditionalProperties: &huma.Schema{Type: huma.TypeString, MaxLength: &fiveHundred},
		Extensions: map[string]any{
			"propertyNames": &huma.Schema{Type: huma.TypeString, MinLength: &one, MaxLength: &forty},
		},
	}
}
