// Package history keeps what clients of a Holdfast did and were told, on disk before they do it, and judges it
// later: with or without the Holdfast, as often as wanted. It knows the public API and nothing behind it.
//
// A history is a file of lines of JSON. An operation has two: its invoke, which is on disk before the request
// goes out, and what came of it: ok, fail (an answer which says that nothing was done), or unknown (none, a
// broken one, or 5xx: it may have been done, or may still be). An answer is on disk two fsyncs after it came, at
// the latest. So whatever kills the client, a request that the server may have seen is in the file.
package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"holdfast/shop"
)

// Kind is what a line tells of.
type Kind string

// The kinds of lines. An operation without one of ok, fail and unknown is unknown: its client was killed.
const (
	Begin   Kind = "begin" // the first line
	Invoke  Kind = "invoke"
	OK      Kind = "ok"
	Fail    Kind = "fail"
	Unknown Kind = "unknown"
	End     Kind = "end" // the last line: the workload was carried out, with its last reads
)

// The operations.
const (
	Place   = "place"
	Cancel  = "cancel"
	Read    = "read"    // an order by id
	List    = "list"    // the orders of a customer
	Receive = "receive" // of stock
	Look    = "look"    // at an item
)

// Line is a line of a history. Its members are those of its kind.
type Line struct {
	Kind Kind          `json:"kind"`
	Op   int           `json:"op,omitempty"` // from 1
	At   time.Duration `json:"at_ns"`        // since the beginning, by the monotonic clock
	Wall time.Time     `json:"wall"`

	*Head    `json:",omitempty"`
	*Request `json:",omitempty"`
	*Answer  `json:",omitempty"`
}

// Head says how a history came about.
type Head struct {
	Version int    `json:"version"` // of the format: 1
	Seed    uint64 `json:"seed"`
	Run     string `json:"run"` // begins the customers, keys and SKUs
	Repeat  string `json:"repeat"`
}

// Request is what was asked.
type Request struct {
	Client   int          `json:"client"`
	Do       string       `json:"do"`
	Key      string       `json:"key,omitempty"`
	Body     string       `json:"body,omitempty"`
	Customer string       `json:"customer,omitempty"`
	Lines    []Want       `json:"lines,omitempty"` // what body orders
	Order    shop.OrderID `json:"order,omitempty"`
	SKU      shop.SKU     `json:"sku,omitempty"`
	Quantity int64        `json:"quantity,omitempty"`
	// Patience is how long the client waits for an answer where that is not long: it gives up, and may have been
	// heard nevertheless.
	Patience time.Duration `json:"patience_ns,omitempty"`
}

// Want is a line that is ordered.
type Want struct {
	SKU      shop.SKU `json:"sku"`
	Quantity int64    `json:"quantity"`
}

// route is where the key of a request counts.
func (r *Request) route() string {
	switch r.Do {
	case Cancel:
		return "cancel " + string(r.Order)
	case Receive:
		return "receive " + string(r.SKU)
	default:
		return r.Do
	}
}

// Answer is what was told.
type Answer struct {
	Status int    `json:"status"` // of HTTP; 0: none
	Code   string `json:"code,omitempty"`
	Digest string `json:"digest,omitempty"` // of all of it
	Error  string `json:"error,omitempty"`
	Stale  bool   `json:"stale,omitempty"`    // it says of itself that it is a copy
	Again  bool   `json:"replayed,omitempty"` // it says of itself that it was given before
	Whole  bool   `json:"whole,omitempty"`    // a list's last page
	Saw    []Seen `json:"saw,omitempty"`      // the order, or the orders of a list
	Item   *Stock `json:"item,omitempty"`
}

// Seen is what is kept of an order that was shown.
type Seen struct {
	ID       shop.OrderID       `json:"id"`
	Version  int64              `json:"version"`
	Status   shop.OrderStatus   `json:"status"`
	Reason   shop.Reason        `json:"reason,omitempty"`
	Customer string             `json:"customer"`
	External string             `json:"external"`
	Total    shop.Amount        `json:"total"`
	Created  time.Time          `json:"created"`
	Lines    []Shown            `json:"lines"`
	Payment  shop.PaymentStatus `json:"payment"`
	Captured shop.Amount        `json:"captured,omitempty"`
	Refunded shop.Amount        `json:"refunded,omitempty"`
	Shipment string             `json:"shipment,omitempty"`
}

// Shown is a line of an order that was shown.
type Shown struct {
	Want
	Reserved int64 `json:"reserved,omitempty"`
	Shipped  int64 `json:"shipped,omitempty"`
}

// Stock is what is kept of an item that was shown.
type Stock struct {
	OnHand   int64 `json:"on_hand"`
	Reserved int64 `json:"reserved"`
	Version  int64 `json:"version"`
}

// never is when an operation of unknown outcome has ended.
const never = time.Duration(math.MaxInt64)

// Op is an operation of a history.
type Op struct {
	ID int
	Request
	Answer
	Outcome      Kind // OK, Fail or Unknown
	Call, Return time.Duration
}

// History is what was read of a file.
type History struct {
	Head
	Ops   []*Op // in the order of their invokes
	Ended bool  // the workload was carried out to its last reads
}

// maxLine bounds a line: a list of 200 orders is some 100 kB.
const maxLine = 8 << 20

// Parse reads a history. A last line that is cut off, as a kill of the client leaves it, is left out.
func Parse(r io.Reader) (*History, error) {
	h := &History{}
	byID := map[int]*Op{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	lines.Split(wholeLines)
	for n := 1; lines.Scan(); n++ {
		var l Line
		dec := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&l); err != nil {
			return nil, fmt.Errorf("line %d of the history: %w", n, err)
		}
		if err := h.take(l, byID); err != nil {
			return nil, fmt.Errorf("line %d of the history: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("the history: %w", err)
	}
	if h.Version == 0 {
		return nil, errors.New("the history has no first line: nothing was recorded")
	}
	return h, nil
}

// wholeLines is bufio.ScanLines without a last line that does not end.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if atEOF && bytes.IndexByte(data, '\n') < 0 {
		return len(data), nil, nil
	}
	return bufio.ScanLines(data, atEOF)
}

// take adds a line.
func (h *History) take(l Line, byID map[int]*Op) error {
	switch {
	case h.Version == 0:
		if l.Kind != Begin || l.Head == nil || l.Version != 1 {
			return errors.New("it is not the beginning of a history of version 1")
		}
		h.Head = *l.Head
	case h.Ended:
		return errors.New("there is something after the end")
	case l.Kind == Invoke:
		if l.Request == nil || byID[l.Op] != nil {
			return fmt.Errorf("operation %d is begun twice, or is none", l.Op)
		}
		o := &Op{ID: l.Op, Request: *l.Request, Outcome: Unknown, Call: l.At, Return: never}
		byID[l.Op] = o
		h.Ops = append(h.Ops, o)
	case l.Kind == OK, l.Kind == Fail, l.Kind == Unknown:
		o := byID[l.Op]
		if o == nil || l.Answer == nil || o.Return != never {
			return fmt.Errorf("operation %d is answered twice, or was never begun", l.Op)
		}
		if o.Answer, o.Outcome = *l.Answer, l.Kind; l.Kind != Unknown {
			o.Return = l.At
		}
	case l.Kind == End:
		h.Ended = true
	default:
		return fmt.Errorf("there is no kind %q", l.Kind)
	}
	return nil
}
