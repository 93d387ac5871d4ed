package app_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"holdfast/app"
	"holdfast/embedded/bus"
	"holdfast/test/fakes"
	"holdfast/test/postgres"
)

// good are the settings of a process that could start, but for its engines.
func good() map[string]string {
	return map[string]string{
		"target": "payment", "addr": "127.0.0.1:0", "internal_addr": "127.0.0.1:0", "admin_addr": "127.0.0.1:0", "drain_wait": "0s", "log_level": "error",
		"store.dsn": "postgres://holdfast@127.0.0.1:1/holdfast_{service}", "bus.seeds": "127.0.0.1:1", "secrets.api_keys.shop": "a-key-of-the-test-0001",
		"secrets.webhooks.psp": "whsec_c3BsaXQtc3BsaXQtc3BsaXQtc3BsaXQtc3BsaXQ=", "secrets.webhooks.carrier": "whsec_c3BsaXQtc3BsaXQtc3BsaXQtc3BsaXQtc3BsaXQ=",
		"payment.provider_url": "http://127.0.0.1:1", "shipping.carrier_url": "http://127.0.0.1:1",
	}
}

// start runs the daemon with settings until it ends or is ready, and returns its exit code and what it said.
func start(t *testing.T, settings map[string]string) (code int, said string) {
	t.Helper()
	return until(t, settings, `"msg":"ready"`)
}

// until is start with other last words.
func until(t *testing.T, settings map[string]string, words string) (code int, said string) {
	t.Helper()
	var environ []string
	for name, value := range settings {
		environ = append(environ, app.EnvPrefix+strings.ToUpper(strings.ReplaceAll(name, ".", "__"))+"="+value)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	began := time.Now()
	code = app.Daemon(ctx, nil, environ, app.Program{Stderr: &lastWords{&out, []byte(words), cancel}})
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s:\n%s", took, out.String())
	}
	return code, out.String()
}

// lastWords stops the daemon once it says them.
type lastWords struct {
	*bytes.Buffer
	words []byte
	stop  func()
}

func (w *lastWords) Write(p []byte) (int, error) {
	if bytes.Contains(p, w.words) {
		w.stop()
	}
	return w.Buffer.Write(p)
}

// with are settings with some of them changed; "-" takes one out.
func with(settings map[string]string, changes ...string) map[string]string {
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == "-" {
			delete(settings, changes[i])
		} else {
			settings[changes[i]] = changes[i+1]
		}
	}
	return settings
}

// TestStartNames: what keeps a process from starting is said in words that name the setting.
func TestStartNames(t *testing.T) {
	t.Parallel()
	expired := certificate(t, time.Now().Add(-time.Hour))
	valid := certificate(t, time.Now().Add(time.Hour))
	cases := map[string]struct {
		changes []string
		code    int
		says    string
	}{
		"a wrong target":                   {[]string{"target", "payments"}, app.ExitUsage, `target names "payments"`},
		"no target":                        {[]string{"target", ""}, app.ExitUsage, "target is empty"},
		"an unknown setting":               {[]string{"payment.captur", "immediate"}, app.ExitUsage, "captur"},
		"sqlite":                           {[]string{"store.driver", "sqlite"}, app.ExitUsage, "store.driver"},
		"no database":                      {[]string{"store.dsn", "-"}, app.ExitUsage, "store.dsn"},
		"no bus":                           {[]string{"bus.seeds", "-"}, app.ExitUsage, "bus.seeds"},
		"no provider":                      {[]string{"payment.provider_url", "-"}, app.ExitUsage, "payment.provider_url"},
		"no key":                           {[]string{"secrets.api_keys.shop", "-"}, app.ExitUsage, "secrets.api_keys"},
		"a short key":                      {[]string{"secrets.api_keys.shop", "short"}, app.ExitUsage, "secrets.api_keys"},
		"no webhook secret":                {[]string{"secrets.webhooks.psp", "-"}, app.ExitUsage, "secrets.webhooks.psp"},
		"no token beyond loopback":         {[]string{"internal_addr", "0.0.0.0:0"}, app.ExitUsage, "secrets.internal_tokens"},
		"a short token":                    {[]string{"secrets.internal_tokens", "short"}, app.ExitUsage, "secrets.internal_tokens"},
		"no directory of secrets":          {[]string{"secrets.dir", "/nowhere"}, app.ExitUsage, "secrets.dir"},
		"no address of a needed service":   {[]string{"target", "shipping"}, app.ExitUsage, "services.order"},
		"an address that is none":          {[]string{"target", "shipping", "services.order", "order:8082"}, app.ExitUsage, "services.order"},
		"an address of nobody":             {[]string{"services.oder", "http://order:8082"}, app.ExitUsage, `services names "oder"`},
		"a gateway without upstreams":      {[]string{"target", "gateway"}, app.ExitUsage, "gateway.upstreams.inventory"},
		"an unknown mechanism":             {[]string{"bus.sasl.mechanism", "gssapi"}, app.ExitUsage, "bus: sasl.mechanism"},
		"a mechanism without a password":   {[]string{"bus.sasl.mechanism", "scram-sha-256", "bus.sasl.user", "u"}, app.ExitUsage, "sasl.password"},
		"an expired certificate":           {[]string{"bus.tls.enabled", "true", "bus.tls.ca_file", expired}, app.ExitUsage, "bus: tls.ca_file"},
		"a certificate without its key":    {[]string{"bus.tls.enabled", "true", "bus.tls.cert_file", valid}, app.ExitUsage, "tls.key_file"},
		"an authority that cannot be read": {[]string{"bus.tls.enabled", "true", "bus.tls.ca_file", "/nowhere"}, app.ExitUsage, "bus: tls.ca_file"},
		"a bus that is not there":          {nil, app.ExitUnfit, "bus.seeds (127.0.0.1:1)"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if code, said := start(t, with(good(), c.changes...)); code != c.code || !strings.Contains(said, c.says) {
				t.Errorf("code %d, want %d, and to name %q:\n%s", code, c.code, c.says, said)
			}
		})
	}
}

