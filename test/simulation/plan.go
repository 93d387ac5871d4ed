package simulation

import (
	"fmt"
	"math/rand/v2"
	"time"

	"holdfast/shop"
)

// Plan is what a seed stands for: what the customers do, what goes wrong, and how the parts are set. It
// is a pure function of the seed.
type Plan struct {
	Seed     uint64
	Settings Settings
	Orders   []PlannedOrder
	Receipts []PlannedReceipt
	Faults   []Fault
	Parties  []PartyFault
	Stops    []Stop
	Jumps    []Jump // of Holdfast's clock
	Hangs    []Hang
	Operator []time.Duration // when somebody has what needs attention tried again
}

// Settings are those that races depend on.
type Settings struct {
	CaptureAtOnce  bool
	ReservationTTL time.Duration
	DispatchAfter  time.Duration
	Slow           time.Duration // what tok_slow waits
	RedriveAfter   time.Duration
	AllWebhooks    bool
	NoWebhooks     bool // the provider tells nothing by itself
	FewFailures    bool // an undo is left to an operator soon
	KeepDead       bool // connections that lost something stay as they are when the faults end
}

// PlannedOrder is an order of a customer, and what else they do about it.
type PlannedOrder struct {
	At       time.Duration
	Key      string
	Lines    []shop.PlaceLine
	Payment  string
	Postal   string
	Country  string
	Wait     int           // seconds that the answer is waited for
	Patience time.Duration // a request without an answer by then is given up
	Repeats  int           // after an answer that tells nothing
	Twins    int           // the same request at the same time
	Other    bool          // the key once more, with another body
	Unknown  bool          // one of its items does not exist

	Cancels []time.Duration // after the acknowledgement
	Reads   []time.Duration
}

// PlannedReceipt is stock that comes in.
type PlannedReceipt struct {
	At       time.Duration
	SKU      shop.SKU
	Quantity int64
}

// The lengths of a run before the faults end.
const (
	busyTime  = 30 * time.Second // orders come
	faultTime = 45 * time.Second // something goes wrong
)

// The items, and their stock: SCARCE runs out, and FREE costs nothing.
var stock = []struct {
	sku   shop.SKU
	price shop.Amount
	count int64
}{{"PLENTY", 450, 10_000}, {"OTHER", 1290, 500}, {"SCARCE", 18900, 8}, {"FREE", 0, 1000}}

var payments = []string{"tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_declined", "tok_insufficient_funds", "tok_slow", "tok_slow", "tok_error_once", "tok_error",
	"tok_timeout_ok", "tok_timeout_ok", "tok_timeout_fail", "tok_void_fails_1", "tok_void_fails_10", "tok_webhook_twice", "tok_webhook_first"}

var postals = []string{"10115", "10115", "10115", "10115", "10115", "10115", "10115", "00001", "00002", "00003", "00004"}

// dice draws.
type dice struct{ *rand.Rand }

func (d dice) one(in int) bool { return d.IntN(in) == 0 }

// between draws from the logarithm, so that short and long ones are as frequent.
func (d dice) between(low, high time.Duration) time.Duration {
	t := float64(low)
	for f := float64(high) / float64(low); f > 1; f = 0 {
		t *= pow(f, d.Float64())
	}
	return time.Duration(t).Round(time.Microsecond)
}

func (d dice) upTo(t time.Duration) time.Duration {
	return time.Duration(d.Int64N(int64(t))).Round(time.Microsecond)
}

func pick[T any](d dice, from []T) T { return from[d.IntN(len(from))] }

// NewPlan returns the plan of a seed.
func NewPlan(seed uint64) Plan {
	d := dice{rand.New(rand.NewPCG(seed, 0x5eed))}
	p := Plan{Seed: seed, Settings: Settings{
		CaptureAtOnce: d.one(4), ReservationTTL: 15 * time.Minute, DispatchAfter: d.between(20*time.Millisecond, 15*time.Second),
		Slow: d.between(200*time.Millisecond, 8*time.Second), RedriveAfter: d.between(3*time.Second, time.Minute), AllWebhooks: d.one(2), FewFailures: d.one(5), KeepDead: d.one(2),
	}}
	if d.one(4) {
		p.Settings.ReservationTTL = d.between(time.Second, 20*time.Second)
	}
	p.attention()
	p.silence()
	orders := 10 + d.IntN(20)
	hot := d.one(3)
	for i := range orders {
		p.Orders = append(p.Orders, d.order(i, hot))
	}
	for range d.IntN(4) {
		p.Receipts = append(p.Receipts, PlannedReceipt{d.upTo(busyTime), pick(d, stock).sku, 1 + d.Int64N(5)})
	}
	if d.one(12) {
		return p // nothing goes wrong
	}
	for range d.IntN(6) {
		p.Faults = append(p.Faults, d.fault())
	}
	for range d.IntN(4) {
		p.Parties = append(p.Parties, d.partyFault())
	}
	for range d.IntN(4) {
		p.Stops = append(p.Stops, d.stop())
	}
	p.time()
	p.stall()
	return p
}

