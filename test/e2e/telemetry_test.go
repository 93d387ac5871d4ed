package e2e_test

import (
	"bytes"
	"encoding/hex"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"holdfast/client"
	"holdfast/platform/telemetry"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// personal is what may be in no log, span or metric; a card's number may be nowhere at all.
var personal = []string{"Zaphod Quillfeather", "742 Evergreen Terrace", "Springfield-upon-Sea", "tok_4242secret", card}

const card = "4111111111111111"

// spans collects what is exported to it.
type spans struct {
	mu  sync.Mutex
	raw bytes.Buffer
	all []*tracepb.Span
}

func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	var req collector.ExportTraceServiceRequest
	if err != nil || proto.Unmarshal(b, &req) != nil {
		http.Error(w, "not OTLP", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw.Write(b)
	for _, resource := range req.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			s.all = append(s.all, scope.Spans...)
		}
	}
}

// buffer is a log that may be read when nobody writes any more.
type buffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

// TestTelemetry follows an order through every part by its trace, and looks for personal data in
// everything that operators see.
func TestTelemetry(t *testing.T) {
	var exported spans
	sink := httptest.NewServer(&exported)
	defer sink.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
	var log buffer
	deps := fakes.Deps(t)
	deps.Log = slog.New(telemetry.LogHandler(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	cfg := quick(t, "sqlite")
	s := startWith(t, cfg, deps)
	s.item(t, "TEA", 450, 10)

	cmd := command("tok_4242secret", "10115", line("TEA", 1))
	cmd.ShippingAddress.Name, cmd.ShippingAddress.Line1, cmd.ShippingAddress.City = personal[0], personal[1], personal[2]
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	o := s.placeTraced(t, cmd, "00-"+trace+"-00f067aa0ba902b7-01")
	s.until(t, o.ID, shop.Fulfilled)
	s.trouble(t, cmd)
	metrics := s.Metrics(t)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}

	if holders := filesWith(t, cfg.Data, card); len(holders) > 0 {
		t.Errorf("a card's number is in %v", holders)
	}
	if len(filesWith(t, cfg.Data, personal[0])) == 0 {
		t.Error("the address is in no file: this looks in the wrong place")
	}
	names := map[string]int{}
	for _, span := range exported.all {
		if hex.EncodeToString(span.TraceId) == trace {
			names[span.Name]++
		}
	}
	for _, want := range []string{"POST /v1/orders", "send " + shop.TopicOrders, "handle " + string(shop.EventOrderPlaced), "handle " + string(shop.EventStockReserved),
		"call authorise", "handle " + string(shop.EventPaymentAuthorised), "call schedule", "handle " + string(shop.EventShipmentScheduled), "call capture"} {
		if names[want] == 0 {
			t.Errorf("no span %q in the order's trace, which has %v", want, names)
		}
	}
	if !strings.Contains(log.String(), `"trace_id":"`+trace+`"`) || !strings.Contains(log.String(), `"order_id":"`+string(o.ID)+`"`) {
		t.Error("the log names neither the order nor its trace")
	}
	for _, word := range personal {
		for where, text := range map[string]string{"a log line": log.String(), "a span": exported.raw.String(), "the metrics": metrics} {
			if i := strings.Index(text, word); i >= 0 {
				t.Errorf("%q is in %s: …%s…", word, where, text[max(0, i-200):min(len(text), i+100)])
			}
		}
	}
}

// placeTraced places an order as part of a trace.
func (s *system) placeTraced(t *testing.T, cmd shop.PlaceOrder, traceparent string) shop.Order {
	t.Helper()
	traced, err := client.New(s.addresses.API, s.key, &http.Client{Transport: header{"Traceparent", traceparent}})
	if err != nil {
		t.Fatal(err)
	}
	placed, err := traced.PlaceOrder(t.Context(), client.NewKey(), cmd, 0)
	if err != nil {
		t.Fatal(err)
	}
	return placed.Order
}

// header is a transport that adds a header.
type header struct{ name, value string }

func (h header) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set(h.name, h.value)
	return http.DefaultTransport.RoundTrip(r)
}

// trouble is orders that go wrong everywhere, so that errors are logged.
func (s *system) trouble(t *testing.T, cmd shop.PlaceOrder) {
	t.Helper()
	for postal, payment := range map[string]string{"00001": cmd.PaymentMethod, "00002": cmd.PaymentMethod, "10115": "tok_declined"} {
		bad := cmd
		bad.PaymentMethod, bad.ShippingAddress.PostalCode = payment, postal
		s.until(t, s.place(t, bad).ID, shop.Rejected, shop.Fulfilled)
	}
	wrong := cmd
	wrong.ShippingAddress.Country = "nowhere"
	wrong.Lines = []shop.PlaceLine{line("TEA", -1)}
	_, err := s.PlaceOrder(t.Context(), client.NewKey(), wrong, 0)
	problem(t, err, "validation_failed")
	wrong = cmd
	wrong.Lines = []shop.PlaceLine{line("NONE", 1)}
	_, err = s.PlaceOrder(t.Context(), client.NewKey(), wrong, 0)
	problem(t, err, "unknown_sku")
	wrong = cmd
	wrong.PaymentMethod = card
	_, err = s.PlaceOrder(t.Context(), client.NewKey(), wrong, 0)
	if p := problem(t, err, "validation_failed"); strings.Contains(p.Error(), card) {
		t.Errorf("the answer says the number again: %v", p)
	}
}

// filesWith lists the files below dir that contain a text.
func filesWith(t *testing.T, dir, text string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		if bytes.Contains(b, []byte(text)) {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