// certificate writes one that ends at some time, and returns its file.
func certificate(t *testing.T, end time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: end.Add(-24 * time.Hour), NotAfter: end, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func taken(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// kafka is a bus of the test.
func kafka(t *testing.T) string {
	t.Helper()
	b, err := bus.New(bus.Config{}, fakes.Deps(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b.Addrs()[0]
}

// TestStartOnEngines is TestStartNames for what takes a database and a bus to be wrong. It starts well first,
// so that what follows is known to be the one thing that is wrong.
func TestStartOnEngines(t *testing.T) {
	t.Parallel()
	dsn, seeds := postgres.Databases(t, "payment"), kafka(t)
	well := func(changes ...string) map[string]string {
		return with(with(good(), "store.dsn", dsn, "bus.seeds", seeds, "log_level", "info"), changes...)
	}
	if code, said := start(t, well("bus.create_topics", "false")); code != app.ExitUnfit || !strings.Contains(said, "bus.create_topics is false") || !strings.Contains(said, "payments.dlq") {
		t.Errorf("missing topics: code %d:\n%s", code, said)
	}
	if code, said := start(t, well()); code != app.ExitOK {
		t.Fatalf("all is well, and it ends with %d:\n%s", code, said)
	}
	if code, said := start(t, well("bus.create_topics", "false")); code != app.ExitOK {
		t.Errorf("with topics that are there: code %d:\n%s", code, said)
	}
	cases := map[string]struct{ setting, value, says string }{
		"an unreachable database":      {"store.dsn", "postgres://holdfast@127.0.0.1:1/holdfast_{service}", "store.dsn"},
		"a database that is not there": {"store.dsn", strings.Replace(dsn, "dbname=", "dbname=none", 1), "does not exist: create it"},
		"an address that is taken":     {"addr", taken(t), "--addr"},
	}
	for name, c := range cases {
		if code, said := start(t, well(c.setting, c.value)); code == app.ExitOK || !strings.Contains(said, c.says) {
			t.Errorf("%s: code %d, want it to name %q:\n%s", name, code, c.says, said)
		}
	}
	newer(t, strings.ReplaceAll(dsn, "{service}", "payment"))
	if code, said := start(t, well()); code == app.ExitOK || !strings.Contains(said, "newer than this program") {
		t.Errorf("a newer database: code %d:\n%s", code, said)
	}
}

// newer makes a database look like one that a later Holdfast has migrated.
func newer(t *testing.T, dsn string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `INSERT INTO schema_versions (version_id, is_applied) VALUES (99999, true)`); err != nil {
		t.Fatal(err)
	}
}
