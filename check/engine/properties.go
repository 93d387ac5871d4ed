package engine

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// log4j has warnings and the start in the log, and nothing of each request.
const log4j = `log4j.rootLogger=WARN, out
log4j.logger.kafka.server.KafkaRaftServer=INFO
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n
`

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
	listeners := []string{"INNER://" + k.cfg.Addr}
	advertised := listeners[:1:1]
	if k.cfg.Of == nil {
		listeners = append(listeners, "CONTROLLER://"+k.controller)
	}
	protocols := []string{"INNER:PLAINTEXT", "CONTROLLER:PLAINTEXT"}
	for _, l := range k.cfg.Listeners {
		listeners = append(listeners, l.Name+"://"+l.Addr)
		advertised = append(advertised, l.Name+"://"+l.Advertised)
		protocols = append(protocols, l.Name+":"+l.Protocol)
	}
	roles, node := "broker,controller", "1"
	if k.cfg.Of != nil {
		roles, node = "broker", "2"
	}
	return map[string]string{
		"process.roles":                  roles,
		"node.id":                        node,
		"controller.quorum.voters":       "1@" + k.controller,
		"controller.listener.names":      "CONTROLLER",
		"listeners":                      strings.Join(listeners, ","),
		"advertised.listeners":           strings.Join(advertised, ","),
		"listener.security.protocol.map": strings.Join(protocols, ","),
		"inter.broker.listener.name":     "INNER",
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
}
