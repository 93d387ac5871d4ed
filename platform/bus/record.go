package bus

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"holdfast/shop"
)

// The headers of an event: CloudEvents 1.0 in the Kafka binding's binary mode, with the order as
// subject, its version as an extension, and W3C trace context beside them.
const (
	HeaderSpec        = "ce_specversion"
	HeaderID          = "ce_id"
	HeaderType        = "ce_type"
	HeaderSource      = "ce_source"
	HeaderTime        = "ce_time"
	HeaderSubject     = "ce_subject"
	HeaderVersion     = "ce_version"
	HeaderContentType = "content-type"
	HeaderTraceParent = "traceparent"
)

const (
	specVersion = "1.0"
	contentType = "application/json"
	timeFormat  = "2006-01-02T15:04:05.000000Z07:00"
)

// ToRecord returns the record of an event. A header in e.Headers stands in place of the envelope's
// own, so that a dead letter keeps those of the event it copies. The record's timestamp stays zero:
// the producer's delivery timeout counts from it, and an event may be days old when it is sent again.
func ToRecord(e shop.Event) *kgo.Record {
	w := writer{
		own:  e.Headers,
		list: make([]kgo.RecordHeader, 0, 9+len(e.Headers)),
		buf:  make([]byte, 0, 192+len(e.OrderID)),
	}
	w.add(HeaderSpec, specVersion)
	w.add(HeaderID, string(e.ID))
	w.add(HeaderType, string(e.Type))
	w.add(HeaderSource, e.Source)
	w.add(HeaderSubject, string(e.OrderID))
	w.add(HeaderContentType, contentType)
	w.add(HeaderTraceParent, e.TraceParent)
	if _, own := e.Headers[HeaderTime]; !own && !e.Time.IsZero() {
		w.append(HeaderTime, func(b []byte) []byte { return e.Time.UTC().AppendFormat(b, timeFormat) })
	}
	if _, own := e.Headers[HeaderVersion]; !own {
		w.append(HeaderVersion, func(b []byte) []byte { return strconv.AppendInt(b, e.Version, 10) })
	}
	for _, name := range sortedKeys(e.Headers) {
		w.list = append(w.list, kgo.RecordHeader{Key: name, Value: []byte(e.Headers[name])})
	}
	return &kgo.Record{Topic: e.Topic, Key: []byte(e.OrderID), Value: e.Data, Headers: w.list}
}

// writer puts the values of all headers into one allocation.
type writer struct {
	own  map[string]string
	list []kgo.RecordHeader
	buf  []byte
}

func (w *writer) add(name, value string) {
	if _, own := w.own[name]; own || value == "" {
		return
	}
	w.append(name, func(b []byte) []byte { return append(b, value...) })
}

func (w *writer) append(name string, value func([]byte) []byte) {
	start := len(w.buf)
	w.buf = value(w.buf)
	w.list = append(w.list, kgo.RecordHeader{Key: name, Value: w.buf[start:len(w.buf):len(w.buf)]})
}

func sortedKeys(m map[string]string) []string {
	if len(m) == 0 {
		return nil
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// FromRecord returns the event of a record. With an error, of kind Invalid, the event holds what can
// be said of any record: its topic, its key, all its headers and its bytes.
func FromRecord(r *kgo.Record) (shop.Event, error) {
	e := shop.Event{Topic: r.Topic, OrderID: shop.OrderID(text(r.Key)), Data: r.Value}
	var spec, subject, media string
	var faults []error
	for _, h := range r.Headers {
		switch h.Key {
		case HeaderSpec:
			spec = string(h.Value)
		case HeaderID:
			e.ID = shop.EventID(h.Value)
		case HeaderType:
			e.Type = shop.EventType(h.Value)
		case HeaderSource:
			e.Source = string(h.Value)
		case HeaderSubject:
			subject = string(h.Value)
		case HeaderContentType:
			media = string(h.Value)
		case HeaderTraceParent:
			e.TraceParent = text(h.Value)
		case HeaderTime:
			var err error
			if e.Time, err = time.Parse(time.RFC3339Nano, string(h.Value)); err != nil {
				faults = append(faults, errors.New(HeaderTime+" is not RFC 3339"))
			}
		case HeaderVersion:
			var err error
			if e.Version, err = strconv.ParseInt(string(h.Value), 10, 64); err != nil || e.Version < 0 {
				faults = append(faults, errors.New(HeaderVersion+" is not a number from 0"))
			}
		default:
			if e.Headers == nil {
				e.Headers = make(map[string]string)
			}
			e.Headers[h.Key] = string(h.Value)
		}
	}
	if spec != specVersion {
		faults = append(faults, errors.New(HeaderSpec+" is not "+specVersion))
	}
	for _, must := range []struct{ name, value string }{
		{HeaderID, string(e.ID)}, {HeaderType, string(e.Type)}, {HeaderSource, e.Source}, {"key", string(e.OrderID)},
	} {
		if must.value == "" || !clean(must.value) {
			faults = append(faults, fmt.Errorf("%s is missing or not text", must.name))
		}
	}
	if subject != "" && subject != string(r.Key) {
		faults = append(faults, errors.New(HeaderSubject+" is not the key"))
	}
	if !strings.HasPrefix(media, contentType) {
		faults = append(faults, errors.New(HeaderContentType+" is not "+contentType))
	}
	if len(faults) > 0 {
		return unread(r), shop.Wrap(shop.Invalid, "bus.FromRecord", "the record is not an event", errors.Join(faults...))
	}
	return e, nil
}

// unread returns what can be said of a record that is no event.
func unread(r *kgo.Record) shop.Event {
	e := shop.Event{Topic: r.Topic, OrderID: shop.OrderID(text(r.Key)), Data: r.Value, Headers: make(map[string]string, len(r.Headers))}
	for _, h := range r.Headers {
		e.Headers[text([]byte(h.Key))] = text(h.Value)
	}
	return e
}

func clean(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// text makes bytes fit for a text column: valid UTF-8 without NUL.
func text(b []byte) string {
	s := string(b)
	if clean(s) {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}
