package party_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/shop"
	"holdfast/sim/party"
	"holdfast/test/fakes"
)

// files is a file system whose syncs are counted and can be held up or fail.
type files struct {
	shop.Files
	syncs atomic.Int64
	sync  func() error // instead of syncing, if it is set
}

func (f *files) Append(name string, mode fs.FileMode) (shop.File, error) {
	file, err := f.Files.Append(name, mode)
	return &countedFile{file, f}, err
}

type countedFile struct {
	shop.File
	f *files
}

func (c *countedFile) Sync() error {
	c.f.syncs.Add(1)
	if c.f.sync != nil {
		return c.f.sync()
	}
	return c.File.Sync()
}

func noReplay(int64, []byte) error { return nil }

func open(t *testing.T, dir string, deps shop.Deps, every time.Duration, replay party.Replay) *party.Ledger {
	t.Helper()
	l, err := party.OpenLedger(dir, every, deps, replay)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func content(t *testing.T, l *party.Ledger) string {
	t.Helper()
	var b bytes.Buffer
	n, err := l.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	return b.String()
}

func TestLedgerIsReplayed(t *testing.T) {
	t.Parallel()
	dir, deps := t.TempDir(), fakes.Deps(t)
	l := open(t, dir, deps, 0, noReplay)
	places := map[int64]string{}
	add := func(place int64, err error, line string) {
		if err != nil {
			t.Fatal(err)
		}
		places[place] = line
		if got, err := l.Line(place); err != nil || string(got) != line {
			t.Errorf("at %d stands %s (%v), want %s", place, got, err, line)
		}
	}
	place, err := l.Append([]byte(`{"a":1}`))
	add(place, err, `{"seq":1,"a":1}`)
	place, err = l.Note([]byte(`{"note":"n"}`))
	add(place, err, `{"note":"n"}`)
	place, err = l.Append([]byte(`{"a":2}`), []byte(`{"a":3}`))
	add(place, err, `{"seq":3,"a":3}`)
	long := strings.Repeat("x", 100_000)
	place, err = l.Append([]byte(`{"a":"` + long + `"}`))
	add(place, err, `{"seq":4,"a":"`+long+`"}`)
	shown := `{"seq":1,"a":1}` + "\n" + `{"seq":2,"a":2,"more":true}` + "\n" + `{"seq":3,"a":3}` + "\n" + `{"seq":4,"a":"` + long + `"}` + "\n"
	if got := content(t, l); got != shown {
		t.Errorf("it shows %.200s", got)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Append([]byte(`{"a":4}`)); !errors.Is(err, party.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	again := open(t, dir, deps, 0, func(place int64, line []byte) error {
		if want, known := places[place]; known && want != string(line) {
			t.Errorf("at %d stood %.200s, want %.200s", place, line, want)
		}
		delete(places, place)
		return nil
	})
	if len(places) != 0 {
		t.Errorf("not replayed: %v", places)
	}
	if got := content(t, again); got != shown {
		t.Errorf("it shows %.200s", got)
	}
}

// TestOneSyncForMany: what comes while the disk is busy goes with the next sync.
func TestOneSyncForMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		deps := fakes.Deps(t)
		free := make(chan struct{})
		f := &files{Files: deps.Files, sync: func() error { <-free; return nil }}
		deps.Files = f
		l := open(t, t.TempDir(), deps, 0, noReplay)
		const many = 500
		var group sync.WaitGroup
		for n := range many {
			group.Go(func() {
				if _, err := l.Append(fmt.Appendf(nil, `{"n":%d}`, n)); err != nil {
					t.Error(err)
				}
			})
			if n == 0 {
				synctest.Wait() // until it syncs
			}
		}
		synctest.Wait() // until the others are waiting
		close(free)
		group.Wait()
		if got := f.syncs.Load(); got != 2 {
			t.Errorf("%d syncs for one entry and %d that came meanwhile", got, many-1)
		}
		if got := strings.Count(content(t, l), "\n"); got != many {
			t.Errorf("%d entries", got)
		}
	})
}

// TestSyncsKeepTheirDistance: an entry that follows another waits for more to come before it is synced.
func TestSyncsKeepTheirDistance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		deps := fakes.Deps(t)
		f := &files{Files: deps.Files}
		deps.Files = f
		l := open(t, t.TempDir(), deps, 10*time.Millisecond, noReplay)
		begun := time.Now()
		write := func(after, until time.Duration) {
			time.Sleep(after - time.Since(begun))
			if _, err := l.Append([]byte(`{"n":0}`)); err != nil {
				t.Error(err)
			}
			if got := time.Since(begun); got != until {
				t.Errorf("what came after %s was written after %s, want %s", after, got, until)
			}
		}
		const ms = time.Millisecond
		write(0, 0) // the first one need not wait
		var group sync.WaitGroup
		for _, after := range []time.Duration{2 * ms, 4 * ms, 9 * ms, 9 * ms} {
			group.Go(func() { write(after, 10*ms) })
		}
		group.Go(func() { write(11*ms, 20*ms) })
		group.Wait()
		write(50*ms, 50*ms) // nor does one that comes alone
		if got := f.syncs.Load(); got != 4 {
			t.Errorf("%d syncs, want 4", got)
		}
	})
}

