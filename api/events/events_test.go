package events_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"holdfast/api/events"
	"holdfast/shop"
)

const id = "0123456789abcdefghijklmnop"

func brief() *shop.Brief {
	return &shop.Brief{
		OrderID: "ord_" + id, Caller: "key_1", Saga: shop.Choreographed, Currency: "EUR", Total: 1400, PaymentMethod: "tok_ok",
		Lines:  []shop.ReservedLine{{Line: 1, SKU: "tea", Quantity: 2}},
		ShipTo: shop.Address{Name: "A", Line1: "B", Line2: "C", City: "D", Region: "E", PostalCode: "10115", Country: "DE"},
	}
}

// full returns payloads with every field set, by topic.
func full() map[string]any {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	order := shop.Order{
		ID: "ord_" + id, Status: shop.Fulfilled, Reason: shop.ReasonRequested, Version: 3, Saga: shop.Choreographed, CustomerID: "c", ExternalID: "x",
		Currency: "EUR", Lines: []shop.OrderLine{{Line: 1, SKU: "tea", Name: "Tea", Quantity: 2, UnitPrice: 700, Total: 1400, Reserved: 1, Shipped: 1, Cancelled: 1}},
		Subtotal: 1400, Shipping: 1, Tax: 1, Total: 1402, Payment: shop.OrderPayment{Status: shop.PaymentCaptured, Authorised: 1, Captured: 1, Refunded: 1},
		Shipment: &shop.OrderShipment{ID: "shp_" + id, Status: shop.ShipmentDispatched, Tracking: "HF1"}, Metadata: map[string]string{"a": "b"}, CreatedAt: at, UpdatedAt: at,
	}
	return map[string]any{
		"Order": shop.OrderData{Order: order, Brief: brief()},
		"Stock": shop.StockData{Reservation: shop.Reservation{ID: "res_" + id, OrderID: "ord_" + id, Status: shop.StockReserved,
			Reason: shop.ReasonOutOfStock, Lines: brief().Lines, ExpiresAt: at}, Brief: brief()},
		"Payment": shop.PaymentData{ID: "pay_" + id, OrderID: "ord_" + id, Status: shop.PaymentCaptured, Reason: shop.ReasonPaymentDeclined,
			Currency: "EUR", Authorised: 1, Captured: 1, Refunded: 1, HoldExpiresAt: at, Saga: shop.Orchestrated, Brief: brief()},
		"Shipment": shop.ShipmentData{ID: "shp_" + id, OrderID: "ord_" + id, Status: shop.ShipmentDispatched, Reason: shop.ReasonNotShippable, Tracking: "HF1", Saga: shop.Orchestrated},
	}
}

// bare returns payloads with nothing set that may be left out.
func bare() map[string]any {
	return map[string]any{
		"Order": shop.OrderData{Order: shop.Order{ID: "ord_" + id, Status: shop.Pending, Version: 1, Saga: shop.Choreographed, CustomerID: "c",
			Currency: "EUR", Lines: []shop.OrderLine{}, Payment: shop.OrderPayment{Status: shop.PaymentNone}}},
		"Stock":    shop.StockData{Reservation: shop.Reservation{OrderID: "ord_" + id, Status: shop.StockReleased}},
		"Payment":  shop.PaymentData{OrderID: "ord_" + id, Status: shop.PaymentCancelled},
		"Shipment": shop.ShipmentData{OrderID: "ord_" + id, Status: shop.ShipmentCancelled},
	}
}

// published lists the types, read from the source so that a new one cannot be forgotten here.
func published(t *testing.T) []string {
	t.Helper()
	src, err := os.ReadFile("../../shop/events.go")
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for line := range strings.Lines(string(src)) {
		if name, value, ok := strings.Cut(line, " EventType = \""); ok && strings.HasPrefix(strings.TrimSpace(name), "Event") {
			value, _, _ = strings.Cut(value, "\"")
			types = append(types, value)
		} else if f := strings.Fields(line); len(f) >= 4 && strings.HasPrefix(f[0], "Event") && f[1] == "EventType" && f[2] == "=" {
			types = append(types, strings.Trim(f[3], `"`))
		}
	}
	slices.Sort(types)
	return types
}

func TestEveryTypeHasASchema(t *testing.T) {
	t.Parallel()
	have, err := eventTypes(events.Schemas())
	if err != nil {
		t.Fatal(err)
	}
	want := published(t)
	if len(want) < 26 || !slices.Equal(have, want) {
		t.Fatalf("schemas for %v\nwant %v", have, want)
	}
}

