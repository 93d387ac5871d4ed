package audit

import (
	"context"
	"database/sql"
	"encoding/base32"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"holdfast/shop"
)

// readers are who handles an event, by topic and type: as ARCHITECTURE.md says.
var readers = readersOf(map[string]map[string][]shop.EventType{
	orderStore: {
		shop.TopicInventory: {shop.EventStockReserved, shop.EventStockRejected, shop.EventStockReleased, shop.EventStockShipped},
		shop.TopicPayments: {shop.EventPaymentAuthorised, shop.EventPaymentDeclined, shop.EventPaymentVoided, shop.EventPaymentRefunded,
			shop.EventPaymentCancelled, shop.EventPaymentCaptured, shop.EventPaymentNeedsAttention},
		shop.TopicShipping: {shop.EventShipmentScheduled, shop.EventShipmentRejected, shop.EventShipmentCancelled, shop.EventShipmentDispatched,
			shop.EventShipmentNeedsAttention},
	},
	inventoryStore: {
		shop.TopicOrders: {shop.EventOrderPlaced, shop.EventOrderRedriven},
		shop.TopicPayments: {shop.EventPaymentDeclined, shop.EventPaymentVoided, shop.EventPaymentRefunded, shop.EventPaymentCancelled,
			shop.EventPaymentNeedsAttention},
		shop.TopicShipping: {shop.EventShipmentDispatched},
	},
	paymentStore: {
		shop.TopicInventory: {shop.EventStockReserved},
		shop.TopicShipping:  {shop.EventShipmentRejected, shop.EventShipmentCancelled, shop.EventShipmentDispatched},
		shop.TopicOrders:    {shop.EventOrderRedriven},
	},
	shippingStore: {
		shop.TopicPayments: {shop.EventPaymentAuthorised},
		shop.TopicOrders:   {shop.EventOrderUndoRequested, shop.EventOrderRedriven},
	},
	sagaStore: {
		shop.TopicOrders: {shop.EventOrderPlaced, shop.EventOrderUndoRequested, shop.EventOrderRedriven, shop.EventOrderRejected,
			shop.EventOrderCancelled, shop.EventOrderFulfilled},
	},
})

// both are the events that ask for something whether their order is orchestrated or not. What else the steps read of an
// orchestrated order is for nobody, since the orchestrator asks for it; and that reads of no other.
var both = []shop.EventType{shop.EventOrderRedriven, shop.EventShipmentDispatched}

// styledTypes are the events of which that decides, as SQL.
var styledTypes = styled()

