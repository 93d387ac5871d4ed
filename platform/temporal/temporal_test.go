package temporal_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/platform/temporal"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// TestFailure: every kind of error comes back from Temporal as it was, without its cause.
func TestFailure(t *testing.T) {
	t.Parallel()
	for kind := shop.Internal; kind <= shop.NotYet; kind++ {
		err := temporal.Failure(shop.Wrap(kind, "op", "a message", errors.New("1 Long Street")))
		if got := temporal.KindOf(err); got != kind {
			t.Errorf("kind %d came back as %d", kind, got)
		}
		if text := err.Error(); !strings.Contains(text, "a message") || strings.Contains(text, "Street") {
			t.Errorf("it says %q", text)
		}
	}
	if text := temporal.Failure(errors.New("1 Long Street")).Error(); strings.Contains(text, "Street") {
		t.Errorf("it says %q", text)
	}
}

// TestMistakes: each names its setting.
func TestMistakes(t *testing.T) {
	t.Parallel()
	file := func(content string) string {
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	tests := map[string]struct {
		change func(c *temporal.Config)
		says   string
	}{
		"an address without a port": {func(c *temporal.Config) { c.Address = "temporal" }, "temporal.address"},
		"no namespace":              {func(c *temporal.Config) { c.Namespace = "" }, "temporal.namespace"},
		"a certificate alone":       {func(c *temporal.Config) { c.TLS.CertFile = "x" }, "temporal.tls.key_file"},
		"no file of authorities":    {func(c *temporal.Config) { c.TLS.CAFile = "missing" }, "temporal.tls.ca_file"},
		"authorities that are none": {func(c *temporal.Config) { c.TLS.CAFile = file("x") }, "temporal.tls.ca_file"},
		"no pair":                   {func(c *temporal.Config) { c.TLS.CertFile, c.TLS.KeyFile = file("x"), file("y") }, "do not make a pair"},
		"an empty key":              {func(c *temporal.Config) { c.APIKeyFile = file(" \n") }, "temporal.api_key_file"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := temporal.Defaults()
			c.Address = "127.0.0.1:1"
			test.change(&c)
			if _, err := temporal.NewClient(c, fakes.Deps(t)); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, want it to say %s", err, test.says)
			}
		})
	}
}

// TestAway: a cluster that does not answer may come back; that is no mistake of the configuration.
func TestAway(t *testing.T) {
	t.Parallel()
	c := temporal.Defaults()
	c.Address = "127.0.0.1:1"
	client, err := temporal.NewClient(c, fakes.Deps(t))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Check(t.Context()); shop.KindOf(err) != shop.Unavailable || !strings.Contains(err.Error(), "temporal.address") {
		t.Errorf("%v", err)
	}
}

// TestServerMissing: without the program it says how to have one.
func TestServerMissing(t *testing.T) {
	t.Parallel()
	_, err := temporal.NewServer(context.Background(), temporal.ServerConfig{Run: true, Binary: filepath.Join(t.TempDir(), "temporald")}, "default", t.TempDir(), fakes.Deps(t))
	if shop.KindOf(err) != shop.Unavailable || !strings.Contains(err.Error(), "make temporald") {
		t.Errorf("%v", err)
	}
}

// TestServerThatDoesNotStart: a program that ends at once is an error, and is not tried for ever.
func TestServerThatDoesNotStart(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "temporald")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := temporal.NewServer(t.Context(), temporal.ServerConfig{Run: true, Binary: program}, "default", t.TempDir(), fakes.Deps(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); shop.KindOf(err) != shop.Unavailable || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("%v", err)
	}
	if s.Ready(t.Context()) == nil {
		t.Error("it says that it is ready")
	}
}

// Its ports are not those that outgoing connections and listeners on port 0 are given: one of them took the port of a
// temporald that had not begun to listen.
func TestServerPorts(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "temporald")
	if err := os.WriteFile(program, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		s, err := temporal.NewServer(t.Context(), temporal.ServerConfig{Run: true, Binary: program, UI: true}, "default", t.TempDir(), fakes.Deps(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, addr := range []string{s.Addr(), strings.TrimPrefix(s.UI(), "http://")} {
			at, err := netip.ParseAddrPort(addr)
			if err != nil || !at.Addr().IsLoopback() || at.Port() >= 29_000 {
				t.Errorf("it is to listen on %s, %v", addr, err)
			}
		}
	}
}
