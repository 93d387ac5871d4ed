package field_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/app/local"
	"holdfast/check"
	"holdfast/check/chaos"
	"holdfast/client"
	"holdfast/shop"
	"holdfast/test/engines"
	"holdfast/test/harness"
)

// faulty is a fault of every call of an operation.
func faulty(operation string) chaos.Wrong { return chaos.Wrong{Operation: operation, Status: 500} }

// booked lists what the provider's own ledger says of an order, in order.
func booked(t *testing.T, s *harness.System, id shop.OrderID) (entries []string) {
	t.Helper()
	w, err := check.Look(t.Context(), s.Client, check.Addresses(s.Addresses), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range w.Money {
		if e.Reference == id {
			entries = append(entries, e.Entry)
		}
	}
	return entries
}

func TestField_temporalOMS_ShipFails(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		immediate := cfg
		immediate.Data, immediate.Payment.Capture, immediate.Store = t.TempDir(), "immediate", local.Defaults().Store
		for _, c := range []struct {
			cfg  local.Config
			want []string
			paid shop.PaymentStatus
		}{{cfg, []string{"authorised", "voided"}, shop.PaymentVoided}, {immediate, []string{"authorised", "captured", "refunded"}, shop.PaymentRefunded}} {
			s := started(t, c.cfg)
			for postal, reason := range map[string]shop.Reason{"00001": shop.ReasonNotShippable, "00003": shop.ReasonShippingUnavailable} {
				o := s.Until(t, s.Place(t, harness.Command("tok_ok", postal, harness.Line("TEA", 2))).ID, shop.Rejected, shop.Fulfilled)
				if o.Reason != reason || o.Payment.Status != c.paid {
					t.Errorf("%s: %s (%s), payment %s", postal, o.Status, o.Reason, o.Payment.Status)
				}
				if got := booked(t, s, o.ID); !slices.Equal(got, c.want) {
					t.Errorf("%s: the provider booked %v, want %v", postal, got, c.want)
				}
			}
			stock(t, s, "TEA", 100_000, 0)
			s.Verify(t)
		}
	})
}

// The answer to the authorisation is lost, and so is every question about it, while the customer cancels
// and hangs up: nobody knows whether money is held. The void then fails more often than three times.
func TestField_samplesgo_UndoAfterStep(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		cfg.Payment.Provider.CallTimeout, cfg.Payment.UndoFailures = 200*time.Millisecond, 50
		cfg.Payment.ProviderURL = provider(t) // one that sends no webhooks, which would tell
		s := started(t, cfg)
		s.Faults(t, s.Addresses.PSP, chaos.Wrong{Operation: "authorise", Lose: "answer"}, chaos.Wrong{Operation: "query", Status: 503})
		o := s.Place(t, harness.Command("tok_void_fails_7", "10115", harness.Line("TEA", 2)))
		harness.Eventually(t, "the provider was asked what became of it", func() bool {
			return harness.Arrivals(t, s.Addresses.PSP, "query", "") > 0
		})
		if _, err := s.CancelOrder(t.Context(), client.NewKey(), o.ID); err != nil {
			t.Fatal(err)
		}
		s.Faults(t, s.Addresses.PSP)
		if o := s.Until(t, o.ID, shop.Cancelled, shop.NeedsAttention); o.Status != shop.Cancelled {
			t.Errorf("%s (%s)", o.Status, o.Reason)
		}
		if got := booked(t, s, o.ID); !slices.Equal(got, []string{"authorised", "voided"}) {
			t.Errorf("the provider booked %v", got)
		}
		if n := harness.Arrivals(t, s.Addresses.PSP, "void", string(o.ID)); n < 8 {
			t.Errorf("the void was tried %d times, and fails 7 times", n)
		}
		stock(t, s, "TEA", 100_000, 0)
		s.Verify(t)
	})
}

