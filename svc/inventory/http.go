package inventory

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"holdfast/platform/httpx"
	"holdfast/resilience"
	"holdfast/shop"
)

// RegisterHTTP adds the operations on items and stock to the public API.
func RegisterHTTP(api *httpx.API, svc shop.Inventory) {
	httpx.Describe[shop.PutItem, putItemDoc](api)
	httpx.Describe[shop.Receipt, receiptDoc](api)
	httpx.Describe[shop.Adjustment, adjustmentDoc](api)
	httpx.Describe[shop.Item, itemDoc](api)
	h := &handlers{svc: svc}
	httpx.Register(api, httpx.Op{
		ID: "putItem", Method: http.MethodPut, Path: "/v1/items/{sku}", Tag: "inventory", Also: []int{http.StatusCreated},
		Summary:     "Make or change an item",
		Description: "201 for a new item, 200 for a changed one. Stock is untouched. If-Match demands a version. Orders keep the price that they were placed at.",
		Problems:    []shop.Kind{shop.VersionConflict, shop.Conflict, shop.TooLarge},
	}, h.put)
	httpx.Register(api, httpx.Op{
		ID: "getItem", Method: http.MethodGet, Path: "/v1/items/{sku}", Tag: "inventory", Also: []int{http.StatusNotModified},
		Summary:     "Read an item",
		Description: "The item with its stock as last committed.",
		Problems:    []shop.Kind{shop.NotFound},
	}, h.get)
	httpx.Register(api, httpx.Op{
		ID: "listItems", Method: http.MethodGet, Path: "/v1/items", Tag: "inventory", Criticality: resilience.Sheddable,
		Summary:     "List items",
		Description: "Items in the order of their SKU, a page at a time. The Link header names the next page.",
	}, h.list)
	stock := []shop.Kind{shop.KeyMissing, shop.KeyInProgress, shop.KeyReused, shop.NotFound, shop.Conflict, shop.TooLarge}
	httpx.Register(api, httpx.Op{
		ID: "receiveStock", Method: http.MethodPost, Path: "/v1/items/{sku}/receipts", Tag: "inventory",
		Summary:     "Take in stock",
		Description: "Adds to the stock on hand and answers with the item. Idempotent by its key.",
		Problems:    stock,
	}, h.receive)
	httpx.Register(api, httpx.Op{
		ID: "adjustStock", Method: http.MethodPost, Path: "/v1/items/{sku}/adjustments", Tag: "inventory",
		Summary:     "Correct stock",
		Description: "Changes the stock on hand by a quantity that may be negative, and answers with the item; conflict where it would fall below what is reserved. Idempotent by its key.",
		Problems:    stock,
	}, h.adjust)
}

type handlers struct{ svc shop.Inventory }

type putInput struct {
	SKU     string `path:"sku" maxLength:"64" doc:"The item's SKU: A-Z a-z 0-9 . _ -, the first a letter or digit"`
	IfMatch string `header:"If-Match" maxLength:"100" doc:"The ETag of the version that is to be changed"`
	Body    shop.PutItem
}

type itemOutput struct {
	Status   int
	ETag     string `header:"ETag" doc:"The version, in quotes"`
	Location string `header:"Location" doc:"The path of a new item"`
	Body     shop.Item
}

func (h *handlers) put(ctx context.Context, in *putInput) (*itemOutput, error) {
	sku := shop.SKU(in.SKU)
	if !sku.Valid() {
		err := shop.E(shop.Invalid, "inventory.http", "The SKU is not valid.")
		err.Fields = []shop.Field{{Pointer: "path/sku", Detail: "must be 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"}}
		return nil, err
	}
	version, exists, err := httpx.IfMatch(in.IfMatch)
	if err != nil {
		return nil, err
	}
	if version > 0 || exists {
		if err := h.mustExist(ctx, sku); err != nil {
			return nil, err
		}
	}
	item, created, err := h.svc.Put(ctx, sku, version, in.Body)
	if err != nil {
		return nil, err
	}
	out := answer(item)
	if created {
		out.Status, out.Location = http.StatusCreated, "/v1/items/"+string(sku)
	}
	return out, nil
}

// mustExist serves If-Match, which nothing that does not exist can match.
func (h *handlers) mustExist(ctx context.Context, sku shop.SKU) error {
	_, err := h.svc.Item(ctx, sku)
	var own *shop.Error
	if errors.As(err, &own) && own.Kind == shop.NotFound {
		return shop.Wrap(shop.VersionConflict, "inventory.http", "The item does not exist, so it has no version to match.", err)
	}
	return err
}

func answer(item shop.Item) *itemOutput {
	return &itemOutput{Status: http.StatusOK, ETag: httpx.ETag(item.Version), Body: item}
}

// pathSKU reads a SKU from a path. What has not the form of one names nothing.
func pathSKU(text string) (shop.SKU, error) {
	sku := shop.SKU(text)
	if !sku.Valid() {
		return "", shop.E(shop.NotFound, "inventory.http", "There is no such item.")
	}
	return sku, nil
}

type getInput struct {
	SKU         string `path:"sku" doc:"The item's SKU"`
	IfNoneMatch string `header:"If-None-Match" maxLength:"1000" doc:"ETags of the versions at hand"`
}

