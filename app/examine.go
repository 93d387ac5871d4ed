package app

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"holdfast/platform/bus"
	"holdfast/platform/sqldb"
	"holdfast/platform/temporal"
	"holdfast/shop"
)

// Finding is what was found of one thing that a process needs, and what to do where it is not well.
type Finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
}

const (
	examineFor = 5 * time.Second     // for each thing
	clocksMax  = 2 * time.Second     // between this machine and a database
	renewAt    = 14 * 24 * time.Hour // before a certificate ends
)

// Examine looks at what a process with this configuration needs from outside. It changes nothing.
func Examine(ctx context.Context, cfg Config, deps shop.Deps) (found []Finding) {
	for _, m := range modules() {
		if m.migrations != nil && cfg.Has(m.name) {
			found = append(found, within(ctx, func(ctx context.Context) Finding { return cfg.examineStore(ctx, m.name, deps) }))
		}
	}
	if cfg.stateful() {
		found = append(found, cfg.examineBus(ctx, deps))
	}
	if cfg.Temporal.Address != "" {
		found = append(found, cfg.examineTemporal(ctx, deps))
	}
	for setting, at := range map[string]map[string][]string{"services": cfg.Services, "gateway.upstreams": cfg.Gateway.Upstreams} {
		for _, name := range slices.Sorted(maps.Keys(at)) {
			for _, url := range at[name] {
				found = append(found, within(ctx, func(ctx context.Context) Finding { return examineService(ctx, setting+"."+name, url, deps) }))
			}
		}
	}
	for _, setting := range []struct{ name, file string }{
		{"bus.tls.ca_file", cfg.Bus.TLS.CAFile}, {"bus.tls.cert_file", cfg.Bus.TLS.CertFile},
		{"temporal.tls.ca_file", cfg.Temporal.TLS.CAFile}, {"temporal.tls.cert_file", cfg.Temporal.TLS.CertFile},
	} {
		if setting.file != "" {
			found = append(found, examineCertificate(setting.name, setting.file, deps))
		}
	}
	return found
}

func within(ctx context.Context, look func(context.Context) Finding) Finding {
	ctx, cancel := context.WithTimeout(ctx, examineFor)
	defer cancel()
	return look(ctx)
}

// examineStore looks whether a database answers, has its tables, and has the same time as we.
func (c Config) examineStore(ctx context.Context, service string, deps shop.Deps) Finding {
	f := Finding{Check: service + " store"}
	db, err := sqldb.Open(ctx, c.Store.of(service, c.Secrets.StorePassword), deps)
	if err != nil {
		f.Detail, f.Fix = err.Error(), "see store.dsn and secrets.store_password; the database must be there"
		return f
	}
	defer func() { _ = db.Close() }() // nothing was written
	var now time.Time
	err = db.View(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
		if now, err = tx.Now(ctx); err != nil {
			return err
		}
		var n int64
		return tx.QueryRow(ctx, `SELECT count(*) FROM outbox_slots`).Scan(&n)
	})
	ahead := deps.Clock.Now().Sub(now).Round(time.Millisecond)
	switch {
	case now.IsZero():
		f.Detail, f.Fix = err.Error(), "see store.dsn"
	case err != nil:
		f.Detail, f.Fix = "it has no tables that can be read: "+err.Error(), "the first start of the service makes them; let its user into them"
	case ahead.Abs() > clocksMax:
		f.Detail, f.Fix = fmt.Sprintf("our clock is %s ahead of its clock", ahead), "set both by NTP; webhooks are refused when a clock is more than five minutes off"
	default:
		f.OK, f.Detail = true, fmt.Sprintf("it answers and has its tables; our clock is %s ahead", ahead)
	}
	return f
}

// examineBus looks whether the topics are there. One replica is not well: it is lost with its broker.
func (c Config) examineBus(ctx context.Context, deps shop.Deps) Finding {
	f := Finding{Check: "kafka"}
	b := c.Bus
	b.SASL.Password = cmp.Or(b.SASL.Password, c.Secrets.BusPassword)
	topics, err := bus.DescribeTopics(ctx, b, deps, bus.Topics(0, 0))
	if err != nil {
		f.Detail, f.Fix = err.Error(), "see bus.seeds, bus.sasl and bus.tls; with bus.create_topics the first start makes missing topics"
		return f
	}
	var kinds, single []string
	for _, t := range topics {
		kinds = append(kinds, fmt.Sprintf("%d partitions in %d replicas", t.Partitions, t.Replicas))
		if t.Replicas < 2 {
			single = append(single, t.Name)
		}
	}
	slices.Sort(kinds)
	f.OK, f.Detail = len(single) == 0, fmt.Sprintf("%d topics, of %s", len(topics), strings.Join(slices.Compact(kinds), ", "))
	if !f.OK {
		f.Fix = "what is on one broker alone is lost with it; have three replicas of " + strings.Join(single, ", ")
	}
	return f
}

func (c Config) examineTemporal(ctx context.Context, deps shop.Deps) Finding {
	f := Finding{Check: "temporal"}
	client, err := temporal.NewClient(c.Temporal, deps)
	if err == nil {
		defer client.Close()
		err = client.Check(ctx)
	}
	if err != nil {
		f.Detail, f.Fix = err.Error(), "see temporal.address, temporal.namespace and temporal.tls; orchestrated orders wait until it is well"
		return f
	}
	f.OK, f.Detail = true, c.Temporal.Address+" answers and has the namespace "+c.Temporal.Namespace
	return f
}

// examineService looks whether somebody answers at all; what it says is not for strangers.
func examineService(ctx context.Context, setting, url string, deps shop.Deps) Finding {
	f := Finding{Check: setting, Detail: url + " answers", OK: true}
	transport := &http.Transport{DialContext: deps.Net.DialContext, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err == nil {
		var resp *http.Response
		if resp, err = transport.RoundTrip(req); err == nil {
			err = resp.Body.Close()
		}
	}
	if err != nil {
		f.OK, f.Detail, f.Fix = false, err.Error(), "start that service, or correct "+setting
	}
	return f
}

// examineCertificate looks when the first of the certificates in a file ends.
func examineCertificate(setting, file string, deps shop.Deps) Finding {
	f := Finding{Check: setting, Fix: "put a certificate in PEM there"}
	rest, err := deps.Files.ReadFile(file)
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	var first time.Time
	for block, rest := pem.Decode(rest); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err == nil && (first.IsZero() || cert.NotAfter.Before(first)) {
			first = cert.NotAfter
		}
	}
	left := first.Sub(deps.Clock.Now())
	switch {
	case first.IsZero():
		f.Detail = file + " holds no certificate"
	case left < renewAt:
		f.Detail, f.Fix = fmt.Sprintf("%s ends at %s", file, first.UTC().Format(time.RFC3339)), "renew it, and start the processes again"
	default:
		f.OK, f.Detail, f.Fix = true, fmt.Sprintf("%s is good until %s", file, first.UTC().Format(time.RFC3339)), ""
	}
	return f
}
