package remote_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"holdfast/platform/policy"
	"holdfast/resilience"
	"holdfast/shop"
)

// held is a service whose answers wait until they are let go.
type held struct {
	service
	came, leave chan struct{}
}

func (h *held) AllowDispatch(context.Context, shop.OrderID) error {
	h.came <- struct{}{}
	<-h.leave
	return nil
}

// TestAdmission: a service takes so many calls of others at once. What is beyond is refused at once, with the time to
// wait, and known as a refusal; an undo still gets through, and a stranger is not even refused so.
func TestAdmission(t *testing.T) {
	t.Parallel()
	h := &held{came: make(chan struct{}), leave: make(chan struct{})}
	cfg := policy.InternalDefaults().Admission
	cfg.Limit, cfg.UndoLane = 1, 1
	url := serveWith(t, h, cfg, token)
	calls := dial(t, url, token).calls()
	ended := make(chan error, 1)
	go func() {
		_, err := calls["allow-dispatch"](t.Context())
		ended <- err
	}()
	<-h.came
	for _, name := range []string{"prices", "expire", "timeline", "do"} {
		_, err := calls[name](t.Context())
		if wait, known := resilience.RetryAfter(err); shop.KindOf(err) != shop.Overloaded || !errors.Is(err, resilience.ErrRejected) || !known || wait != cfg.RetryAfter {
			t.Errorf("%s: %v, to wait %s", name, err, wait)
		}
	}
	if _, err := calls["undo"](t.Context()); err != nil {
		t.Errorf("undo: %v", err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/internal/v1/inventory/prices", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "1" {
		t.Errorf("on the wire: %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	if _, err := dial(t, url, "a-stranger-of-at-least-thirty-two-characters").calls()["prices"](t.Context()); shop.KindOf(err) != shop.Internal {
		t.Errorf("a stranger: %v", err)
	}
	close(h.leave)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := calls["prices"](t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
