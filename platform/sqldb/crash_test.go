package sqldb_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"holdfast/platform/sqldb"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// childVariable makes this test binary a process that works on the database file named in it.
const childVariable = "HOLDFAST_TEST_SQLDB_CHILD"

// child prepares to run this binary as the child called name.
func child(name, path string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^"+name+"$", "-test.v")
	cmd.Env = append(os.Environ(), childVariable+"="+path)
	return cmd
}

func childPath(t *testing.T) string {
	path := os.Getenv(childVariable)
	if path == "" {
		t.Skip("it is run by another test")
	}
	return path
}

// pair inserts a thing and its part, which are there together or not at all.
func pair(name string) txFunc {
	return func(ctx context.Context, tx *sqldb.Tx) error {
		if err := add(name, 1)(ctx, tx); err != nil {
			return err
		}
		return execute(ctx, tx, "INSERT INTO parts (thing, number) VALUES (?, 1)", name)
	}
}

func execute(ctx context.Context, tx *sqldb.Tx, query string, args ...any) error {
	_, err := tx.Exec(ctx, query, args...)
	return err
}

// TestKillLosesNothing kills a process in the middle of its work, several times, and looks for all that
// it had been told was committed.
func TestKillLosesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	random := fakes.NewRand(t)
	acked := make(map[string]bool)
	for range 5 {
		stopAt := len(acked) + 1 + int(random.Uint64()%500)
		cmd := child("TestChildWrites", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if name, ok := strings.CutPrefix(lines.Text(), "ACK "); ok {
				acked[name] = true
			}
			if len(acked) == stopAt {
				_ = cmd.Process.Kill()
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		checkAfterCrash(t, path, acked)
	}
}

func checkAfterCrash(t *testing.T, path string, acked map[string]bool) {
	t.Helper()
	db := openFile(t, path, fakes.Deps(t))
	defer db.Close()
	there := make(map[string]bool)
	for _, name := range names(t, db) {
		there[name] = true
	}
	for name := range acked {
		if !there[name] {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
	checkPairs(t, db)
}

// TestChildWrites writes until it is killed.
func TestChildWrites(t *testing.T) {
	path := childPath(t)
	db := openFile(t, path, fakes.Deps(t))
	var wg sync.WaitGroup
	for c := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%d-%d-%d", os.Getpid(), c, i)
				if err := db.Update(t.Context(), pair(name)); err != nil {
					t.Error(err)
					return
				}
				fmt.Println("ACK " + name)
			}
		})
	}
	wg.Wait()
}

// TestFileSizeLimit has the kernel refuse to let any file grow, as a disk that fails does.
func TestFileSizeLimit(t *testing.T) {
	t.Parallel()
	runChild(t, child("TestChildFileSizeLimit", filepath.Join(t.TempDir(), "test.db")))
}

// TestDiskFull fills a small file system.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	cmd := child("TestChildDiskFull", t.TempDir())
	// A mount namespace of its own: the file system goes with the process.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	runChild(t, cmd)
}

func runChild(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil && len(out) == 0:
		t.Skipf("the kernel does not allow it: %v", err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case strings.Contains(string(out), "SKIPPED"):
		t.Skipf("%s", out)
	}
}

func TestChildFileSizeLimit(t *testing.T) {
	path := childPath(t)
	signal.Ignore(syscall.SIGXFSZ)
	db := openFile(t, path, fakes.Deps(t))
	limit := func(bytes uint64) {
		var old syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
		if bytes == 0 {
			bytes = old.Max
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: old.Max}); err != nil {
			t.Fatal(err)
		}
	}
	fillAndRecover(t, db, func() { limit(256 << 10) }, func() { limit(0) })
}

func TestChildDiskFull(t *testing.T) {
	dir := childPath(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		fmt.Println("SKIPPED", err)
		t.Skip(err)
	}
	db := openFile(t, filepath.Join(dir, "test.db"), fakes.Deps(t))
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 256<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	fillAndRecover(t, db, func() {}, func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	})
}

// fillAndRecover writes until there is no room, checks that it is told so and that nothing acknowledged is
// lost, makes room, and checks that writing goes on.
func fillAndRecover(t *testing.T, db *sqldb.DB, shrink, grow func()) {
	t.Helper()
	update(t, db, pair("before"))
	shrink()
	acked := []string{"before"}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for i := range 1000 {
				name := fmt.Sprintf("%d-%d-%s", c, i, strings.Repeat("x", 4000))
				err := db.Update(t.Context(), pair(name))
				if err != nil {
					if shop.KindOf(err) != shop.Unavailable {
						t.Errorf("got %v, want Unavailable", err)
					}
					return
				}
				mu.Lock()
				acked = append(acked, name)
				mu.Unlock()
			}
			t.Error("there was always room")
		})
	}
	wg.Wait()
	if err := db.Update(t.Context(), pair(strings.Repeat("y", 1<<20))); shop.KindOf(err) != shop.Unavailable {
		t.Errorf("without room: %v, want Unavailable", err)
	}
	t.Logf("%d transactions before there was no room; the state then: %v", len(acked), db.Update(t.Context(), pair(strings.Repeat("z", 1<<20))))
	there := names(t, db) // reading goes on
	grow()
	update(t, db, pair("after"))
	if got := names(t, db); len(there) != len(acked) || len(got) != len(acked)+1 {
		t.Errorf("%d things without room, %d after; %d were acknowledged and one more", len(there), len(got), len(acked))
	}
	checkPairs(t, db)
}

func checkPairs(t *testing.T, db *sqldb.DB) {
	t.Helper()
	if err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		var whole string
		if err := tx.QueryRow(ctx, "PRAGMA integrity_check").Scan(&whole); err != nil || whole != "ok" {
			t.Errorf("integrity: %s, %v", whole, err)
		}
		var torn int
		err := tx.QueryRow(ctx, "SELECT count(*) FROM things WHERE name NOT IN (SELECT thing FROM parts)").Scan(&torn)
		if err != nil || torn != 0 {
			t.Errorf("%d transactions are there by half, %v", torn, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestFullDatabase has SQLite itself say that there is no room, in the middle of a group.
func TestFullDatabase(t *testing.T) {
	t.Parallel()
	db := openStill(t)
	update(t, db, pair("before"))
	release, done := holdWriter(t, db, run("PRAGMA max_page_count = 1")) // which sets it to what there is
	defer release()
	errs := make([]error, 5)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			name := fmt.Sprint("small ", i)
			if i == 2 {
				name = strings.Repeat("large", 10000)
			}
			errs[i] = db.Update(t.Context(), add(name, 1))
		})
	}
	awaitQueued(t, db, len(errs))
	release()
	wg.Wait()
	if err := <-done; err != nil && shop.KindOf(err) != shop.Unavailable {
		t.Error(err)
	}
	if shop.KindOf(errs[2]) != shop.Unavailable || !strings.Contains(errs[2].Error(), "full") {
		t.Errorf("got %v, want Unavailable", errs[2])
	}
	want := 1
	for i, err := range errs {
		if err == nil {
			want++
		} else if shop.KindOf(err) != shop.Unavailable {
			t.Errorf("update %d: %v", i, err)
		}
	}
	if got := names(t, db); len(got) != want {
		t.Errorf("%d things, %d acknowledged", len(got), want)
	}
	update(t, db, run("PRAGMA max_page_count = "+strconv.Itoa(1<<30)))
	update(t, db, pair(strings.Repeat("large", 10000)))
}
