package audit

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"holdfast/shop"
)

// Bus is where the events are read.
type Bus struct {
	Name    string    // for the report
	Prefix  string    // before the topics' names
	Options []kgo.Opt // how its brokers are reached
}

const (
	// busStart is how long the brokers may take to tell what there is, and busPause for the next records.
	busStart = 15 * time.Second
	busPause = 30 * time.Second
)

// spot is a partition of a topic.
type spot struct {
	topic     string // without prefix
	partition int32
}

// busReader reads every topic from its start with a consumer of its own, and folds what it reads.
type busReader struct {
	bus    Bus
	client *kgo.Client
	hash   func(string) uint64
	next   map[spot]int64 // offsets
	cut    map[spot]bool  // retention has removed the beginning
	oldest map[spot]string

	records int64
	ids     []uint64 // hashes of the events' ids
	orders  map[string]*projected
	found   []finding
}

// projected is an order as the events on the bus tell of it.
type projected struct {
	last          [sources]int64 // versions
	cut           bool
	undone        bool
	status        shop.OrderStatus
	reason        shop.Reason
	stock, parcel string
	payment       string
}

func newBusReader(bus Bus, hash func(string) uint64) *busReader {
	return &busReader{bus: bus, hash: hash, next: map[spot]int64{}, cut: map[spot]bool{}, oldest: map[spot]string{}, orders: map[string]*projected{}}
}

// offsets asks where the partitions begin (-2) or end (-1).
func (b *busReader) offsets(ctx context.Context, at int64) (map[spot]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, busStart)
	defer cancel()
	meta := kmsg.NewPtrMetadataRequest()
	for _, topic := range shop.Topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(b.bus.Prefix + topic)
		meta.Topics = append(meta.Topics, t)
	}
	known, err := meta.RequestWith(ctx, b.client)
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrListOffsetsRequest()
	for _, t := range known.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return nil, fmt.Errorf("topic %s: %w", *t.Topic, err)
		}
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic = *t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Partition, rp.Timestamp = p.Partition, at
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
	}
	resp, err := req.RequestWith(ctx, b.client)
	if err != nil {
		return nil, err
	}
	found := map[spot]int64{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, fmt.Errorf("topic %s, partition %d: %w", t.Topic, p.Partition, err)
			}
			found[spot{t.Topic[len(b.bus.Prefix):], p.Partition}] = p.Offset
		}
	}
	return found, nil
}

// read reads from where it stopped, at first from the start, to what is the end when it begins.
func (b *busReader) read(ctx context.Context) error {
	if len(b.next) == 0 {
		from, err := b.offsets(ctx, -2)
		if err != nil {
			return err
		}
		for at, offset := range from {
			b.next[at], b.cut[at] = offset, offset > 0
		}
	}
	end, err := b.offsets(ctx, -1)
	if err != nil {
		return err
	}
	left := map[spot]bool{}
	ask := map[string]map[int32]kgo.Offset{}
	for at, offset := range end {
		if b.next[at] >= offset {
			continue
		}
		left[at] = true
		topic := b.bus.Prefix + at.topic
		if ask[topic] == nil {
			ask[topic] = map[int32]kgo.Offset{}
		}
		ask[topic][at.partition] = kgo.NewOffset().At(b.next[at])
	}
	b.client.AddConsumePartitions(ask)
	defer func() {
		for topic, partitions := range ask {
			for partition := range partitions {
				b.client.RemoveConsumePartitions(map[string][]int32{topic: {partition}})
			}
		}
	}()
	for len(left) > 0 {
		if err := b.poll(ctx, end, left); err != nil {
			return err
		}
	}
	return nil
}

// poll takes the next records, and takes the partitions that have been read to their ends out of left.
func (b *busReader) poll(ctx context.Context, end map[spot]int64, left map[spot]bool) error {
	ctx, cancel := context.WithTimeout(ctx, busPause)
	defer cancel()
	fetches := b.client.PollFetches(ctx)
	if err := fetches.Err0(); err != nil {
		return fmt.Errorf("the bus tells of more records than it gives: %w", err)
	}
	for _, e := range fetches.Errors() {
		return fmt.Errorf("topic %s, partition %d: %w", e.Topic, e.Partition, e.Err)
	}
	fetches.EachRecord(func(r *kgo.Record) {
		at := spot{r.Topic[len(b.bus.Prefix):], r.Partition}
		if r.Offset < b.next[at] || !left[at] {
			return
		}
		b.next[at] = r.Offset + 1
		b.take(at, r)
		if b.next[at] >= end[at] {
			delete(left, at)
		}
	})
	return nil
}

// envelope is what the headers say of an event.
type envelope struct {
	id, kind, source string
	version          int64
}

func open(r *kgo.Record) (e envelope) {
	for _, h := range r.Headers {
		switch h.Key {
		case "ce_id":
			e.id = string(h.Value)
		case "ce_type":
			e.kind = string(h.Value)
		case "ce_source":
			e.source = string(h.Value)
		case "ce_version":
			e.version, _ = strconv.ParseInt(string(h.Value), 10, 64) // 0 is a copy, which tells of nothing
		}
	}
	return e
}

// take folds a record.
func (b *busReader) take(at spot, r *kgo.Record) {
	b.records++
	e, id := open(r), string(r.Key)
	if b.oldest[at] == "" {
		b.oldest[at] = e.id
	}
	b.ids = append(b.ids, b.hash(e.id))
	source, known := sourceOf[e.source]
	if e.version == 0 || !known {
		return // a copy; or nobody's, whose id is looked for in vain
	}
	o := b.orders[id]
	if o == nil {
		o = &projected{}
		b.orders[id] = o
	}
	switch last := o.last[source]; {
	case e.version <= last:
		return // it was sent again, as it may be
	case e.version > last+1 && last == 0 && b.cut[at]:
		o.cut = true
	case e.version > last+1:
		b.found = append(b.found, finding{inv: "I12", id: id, detail: fmt.Sprintf("on the bus version %d of %s comes after version %d", e.version, e.source, last)})
	}
	o.last[source] = e.version
	o.fold(source, e.kind, r.Value)
}

// fold takes an event into the order. Payloads are snapshots, so the last one tells.
func (o *projected) fold(source int, kind string, payload []byte) {
	var d struct {
		Status string     `json:"status"`
		Order  shop.Order `json:"order"`
	}
	if json.Unmarshal(payload, &d) != nil {
		return // the status then is not the row's
	}
	switch source {
	case srcOrder:
		o.status, o.reason = d.Order.Status, d.Order.Reason
		o.undone = o.undone || kind == string(shop.EventOrderUndoRequested)
	case srcInventory:
		o.stock = d.Status
	case srcPayment:
		o.payment = d.Status
	case srcShipping:
		o.parcel = d.Status
	}
}

// doc is the order as the own state machine wants it.
func (o *projected) doc() *orderDoc {
	d := &orderDoc{Stock: shop.ReservationStatus(o.stock), Parcel: shop.ShipmentStatus(o.parcel)}
	d.Order.Status, d.Order.Payment.Status = o.status, shop.PaymentStatus(o.payment)
	if o.undone {
		if d.Undo = shop.ReasonRequested; o.reason == shop.ReasonReservationExpired {
			d.Undo = o.reason
		}
	}
	return d
}

// has tells whether an event was read.
func has(sorted []uint64, hash uint64) bool {
	_, found := slices.BinarySearch(sorted, hash)
	return found
}
