package engine

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// KafkaConfig describes a broker.
type KafkaConfig struct {
	Dir string // of its files; it exists
	// Addr is where anybody may speak to it in plain text.
	Addr      string
	Listeners []KafkaListener // other ways to it
	// Scram are passwords of users as kafka-storage takes them: SCRAM-SHA-256=[name=…,password=…].
	Scram []string
	// Of is a broker whose cluster this one joins, as its second; nil for a cluster of its own.
	Of *Kafka
	// Properties are added to the broker's own, and win.
	Properties map[string]string
}

// KafkaListener is a way to the broker for some of its clients.
type KafkaListener struct {
	Name       string // in capitals
	Protocol   string // PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL
	Addr       string
	Advertised string // where the broker sends who came this way: Addr, or that of a proxy
}

// Kafka is a broker, with its controller if it is the first of its cluster.
type Kafka struct {
	*Process
	cfg        KafkaConfig
	java       java
	controller string
}

// NewKafka prepares the files of a broker.
func NewKafka(cfg KafkaConfig) (*Kafka, error) {
	k := &Kafka{cfg: cfg}
	var err error
	if k.java, err = findJava(); err != nil {
		return nil, err
	}
	if cfg.Of != nil {
		k.controller = cfg.Of.controller
	} else if k.controller, err = Address(); err != nil {
		return nil, err
	}
	if err := k.write(); err != nil {
		return nil, fmt.Errorf("Kafka: %w", err)
	}
	args := []string{"format", "-t", "aG9sZGZhc3QtdGVzdHM0MQ", "-c", k.file("server.properties")}
	for _, user := range cfg.Scram {
		args = append(args, "--add-scram", user)
	}
	if out, err := k.command("kafka.tools.StorageTool", args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("Kafka: format its directory: %w\n%s", err, out)
	}
	k.Process = New(Spec{Name: "kafka", Log: k.file("log"), Ready: k.ping,
		Command: func() *exec.Cmd { return k.command("kafka.Kafka", k.file("server.properties")) }})
	return k, nil
}

func (k *Kafka) command(class string, args ...string) *exec.Cmd {
	cmd := k.java.command(k.file("log4j.properties"), class, args...)
	cmd.Dir = k.cfg.Dir
	return cmd
}

func (k *Kafka) file(name string) string { return filepath.Join(k.cfg.Dir, name) }

// ping asks it on the listener that needs no password.
func (k *Kafka) ping(ctx context.Context) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", k.cfg.Addr)
	if err != nil {
		return err // as for most of the time, and cheaper than a client
	}
	_ = c.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.cfg.Addr), kgo.RetryTimeout(time.Second), kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer cl.Close()
	return cl.Ping(ctx)
}
