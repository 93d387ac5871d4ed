package engines_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"holdfast/test/engines"
)

const patience = 60 * time.Second

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func dial(t *testing.T, k *engines.Kafka, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(k.Addrs()...), kgo.RetryTimeout(5 * time.Second), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func makeTopic(t *testing.T, cl *kgo.Client, name string) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, 1, 1
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(within(t), cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func send(t *testing.T, cl *kgo.Client, topic, value string) {
	t.Helper()
	if err := cl.ProduceSync(within(t), &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr(); err != nil {
		t.Fatalf("%s: %v", value, err)
	}
}

// values returns the first n values of a topic.
func values(t *testing.T, k *engines.Kafka, topic string, n int) string {
	t.Helper()
	cl := dial(t, k, kgo.ConsumeTopics(topic))
	var got []string
	for ctx := within(t); len(got) < n; {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("of %d values only %v came", n, got)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	return strings.Join(got, " ")
}

// TestKafkaComesBack: a stop, a kill and a pause, and what was acknowledged is there after each.
func TestKafkaComesBack(t *testing.T) {
	t.Parallel()
	k := engines.StartKafka(t, engines.KafkaConfig{})
	cl := dial(t, k)
	makeTopic(t, cl, "a")
	send(t, cl, "a", "one")
	k.Kill(t)
	k.Start(t)
	send(t, cl, "a", "two")
	k.Stop(t)
	k.Start(t)
	k.Pause(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := dial(t, k).Ping(ctx); err == nil {
		t.Error("it answers although it is paused")
	}
	k.Resume(t)
	send(t, cl, "a", "three")
	if got := values(t, k, "a", 3); got != "one two three" {
		t.Errorf("it holds %s", got)
	}
}

func TestKafkaPrefixes(t *testing.T) {
	t.Parallel()
	k := engines.SharedKafka(t)
	first, second := k.Prefix(), k.Prefix()
	if first == second || first == "" {
		t.Errorf("%q and %q", first, second)
	}
	makeTopic(t, dial(t, k), first+"a")
	makeTopic(t, dial(t, k), second+"a")
}

// TestKafkaSecured has a broker with passwords, TLS and client certificates refuse whoever lacks one.
func TestKafkaSecured(t *testing.T) {
	t.Parallel()
	k := engines.StartKafka(t, engines.KafkaConfig{Users: map[string]string{"holdfast": "s3cret"}, TLS: true, ClientCertificates: true})
	good := clientTLS(t, k)
	unknown := good.Clone()
	unknown.Certificates = nil
	user := func(password string) kgo.Opt {
		return kgo.SASL(scram.Auth{User: "holdfast", Pass: password}.AsSha512Mechanism())
	}
	cl := dial(t, k, kgo.DialTLSConfig(good), user("s3cret"))
	makeTopic(t, cl, "a")
	send(t, cl, "a", "one")
	for name, opts := range map[string][]kgo.Opt{
		"a wrong password":          {kgo.DialTLSConfig(good), user("guess")},
		"no password":               {kgo.DialTLSConfig(good)},
		"no certificate":            {kgo.DialTLSConfig(unknown), user("s3cret")},
		"no TLS":                    {user("s3cret")},
		"an authority it knows not": {kgo.DialTLSConfig(new(tls.Config)), user("s3cret")},
	} {
		if err := dial(t, k, opts...).Ping(within(t)); err == nil {
			t.Errorf("it takes somebody with %s", name)
		}
	}
}

func clientTLS(t *testing.T, k *engines.Kafka) *tls.Config {
	t.Helper()
	c := k.Certificates()
	own, err := tls.LoadX509KeyPair(c.ClientCertificate, c.ClientKey)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(c.Authority)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("the authority is no certificate")
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{own}}
}

// TestKafkaEndsWithItsProcess kills a child that has started the shared broker, and waits for the broker
// and its files to go.
func TestKafkaEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	engines.SharedKafka(t) // skip where there is none
	dir := t.TempDir()
	child := run(t, "^TestChild$", childVariable+"=1", "TMPDIR="+dir)
	var pid int
	for line := range child.lines {
		if _, err := fmt.Sscanf(line, "BROKER %d", &pid); err == nil {
			child.kill()
		}
	}
	if pid == 0 {
		t.Fatal("the child did not start a broker")
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx := within(t); ; {
		left, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		_, err = os.Stat(fmt.Sprintf("/proc/%d", pid))
		if len(left) == 0 && errors.Is(err, os.ErrNotExist) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("broker %d: %v; left: %v", pid, err, left)
		}
	}
}

// TestChild is not a test but the child of TestKafkaEndsWithItsProcess.
func TestChild(t *testing.T) {
	if os.Getenv(childVariable) == "" {
		t.Skip("it is for TestKafkaEndsWithItsProcess")
	}
	fmt.Println("BROKER", engines.SharedKafka(t).Pid())
	<-t.Context().Done()
}
