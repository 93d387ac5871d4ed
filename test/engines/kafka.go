package engines

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"holdfast/check/engine"
)

// KafkaConfig describes a broker.
type KafkaConfig struct {
	// Users are who may speak to it, by SASL with SCRAM-SHA-256 or -512, and their passwords. None: anybody.
	Users map[string]string
	// TLS has clients speak TLS, and trust the authority of Kafka.Certificates.
	TLS bool
	// Expired has the broker show a certificate that was good until an hour ago; it goes with TLS.
	Expired bool
	// ClientCertificates demands one of every client; it goes with TLS.
	ClientCertificates bool
	// Properties are added to the broker's own, and win.
	Properties map[string]string
}

// mechanisms are those that each user gets a password for.
var mechanisms = []string{"SCRAM-SHA-256", "SCRAM-SHA-512"}

// Kafka is a broker with its controller, in a process of its own.
type Kafka struct {
	Process
	broker *engine.Kafka
	addrs  []string // of clients
	life   *os.File
	certs  Certificates
	names  atomic.Int64
}

// shared is the one broker of the process.
var shared = sync.OnceValues(func() (*Kafka, error) {
	dir, err := os.MkdirTemp("", "holdfast-kafka-")
	if err != nil {
		return nil, err
	}
	life, err := engine.Sweep(dir)
	if err != nil {
		return nil, err
	}
	k, err := newKafka(KafkaConfig{}, dir)
	if err != nil {
		_ = life.Close()
		return nil, err
	}
	k.life = life // closed by nobody but the end of the process
	return k, k.p.Start(context.Background())
})

// SharedKafka returns the broker that the tests of a process share, each with a Prefix of its own. It runs
// until the process ends, and nobody may stop it.
func SharedKafka(t testing.TB) *Kafka {
	t.Helper()
	SkipIfEmbedded(t)
	k, err := shared()
	Need(t, err)
	return k
}

// StartKafka starts a broker for one test, which may do with it as it likes. It costs seconds.
func StartKafka(t testing.TB, cfg KafkaConfig) *Kafka {
	t.Helper()
	SkipIfEmbedded(t)
	k, err := newKafka(cfg, t.TempDir())
	Need(t, err)
	k.Process = Own(t, k.p)
	k.Start(t)
	return k
}

// Join starts a second broker in the cluster of one that needs nothing of its clients.
func (k *Kafka) Join(t testing.TB) {
	t.Helper()
	addr := Address(t)
	second, err := engine.NewKafka(engine.KafkaConfig{Dir: t.TempDir(), Addr: addr, Of: k.broker})
	must(t, err)
	own := Own(t, second.Process)
	own.Start(t)
	k.addrs = append(k.addrs, addr)
}

// Addrs returns where clients find it. They are the same after every Start.
func (k *Kafka) Addrs() []string { return k.addrs }

// Certificates returns what a client of a broker with TLS needs.
func (k *Kafka) Certificates() Certificates { return k.certs }

// Prefix returns a prefix for names of topics and groups that no other test of this process has.
func (k *Kafka) Prefix() string { return fmt.Sprintf("t%d-", k.names.Add(1)) }

// newKafka prepares a broker. Where clients need something they have a listener of their own.
func newKafka(cfg KafkaConfig, dir string) (*Kafka, error) {
	addr, err := engine.Address()
	if err != nil {
		return nil, err
	}
	k := &Kafka{addrs: []string{addr}}
	c := engine.KafkaConfig{Dir: dir, Addr: addr, Properties: map[string]string{}}
	if protocol := cfg.protocol(); protocol != "" {
		if k.addrs[0], err = engine.Address(); err != nil {
			return nil, err
		}
		c.Listeners = []engine.KafkaListener{{Name: "CLIENT", Protocol: protocol, Addr: k.addrs[0], Advertised: k.addrs[0]}}
	}
	if cfg.TLS {
		if k.certs, err = makeCertificates(dir, cfg.Expired); err != nil {
			return nil, fmt.Errorf("Kafka for tests: certificates: %w", err)
		}
	}
	cfg.secure(&c, k.certs)
	maps.Copy(c.Properties, cfg.Properties)
	if k.broker, err = engine.NewKafka(c); err != nil {
		return nil, err
	}
	k.p = k.broker.Process
	return k, nil
}

// secure adds who may speak to it, and with what.
func (cfg KafkaConfig) secure(c *engine.KafkaConfig, certs Certificates) {
	p := c.Properties
	if len(cfg.Users) > 0 {
		p["sasl.enabled.mechanisms"] = strings.Join(mechanisms, ",")
	}
	for _, m := range mechanisms {
		for name, password := range cfg.Users {
			c.Scram = append(c.Scram, fmt.Sprintf("%s=[name=%s,password=%s]", m, name, password))
			p["listener.name.client."+strings.ToLower(m)+".sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
		}
	}
	if !cfg.TLS {
		return
	}
	p["ssl.keystore.type"], p["ssl.keystore.location"] = "PEM", certs.server
	p["ssl.truststore.type"], p["ssl.truststore.location"] = "PEM", certs.Authority
	p["listener.name.client.ssl.client.auth"] = "none"
	if cfg.ClientCertificates {
		p["listener.name.client.ssl.client.auth"] = "required"
	}
}

// protocol is what clients have to speak; "" where they need nothing.
func (cfg KafkaConfig) protocol() string {
	switch sasl := len(cfg.Users) > 0; {
	case sasl && cfg.TLS:
		return "SASL_SSL"
	case sasl:
		return "SASL_PLAINTEXT"
	case cfg.TLS:
		return "SSL"
	default:
		return ""
	}
}
