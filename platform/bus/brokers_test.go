package bus_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"holdfast/platform/bus"
	"holdfast/test/engines"
	"holdfast/test/fakes"
)

// broker is a bus with the topics "orders" (4 partitions) and "one" (1 partition).
type broker struct {
	*kfake.Cluster // nil where it is a real Kafka
	addrs          []string
	prefix         string
	kill, again    func() // of an ownBroker
}

func (b *broker) ListenAddrs() []string { return b.addrs }

func config(b *broker) bus.Config {
	return bus.Config{Seeds: b.addrs, Prefix: b.prefix, SendTimeout: 2 * time.Second, Commit: 100 * time.Millisecond, Heartbeat: 100 * time.Millisecond}
}

// each runs a test on each kind of bus.
func each(t *testing.T, test func(t *testing.T, b *broker)) {
	t.Helper()
	for _, kind := range engines.Buses {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			if kind == engines.Real {
				test(t, onKafka(t, engines.SharedKafka(t)))
				return
			}
			test(t, cluster(t))
		})
	}
}

// cluster is a bus in this process.
func cluster(t *testing.T, opts ...kfake.Opt) *broker {
	t.Helper()
	opts = append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(4, "orders"), kfake.SeedTopics(1, "one"), kfake.GroupMinSessionTimeout(time.Second)}, opts...)
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &broker{Cluster: c, addrs: c.ListenAddrs()}
}

// onKafka is a part of a Kafka that nobody else uses.
func onKafka(t *testing.T, k *engines.Kafka) *broker {
	t.Helper()
	b := &broker{addrs: k.Addrs(), prefix: k.Prefix()}
	topics := []bus.TopicSpec{{Name: "orders", Partitions: 4, Replicas: 1}, {Name: "one", Partitions: 1, Replicas: 1}}
	if err := bus.EnsureTopics(testContext(t), config(b), fakes.Deps(t), topics); err != nil {
		t.Fatal(err)
	}
	return b
}

// ownBroker is a bus that the test may end and start again, at the same place and on the same files.
func ownBroker(t *testing.T, kind engines.Kind) *broker {
	t.Helper()
	if kind == engines.Real {
		k := engines.StartKafka(t, engines.KafkaConfig{})
		b := onKafka(t, k)
		b.kill, b.again = func() { k.Kill(t) }, func() { k.Start(t) }
		return b
	}
	dir := t.TempDir()
	_, number := port(t)
	b := cluster(t, kfake.Ports(number), kfake.DataDir(dir))
	b.kill = b.Close
	b.again = func() { b.Cluster = cluster(t, kfake.Ports(number), kfake.DataDir(dir)).Cluster }
	return b
}
