package remote_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/platform/policy"
	"holdfast/platform/remote"
	"holdfast/platform/telemetry"
	"holdfast/resilience"
	"holdfast/shop"
	"holdfast/test/fakes"
	"holdfast/test/flow"
)

const (
	token = "a-token-of-at-least-thirty-two-characters"
	id    = shop.OrderID("ord_00000000000000000000000000")
)

// service is what answers: the same on every way to it.
type service struct {
	err  error
	hang bool
	seen []context.Context
}

func (s *service) answer(ctx context.Context) error {
	s.seen = append(s.seen, ctx)
	if s.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.err
}

func (s *service) Prices(ctx context.Context, skus []shop.SKU) (map[shop.SKU]shop.Item, error) {
	if err := s.answer(ctx); err != nil {
		return nil, err
	}
	return map[shop.SKU]shop.Item{skus[0]: {SKU: skus[0], Name: "Tea", UnitPrice: 450, Currency: "EUR", OnHand: 7, Version: 3}}, nil
}

func (s *service) AllowDispatch(ctx context.Context, _ shop.OrderID) error { return s.answer(ctx) }

func (s *service) Expire(ctx context.Context, _ shop.OrderID) (bool, error) {
	err := s.answer(ctx)
	return err == nil, err
}

func (s *service) OrderTimeline(ctx context.Context, order shop.OrderID) ([]shop.TimelineItem, error) {
	if err := s.answer(ctx); err != nil {
		return nil, err
	}
	return []shop.TimelineItem{{At: time.Unix(1, 0).UTC(), Kind: "attempt", Service: "payment", What: "authorise", Detail: string(order)}}, nil
}

func (s *service) Do(ctx context.Context, b shop.Brief) (shop.StepOutcome, error) {
	if err := s.answer(ctx); err != nil {
		return step(err)
	}
	return shop.StepOutcome{State: shop.StepRefused, Reason: shop.Reason(b.PaymentMethod)}, nil
}

func (s *service) Undo(ctx context.Context, _ shop.OrderID) (shop.StepOutcome, error) {
	if err := s.answer(ctx); err != nil {
		return step(err)
	}
	return shop.StepOutcome{State: shop.StepUndone}, nil
}

// step is the answer of a step that waited until its context ended, as the contract has it.
func step(err error) (shop.StepOutcome, error) {
	if errors.Is(err, context.DeadlineExceeded) {
		return shop.StepOutcome{State: shop.StepPending}, nil
	}
	return shop.StepOutcome{}, err
}

func (s *service) Table() map[string]int64                { return map[string]int64{"DE": 400, shop.RestOfWorld: 900} }
func (s *service) ShippingFee(country string) shop.Amount { return shop.FeeOf(s.Table(), country) }

// way is how a service is reached.
type way struct {
	catalogue shop.Catalogue
	decisions shop.Decisions
	timeline  shop.TimelineSource
	step      shop.Step
}

// calls are all operations of a way, each as what it answered.
func (w way) calls() map[string]func(context.Context) (any, error) {
	return map[string]func(context.Context) (any, error){
		"prices":         func(ctx context.Context) (any, error) { return w.catalogue.Prices(ctx, []shop.SKU{"TEA"}) },
		"allow-dispatch": func(ctx context.Context) (any, error) { return nil, w.decisions.AllowDispatch(ctx, id) },
		"expire":         func(ctx context.Context) (any, error) { return w.decisions.Expire(ctx, id) },
		"timeline":       func(ctx context.Context) (any, error) { return w.timeline.OrderTimeline(ctx, id) },
		"do": func(ctx context.Context) (any, error) {
			return w.step.Do(ctx, shop.Brief{OrderID: id, PaymentMethod: "payment_declined"})
		},
		"undo": func(ctx context.Context) (any, error) { return w.step.Undo(ctx, id) },
	}
}

// services is everything that can be served.
type services interface {
	shop.Catalogue
	shop.Decisions
	shop.TimelineSource
	shop.Step
	shop.RateTable
}

// serve serves a service and returns its address.
func serve(t *testing.T, s *service, tokens ...string) string {
	t.Helper()
	return serveWith(t, s, policy.InternalDefaults().Admission, tokens...)
}