// The same of a workflow: it notes each step for undo before it asks for it. Its order is cancelled while nobody knows
// whether money is held.
func TestField_samplesgo_UndoOfWorkflow(t *testing.T) {
	one(t, func(t *testing.T, cfg local.Config) {
		cfg.Temporald.Run, cfg.Temporald.Binary = true, engines.TemporaldProgram(t)
		cfg.Payment.Provider.CallTimeout = 200 * time.Millisecond
		cfg.Payment.ProviderURL = provider(t)
		s := started(t, cfg)
		s.Faults(t, s.Addresses.PSP, chaos.Wrong{Operation: "authorise", Lose: "answer"}, chaos.Wrong{Operation: "query", Status: 503})
		cmd := harness.Command("tok_ok", "10115", harness.Line("TEA", 2))
		cmd.Saga = shop.Orchestrated
		o := s.Place(t, cmd)
		harness.Eventually(t, "the provider was asked what became of it", func() bool {
			return harness.Arrivals(t, s.Addresses.PSP, "query", "") > 0
		})
		if _, err := s.CancelOrder(t.Context(), client.NewKey(), o.ID); err != nil {
			t.Fatal(err)
		}
		s.Faults(t, s.Addresses.PSP)
		harness.Eventually(t, "the order has ended, or money is held for nothing (violated: I6)", func() bool {
			got, err := s.GetOrder(t.Context(), o.ID)
			return err == nil && got.Status == shop.Cancelled && slices.Equal(booked(t, s, o.ID), []string{"authorised", "voided"})
		})
		stock(t, s, "TEA", 100_000, 0)
		s.Verify(t)
	})
}

// Every undo is made to fail until it has been seen failing; then it is done.
func TestField_ftgo107_Compensation(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		cfg.Payment.UndoFailures, cfg.Shipping.CancelFailures = 1000, 1000
		s := started(t, cfg)
		place := func(postal string) shop.Order {
			return s.Place(t, harness.Command("tok_ok", postal, harness.Line("TEA", 2)))
		}
		undone := func(o shop.Order, url, operation string) {
			s.Faults(t, url, faulty(operation))
			if _, err := s.CancelOrder(t.Context(), client.NewKey(), o.ID); err != nil {
				t.Fatal(err)
			}
			harness.Eventually(t, operation+" failed", func() bool { return harness.Arrivals(t, url, operation, string(o.ID)) >= 2 })
			s.Faults(t, url)
			s.Until(t, o.ID, shop.Cancelled)
		}
		undone(s.Until(t, place("00005").ID, shop.Confirmed), s.Addresses.PSP, "void")
		undone(s.Until(t, place("00005").ID, shop.Confirmed), s.Addresses.Carrier, "cancel")
		released := s.Until(t, place("00005").ID, shop.Confirmed)
		s.Refuse(t, "inventory-store.write", true)
		if _, err := s.CancelOrder(t.Context(), client.NewKey(), released.ID); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, "a release was refused", func() bool { return s.Policy(t, "inventory-store.write", "breaker").Rejected > 0 })
		s.Refuse(t, "inventory-store.write", false)
		s.Until(t, released.ID, shop.Cancelled)
		stock(t, s, "TEA", 100_000, 0)
		s.Verify(t)
	})
	t.Run("refund", func(t *testing.T) {
		cfg := harness.Quick(t, "sqlite")
		cfg.Payment.Capture, cfg.Payment.UndoFailures = "immediate", 1000
		s := started(t, cfg)
		s.Faults(t, s.Addresses.PSP, faulty("refund"))
		o := s.Place(t, harness.Command("tok_ok", "00001", harness.Line("TEA", 2)))
		harness.Eventually(t, "the refund failed", func() bool { return harness.Arrivals(t, s.Addresses.PSP, "refund", string(o.ID)) >= 2 })
		s.Faults(t, s.Addresses.PSP)
		s.Until(t, o.ID, shop.Rejected)
		s.Verify(t)
	})
}