func styled() string {
	var list []string
	for topicType, consumers := range readers {
		_, t, _ := strings.Cut(topicType, " ")
		if !slices.Equal(consumers, []string{orderStore}) {
			list = append(list, "'"+t+"'")
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// asks tells whether the event asks one of its readers for anything: what asks for nothing is passed over, and not noted.
func (r *outboxRow) asks(reader string) bool {
	switch {
	case reader == sagaStore:
		return r.orchestrated
	case reader == orderStore || !r.orchestrated:
		return true
	default:
		return slices.Contains(both, shop.EventType(r.kind))
	}
}

func readersOf(wants map[string]map[string][]shop.EventType) map[string][]string {
	m := map[string][]string{}
	for _, consumer := range append([]string{sagaStore}, services...) {
		for topic, types := range wants[consumer] {
			for _, t := range types {
				m[topic+" "+string(t)] = append(m[topic+" "+string(t)], consumer)
			}
		}
	}
	return m
}

const (
	// bucketBytes is the part of an event's id that a bucket shares: "evt_" and the first 35 bits of its time
	// in milliseconds, which is 8 seconds.
	bucketBytes = len("evt_") + 7
	// maxBuckets bounds those that are read again.
	maxBuckets = 1000
)

// inbox compares what a consumer has noted with what was written for it, without keeping either: by buckets
// of time, whose sums of hashes are equal where the ids are the same.
type inbox struct {
	buckets map[string]*bucket
	since   string // ids before it may have been deleted on one side
}

type bucket struct {
	sum      uint64 // of the hashes: expected less handled
	expected int64
}

func (b *inbox) bucket(id string) *bucket {
	if len(id) < bucketBytes || !strings.HasPrefix(id, "evt_") || id[:bucketBytes] <= b.since {
		return &bucket{}
	}
	x := b.buckets[id[:bucketBytes]]
	if x == nil {
		x = &bucket{}
		b.buckets[strings.Clone(id[:bucketBytes])] = x
	}
	return x
}

func (b *inbox) expect(id string, hash uint64) {
	x := b.bucket(id)
	x.sum += hash
	x.expected++
}

// idAt returns the beginning of the ids that are made at t.
func idAt(t time.Time) string {
	var raw [10]byte
	binary.BigEndian.PutUint64(raw[:], uint64(t.UnixMilli())<<16)
	return ("evt_" + strings.ToLower(base32.HexEncoding.EncodeToString(raw[:])))[:bucketBytes]
}

// scanInbox reads what a consumer has noted.
func (a *auditor) scanInbox(ctx context.Context, s *store) error {
	in, after := a.inboxes[s.service], a.inboxes[s.service].since
	return a.pages(ctx, s, func(ctx context.Context, v *view) (bool, error) {
		n := 0
		err := v.query(ctx, `SELECT event_id FROM inbox WHERE consumer = ? AND event_id > ? ORDER BY event_id LIMIT ?`,
			[]any{s.service, after, a.cfg.Page}, func(rows *sql.Rows) error {
				if err := rows.Scan(&after); err != nil {
					return err
				}
				n++
				a.report.Counts.Handled++
				in.bucket(after).sum -= a.recs.hash(after)
				return nil
			})
		return n == a.cfg.Page, err
	})
}

// all are the services whose stores are there, in the order of services: the saga's, which has heard of orders
// alone, comes first.
func (a *auditor) all() []string {
	if a.stores[sagaStore] == nil {
		return services
	}
	return append([]string{sagaStore}, services...)
}

// joined has nothing expected of the saga's consumer that was written before the first event that it handled: a
// Holdfast may have run without a Temporal for long.
func (a *auditor) joined(ctx context.Context) error {
	s := a.stores[sagaStore]
	if s == nil {
		return nil
	}
	var first string
	err := s.view(ctx, func(ctx context.Context, v *view) error {
		return v.row(ctx, &first, `SELECT COALESCE(min(event_id), '') FROM inbox WHERE consumer = ?`, sagaStore)
	})
	if err != nil {
		return err
	}
	in := a.inboxes[sagaStore]
	if first == "" {
		in.since = idAt(a.now.Add(never)) // it has handled nothing yet
	} else if len(first) >= bucketBytes {
		in.since = max(in.since, first[:bucketBytes])
	}
	return nil
}

// never is longer than anybody looks at stores.
const never = 24 * time.Hour

// share is a bucket of a consumer.
type share struct{ consumer, key string }

// reread compares the buckets that differ id by id. The first time it notes which ids do; later it looks at
// those alone, since others have come meanwhile.
func (a *auditor) reread(ctx context.Context) (found []finding, err error) {
	first := a.missing == nil
	if first {
		a.missing = map[string]bool{}
		for _, consumer := range a.all() {
			for key, b := range a.inboxes[consumer].buckets {
				switch {
				case b.sum == 0:
				case len(a.shares) >= maxBuckets:
					a.report.Unjudged++
				default:
					a.shares = append(a.shares, share{consumer, key})
				}
			}
		}
	}
	var still []share
	for _, s := range a.shares {
		differ, err := a.compare(ctx, s.consumer, s.key)
		if err != nil {
			return nil, err
		}
		n := len(found)
		for _, d := range differ {
			if first || a.missing[d.id+s.consumer] {
				a.missing[d.id+s.consumer] = true
				found = append(found, d)
			}
		}
		if len(found) > n {
			still = append(still, s)
		}
	}
	a.shares = still
	return found, nil
}

// compare reads first what was handled, then what was written, so that whatever was handled must be found.
func (a *auditor) compare(ctx context.Context, consumer, key string) (found []finding, err error) {
	handled := map[string]bool{}
	err = a.stores[consumer].view(ctx, func(ctx context.Context, v *view) error {
		return v.query(ctx, `SELECT event_id FROM inbox WHERE consumer = ? AND event_id >= ? AND event_id < ?`, []any{consumer, key, key + "~"}, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			handled[id] = true
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	for _, service := range a.all() {
		err := a.stores[service].view(ctx, func(ctx context.Context, v *view) error {
			return v.query(ctx, v.events(`event_id >= ? AND event_id < ?`), []any{key, key + "~"}, func(rows *sql.Rows) error {
				var r outboxRow
				if err := r.scan(rows); err != nil {
					return err
				}
				wanted := false
				for _, c := range readers[r.topic+" "+r.kind] {
					wanted = wanted || c == consumer && r.version > 0 && r.asks(c)
				}
				switch {
				case handled[r.id]:
					delete(handled, r.id)
				case wanted:
					found = append(found, finding{inv: "I14", id: r.id, rest: true, open: true, detail: consumer + " has not handled " + r.kind + " of " + r.key})
				}
				return nil
			})
		})
		if err != nil {
			return nil, err
		}
	}
	for id := range handled {
		found = append(found, finding{inv: "I14", id: id, detail: consumer + " has handled it, and nobody has written it"})
	}
	return found, nil
}