func serveWith(t *testing.T, s services, cfg resilience.AdmissionConfig, tokens ...string) string {
	t.Helper()
	admission, err := flow.Policies(t, fakes.Deps(t)).Admission("internal", cfg)
	if err != nil {
		t.Fatal(err)
	}
	server, err := remote.NewServer(tokens, admission, fakes.Deps(t), telemetry.Nop())
	if err != nil {
		t.Fatal(err)
	}
	remote.ServeCatalogue(server, s)
	remote.ServeDecisions(server, s)
	remote.ServeTimeline(server, "payment", s)
	remote.ServeStep(server, "payment", s)
	remote.ServeRates(server, s)
	h := httptest.NewServer(server.Handler())
	t.Cleanup(h.Close)
	return h.URL
}

func dial(t *testing.T, url, token string) way {
	t.Helper()
	c, err := remote.NewClient("payment", []string{url}, token, fakes.Deps(t), telemetry.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return way{remote.NewCatalogue(c), remote.NewDecisions(c), remote.NewTimeline(c), remote.NewStep(c)}
}

// each runs test on the direct call and through the client, both behind the policies.
func each(t *testing.T, test func(t *testing.T, w way, s *service)) {
	for _, name := range []string{"direct", "remote"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &service{}
			w := way{s, s, s, s}
			if name == "remote" {
				w = dial(t, serve(t, s, "another-token-while-it-is-being-changed", token), token)
			}
			between, err := flow.Policies(t, fakes.Deps(t)).Internal(policy.InternalDefaults(), "inventory", "order", "payment")
			if err != nil {
				t.Fatal(err)
			}
			test(t, way{between.Inventory(w.catalogue), between.Orders(w.decisions), between.Timeline("payment", w.timeline), between.Step("payment", w.step)}, s)
		})
	}
}

// TestAnswers: what a service says arrives as it is.
func TestAnswers(t *testing.T) {
	t.Parallel()
	want := map[string]any{}
	here := &service{}
	for name, call := range (way{here, here, here, here}).calls() {
		want[name], _ = call(t.Context())
	}
	each(t, func(t *testing.T, w way, _ *service) {
		for name, call := range w.calls() {
			if got, err := call(t.Context()); err != nil || !reflect.DeepEqual(got, want[name]) {
				t.Errorf("%s: %+v %v, want %+v", name, got, err, want[name])
			}
		}
	})
}

// TestErrors: an error arrives with its kind, its words, its fields and the time to wait, and a policy's refusal
// is still known as one.
func TestErrors(t *testing.T) {
	t.Parallel()
	fields := &shop.Error{Kind: shop.Invalid, Op: "x.Y", Msg: "say it better", Fields: []shop.Field{{Pointer: "/lines/0/sku", Detail: "must be known"}}}
	rejected := &resilience.Rejection{Reason: resilience.ReasonOpen}
	cases := map[string]error{
		"conflict": shop.E(shop.Conflict, "order.AllowDispatch", "it must not leave"), "not found": shop.E(shop.NotFound, "o", "no such order"),
		"not yet": shop.E(shop.NotYet, "o", "ask again"), "fields": fields, "dispatched": shop.E(shop.OrderDispatched, "o", "gone"),
		"unavailable": shop.E(shop.Unavailable, "o", "down"), "internal": shop.E(shop.Internal, "o", "broken"),
		"refused": shop.Wrap(shop.Unavailable, "o", "later", rejected),
		"wait":    shop.Wrap(shop.Overloaded, "o", "later", patience(1500*time.Millisecond)),
	}
	each(t, func(t *testing.T, w way, s *service) {
		for name, call := range w.calls() {
			for kind, err := range cases {
				s.err = err
				_, got := call(t.Context())
				var g, want *shop.Error
				if !errors.As(got, &g) || !errors.As(err, &want) {
					t.Fatalf("%s, %s: %v", name, kind, got)
				}
				if g.Kind != want.Kind || g.Msg != want.Msg || g.Op != want.Op || !slices.Equal(g.Fields, want.Fields) {
					t.Errorf("%s, %s: %+v, want %+v", name, kind, g, want)
				}
				wait, _ := resilience.RetryAfter(got)
				if wanted, _ := resilience.RetryAfter(err); wait != wanted {
					t.Errorf("%s, %s: to wait %s, want %s", name, kind, wait, wanted)
				}
				if errors.Is(got, resilience.ErrRejected) != errors.Is(err, resilience.ErrRejected) || policy.Classify(got).Outcome != policy.Classify(err).Outcome {
					t.Errorf("%s, %s: a breaker would judge it otherwise", name, kind)
				}
			}
		}
	})
}

