package verify_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"holdfast/check/audit"
	"holdfast/shop"
)

// TestBusNamesWhatIsWrong puts the events of sound stores on a bus, changed in one place, and wants the invariant
// that is broken there to fail, and no other.
func TestBusNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := fill(t, "")
	of := func(id shop.OrderID, kind shop.EventType) func(*kgo.Record) bool {
		return func(r *kgo.Record) bool { return string(r.Key) == string(id) && header(r, "ce_type") == string(kind) }
	}
	for name, c := range map[string]struct {
		want   string // the invariant, and the beginning of who is named
		change func([]*kgo.Record) []*kgo.Record
	}{
		"sound": {"", func(all []*kgo.Record) []*kgo.Record { return all }},
		"sent again": {"", func(all []*kgo.Record) []*kgo.Record {
			return append(all, all[len(all)/2:]...)
		}},
		"an event is not there": {"I13 evt_", func(all []*kgo.Record) []*kgo.Record { // the last of its order: no later one shows the gap
			return slices.DeleteFunc(all, of(s.done, shop.EventOrderFulfilled))
		}},
		"an event that nobody wrote": {"I14 bus", func(all []*kgo.Record) []*kgo.Record {
			strange := *all[0]
			strange.Headers = slices.Clone(strange.Headers)
			set(&strange, "ce_id", header(all[0], "ce_id")[:20]+"0000000000")
			set(&strange, "ce_version", "0")
			return append(all, &strange)
		}},
		"events are in another order": {"I12 " + string(s.done), func(all []*kgo.Record) []*kgo.Record {
			i := slices.IndexFunc(all, of(s.done, shop.EventOrderPlaced))
			first := all[i]
			return append(slices.Delete(all, i, i+1), first)
		}},
		"the bus tells of another end": {"I12 " + string(s.undone), func(all []*kgo.Record) []*kgo.Record {
			last := all[slices.IndexFunc(all, of(s.undone, shop.EventOrderCancelled))]
			last.Value = []byte(strings.Replace(string(last.Value), `"status":"cancelled"`, `"status":"rejected"`, 1))
			return all
		}},
		"the steps do not lead to the end": {"I12 " + string(s.undone), func(all []*kgo.Record) []*kgo.Record {
			released := all[slices.IndexFunc(all, of(s.undone, shop.EventStockReleased))]
			released.Value = []byte(strings.Replace(string(released.Value), `"status":"released"`, `"status":"reserved"`, 1))
			return all
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := onBus(t, s.dir, c.change(outboxes(t, s.dir)), 0)
			var failed []string
			for _, x := range r.Failed() {
				for _, o := range x.Items {
					failed = append(failed, x.ID+" "+o.ID)
				}
			}
			if c.want == "" && r.Verdict == audit.Pass {
				return
			}
			if c.want == "" || len(r.Failed()) != 1 || !slices.ContainsFunc(failed, func(f string) bool { return strings.HasPrefix(f, c.want) }) {
				t.Errorf("failed: %v; want %q alone", failures(r), c.want)
			}
		})
	}
	t.Run("retention has removed the beginning", func(t *testing.T) {
		t.Parallel()
		r := onBus(t, s.dir, outboxes(t, s.dir), 3)
		i := slices.IndexFunc(r.Results, func(x audit.Result) bool { return x.ID == "I13" })
		if x := r.Results[i]; r.Verdict != audit.Inconclusive || x.Verdict != audit.Inconclusive || x.Items[0].ID != shop.TopicOrders {
			t.Errorf("%s: %v; want I13 inconclusive alone, for topic orders", r.Verdict, failures(r))
		}
	})
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

func set(r *kgo.Record, key, value string) {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			r.Headers[i].Value = []byte(value)
		}
	}
}

// outboxes are the records of all outboxes in a data directory, as they are on a bus.
func outboxes(t *testing.T, dir string) (all []*kgo.Record) {
	t.Helper()
	for _, service := range []string{"order", "inventory", "payment", "shipping"} {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, service+".db")+"?mode=ro")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		rows, err := db.Query(`SELECT event_id, topic, key, version, type, source, data FROM outbox ORDER BY pos`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var id, topic, key, kind, source string
			var version int64
			var data []byte
			if err := rows.Scan(&id, &topic, &key, &version, &kind, &source, &data); err != nil {
				t.Fatal(err)
			}
			all = append(all, &kgo.Record{Topic: topic, Key: []byte(key), Value: data, Headers: []kgo.RecordHeader{{Key: "ce_id", Value: []byte(id)},
				{Key: "ce_type", Value: []byte(kind)}, {Key: "ce_source", Value: []byte(source)}, {Key: "ce_version", Value: []byte(strconv.FormatInt(version, 10))}}})
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// onBus audits a data directory with a bus that holds these records, less the first cut ones of topic orders.
func onBus(t *testing.T, dir string, records []*kgo.Record, cut int64) *audit.Report {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, shop.Topics...))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	options := []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}
	producer, err := kgo.NewClient(options...)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, r := range records { // one is on the bus twice where it is sent again
		again := *r
		if err := producer.ProduceSync(ctx, &again).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if cut > 0 {
		remove(t, ctx, producer, cut)
	}
	cfg := look(dir, "", true)
	cfg.Grace, cfg.Bus = 10*time.Millisecond, &audit.Bus{Name: "a test's", Options: options}
	report, err := audit.Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// remove removes the beginning of topic orders, as retention does.
func remove(t *testing.T, ctx context.Context, client *kgo.Client, until int64) {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = shop.TopicOrders
	partition := kmsg.NewDeleteRecordsRequestTopicPartition()
	partition.Offset = until
	topic.Partitions = append(topic.Partitions, partition)
	req.Topics, req.TimeoutMillis = append(req.Topics, topic), 10_000
	resp, err := req.RequestWith(ctx, client)
	if err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("remove records: %v %+v", err, resp)
	}
}
