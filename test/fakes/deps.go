package fakes

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"encoding/base32"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"holdfast/shop"
)

// SeedVariable is the environment variable that replays the randomness of a test.
const SeedVariable = "HOLDFAST_TEST_SEED"

// Deps returns dependencies that touch the real world. What is logged at warning and above shows in the
// test's own log, until the test ends.
func Deps(t testing.TB) shop.Deps {
	t.Helper()
	return shop.Deps{
		Clock: RealClock{},
		Rand:  NewRand(t),
		IDs:   IDs{},
		Net:   Net{},
		Files: Files{},
		Log:   Log(t),
	}
}

// LimitVariable is the environment variable that bounds the waits of tests, for those who expect a failure.
const LimitVariable = "HOLDFAST_TEST_LIMIT"

// Limit is how long a test waits for something that is to come about: as the environment says, or usual.
func Limit(usual time.Duration) time.Duration {
	if d, err := time.ParseDuration(os.Getenv(LimitVariable)); err == nil && d > 0 {
		return d
	}
	return usual
}

// Number is what the environment says, or otherwise.
func Number(t testing.TB, variable string, otherwise int) int {
	t.Helper()
	v := os.Getenv(variable)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// Log returns a logger that writes warnings and errors to the test's log.
func Log(t testing.TB) *slog.Logger {
	w := &testWriter{t: t}
	t.Cleanup(w.end)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// testWriter passes lines on until the test ends: testing panics at a later one.
type testWriter struct {
	mu    sync.Mutex
	t     testing.TB
	ended bool
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.t.Log(string(bytes.TrimRight(p, "\n")))
	}
	return len(p), nil
}

func (w *testWriter) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
}

// Rand is a seeded source of randomness.
type Rand struct {
	mu  sync.Mutex
	src *rand.PCG
}

// NewRand returns randomness from a seed that is logged, or from the one in HOLDFAST_TEST_SEED.
func NewRand(t testing.TB) *Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv(SeedVariable); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("%s=%s: %v", SeedVariable, s, err)
		}
		seed = n
	}
	t.Logf("replay the randomness with %s=%d", SeedVariable, seed)
	return SeededRand(seed)
}

// SeededRand returns randomness from seed.
func SeededRand(seed uint64) *Rand { return &Rand{src: rand.NewPCG(seed, seed)} }

// Uint64 returns any number.
func (r *Rand) Uint64() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.src.Uint64()
}

// Float64 returns a number in [0,1).
func (r *Rand) Float64() float64 { return float64(r.Uint64()>>11) / (1 << 53) }

// IDs makes ids of UUIDs of version 7.
type IDs struct{}

// New returns prefix, an underscore and 26 characters that sort by time.
func (IDs) New(prefix string) string {
	id := uuid.Must(uuid.NewV7())
	return prefix + "_" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(id[:]))
}

// Secret fills p.
func (IDs) Secret(p []byte) { _, _ = crand.Read(p) }

// RealClock is the machine's clock. Inside of a testing/synctest bubble it is the bubble's.
type RealClock struct{}

// Now returns the time.
func (RealClock) Now() time.Time { return time.Now() }

// Sleep waits for d or the end of ctx.
func (RealClock) Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Timer sends once after d.
func (RealClock) Timer(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

// Net is the machine's network.
type Net struct{}

// DialContext dials.
func (Net) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

// Listen listens.
func (Net) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, network, address)
}

// Files is the machine's file system.
type Files struct{}

// Open opens a file for reading.
func (Files) Open(name string) (shop.File, error) { return os.Open(name) }

// Append opens a file for reading and appending.
func (Files) Append(name string, mode fs.FileMode) (shop.File, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE, mode)
}

// ReadFile reads a whole file.
func (Files) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }

// WriteFile replaces a file by way of another.
func (Files) WriteFile(name string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // which fails once it has been renamed
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// MkdirAll makes a directory and its parents.
func (Files) MkdirAll(name string, mode fs.FileMode) error { return os.MkdirAll(name, mode) }

// Remove removes a file.
func (Files) Remove(name string) error { return os.Remove(name) }

// ReadDir lists a directory.
func (Files) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
