package e2e_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"holdfast/platform/bus"
	"holdfast/shop"
	"holdfast/svc/inventory"
	"holdfast/svc/order"
	"holdfast/svc/payment"
	"holdfast/svc/saga"
	"holdfast/svc/shipping"
)

// wire is a client of a Holdfast's bus that is none of its own: it reads and writes records as they are.
type wire struct {
	s      *system
	client *kgo.Client
}

// read opens a client that reads topics from their beginnings.
func (s *system) read(t *testing.T, topics ...string) *wire {
	t.Helper()
	for i := range topics {
		topics[i] = s.prefix + topics[i]
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(s.addresses.Kafka, ",")...), kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxVersions(kversion.V2_3_0())) // as much of the protocol as handled needs
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &wire{s, client}
}

// events opens a client that reads what the services say of orders.
func (s *system) events(t *testing.T) *wire {
	t.Helper()
	return s.read(t, shop.TopicOrders, shop.TopicInventory, shop.TopicPayments, shop.TopicShipping)
}

// of reads the records of orders until there are enough, and hands each to visit.
func (w *wire) of(t *testing.T, visit func(*kgo.Record), enough func(have []*kgo.Record) bool, orders ...shop.OrderID) (have []*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for !enough(have) {
		fetches := w.client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("the bus has only %q of %v", ids(have), orders)
		}
		for _, r := range fetches.Records() {
			if slices.Contains(orders, shop.OrderID(r.Key)) {
				visit(r)
				have = append(have, r)
			}
		}
	}
	return have
}

// nothing is what most do with a record that they read.
func nothing(*kgo.Record) {}

// ids are the events of records.
func ids(records []*kgo.Record) (all []string) {
	for _, r := range records {
		all = append(all, named(r, bus.HeaderType)+" "+named(r, bus.HeaderID))
	}
	return all
}

// told tells whether events of all these types are among records.
func told(types ...shop.EventType) func([]*kgo.Record) bool {
	return func(have []*kgo.Record) bool {
		return !slices.ContainsFunc(types, func(want shop.EventType) bool {
			return !slices.ContainsFunc(have, func(r *kgo.Record) bool { return named(r, bus.HeaderType) == string(want) })
		})
	}
}

// named is the value of a header.
func named(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// again is a copy of a record for the same partition, with other values of some headers.
func again(r *kgo.Record, headers map[string]string) *kgo.Record {
	c := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: slices.Clone(r.Headers)}
	for i, h := range c.Headers {
		if value, other := headers[h.Key]; other {
			c.Headers[i].Value = []byte(value)
		}
	}
	return c
}

// send writes records one after the other, and waits until every service has handled them.
func (w *wire) send(t *testing.T, records ...*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for _, r := range records {
		if err := w.client.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range records {
		for _, group := range w.s.readers(strings.TrimPrefix(r.Topic, w.s.prefix)) {
			eventually(t, group+" has handled what was sent on "+r.Topic, func() bool { return w.committed(t, group, r.Topic, r.Partition) > r.Offset })
		}
	}
}

// readers are the services that read a topic.
func (s *system) readers(topic string) (groups []string) {
	topics := map[string][]string{order.Name: order.Topics(), inventory.Name: inventory.Topics(), payment.Name: payment.Topics(), shipping.Name: shipping.Topics()}
	if s.orchestrated {
		topics[saga.Name] = saga.Topics()
	}
	for name, reads := range topics {
		if slices.Contains(reads, topic) {
			groups = append(groups, name)
		}
	}
	return groups
}

// committed is the offset up to which a service says that it has handled a partition.
func (w *wire) committed(t *testing.T, group, topic string, partition int32) int64 {
	t.Helper()
	part := kmsg.NewOffsetFetchRequestTopic()
	part.Topic, part.Partitions = topic, []int32{partition}
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group, req.Topics = w.s.prefix+group, []kmsg.OffsetFetchRequestTopic{part}
	resp, err := req.RequestWith(t.Context(), w.client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
	return resp.Topics[0].Partitions[0].Offset
}
