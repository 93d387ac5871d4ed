package fakes_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/test/fakes"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestClockStandsStill(t *testing.T) {
	t.Parallel()
	c := fakes.NewClock(start)
	if !c.Now().Equal(start) {
		t.Errorf("it shows %v", c.Now())
	}
	c.Advance(time.Hour)
	if want := start.Add(time.Hour); !c.Now().Equal(want) {
		t.Errorf("it shows %v, want %v", c.Now(), want)
	}
}

func TestClockTimers(t *testing.T) {
	t.Parallel()
	c := fakes.NewClock(start)
	now, _ := c.Timer(0)
	soon, _ := c.Timer(time.Second)
	later, _ := c.Timer(time.Minute)
	stopped, stop := c.Timer(time.Second)
	stop()
	c.Advance(59 * time.Second)
	for name, test := range map[string]struct {
		c    <-chan time.Time
		want time.Time
	}{"now": {now, start}, "soon": {soon, start.Add(time.Second)}, "later": {later, time.Time{}}, "stopped": {stopped, time.Time{}}} {
		var got time.Time
		select {
		case got = <-test.c:
		default:
		}
		if !got.Equal(test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestClockSleep(t *testing.T) {
	t.Parallel()
	c := fakes.NewClock(start)
	var mu sync.Mutex
	var order []time.Duration
	var wg sync.WaitGroup
	for _, d := range []time.Duration{3 * time.Second, time.Second, 2 * time.Second} {
		wg.Go(func() {
			if err := c.Sleep(t.Context(), d); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			order = append(order, d)
		})
	}
	if err := c.Waiters(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	c.Advance(3 * time.Second)
	wg.Wait()
	slices.Sort(order)
	if len(order) != 3 {
		t.Errorf("woken: %v", order)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("sleep after the end: %v", err)
	}
	if err := c.Waiters(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("the sleeper that gave up is still counted: %v", err)
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^ord_[0-9a-v]{26}$`)
	var ids []string
	for range 100 {
		id := fakes.IDs{}.New("ord")
		if !form.MatchString(id) {
			t.Fatalf("%q is not an id", id)
		}
		ids = append(ids, id)
	}
	if !slices.IsSorted(ids) || len(slices.Compact(ids)) != 100 {
		t.Error("ids do not sort by time, or repeat")
	}
	secret := make([]byte, 32)
	fakes.IDs{}.Secret(secret)
	if slices.Equal(secret, make([]byte, 32)) {
		t.Error("the secret is empty")
	}
}

func TestRandIsReplayed(t *testing.T) {
	t.Parallel()
	a, b, other := fakes.SeededRand(1), fakes.SeededRand(1), fakes.SeededRand(2)
	var different bool
	for range 100 {
		x := a.Uint64()
		if x != b.Uint64() {
			t.Fatal("one seed, two sequences")
		}
		different = different || x != other.Uint64()
		if f := a.Float64(); f != b.Float64() || f < 0 || f >= 1 {
			t.Fatalf("%v is not in [0,1)", f)
		}
		other.Float64()
	}
	if !different {
		t.Error("two seeds, one sequence")
	}
}

func TestSeedFromTheEnvironment(t *testing.T) {
	t.Setenv(fakes.SeedVariable, "7")
	if fakes.NewRand(t).Uint64() != fakes.SeededRand(7).Uint64() {
		t.Error("the seed was not taken")
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	files := fakes.Deps(t).Files
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := files.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "f")
	for _, content := range []string{"first, which is longer", "second"} {
		if err := files.WriteFile(name, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		if b, err := files.ReadFile(name); err != nil || string(b) != content {
			t.Errorf("read %q, %v", b, err)
		}
	}
	f, err := files.Append(name, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, ", third"); err != nil {
		t.Error(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Error(err)
	}
	if b, err := files.ReadFile(name); err != nil || string(b) != "second, third" {
		t.Errorf("read %q, %v", b, err)
	}
	entries, err := files.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v: a temporary file was left", entries, err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
	if err := files.Remove(name); err != nil {
		t.Error(err)
	}
	if _, err := files.Open(name); !os.IsNotExist(err) {
		t.Errorf("open: %v", err)
	}
}

// recorder is a test whose log is looked at.
type recorder struct {
	testing.TB
	lines []string
	ends  []func()
}

func (r *recorder) Log(args ...any)  { r.lines = append(r.lines, args[0].(string)) }
func (r *recorder) Cleanup(f func()) { r.ends = append(r.ends, f) }

func TestLogEndsWithItsTest(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	log := fakes.Log(r)
	log.Info("too quiet")
	log.Warn("heard")
	for _, end := range r.ends {
		end()
	}
	log.Error("too late")
	if len(r.lines) != 1 || !strings.Contains(r.lines[0], "heard") {
		t.Errorf("logged %q", r.lines)
	}
}
