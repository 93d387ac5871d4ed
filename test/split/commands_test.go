package split_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"holdfast/check"
	"holdfast/shop"
	"holdfast/test/engines"
	"holdfast/test/postgres"
	"holdfast/test/split"
)

// operated is a Holdfast on real engines, and what its operator has of it: a configuration file.
type operated struct {
	s             *split.System
	kafka         *engines.Kafka
	dsn, temporal string
	program       string
}

// TestOperator has the operator's commands look at a Holdfast in many processes, on a PostgreSQL, a Kafka of two brokers
// and a Temporal: first all is well, and then one thing is not.
func TestOperator(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts eight processes and four engines")
	}
	t.Parallel()
	all := append([]string{split.Saga}, split.Services...)
	o := operated{kafka: engines.StartKafka(t, engines.KafkaConfig{Properties: map[string]string{"default.replication.factor": "2"}}),
		temporal: engines.StartTemporald(t).Addr(), dsn: postgres.Databases(t, all...), program: filepath.Join(split.Programs(t), "holdfast")}
	o.kafka.Join(t)
	o.s = split.Start(t, split.Options{Databases: o.dsn, Kafka: strings.Join(o.kafka.Addrs(), ","), Temporal: o.temporal})
	c := stocked(t, o.s)
	var sent []check.Sent
	for _, style := range []shop.SagaStyle{shop.Choreographed, shop.Orchestrated} {
		for i := range 3 {
			sent = append(sent, outcomeOf(t, c, fmt.Sprintf("%s-%d", style, i), style))
		}
	}
	rests(t, o.s, c, sent)
	t.Run("doctor", o.doctor)
	t.Run("verify", o.verify)
}

// doctor wants the line of what is wrong, and of nothing else, to say so.
func (o operated) doctor(t *testing.T) {
	stores := []string{"inventory store", "payment store", "shipping store", "order store", "saga store"}
	everything := append(slices.Clone(stores), "kafka", "temporal")
	for _, test := range []struct {
		name, from, to string // what of the configuration is another, and what it is
		wrong          []string
		says           string
	}{
		{name: "all is well"},
		{"no Temporal", o.temporal, "127.0.0.1:1", []string{"temporal"}, "temporal.address"},
		{"no namespace", "address: ", "namespace: nowhere\n  address: ", []string{"temporal"}, `no namespace "nowhere"`},
		{"no Kafka", strings.Join(o.kafka.Addrs(), ", "), "127.0.0.1:1", []string{"kafka"}, "bus.seeds"},
		{"no topics", "seeds:", "prefix: other-\n  seeds:", []string{"kafka"}, "bus.create_topics"},
		{"no databases", "_{service}", "_none_{service}", stores, "store.dsn"},
	} {
		out, code := o.holdfast(t, strings.Replace(o.config(), test.from, test.to, 1), "doctor")
		want := 0
		if test.wrong != nil {
			want = 4
		}
		if code != want || !strings.Contains(out, test.says) {
			t.Errorf("%s: exit code %d, want %d, and to say %q:\n%s", test.name, code, want, test.says, out)
		}
		for _, check := range everything {
			mark := "ok   "
			if slices.Contains(test.wrong, check) {
				mark = "FAIL "
			}
			if !strings.Contains(out, mark+" "+check) {
				t.Errorf("%s: want %q of %s:\n%s", test.name, mark, check, out)
			}
		}
	}
}

// verify compares the bus with the stores, before and after somebody has sent an event that no store has.
func (o operated) verify(t *testing.T) {
	args := []string{"verify", "--bus", "--at-rest", "--grace", "5s"}
	out, code := o.holdfast(t, o.config(), args...)
	if code != 0 || !strings.Contains(out, "pass: 6 orders") {
		t.Fatalf("all is well: exit code %d:\n%s", code, out)
	}
	o.forge(t, "ord_06h2174v9lsdvbr2i0546v3r2s")
	out, code = o.holdfast(t, o.config(), args...)
	if code != 3 || strings.Count(out, "  fail  ") != 1 || !strings.Contains(out, "I14  fail") || !strings.Contains(out, "on the bus") {
		t.Errorf("with an event that nobody wrote: exit code %d, want 3 by I14 alone:\n%s", code, out)
	}
}

// forge sends an event of an order that there is not, of a type that asks nothing of anybody.
func (o operated) forge(t *testing.T, id string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(o.kafka.Addrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r := &kgo.Record{Topic: shop.TopicOrders, Key: []byte(id), Value: []byte(`{}`), Headers: []kgo.RecordHeader{{Key: "ce_id", Value: []byte("evt_06h2174vcprmr3m5jeme9ajd10")},
		{Key: "ce_type", Value: []byte(shop.EventOrderFulfilled)}, {Key: "ce_source", Value: []byte("order")}, {Key: "ce_version", Value: []byte("0")}}}
	if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// config is the configuration of a process of all services.
func (o operated) config() string {
	return fmt.Sprintf(`target: [inventory, payment, shipping, order, saga]
store:
  dsn: %q
bus:
  seeds: [%s]
temporal:
  address: %s
payment:
  provider_url: %s
shipping:
  carrier_url: %s
secrets:
  api_keys: {dev: %s}
  webhooks: {psp: whsec_c3BsaXQtc3BsaXQtc3BsaXQtc3BsaXQtc3BsaXQ=, carrier: whsec_c3BsaXQtc3BsaXQtc3BsaXQtc3BsaXQtc3BsaXQ=}
`, o.dsn, strings.Join(o.kafka.Addrs(), ", "), o.temporal, o.s.Addresses.PSP, o.s.Addresses.Carrier, o.s.Key)
}

// holdfast runs a command with a configuration.
func (o operated) holdfast(t *testing.T, config string, args ...string) (out string, code int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "holdfast.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := exec.CommandContext(t.Context(), o.program, append(args, "--config", file)...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		code = exit.ExitCode()
	}
	return string(b), code
}