// patience is an error that says how long to wait.
type patience time.Duration

func (patience) Error() string               { return "wait" }
func (p patience) RetryAfter() time.Duration { return time.Duration(p) }

// TestDeadline: the service gets no more time than its caller has, and the caller's end is the same on both ways.
func TestDeadline(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w way, s *service) {
		s.hang = true
		for name, call := range w.calls() {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			latest, _ := ctx.Deadline()
			s.seen = nil
			got, err := call(ctx)
			cancel()
			switch name {
			case "do", "undo":
				if o, ok := got.(shop.StepOutcome); err != nil || !ok || o.State != shop.StepPending {
					t.Errorf("%s: %+v %v, want pending", name, got, err)
				}
			default:
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if at, ok := s.seen[0].Deadline(); !ok || at.After(latest.Add(20*time.Millisecond)) {
				t.Errorf("%s: the service has until %s (%v), its caller until %s", name, at, ok, latest)
			}
		}
	})
}

// TestTrace: the service's work belongs to the caller's trace.
func TestTrace(t *testing.T) {
	t.Parallel()
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	each(t, func(t *testing.T, w way, s *service) {
		ctx := telemetry.WithTraceParent(t.Context(), "00-"+trace+"-00f067aa0ba902b7-01")
		for name, call := range w.calls() {
			s.seen = nil
			if _, err := call(ctx); err != nil {
				t.Fatal(err)
			}
			if got := telemetry.TraceID(telemetry.TraceParent(s.seen[0])); got != trace {
				t.Errorf("%s: trace %q", name, got)
			}
		}
	})
}

// TestToken: who has no token, or a wrong one, gets nothing, and hears which setting is wrong.
func TestToken(t *testing.T) {
	t.Parallel()
	s := &service{}
	url := serve(t, s, token)
	for _, wrong := range []string{"", "wrong", token + "x"} {
		for name, call := range dial(t, url, wrong).calls() {
			if _, err := call(t.Context()); shop.KindOf(err) != shop.Internal || !strings.Contains(err.Error(), "secrets.internal_tokens") || len(s.seen) > 0 {
				t.Errorf("%s with %q: %v", name, wrong, err)
			}
		}
	}
}

// TestUnreachable: no answer, and one that is none of ours, are Unavailable.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	for _, url := range []string{other.URL, gone.URL} {
		for name, call := range dial(t, url, token).calls() {
			if _, err := call(t.Context()); shop.KindOf(err) != shop.Unavailable {
				t.Errorf("%s at %s: %v", name, url, err)
			}
		}
	}
}

// TestRates: the table is taken over, and stays when the service goes.
func TestRates(t *testing.T) {
	t.Parallel()
	url := serve(t, &service{}, token)
	c, err := remote.NewClient("shipping", []string{url}, token, fakes.Deps(t), telemetry.Nop())
	if err != nil {
		t.Fatal(err)
	}
	r := remote.NewRates(c, map[string]int64{shop.RestOfWorld: 500}, time.Millisecond)
	if got := r.ShippingFee("DE"); got != 500 {
		t.Errorf("before the first answer: %d", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	for r.ShippingFee("DE") != 400 && ctx.Err() == nil {
		<-time.After(time.Millisecond) // another goroutine's doing
	}
	cancel()
	if err := <-ended; err != nil || r.ShippingFee("DE") != 400 || r.ShippingFee("FR") != 900 {
		t.Errorf("%v, %d %d", err, r.ShippingFee("DE"), r.ShippingFee("FR"))
	}
}