func (h *handlers) get(ctx context.Context, in *getInput) (*itemOutput, error) {
	sku, err := pathSKU(in.SKU)
	if err != nil {
		return nil, err
	}
	item, err := h.svc.Item(ctx, sku)
	if err != nil {
		return nil, err
	}
	out := answer(item)
	if httpx.Matches(in.IfNoneMatch, item.Version) {
		out.Status = http.StatusNotModified
	}
	return out, nil
}

type listInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"The most that a page holds"`
	Cursor string `query:"cursor" maxLength:"512" doc:"next_cursor of the page before"`
}

type listOutput struct {
	Link string `header:"Link" doc:"The next page, rel=next"`
	Body shop.ItemPage
}

func (h *handlers) list(ctx context.Context, in *listInput) (*listOutput, error) {
	page, err := h.svc.Items(ctx, shop.ItemQuery{Limit: in.Limit, Cursor: in.Cursor})
	if err != nil {
		return nil, err
	}
	params := url.Values{"limit": {strconv.Itoa(in.Limit)}}
	return &listOutput{Link: httpx.NextLink("/v1/items", params, page.NextCursor), Body: page}, nil
}

type receiveInput struct {
	SKU  string `path:"sku" doc:"The item's SKU"`
	Key  string `header:"Idempotency-Key" required:"true" pattern:"^[ -~]{1,255}$" patternDescription:"1 to 255 printable ASCII characters" doc:"New for each new request, the same for its repetitions; kept for at least 24 hours"`
	Body shop.Receipt
}

type stockOutput struct {
	ETag     string `header:"ETag" doc:"The version, in quotes"`
	Replayed string `header:"Idempotent-Replayed" doc:"true where this answers a repetition"`
	Body     shop.Item
}

func (h *handlers) receive(ctx context.Context, in *receiveInput) (*stockOutput, error) {
	sku, err := pathSKU(in.SKU)
	if err != nil {
		return nil, err
	}
	item, replayed, err := h.svc.Receive(ctx, httpx.Key(ctx, in.Key), sku, in.Body)
	if err != nil {
		return nil, err
	}
	return &stockOutput{ETag: httpx.ETag(item.Version), Replayed: httpx.Replayed(replayed), Body: item}, nil
}

type adjustInput struct {
	SKU  string `path:"sku" doc:"The item's SKU"`
	Key  string `header:"Idempotency-Key" required:"true" pattern:"^[ -~]{1,255}$" patternDescription:"1 to 255 printable ASCII characters" doc:"New for each new request, the same for its repetitions; kept for at least 24 hours"`
	Body shop.Adjustment
}

func (h *handlers) adjust(ctx context.Context, in *adjustInput) (*stockOutput, error) {
	sku, err := pathSKU(in.SKU)
	if err != nil {
		return nil, err
	}
	if in.Body.Quantity == 0 {
		err := shop.E(shop.Invalid, "inventory.http", "One field is not valid; errors says which and why.")
		err.Fields = []shop.Field{{Pointer: "/quantity", Detail: "must not be 0"}}
		return nil, err
	}
	item, replayed, err := h.svc.Adjust(ctx, httpx.Key(ctx, in.Key), sku, in.Body)
	if err != nil {
		return nil, err
	}
	return &stockOutput{ETag: httpx.ETag(item.Version), Replayed: httpx.Replayed(replayed), Body: item}, nil
}

// The documented forms of the vocabulary's types; the conversions break the build when a field is
// added to one side only.
var (
	_ = putItemDoc(shop.PutItem{})
	_ = receiptDoc(shop.Receipt{})
	_ = adjustmentDoc(shop.Adjustment{})
	_ = itemDoc(shop.Item{})
)

type putItemDoc struct {
	Name      string        `json:"name" minLength:"1" maxLength:"200" example:"Earl Grey 100 g"`
	UnitPrice shop.Amount   `json:"unit_price" minimum:"0" maximum:"1000000000000" doc:"In minor units" example:"450"`
	Currency  shop.Currency `json:"currency" pattern:"^[A-Z]{3}$" patternDescription:"an ISO 4217 code in capitals" doc:"ISO 4217; fixed once there is stock" example:"EUR"`
}

type receiptDoc struct {
	Quantity  int64  `json:"quantity" minimum:"1" maximum:"1000000000" example:"100"`
	Reference string `json:"reference,omitempty" maxLength:"128" doc:"Where it came from, in your system" example:"po-7"`
}

type adjustmentDoc struct {
	Quantity int64  `json:"quantity" minimum:"-1000000000" maximum:"1000000000" doc:"Not 0" example:"-3"`
	Reason   string `json:"reason" minLength:"1" maxLength:"200" example:"damaged"`
}

type itemDoc struct {
	SKU       shop.SKU      `json:"sku"`
	Name      string        `json:"name"`
	UnitPrice shop.Amount   `json:"unit_price" doc:"In minor units"`
	Currency  shop.Currency `json:"currency" doc:"ISO 4217"`
	OnHand    int64         `json:"on_hand" doc:"What is in the warehouse"`
	Reserved  int64         `json:"reserved" doc:"Of on_hand, held for orders"`
	Available int64         `json:"available" doc:"on_hand - reserved"`
	Version   int64         `json:"version" doc:"Counts the changes from 1; also the ETag"`
}
