package points

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"holdfast/shop"
)

// The ends of orders, as docs/scenarios.md says them.
const (
	fulfilled    = "fulfilled; payment captured; shipment dispatched"
	declined     = "rejected (payment_declined); payment declined; shipment none"
	outOfStock   = "rejected (out_of_stock); payment none; shipment none"
	notShippable = "rejected (not_shippable); payment voided; shipment rejected"
)

// Postal codes that the carrier knows, see docs/api.md.
const (
	postal         = "10115"
	postalRefused  = "00001"
	postalNotTaken = "00005" // the parcel is scheduled and never collected
)

// stock is what every run begins with.
func stock() map[shop.SKU]int64 { return map[shop.SKU]int64{"TEA": 1000, "FEW": 3, "NONE": 0} }

// Scenario is what a client does with a running Holdfast.
type Scenario struct {
	Name string
	// Do does it and says how the orders may end. It repeats what is in doubt, so that it goes on behind a crash.
	Do func(w *World)
	// Race says that there are several courses, each with effects of its own, so that a run may miss some.
	Race bool
}

// Scenarios are the twelve of the design.
func Scenarios() []Scenario {
	return []Scenario{
		{Name: "happy-path", Do: func(w *World) {
			w.order("k1", command("tok_ok", postal, line("TEA", 2)), fulfilled)
		}},
		{Name: "decline", Do: func(w *World) {
			w.order("k1", command("tok_declined", postal, line("TEA", 2)), declined)
		}},
		{Name: "no-stock", Do: func(w *World) {
			w.order("k1", command("tok_ok", postal, line("NONE", 1)), outOfStock)
		}},
		{Name: "partial-stock", Do: func(w *World) {
			w.order("k1", command("tok_ok", postal, line("TEA", 1), line("FEW", 4)), outOfStock)
		}},
		{Name: "cancel-before-payment", Do: cancelBeforePayment, Race: true},
		{Name: "cancel-during-payment", Do: cancelDuringPayment},
		{Name: "cancel-against-dispatch", Do: cancelAgainstDispatch, Race: true},
		{Name: "provider-timeout", Do: func(w *World) {
			w.order("k1", command("tok_timeout_ok", postal, line("TEA", 2)), fulfilled)
		}},
		{Name: "void-fails", Do: func(w *World) {
			w.order("k1", command("tok_void_fails_2", postalRefused, line("TEA", 2)), notShippable)
		}},
		{Name: "duplicate-webhook", Do: func(w *World) {
			w.order("k1", command("tok_webhook_twice", postal, line("TEA", 2)), fulfilled)
		}},
		{Name: "poison-event", Do: poisonEvent},
		{Name: "key-again", Do: keyAgain},
	}
}

// The ends of an order that was cancelled before its parcel left, with the steps that had been done or not.
func cancelled() (ends []string) {
	for _, payment := range []string{"none", "cancelled", "voided", "declined"} {
		for _, shipment := range []string{"none", "cancelled", "rejected"} {
			ends = append(ends, "cancelled (requested); payment "+payment+"; shipment "+shipment)
		}
	}
	return ends
}

// cancelBeforePayment: the client cancels as soon as it has its answer. Without a crash that is before the
// provider has been asked, mostly.
func cancelBeforePayment(w *World) {
	w.cancel("k2", w.order("k1", command("tok_ok", postalNotTaken, line("TEA", 2)), cancelled()...))
}

// cancelDuringPayment: the provider has been asked, and has not answered yet.
func cancelDuringPayment(w *World) {
	id := w.order("k1", command("tok_slow", postalNotTaken, line("TEA", 2)), cancelled()...)
	w.until("the provider is asked", func() bool { return w.arrivals("authorise") > 0 })
	w.cancel("k2", id)
}

// cancelAgainstDispatch: the client cancels when the carrier asks to collect. One of them has its way.
func cancelAgainstDispatch(w *World) {
	id := w.order("k1", command("tok_ok", postal, line("TEA", 2)), cancelled()...)
	select {
	case <-w.collects.told:
	case <-time.After(time.Until(w.deadline)):
		w.violate("X1", "", "the carrier never came")
	}
	w.cancel("k2", id)
}

// poisonEvent: an event that cannot be read is between the events of two orders, and becomes a dead letter.
func poisonEvent(w *World) {
	w.order("k1", command("tok_ok", postal, line("TEA", 2)), fulfilled)
	record := kgo.Record{Topic: shop.TopicOrders, Key: []byte("ord_poison"), Value: []byte(`{"order": "nonsense"}`), Headers: []kgo.RecordHeader{
		{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte("evt_poison")}, {Key: "ce_type", Value: []byte(shop.EventOrderPlaced)},
		{Key: "ce_source", Value: []byte("order")}, {Key: "ce_version", Value: []byte("1")}, {Key: "content-type", Value: []byte("application/json")}}}
	w.until("the bus takes an event", func() bool { return w.produce(record) == nil })
	w.exempt["ord_poison"], w.letters = true, 1 // the books rightly miss it
	w.order("k2", command("tok_ok", postal, line("TEA", 1)), fulfilled)
}

// keyAgain: a key is used for the same order once more and at once, and for another one.
func keyAgain(w *World) {
	cmd := command("tok_ok", postal, line("TEA", 2))
	var twin sync.WaitGroup
	twin.Go(func() { w.place("k1", cmd) })
	id := w.order("k1", cmd, fulfilled)
	twin.Wait()
	cmd.ExternalID = "k1"
	cmd.CustomerID = "somebody else"
	if a := w.ask(http.MethodPost, "/v1/orders", "k1", cmd); a.status != http.StatusUnprocessableEntity || a.Code != "idempotency_key_reused" {
		w.violate("I3", string(id), "another order with its key was answered with %d %s %s", a.status, a.Code, a.ID)
	}
	w.place("k1", command("tok_ok", postal, line("TEA", 2)))
}

// produce sends a record to the bus.
func (w *World) produce(record kgo.Record) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(w.life.at(portBus)), kgo.DisableIdempotentWrite(), kgo.RecordDeliveryTimeout(2*time.Second), kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return c.ProduceSync(ctx, &record).FirstErr()
}

// arrivals is how many calls of an operation the provider has seen.
func (w *World) arrivals(operation string) int {
	var a struct {
		ByOperation map[string]int `json:"by_operation"`
	}
	resp, err := w.http.Get(w.life.url(portPSP) + "/arrivals") //nolint:noctx // of a simulator in this process
	if err == nil {
		defer resp.Body.Close()
		err = json.NewDecoder(resp.Body).Decode(&a)
	}
	if err != nil {
		w.violate("X2", "", "the test itself: %v", err)
	}
	return a.ByOperation[operation]
}
