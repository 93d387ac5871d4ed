package bench_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
)

// nothing is a library that guards nothing, and says that it has everything.
func nothing() library {
	return library{name: "nothing", parts: breakers | bulkheads | timeouts | retries,
		guard: func(spec) guard {
			return guard{
				answer: func(ctx context.Context, f func(context.Context) (int, error)) (int, error) { return f(ctx) },
				state:  func() string { return "closed" },
				trace:  func() string { return "" },
			}
		},
		transport: func(_ spec, next http.RoundTripper) http.RoundTripper { return next },
		fallback:  func() (int, string, error) { return 0, "", errDown },
	}
}

// TestRowsCanFail sees that no row is passed by doing nothing. Row 13 is left out: where nothing is
// shared there is no race.
func TestRowsCanFail(t *testing.T) {
	for _, r := range rows() {
		if r.outside {
			continue
		}
		t.Run(fmt.Sprintf("%02d", r.number), func(t *testing.T) {
			s := play(t, r, nothing())
			t.Log(s.footnote())
			if s.verdict() != "FAIL" {
				t.Errorf("%s: %s", r.bug, s.verdict())
			}
		})
	}
}
