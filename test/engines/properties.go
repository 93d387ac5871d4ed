package engines

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// mechanisms are those that each user gets a password for.
var mechanisms = []string{"SCRAM-SHA-256", "SCRAM-SHA-512"}

// log4j has warnings and the start in the log, and nothing of each request.
const log4j = `log4j.rootLogger=WARN, out
log4j.logger.kafka.server.KafkaRaftServer=INFO
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n
`

// inner is the index of the listener that the broker uses itself: the clients' where those need nothing, or
// one of its own.
func (k *Kafka) inner() int {
	if len(k.cfg.Users) > 0 || k.cfg.TLS {
		return 2
	}
	return 0
}

// write writes the broker's configuration.
func (k *Kafka) write() error {
	if err := os.WriteFile(k.file("log4j.properties"), []byte(log4j), 0o600); err != nil {
		return err
	}
	p := k.properties()
	maps.Copy(p, k.cfg.Properties)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&b, "%s=%s\n", name, p[name])
	}
	return os.WriteFile(k.file("server.properties"), []byte(b.String()), 0o600)
}

// properties are those of a small broker that is alone: one copy of everything, few threads, and topics
// only where somebody makes them.
func (k *Kafka) properties() map[string]string {
	client, controller := address(k.ports[0]), address(k.ports[1])
	protocol := k.protocol()
	p := map[string]string{
		"process.roles":                  "broker,controller",
		"node.id":                        "1",
		"controller.quorum.voters":       "1@" + controller,
		"controller.listener.names":      "CONTROLLER",
		"listeners":                      joined("CLIENT://"+client, "CONTROLLER://"+controller),
		"advertised.listeners":           "CLIENT://" + client,
		"listener.security.protocol.map": joined("CLIENT:"+protocol, "CONTROLLER:PLAINTEXT", "INNER:PLAINTEXT"),
		"inter.broker.listener.name":     "CLIENT",
		"log.dirs":                       k.file("data"),

		"auto.create.topics.enable":                "false",
		"num.partitions":                           "1",
		"default.replication.factor":               "1",
		"min.insync.replicas":                      "1",
		"offsets.topic.replication.factor":         "1",
		"offsets.topic.num.partitions":             "4",
		"transaction.state.log.replication.factor": "1",
		"transaction.state.log.min.isr":            "1",
		"transaction.state.log.num.partitions":     "4",
		"group.initial.rebalance.delay.ms":         "0",
		"group.min.session.timeout.ms":             "1000",
		"num.network.threads":                      "2",
		"num.io.threads":                           "4",
		"background.threads":                       "2",
		"num.recovery.threads.per.data.dir":        "2",
		"log.cleaner.dedupe.buffer.size":           "4194304",
		"log.index.size.max.bytes":                 "1048576",
		"log.initial.task.delay.ms":                "5000",
	}
	if k.inner() == 2 {
		own := address(k.ports[2])
		p["listeners"] = joined(p["listeners"], "INNER://"+own)
		p["advertised.listeners"] = joined(p["advertised.listeners"], "INNER://"+own)
		p["inter.broker.listener.name"] = "INNER"
	}
	if len(k.cfg.Users) > 0 {
		p["sasl.enabled.mechanisms"] = joined(mechanisms...)
		for _, m := range mechanisms {
			p["listener.name.client."+strings.ToLower(m)+".sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
		}
	}
	if k.cfg.TLS {
		p["ssl.keystore.type"], p["ssl.keystore.location"] = "PEM", k.certs.server
		p["ssl.truststore.type"], p["ssl.truststore.location"] = "PEM", k.certs.Authority
		p["listener.name.client.ssl.client.auth"] = "none"
		if k.cfg.ClientCertificates {
			p["listener.name.client.ssl.client.auth"] = "required"
		}
	}
	return p
}

func (k *Kafka) protocol() string {
	switch sasl := len(k.cfg.Users) > 0; {
	case sasl && k.cfg.TLS:
		return "SASL_SSL"
	case sasl:
		return "SASL_PLAINTEXT"
	case k.cfg.TLS:
		return "SSL"
	default:
		return "PLAINTEXT"
	}
}
