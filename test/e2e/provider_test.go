package e2e_test

import (
	"context"
	"testing"
	"time"

	"holdfast/app/local"
	"holdfast/check/chaos"
	"holdfast/client"
	"holdfast/shop"
	"holdfast/sim/psp"
	"holdfast/test/fakes"
	"holdfast/test/harness"
)

// quietProvider runs a payment provider that tells nobody anything unless it is asked, until the test ends.
func quietProvider(t *testing.T) (url string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- local.RunSim(ctx, local.SimConfig{Party: "psp", Data: t.TempDir(), Addr: "127.0.0.1:0"}, fakes.Deps(t), func(url string) { ready <- url })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case url = <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return url
}

// TestLostAnswers loses the answer to every operation, and no webhook tells what became of it: the
// provider is asked, and no operation is sent a second time.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	url := quietProvider(t)
	s := embeddedOnly(t, func(c *local.Config) {
		c.Payment.ProviderURL, c.Payment.Provider.CallTimeout = url, 200*time.Millisecond
	})
	s.faults(t, url, chaos.Wrong{Operation: "authorise", Lose: "answer"}, chaos.Wrong{Operation: "capture", Lose: "answer"}, chaos.Wrong{Operation: "void", Lose: "answer"})
	once := func(id shop.OrderID, operations ...string) {
		for _, operation := range operations {
			if n := harness.Arrivals(t, url, operation, string(id)); n != 1 {
				t.Errorf("I4: the provider was asked for %s %d times, want once", operation, n)
			}
		}
	}
	o := s.place(t, command("tok_ok", "10115", line("TEA", 1)))
	defer once(o.ID, "authorise", "capture") // also where the order does not come that far
	s.until(t, o.ID, shop.Fulfilled)
	held := s.place(t, command("tok_ok", "00005", line("TEA", 1)))
	defer once(held.ID, "authorise", "void")
	s.until(t, held.ID, shop.Confirmed)
	if _, err := s.CancelOrder(t.Context(), client.NewKey(), held.ID); err != nil {
		t.Fatal(err)
	}
	s.until(t, held.ID, shop.Cancelled)
	s.verify(t)
}

// TestEveryWebhook has the provider tell of every operation, beside its answer and before it or twice: what
// it did is booked once.
func TestEveryWebhook(t *testing.T) {
	t.Parallel()
	s := embeddedOnly(t, func(c *local.Config) { c.PSP.Webhooks = psp.WebhooksAll })
	for _, method := range []string{"tok_ok", "tok_webhook_twice", "tok_webhook_first"} {
		o := s.place(t, command(method, "10115", line("TEA", 1)))
		s.until(t, o.ID, shop.Fulfilled)
		eventually(t, "the answers and the messages to "+method+" have come", func() bool {
			items, err := s.Timeline(t.Context(), o.ID)
			if err != nil {
				t.Fatal(err)
			}
			answers, messages := 0, 0
			for _, i := range items {
				switch {
				case i.Service == "payment" && i.Kind == "attempt":
					answers++
				case i.Service == "payment" && i.Kind == "webhook":
					messages++
				}
			}
			return answers == 2 && messages == 2
		})
	}
	s.verify(t)
}