func compiler(t *testing.T) *jsonschema.Compiler {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	err := fs.WalkDir(events.Schemas(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(events.Schemas(), p)
		if err != nil {
			return err
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			return err
		}
		return c.AddResource("mem:///"+p, doc)
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// family is the payload that a type of event has.
func family(eventType string) string {
	for _, f := range []string{"Order", "Stock", "Payment", "Shipment"} {
		if strings.HasPrefix(eventType, f) {
			return f
		}
	}
	return ""
}

func validate(t *testing.T, c *jsonschema.Compiler, eventType string, payload any) error {
	t.Helper()
	schema, err := c.Compile("mem:///" + eventType + ".json")
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(doc)
}

func TestPayloadsAreValid(t *testing.T) {
	t.Parallel()
	withBrief := []string{"OrderPlaced", "OrderRedriven", "PaymentAuthorised", "StockReserved"}
	c := compiler(t)
	for _, eventType := range published(t) {
		if err := validate(t, c, eventType, full()[family(eventType)]); err != nil {
			t.Errorf("%s, full: %v", eventType, err)
		}
		err := validate(t, c, eventType, bare()[family(eventType)])
		if needs := slices.Contains(withBrief, eventType); (err != nil) != needs {
			t.Errorf("%s, bare: %v, want an error: %v", eventType, err, needs)
		}
	}
}

func TestWrongPayloadsAreInvalid(t *testing.T) {
	t.Parallel()
	order := full()["Order"].(shop.OrderData)
	status, amount, id := order, order, order
	status.Order.Status = "lost"
	amount.Order.Total = -1
	id.Order.ID = "17"
	c := compiler(t)
	for name, payload := range map[string]any{
		"status": status, "amount": amount, "id": id, "empty": struct{}{}, "string": map[string]any{"order": "x"},
	} {
		if validate(t, c, "OrderConfirmed", payload) == nil {
			t.Errorf("%s: valid", name)
		}
	}
}

// TestSchemasKnowEveryField finds a field that was added to shop and not to the schemas, which the
// schemas themselves would let pass.
func TestSchemasKnowEveryField(t *testing.T) {
	t.Parallel()
	lib := library{events.Schemas()}
	for name, payload := range full() {
		schema, err := lib.load("data/" + name + "Data.json")
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		var value any
		if err := json.Unmarshal(data, &value); err != nil {
			t.Fatal(err)
		}
		for _, unknown := range strangers(name, value, schema) {
			t.Errorf("%s is in no schema", unknown)
		}
	}
	if got := strangers("x", node{"a": node{"b": 1.0}}, node{"properties": node{"a": node{"properties": node{}}}}); !slices.Equal(got, []string{"x/a/b"}) {
		t.Errorf("the check itself finds %v", got)
	}
}

func strangers(at string, value any, schema node) []string {
	var found []string
	switch v := value.(type) {
	case node:
		if schema["additionalProperties"] != nil {
			return nil
		}
		props := asNode(schema["properties"])
		for name, x := range v {
			if props[name] == nil {
				found = append(found, at+"/"+name)
				continue
			}
			found = append(found, strangers(at+"/"+name, x, asNode(props[name]))...)
		}
	case []any:
		for _, x := range v {
			found = append(found, strangers(at+"/items", x, asNode(schema["items"]))...)
		}
	}
	return found
}

func TestStatusesAreComplete(t *testing.T) {
	t.Parallel()
	order, err := library{events.Schemas()}.load("data/order.json")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, s := range shop.Statuses {
		want = append(want, string(s))
	}
	slices.Sort(want)
	if got := enum(asNode(asNode(order["properties"])["status"])); !slices.Equal(got, want) {
		t.Errorf("order statuses %v, want %v", got, want)
	}
}

// TestCompatible compares the schemas with those of the last release. Where it fails the change needs
// a new event type, or time: see README.md.
func TestCompatible(t *testing.T) {
	t.Parallel()
	found, err := compare(library{os.DirFS("baseline")}, library{events.Schemas()})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

func TestCompareFindsBreaks(t *testing.T) {
	t.Parallel()
	const base = `{"type":"object","required":["a"],"properties":{"a":{"type":"string","enum":["x","y"]},
		"b":{"type":"array","items":{"$ref":"data/part.json"}},"c":{"type":"string"}}}`
	const part = `{"type":"object","properties":{"n":{"type":"integer","minimum":0}}}`
	for _, tt := range []struct {
		name, schema, part, want string
	}{
		{"same", base, part, ""},
		{"property added", strings.Replace(base, `"c":`, `"d":{"type":"string"},"c":`, 1), part, ""},
		{"value added", strings.Replace(base, `"y"]`, `"y","z"]`, 1), part, ""},
		{"limit lifted", base, strings.Replace(part, `,"minimum":0`, ``, 1), ""},
		{"property removed", strings.Replace(base, `,"c":{"type":"string"}`, ``, 1), part, `T: property "c" removed`},
		{"property retyped", strings.Replace(base, `"c":{"type":"string"}`, `"c":{"type":"integer"}`, 1), part, "T/c: type changed from [string] to [integer]"},
		{"may be null", strings.Replace(base, `"c":{"type":"string"}`, `"c":{"type":["string","null"]}`, 1), part, "T/c: type changed from [string] to [null string]"},
		{"value removed", strings.Replace(base, `,"y"]`, `]`, 1), part, "T/a: values removed: [y]"},
		{"values limited", strings.Replace(base, `"c":{"type":"string"}`, `"c":{"type":"string","enum":["q"]}`, 1), part, "T/c: limited to [q]"},
		{"no longer required", strings.Replace(base, `["a"]`, `[]`, 1), part, "T: no longer certain: [a]"},
		{"newly required", strings.Replace(base, `["a"]`, `["a","c"]`, 1), part, "T: newly required, which events of before lack: [c]"},
		{"closed", strings.Replace(base, `"required"`, `"additionalProperties":false,"required"`, 1), part, "T: closed to further properties"},
		{"within a reference", base, strings.Replace(part, `"n":{"type":"integer","minimum":0}`, `"n":{"type":"string"}`, 1), "T/b/items/n: type changed from [integer] to [string]"},
		{"tightened", base, strings.Replace(part, `"minimum":0`, `"minimum":1`, 1), "T/b/items/n: minimum changed from 0 to 1"},
		{"type removed", "", part, "T: event type removed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			before := fstest.MapFS{"T.json": {Data: []byte(base)}, "data/part.json": {Data: []byte(part)}}
			after := fstest.MapFS{"data/part.json": {Data: []byte(tt.part)}}
			if tt.schema != "" {
				after["T.json"] = &fstest.MapFile{Data: []byte(tt.schema)}
			}
			found, err := compare(library{before}, library{after})
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(found, "; "); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