// TestFailedSync: what a failed sync was for, and what came behind it, is not there; the next entry is,
// with the next number.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		deps := fakes.Deps(t)
		broken := errors.New("the disk is broken")
		f := &files{Files: deps.Files}
		deps.Files = f
		l := open(t, t.TempDir(), deps, 0, noReplay)
		good, err := l.Append([]byte(`{"n":"good"}`))
		if err != nil {
			t.Fatal(err)
		}
		free := make(chan struct{})
		f.sync = func() error { <-free; return broken }
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				if _, err := l.Append([]byte(`{"n":"lost"}`)); !errors.Is(err, broken) {
					t.Errorf("appended: %v", err)
				}
			})
			synctest.Wait() // the first one syncs, the others are behind it
		}
		close(free)
		group.Wait()
		if got := f.syncs.Load(); got != 2 {
			t.Errorf("%d syncs: what is behind a failed one fails with it", got)
		}
		if _, err := l.Note([]byte(`{"note":"lost"}`)); !errors.Is(err, broken) {
			t.Errorf("noted: %v", err)
		}
		f.sync = nil
		place, err := l.Append([]byte(`{"n":"later"}`))
		if err != nil {
			t.Fatal(err)
		}
		if line, err := l.Line(place); err != nil || string(line) != `{"seq":2,"n":"later"}` || place <= good {
			t.Errorf("%d: %s, %v", place, line, err)
		}
		if got := content(t, l); strings.Contains(got, "lost") || strings.Count(got, "\n") != 2 {
			t.Errorf("it shows %s", got)
		}
	})
}

// TestAnyCut cuts a ledger at random: what is left is a beginning of it, and can be gone on with.
func TestAnyCut(t *testing.T) {
	t.Parallel()
	dir, deps := t.TempDir(), fakes.Deps(t)
	l := open(t, dir, deps, 0, noReplay)
	for n := range 60 {
		var err error
		switch n % 3 {
		case 0:
			_, err = l.Append(fmt.Appendf(nil, `{"n":%d}`, n))
		case 1:
			_, err = l.Append(fmt.Appendf(nil, `{"n":%d}`, n), fmt.Appendf(nil, `{"n":"%d, second"}`, n), []byte(`{"third":true}`))
		case 2:
			_, err = l.Note(fmt.Appendf(nil, `{"note":"%d"}`, n))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	whole := content(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	bytes, err := os.ReadFile(filepath.Join(dir, names[0].Name()))
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	for range 300 {
		cut := random.IntN(len(bytes) + 1)
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, names[0].Name()), bytes[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, dir, deps, 0, noReplay)
		got := content(t, l)
		if !strings.HasPrefix(whole, got) || strings.HasSuffix(got, "\"more\":true}\n") {
			t.Fatalf("cut to %d of %d bytes it shows %s", cut, len(bytes), got)
		}
		place, err := l.Append([]byte(`{"n":"next"}`))
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`{"seq":%d,"n":"next"}`, strings.Count(got, "\n")+1)
		if line, err := l.Line(place); err != nil || string(line) != want {
			t.Fatalf("cut to %d bytes it goes on with %s (%v), want %s", cut, line, err, want)
		}
		if after := content(t, l); after != got+want+"\n" {
			t.Fatalf("cut to %d bytes it shows %s in the end", cut, after)
		}
	}
}

func TestUnreadableLines(t *testing.T) {
	t.Parallel()
	unreadable := errors.New("cannot be read")
	for name, c := range map[string]struct {
		content string
		good    bool
	}{
		"the last line":         {"{\"seq\":1,\"a\":1}\nbad\n", true},
		"the last line, torn":   {"{\"seq\":1,\"a\":1}\nbad\nba", true},
		"the last line, JSON":   {"{\"seq\":1,\"a\":1}\n{\"seq\":3,\"a\":1}\n", false},
		"one in the middle":     {"{\"seq\":1,\"a\":1}\nbad\n{\"seq\":2,\"a\":1}\n", false},
		"one of a group":        {"{\"seq\":1,\"a\":1}\nbad\n{\"seq\":2,\"more\":true}\n{\"seq\":3,\"a\":1}\n", false},
		"a number is missing":   {"{\"seq\":1,\"a\":1}\n{\"seq\":3,\"a\":1}\n{\"seq\":4,\"a\":1}\n", false},
		"no number":             {"{\"seq\":x,\"a\":1}\n{\"seq\":2,\"a\":1}\n", false},
		"a line of a megabyte":  {"{\"seq\":1,\"a\":1}\n" + strings.Repeat("x", 1<<20) + "\n{\"seq\":2,\"a\":1}\n", false},
		"zeros after a crash":   {"{\"seq\":1,\"a\":1}\n" + strings.Repeat("\x00", 5000), true},
		"nothing but torn text": {"{\"se", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "ledger.ndjson"), []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := party.OpenLedger(dir, 0, fakes.Deps(t), func(_ int64, line []byte) error {
				if !strings.HasPrefix(string(line), "{") {
					return unreadable
				}
				return nil
			})
			if (err == nil) != c.good {
				t.Fatalf("opened: %v", err)
			}
			if err != nil {
				if !strings.Contains(err.Error(), dir) {
					t.Errorf("the error does not name the file: %v", err)
				}
				return
			}
			if _, err := l.Append([]byte(`{"n":1}`)); err != nil {
				t.Error(err)
			}
			if got := content(t, l); strings.Contains(got, "\x00") || strings.Contains(got, "bad") {
				t.Errorf("it shows %q", got)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
