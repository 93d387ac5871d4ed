package app_test

import (
	"strings"
	"testing"
	"time"

	"holdfast/app"
	"holdfast/test/engines"
	"holdfast/test/postgres"
)

// wrong is a start that one thing keeps from going well.
type wrong struct {
	settings map[string]string
	says     []string
}

func (w wrong) fails(t *testing.T, name string) {
	t.Helper()
	code, said := start(t, w.settings)
	if code != app.ExitUnfit && code != app.ExitUsage {
		t.Errorf("%s: code %d:\n%s", name, code, said)
	}
	for _, text := range w.says {
		if !strings.Contains(said, text) {
			t.Errorf("%s: it does not name %q:\n%s", name, text, said)
		}
	}
}

// TestStartOnPostgreSQL: a PostgreSQL that wants passwords, as one in production does.
func TestStartOnPostgreSQL(t *testing.T) {
	t.Parallel()
	pg := postgres.Start(t)
	pg.WantPassword(t, "right")
	bare := strings.Replace(pg.Databases(t, "payment"), ":right@", "@", 1)
	settings := func(changes ...string) map[string]string {
		return with(with(good(), "store.dsn", bare, "bus.seeds", kafka(t), "secrets.store_password", "right", "log_level", "info"), changes...)
	}
	if code, said := start(t, settings()); code != app.ExitOK {
		t.Fatalf("all is well, and it ends with %d:\n%s", code, said)
	}
	says := []string{"does not let user holdfast in", "store.dsn", "secrets.store_password"}
	wrong{settings("secrets.store_password", "wrong"), says}.fails(t, "a wrong password")
	wrong{settings("secrets.store_password", "-"), says}.fails(t, "no password")
	wrong{settings("store.dsn", strings.Replace(bare, "holdfast@", "nobody@", 1)), []string{"does not let user nobody in", "store.dsn"}}.fails(t, "a user that is not there")
}

// TestStartOnKafka: a Kafka that wants passwords, and speaks TLS.
func TestStartOnKafka(t *testing.T) {
	t.Parallel()
	k := engines.StartKafka(t, engines.KafkaConfig{Users: map[string]string{"holdfast": "right"}, TLS: true})
	dsn := postgres.Databases(t, "payment")
	settings := func(changes ...string) map[string]string {
		return with(with(good(), "store.dsn", dsn, "bus.seeds", k.Addrs()[0], "bus.sasl.mechanism", "scram-sha-512", "bus.sasl.user", "holdfast", "secrets.bus_password", "right",
			"bus.tls.enabled", "true", "bus.tls.ca_file", k.Certificates().Authority, "log_level", "info", "partitions", "1"), changes...)
	}
	wrong{settings("bus.create_topics", "false"), []string{"bus.create_topics is false", "payments.dlq"}}.fails(t, "missing topics")
	if code, said := start(t, settings()); code != app.ExitOK {
		t.Fatalf("all is well, and it ends with %d:\n%s", code, said)
	}
	denied := []string{`do not let user "holdfast" in`, "bus.sasl.password", "secrets.bus_password"}
	wrong{settings("secrets.bus_password", "wrong"), denied}.fails(t, "a wrong password")
	wrong{settings("bus.sasl.user", "nobody"), []string{`do not let user "nobody" in`, "bus.sasl.user"}}.fails(t, "an unknown user")
	wrong{settings("bus.sasl.mechanism", "plain"), []string{"bus.sasl.mechanism"}}.fails(t, "a mechanism that it lacks")
	wrong{settings("bus.sasl.mechanism", "", "bus.sasl.user", "-", "secrets.bus_password", "-"), []string{"bus.sasl"}}.fails(t, "no password")
	wrong{settings("bus.tls.ca_file", certificate(t, time.Now().Add(time.Hour))), []string{"authority that is not known", "bus.tls.ca_file"}}.fails(t, "another authority")
	wrong{settings("bus.tls.enabled", "false", "bus.tls.ca_file", "-"), []string{"bus.tls"}}.fails(t, "without TLS")
}

// TestStartExpired: a Kafka whose certificate is out of its time.
func TestStartExpired(t *testing.T) {
	t.Parallel()
	k := engines.StartKafka(t, engines.KafkaConfig{TLS: true, Expired: true})
	wrong{with(good(), "bus.seeds", k.Addrs()[0], "bus.tls.enabled", "true", "bus.tls.ca_file", k.Certificates().Authority),
		[]string{"certificate of the brokers of bus.seeds", "out of its time: renew it"}}.fails(t, "an expired certificate")
}

// TestStartOnTemporal: a Temporal that lacks the namespace ends the process. One that is away does not, since
// orders must be taken meanwhile: that is a warning.
func TestStartOnTemporal(t *testing.T) {
	t.Parallel()
	s := engines.StartTemporald(t, "--data", t.TempDir(), "--namespace", "default")
	dsn, seeds := postgres.Databases(t, "saga"), kafka(t)
	settings := func(changes ...string) map[string]string {
		return with(with(good(), "target", "saga", "store.dsn", dsn, "bus.seeds", seeds, "temporal.address", s.Addr(), "services.inventory", "http://127.0.0.1:1",
			"services.payment", "http://127.0.0.1:1", "services.shipping", "http://127.0.0.1:1", "log_level", "warn"), changes...)
	}
	wrong{settings("temporal.namespace", "nowhere"), []string{"temporal.namespace", `no namespace "nowhere"`, s.Addr()}}.fails(t, "an unknown namespace")
	for name, c := range map[string]struct{ setting, value, says string }{
		"all is well":     {"temporal.namespace", "default", `"msg":"ready"`},
		"one that's away": {"temporal.address", "127.0.0.1:1", "temporal.address: the Temporal at 127.0.0.1:1 does not answer"},
	} {
		if code, said := until(t, settings("log_level", "info", c.setting, c.value), c.says); code != app.ExitOK || !strings.Contains(said, c.says) {
			t.Errorf("%s: code %d, want it to say %q:\n%s", name, code, c.says, said)
		}
	}
}
