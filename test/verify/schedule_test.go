package verify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/app"
	"holdfast/app/verify"
	"holdfast/check/audit"
	"holdfast/embedded/bus"
	"holdfast/platform/telemetry"
	"holdfast/test/fakes"
	"holdfast/test/postgres"
)

// scheduled is a verifier that runs in virtual time.
type scheduled struct {
	app.Verifier
	clock *fakes.Clock
	said  *said
}

// said is what was logged.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// schedule runs a verifier of a data directory until the test ends.
func schedule(t *testing.T, every time.Duration, where audit.Config) scheduled {
	t.Helper()
	s := scheduled{clock: fakes.NewClock(time.Unix(1_800_000_000, 0)), said: &said{}}
	deps := fakes.Deps(t)
	deps.Clock, deps.Log = s.clock, slog.New(slog.NewTextHandler(s.said, nil))
	tel, err := telemetry.New(t.Context(), "order", deps)
	if err != nil {
		t.Fatal(err)
	}
	where.Grace = 10 * time.Millisecond // nothing runs
	if s.Verifier, err = verify.New(app.Verify{Every: every, Grace: where.Grace}, where, deps, tel); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(running.Wait) // the test's context has ended by then
	return s
}

// passes lets time pass, once the clock is waited for, and waits until it is again: what was due has been begun, and what
// was due before has ended.
func (s scheduled) passes(t *testing.T, d time.Duration) {
	t.Helper()
	for _, then := range []func(){func() { s.clock.Advance(d) }, func() {}} {
		if err := s.clock.Waiters(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		then()
	}
}

// TestSchedule: the stores are checked every hour, not before, and what is found is told.
func TestSchedule(t *testing.T) {
	t.Parallel()
	filled := fill(t, "")
	s := schedule(t, time.Hour, look(filled.dir, "", false))
	s.passes(t, time.Hour-time.Second)
	if r := s.Verified(); r != nil {
		t.Errorf("before its time it has found %s", r)
	}
	s.passes(t, time.Second)
	s.passes(t, time.Hour)
	var r audit.Report
	if err := json.Unmarshal(s.Verified(), &r); err != nil || r.Verdict != audit.Pass || r.Counts.Orders != 4 || s.said.String() != "" {
		t.Fatalf("after an hour: %v %s %+v, and it says %q", err, r.Verdict, r.Counts, s.said)
	}
	execute(t, "sqlite", filepath.Join(filled.dir, "inventory.db"), `UPDATE items SET on_hand = on_hand - 1`)
	s.passes(t, time.Hour)
	s.passes(t, time.Hour)
	if err := json.Unmarshal(s.Verified(), &r); err != nil || r.Verdict != audit.Fail {
		t.Errorf("stock has vanished: %v %s", err, r.Verdict)
	}
	if text := s.said.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "invariant=I7") {
		t.Errorf("of stock that has vanished it says %q", text)
	}
}

// TestScheduleWarns: who cannot read the stores says so at once, with the setting, and when a check was due. Who is
// not to check by itself does neither.
func TestScheduleWarns(t *testing.T) {
	t.Parallel()
	s := schedule(t, time.Hour, audit.Config{Data: t.TempDir()})
	s.passes(t, time.Hour)
	s.passes(t, time.Hour)
	text := s.said.String()
	for _, line := range []string{"let this process into their databases, or set verify.every to 0", "the stores could not be checked"} {
		if !strings.Contains(text, line) {
			t.Errorf("it does not say %q: %q", line, text)
		}
	}
	quiet := schedule(t, 0, audit.Config{Data: t.TempDir()})
	if _, err := quiet.Verify(t.Context(), false); err == nil {
		t.Error("it has checked what is not there")
	}
	if text := quiet.said.String(); strings.Contains(text, "verify.every") {
		t.Errorf("it says %q", text)
	}
}

// TestDaemonWarns: a holdfastd of the orders checks every hour if nobody says otherwise. Where it is not let into the
// databases of the other services it says so at its start.
func TestDaemonWarns(t *testing.T) {
	t.Parallel()
	b, err := bus.New(bus.Config{}, fakes.Deps(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	args := []string{"-target=order", "-addr=127.0.0.1:0", "-internal-addr=127.0.0.1:0", "-admin-addr=127.0.0.1:0", "-set", "drain_wait=0s",
		"-set", "store.dsn=" + postgres.Databases(t, "order"), "-set", "bus.seeds=" + b.Addrs()[0], "-set", "secrets.api_keys.shop=a-key-of-the-test-0001",
		"-set", "services.inventory=http://127.0.0.1:1", "-set", "services.payment=http://127.0.0.1:1", "-set", "services.shipping=http://127.0.0.1:1"}
	const warning, ready = "or set verify.every to 0", `"msg":"ready"`
	for _, test := range []struct {
		more  []string
		until string
		warns bool
	}{{nil, warning, true}, {[]string{"-set", "verify.every=0"}, ready, false}} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		out := &lastWords{words: test.until, stop: cancel}
		code := app.Daemon(ctx, append(slices.Clone(args), test.more...), nil, app.Program{Stderr: out, Verifier: verify.Daemon})
		cancel()
		if code != app.ExitOK || strings.Contains(out.String(), warning) != test.warns {
			t.Errorf("%v: code %d, want it to warn: %v:\n%s", test.more, code, test.warns, out)
		}
	}
}

// lastWords stops a daemon once it says them.
type lastWords struct {
	said
	words string
	stop  func()
}

func (w *lastWords) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(w.words)) {
		w.stop()
	}
	return w.said.Write(p)
}
