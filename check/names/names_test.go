package names_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/check/chaos"
	"holdfast/check/names"
)

// TestFaults asks the server as programs do, with each fault and without.
func TestFaults(t *testing.T) {
	t.Parallel()
	s, err := names.Listen()
	switch {
	case err != nil && os.Getenv("CI") == "true":
		t.Fatal(err)
	case err != nil:
		t.Skipf("port 53 is not for everybody: %v", err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	at := net.JoinHostPort(strings.Fields(s.Config())[1], "53")
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at)
	}}
	ask := func(name string, within time.Duration) ([]string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return r.LookupHost(ctx, name)
	}
	well := func() {
		t.Helper()
		if got, err := ask(names.Name("psp"), time.Minute); err != nil || len(got) != 1 || got[0] != "127.0.0.1" {
			t.Errorf("%v %v", got, err)
		}
	}
	well()
	if _, err := ask("elsewhere.example.", time.Minute); err == nil {
		t.Error("a name that is none of ours was found")
	}
	if n := s.Bites(); n != 0 {
		t.Errorf("%d questions were spoilt without a fault", n)
	}
	for _, c := range []struct {
		part   string
		fault  chaos.NameFault
		within time.Duration
		like   func(*net.DNSError) bool
	}{
		{"psp", chaos.NoSuchName, time.Minute, func(e *net.DNSError) bool { return e.IsNotFound }},
		{"psp", chaos.ServerFailure, time.Minute, func(e *net.DNSError) bool { return e.IsTemporary && !e.IsTimeout }},
		{"*", chaos.NoAnswer, 300 * time.Millisecond, func(e *net.DNSError) bool { return e.IsTimeout }},
	} {
		before := s.Bites()
		s.Set(c.part, c.fault)
		_, err := ask(names.Name("psp"), c.within)
		var wrong *net.DNSError
		if !errors.As(err, &wrong) || !c.like(wrong) {
			t.Errorf("%s: %v", c.fault, err)
		}
		if s.Bites() == before {
			t.Errorf("%s has not bitten", c.fault)
		}
		if c.part != "*" {
			if _, err := ask(names.Name("postgres"), time.Minute); err != nil {
				t.Errorf("%s of another: %v", c.fault, err)
			}
		}
		s.Set(c.part, "")
		well()
	}
}
