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

// TestStartOnKafka: a Kafka that wants passwords and certificates, and speaks TLS.
func TestStartOnKafka(t *testing.T) {
	t.Parallel()
	k := engines.StartKafka(t, engines.KafkaConfig{Users: map[string]string{"holdfast": "right"}, TLS: true, ClientCertificates: true})
	other := engines.Certify(t, false)
	dsn := postgres.Databases(t, "payment")
	settings := func(changes ...string) map[string]string {
		return with(with(good(), "store.dsn", dsn, "bus.seeds", k.Addrs()[0], "bus.sasl.mechanism", "scram-sha-512", "bus.sasl.user", "holdfast", "secrets.bus_password", "right",
			"bus.tls.enabled", "true", "bus.tls.ca_file", k.Certificates().Authority, "bus.tls.cert_file", k.Certificates().ClientCertificate, "bus.tls.key_file", k.Certificates().ClientKey,
			"log_level", "info", "partitions", "1"), changes...)
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
	wrong{settings("bus.tls.cert_file", "-", "bus.tls.key_file", "-"), []string{"bus.tls.cert_file"}}.fails(t, "no certificate")
	wrong{settings("bus.tls.cert_file", other.ClientCertificate, "bus.tls.key_file", other.ClientKey), []string{"bus.tls.cert_file"}}.fails(t, "a certificate of another authority")
	wrong{settings("bus.tls.server_name", "kafka"), []string{"for another host", "bus.tls.server_name"}}.fails(t, "another name")
	wrong{settings("bus.tls.enabled", "false", "bus.tls.ca_file", "-", "bus.tls.cert_file", "-", "bus.tls.key_file", "-"), []string{"bus.tls"}}.fails(t, "without TLS")
}

// TestStartExpired: a Kafka whose certificate is out of its time.
func TestStartExpired(t *testing.T) {
	t.Parallel()
	k := engines.StartKafka(t, engines.KafkaConfig{TLS: true, Expired: true})
	wrong{with(good(), "bus.seeds", k.Addrs()[0], "bus.tls.enabled", "true", "bus.tls.ca_file", k.Certificates().Authority),
		[]string{"certificate of the brokers of bus.seeds", "out of its time: renew it"}}.fails(t, "an expired certificate")
}

// sagas are the settings of a process of saga.
func sagas(t *testing.T, temporal string) func(changes ...string) map[string]string {
	dsn, seeds := postgres.Databases(t, "saga"), kafka(t)
	return func(changes ...string) map[string]string {
		return with(with(good(), "target", "saga", "store.dsn", dsn, "bus.seeds", seeds, "temporal.address", temporal, "services.inventory", "http://127.0.0.1:1",
			"services.payment", "http://127.0.0.1:1", "services.shipping", "http://127.0.0.1:1", "log_level", "warn"), changes...)
	}
}

// TestStartOnTemporal: a Temporal that lacks the namespace ends the process. One that is away does not, since
// orders must be taken meanwhile: that is a warning.
func TestStartOnTemporal(t *testing.T) {
	t.Parallel()
	s := engines.StartTemporald(t, "--data", t.TempDir(), "--namespace", "default")
	settings := sagas(t, s.Addr())
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

// TestStartOnTemporalByTLS: a Temporal that wants certificates. What its clients lack ends the process.
func TestStartOnTemporalByTLS(t *testing.T) {
	t.Parallel()
	s := engines.StartTemporald(t, "--data", t.TempDir(), "--namespace", "default")
	own, other := engines.Certify(t, false), engines.Certify(t, true)
	door := engines.BehindTLS(t, s.Addr(), own)
	base := sagas(t, door)
	settings := func(changes ...string) map[string]string {
		return with(base("temporal.tls.ca_file", own.Authority, "temporal.tls.cert_file", own.ClientCertificate, "temporal.tls.key_file", own.ClientKey), changes...)
	}
	if code, said := until(t, settings("log_level", "info"), `"msg":"ready"`); code != app.ExitOK || !strings.Contains(said, `"msg":"ready"`) {
		t.Fatalf("all is well, and it ends with %d:\n%s", code, said)
	}
	for name, w := range map[string]wrong{
		"no certificate":                     {settings("temporal.tls.cert_file", "-", "temporal.tls.key_file", "-"), []string{"temporal.tls.cert_file", "certificate required", door}},
		"a certificate of another authority": {settings("temporal.tls.cert_file", other.ClientCertificate, "temporal.tls.key_file", other.ClientKey), []string{"temporal.tls.cert_file"}},
		"a certificate that has ended":       {settings("temporal.tls.cert_file", certificate(t, time.Now().Add(-time.Hour))), []string{"temporal.tls.cert_file", "expired at"}},
		"another authority":                  {settings("temporal.tls.ca_file", other.Authority), []string{"temporal.tls.ca_file", "authority that is not known"}},
		"the system's authorities":           {settings("temporal.tls.ca_file", "-"), []string{"temporal.tls.ca_file"}},
		"another name":                       {settings("temporal.tls.server_name", "temporal"), []string{"temporal.tls.server_name", "for another host"}},
		"a server whose certificate has ended": {settings("temporal.address", engines.BehindTLS(t, s.Addr(), other), "temporal.tls.ca_file", other.Authority),
			[]string{"out of its time: renew it"}},
		"a server without TLS": {settings("temporal.address", s.Addr()), []string{"speaks no TLS on that port"}},
	} {
		w.fails(t, name)
	}
	if code, said := until(t, base(), "does it want temporal.tls?"); code != app.ExitOK || !strings.Contains(said, door) {
		t.Errorf("without TLS: code %d:\n%s", code, said)
	}
}
