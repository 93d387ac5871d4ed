package bus_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"holdfast/platform/bus"
	"holdfast/shop"
)

func headers(r *kgo.Record) map[string]string {
	m := make(map[string]string)
	for _, h := range r.Headers {
		m[h.Key] = string(h.Value)
	}
	return m
}

func TestToRecord(t *testing.T) {
	t.Parallel()
	e := shop.Event{
		ID: "evt_1", Type: shop.EventStockReserved, Source: "inventory", Topic: shop.TopicInventory, OrderID: "ord_1", Version: 3,
		Time: time.Date(2026, 11, 24, 13, 14, 15, 123456000, time.FixedZone("", 3600)), TraceParent: "00-a-b-01", Data: []byte(`{"x":1}`),
	}
	r := bus.ToRecord(e)
	want := map[string]string{
		"ce_specversion": "1.0", "ce_id": "evt_1", "ce_type": "StockReserved", "ce_source": "inventory", "ce_subject": "ord_1",
		"ce_time": "2026-11-24T12:14:15.123456Z", "ce_version": "3", "content-type": "application/json", "traceparent": "00-a-b-01",
	}
	if got := headers(r); !reflect.DeepEqual(got, want) || len(r.Headers) != len(want) {
		t.Errorf("headers\n%v\nwant\n%v", got, want)
	}
	if r.Topic != "inventory" || string(r.Key) != "ord_1" || string(r.Value) != `{"x":1}` {
		t.Errorf("topic %q, key %q, value %q", r.Topic, r.Key, r.Value)
	}
	if !r.Timestamp.IsZero() {
		t.Errorf("timestamp %v: the producer would time an old event out at once", r.Timestamp)
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	base := event("orders", 1, 2)
	for name, change := range map[string]func(*shop.Event){
		"plain":          func(*shop.Event) {},
		"trace":          func(e *shop.Event) { e.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" },
		"version 0":      func(e *shop.Event) { e.Version = 0 },
		"further header": func(e *shop.Event) { e.Headers = map[string]string{"dlq_cause": "why", "x": ""} },
		"microseconds":   func(e *shop.Event) { e.Time = e.Time.Add(123456 * time.Microsecond) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := base
			change(&e)
			got, err := bus.FromRecord(bus.ToRecord(e))
			if err != nil || !reflect.DeepEqual(got, e) {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, e)
			}
		})
	}
}

func TestHeadersReplaceTheEnvelope(t *testing.T) {
	t.Parallel()
	e := event("orders.dlq", 1, 0)
	e.Headers = map[string]string{"ce_id": "evt_original", "ce_version": "7", "ce_time": "2020-01-01T00:00:00Z", "dlq_id": string(e.ID)}
	r := bus.ToRecord(e)
	got, err := bus.FromRecord(r)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != "evt_original" || got.Version != 7 || got.Time.Year() != 2020 || got.Headers["dlq_id"] != string(e.ID) {
		t.Errorf("got %+v", got)
	}
	seen := map[string]bool{}
	for _, h := range r.Headers {
		if seen[h.Key] {
			t.Errorf("header %s twice", h.Key)
		}
		seen[h.Key] = true
	}
}

func TestFromRecordRefuses(t *testing.T) {
	t.Parallel()
	set := func(name, value string) func(*kgo.Record) {
		return func(r *kgo.Record) {
			kept := r.Headers[:0]
			for _, h := range r.Headers {
				if h.Key != name {
					kept = append(kept, h)
				}
			}
			r.Headers = append(kept, kgo.RecordHeader{Key: name, Value: []byte(value)})
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*kgo.Record)
		want   string
	}{
		{"no headers", func(r *kgo.Record) { r.Headers = nil }, "ce_specversion"},
		{"other version of CloudEvents", set("ce_specversion", "0.3"), "ce_specversion"},
		{"no id", set("ce_id", ""), "ce_id"},
		{"id that is no text", set("ce_id", "a\xff"), "ce_id"},
		{"id with NUL", set("ce_id", "a\x00"), "ce_id"},
		{"no type", set("ce_type", ""), "ce_type"},
		{"no source", set("ce_source", ""), "ce_source"},
		{"time", set("ce_time", "yesterday"), "ce_time"},
		{"version", set("ce_version", "one"), "ce_version"},
		{"negative version", set("ce_version", "-1"), "ce_version"},
		{"subject of another", set("ce_subject", "ord_2"), "ce_subject"},
		{"no key", func(r *kgo.Record) { r.Key = nil }, "key"},
		{"other content", set("content-type", "text/plain"), "content-type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := bus.ToRecord(event("orders", 1, 1))
			tt.change(r)
			e, err := bus.FromRecord(r)
			if shop.KindOf(err) != shop.Invalid || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one about %s", err, tt.want)
			}
			if e.Topic != "orders" || string(e.Data) != `{"a":1}` || len(e.Headers) != len(r.Headers) || e.ID != "" {
				t.Errorf("what is left of it: %+v", e)
			}
		})
	}
}

func TestFromRecordTolerates(t *testing.T) {
	t.Parallel()
	r := bus.ToRecord(event("orders", 1, 1))
	kept := r.Headers[:0]
	for _, h := range r.Headers {
		switch h.Key {
		case "ce_subject", "ce_time", "ce_version": // optional for other producers
		case "content-type":
			kept = append(kept, kgo.RecordHeader{Key: h.Key, Value: []byte("application/json; charset=utf-8")})
		default:
			kept = append(kept, h)
		}
	}
	r.Headers = kept
	if _, err := bus.FromRecord(r); err != nil {
		t.Error(err)
	}
}

// FuzzFromRecord checks that nothing on the bus can hurt a consumer: it never panics, and whatever it
// returns fits a text column.
func FuzzFromRecord(f *testing.F) {
	f.Add("ord_1", "ce_id", "evt_1", []byte("{}"))
	f.Add("\xff\x00", "ce_version", "99999999999999999999", []byte("\x00"))
	f.Fuzz(func(t *testing.T, key, name, value string, data []byte) {
		r := bus.ToRecord(event("orders", 1, 1))
		r.Key, r.Value = []byte(key), data
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
		e, _ := bus.FromRecord(r)
		for _, s := range []string{string(e.OrderID), string(e.ID), string(e.Type), e.Source, e.TraceParent} {
			if strings.ContainsRune(s, 0) || strings.ToValidUTF8(s, "") != s {
				t.Errorf("%q", s)
			}
		}
	})
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	b := bus.Backoff{Min: 10 * time.Millisecond, Max: time.Second}
	for failures, limit := range map[int]time.Duration{1: 10 * time.Millisecond, 2: 20 * time.Millisecond, 5: 160 * time.Millisecond, 8: time.Second, 1000: time.Second} {
		for _, draw := range []float64{0, 0.5, 0.999} {
			got := b.Delay(fixedRand(draw), failures)
			if want := time.Duration(draw * float64(limit)); got != want {
				t.Errorf("after %d failures, drawing %v: %v, want %v", failures, draw, got, want)
			}
		}
	}
}

type fixedRand float64

func (fixedRand) Uint64() uint64     { return 0 }
func (r fixedRand) Float64() float64 { return float64(r) }