// time has some seeds set Holdfast's clock wrong, or have processes hang. Like attention it has dice of its
// own.
func (p *Plan) time() {
	d := dice{rand.New(rand.NewPCG(p.Seed, 0x71fe))}
	if d.one(3) {
		for range 1 + d.IntN(2) {
			p.Jumps = append(p.Jumps, d.jump())
		}
	}
	if d.one(3) {
		for range 1 + d.IntN(2) {
			p.Hangs = append(p.Hangs, d.hang())
		}
	}
}

// stall has some seeds lose the answers on a part of the connections to the bus, and so hold up some of the
// consumers, while orders are placed and soon cancelled: a step may then hear of its undoing first.
func (p *Plan) stall() {
	d := dice{rand.New(rand.NewPCG(p.Seed, 0x57a1))}
	if !d.one(2) {
		return
	}
	for n := range 1 + d.IntN(3) {
		f := Fault{Link: "holdfast>bus", Dir: back, Kind: Lose, From: d.upTo(busyTime - 5*time.Second), For: d.between(time.Second, 5*time.Second), Rate: 1, Part: 1 + d.IntN(parts), Latency: d.between(200*time.Millisecond, 5*time.Second)}
		p.Faults = append(p.Faults, f)
		for i := range 2 + d.IntN(2) {
			o := d.order(i, false)
			o.Key, o.At, o.Payment, o.Repeats, o.Lines, o.Unknown = fmt.Sprintf("soon-%d-%d", n, i), f.From+d.upTo(f.For/2), "tok_ok", 3, []shop.PlaceLine{{SKU: "PLENTY", Quantity: 1}}, false
			o.Cancels = []time.Duration{d.between(time.Millisecond, 500*time.Millisecond)}
			p.Orders = append(p.Orders, o)
		}
	}
}

// silence has some seeds hear nothing from the provider but answers, so that only a question tells what became of a call
// without one. It has dice of its own.
func (p *Plan) silence() {
	d := dice{rand.New(rand.NewPCG(p.Seed, 0x51e7))}
	p.Settings.NoWebhooks = d.one(6)
}

// attention has some seeds leave an undo to an operator, who may act before the faults have ended, or too
// soon. It has dice of its own, so that the rest of a seed stays what it was.
func (p *Plan) attention() {
	d := dice{rand.New(rand.NewPCG(p.Seed, 0xa77e))}
	if !d.one(8) {
		return
	}
	p.Settings.FewFailures = true
	for i := range 1 + d.IntN(2) {
		o := d.order(i, false)
		o.Key, o.Payment, o.Postal, o.Lines = fmt.Sprintf("attention-%d", i), "tok_void_fails_10", "10115", []shop.PlaceLine{{SKU: "PLENTY", Quantity: 1}}
		o.Unknown, o.Repeats, o.Cancels = false, 3, []time.Duration{d.between(50*time.Millisecond, 3*time.Second)}
		p.Orders = append(p.Orders, o)
	}
	for range d.IntN(3) {
		p.Operator = append(p.Operator, d.upTo(faultTime))
	}
}

func (d dice) order(i int, hot bool) PlannedOrder {
	o := PlannedOrder{At: d.upTo(busyTime), Key: fmt.Sprintf("order-%d", i), Payment: pick(d, payments), Postal: pick(d, postals), Country: pick(d, []string{"DE", "DE", "FR", "AT"}),
		Patience: d.between(500*time.Millisecond, 10*time.Second), Repeats: d.IntN(4), Other: d.one(8), Unknown: d.one(20)}
	if d.one(3) {
		o.At = o.At.Truncate(5 * time.Second) // together with others
	}
	for range 1 + d.IntN(3) {
		o.Lines = append(o.Lines, shop.PlaceLine{SKU: pick(d, stock).sku, Quantity: 1 + d.Int64N(3)})
	}
	switch {
	case hot:
		o.Lines = []shop.PlaceLine{{SKU: "SCARCE", Quantity: 1 + d.Int64N(2)}}
	case d.one(8):
		o.Lines, o.Country = []shop.PlaceLine{{SKU: "FREE", Quantity: 1}}, "AT"
	case o.Unknown:
		o.Lines[0].SKU = "NOWHERE"
	}
	o.Unknown = o.Lines[0].SKU == "NOWHERE"
	if d.one(4) {
		o.Wait = 1 + d.IntN(5)
	}
	if d.one(5) {
		o.Twins = 1 + d.IntN(2)
	}
	if d.one(3) {
		for range 1 + d.IntN(2) {
			o.Cancels = append(o.Cancels, d.between(time.Millisecond, 20*time.Second))
		}
	}
	for range d.IntN(4) {
		o.Reads = append(o.Reads, d.between(time.Millisecond, 20*time.Second))
	}
	return o
}