func TestField_eventuate75_FailedCompensation(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		s := started(t, cfg) // an operator is told after 5 failures here
		o := s.Until(t, s.Place(t, harness.Command("tok_ok", "00005", harness.Line("TEA", 2))).ID, shop.Confirmed)
		s.Faults(t, s.Addresses.PSP, faulty("void"))
		if _, err := s.CancelOrder(t.Context(), client.NewKey(), o.ID); err != nil {
			t.Fatal(err)
		}
		if o := s.Until(t, o.ID, shop.NeedsAttention); o.Reason != shop.ReasonVoidFailed {
			t.Errorf("needs attention for %s", o.Reason)
		}
		var stuck struct{ Items []shop.Order }
		if s.Admin(t, http.MethodGet, "/admin/v1/stuck-orders", &stuck); len(stuck.Items) != 1 || stuck.Items[0].ID != o.ID {
			t.Errorf("an operator is shown %+v", stuck.Items)
		}
		s.Faults(t, s.Addresses.PSP)
		s.Admin(t, http.MethodPost, "/admin/v1/orders/"+string(o.ID)+"/retry", nil)
		if o := s.Until(t, o.ID, shop.Cancelled); o.Payment.Status != shop.PaymentVoided {
			t.Errorf("payment %s", o.Payment.Status)
		}
		stock(t, s, "TEA", 100_000, 0)
		s.Verify(t)
	})
}

func TestField_medusa13301_ConfirmVsWebhook(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		s := started(t, cfg)
		tokens := []string{"tok_webhook_first", "tok_webhook_twice", "tok_ok", "tok_timeout_ok"}
		ids := make([]shop.OrderID, 60)
		var group sync.WaitGroup
		for i := range ids {
			group.Go(func() {
				p, err := s.PlaceOrder(t.Context(), client.NewKey(), harness.Command(tokens[i%len(tokens)], "10115", harness.Line("TEA", 1)), 0)
				if err != nil {
					t.Error(err)
				}
				ids[i] = p.Order.ID
			})
		}
		group.Wait()
		for i, id := range ids {
			s.Until(t, id, shop.Fulfilled)
			if i < 2*len(tokens) {
				if got := booked(t, s, id); !slices.Equal(got, []string{"authorised", "captured"}) {
					t.Errorf("%s: the provider booked %v", tokens[i%len(tokens)], got)
				}
			}
		}
		stock(t, s, "TEA", 100_000-int64(len(ids)), 0)
		s.Verify(t) // at most one capture for each, as much as the total
	})
}

// Orders are charged at once, and half of them given back by refunds that fail, whose answers are lost, or
// that are asked for again by cancels of what is being undone.
func TestField_medusa10491_RefundArithmetic(t *testing.T) {
	each(t, func(t *testing.T, cfg local.Config) {
		cfg.Payment.Capture, cfg.Payment.UndoFailures, cfg.Payment.Provider.CallTimeout = "immediate", 1000, 200*time.Millisecond
		s := started(t, cfg)
		s.Item(t, "ODD", 333, 1000)
		lose := chaos.Wrong{Operation: "refund", Lose: "answer", Rate: 0.4}
		s.Faults(t, s.Addresses.PSP, lose, chaos.Wrong{Operation: "refund", Status: 500, Rate: 0.4})
		var ids []shop.OrderID
		for i := range 12 {
			token, postal := []string{"tok_ok", "tok_void_fails_3"}[i%2], []string{"00001", "00005"}[i/2%2]
			o := s.Place(t, harness.Command(token, postal, harness.Line("ODD", int64(1+i)), harness.Line("TEA", 1)))
			ids = append(ids, o.ID)
			if postal == "00005" {
				s.Until(t, o.ID, shop.Confirmed)
				for range 3 {
					if _, err := s.CancelOrder(t.Context(), client.NewKey(), o.ID); err != nil {
						t.Error(err)
					}
				}
			}
		}
		for _, id := range ids {
			o := s.Until(t, id, shop.Rejected, shop.Cancelled)
			if o.Payment.Captured != o.Total || o.Payment.Refunded != o.Payment.Captured {
				t.Errorf("%s of %d: captured %d, refunded %d", o.Status, o.Total, o.Payment.Captured, o.Payment.Refunded)
			}
			if got := booked(t, s, id); !slices.Equal(got, []string{"authorised", "captured", "refunded"}) {
				t.Errorf("the provider booked %v", got)
			}
		}
		s.Faults(t, s.Addresses.PSP)
		s.Verify(t)
	})
}
