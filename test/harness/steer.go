package harness

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/check/chaos"
	"holdfast/platform/policy"
)

// Faults makes an outside party fail, and well again with none.
func (s *System) Faults(t *testing.T, url string, faults ...chaos.Wrong) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"faults": append([]chaos.Wrong{}, faults...)})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/faults", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", resp.StatusCode, b)
	}
}

// Arrivals is how many requests of an operation an outside party has got, of one reference if it is given.
func Arrivals(t *testing.T, url, operation, reference string) int {
	t.Helper()
	if reference != "" {
		reference = "?reference=" + reference
	}
	resp, err := http.Get(url + "/arrivals" + reference) //nolint:noctx // a test's own request to loopback
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a struct {
		ByOperation map[string]int `json:"by_operation"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	return a.ByOperation[operation]
}

// Admin sends a request to the operator's listener and decodes the answer, unless into is nil.
func (s *System) Admin(t *testing.T, method, path string, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.Addresses.Admin+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", "admin-"+strings.ReplaceAll(path, "/", "-"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, b, err)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

// Refuse has a breaker refuse every call, or decide by itself again.
func (s *System) Refuse(t *testing.T, name string, refuse bool) {
	t.Helper()
	what := "auto"
	if refuse {
		what = "force-open"
	}
	s.Admin(t, http.MethodPost, "/admin/v1/policies/"+name+"/"+what, nil)
}

// Policy returns the state of a policy by its name and kind.
func (s *System) Policy(t *testing.T, name, kind string) policy.State {
	t.Helper()
	var list struct{ Items []policy.State }
	s.Admin(t, http.MethodGet, "/admin/v1/policies", &list)
	for _, p := range list.Items {
		if p.Name == name && p.Policy == kind {
			return p
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return policy.State{}
}

// Metrics reads the operator's metrics.
func (s *System) Metrics(t *testing.T) string {
	t.Helper()
	resp, err := http.Get(s.Addresses.Admin + "/metrics") //nolint:noctx // a test's own request to loopback
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(b, []byte("holdfast_")) {
		t.Fatalf("metrics: %d %v %s", resp.StatusCode, err, b)
	}
	return string(b)
}

// Eventually waits for a condition that the product brings about by itself.
func Eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Limit); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(10 * time.Millisecond) // between two looks at another process's state
	}
}
