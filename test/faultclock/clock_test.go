package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/check/engine"
	"holdfast/platform/run"
)

// TestClock: what a clock shows jumps, and the time between two readings does not.
func TestClock(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{time.Hour, -5 * time.Minute} {
		real := run.Real(nil)
		c := &clock{Clock: real.Clock}
		before := c.Now()
		c.wrong.Store(int64(by))
		after, now := c.Now(), time.Now()
		if d := after.Sub(before); d < 0 || d > time.Minute {
			t.Errorf("%s passed at a jump by %s", d, by)
		}
		if d := after.Round(0).Sub(before.Round(0)) - by; d < 0 || d > time.Minute { // without the monotonic reading
			t.Errorf("the time that is shown jumped by %s more than %s", d, by)
		}
		if d := now.Sub(after); d < 0 || d > time.Minute {
			t.Errorf("a deadline by the runtime's clock is %s from one by this", d)
		}
		if n := c.shown.Load(); n != 1 {
			t.Errorf("%d wrong times were shown", n)
		}
	}
}

// TestIDs: they sort by the time that the clock shows, and are whole.
func TestIDs(t *testing.T) {
	t.Parallel()
	real := run.Real(nil)
	c := &clock{Clock: real.Clock}
	made := ids{real.IDs, c}
	right := made.New("ord")
	c.wrong.Store(int64(time.Hour))
	ahead := made.New("ord")
	c.wrong.Store(-int64(5 * time.Minute))
	behind := made.New("ord")
	if len(ahead) != len(right) || len(behind) != len(right) || behind >= right || right >= ahead {
		t.Errorf("%s by the right clock, %s by one that is ahead, %s by one that is behind", right, ahead, behind)
	}
}

// TestFollow: the file sets the clock, also while it runs, and is told what was shown.
func TestFollow(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "clock")
	real := run.Real(nil)
	c := &clock{Clock: real.Clock}
	if err := c.read(file); err == nil {
		t.Error("a file that is missing is none to follow")
	}
	if err := engine.SetClock(file, 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var follower sync.WaitGroup
	follower.Go(func() { c.follow(ctx, file) })
	defer follower.Wait()
	defer cancel()
	if err := engine.SetClock(file, time.Hour); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; {
		c.Now()
		n, err := engine.Shown(file)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the clock does not follow its file")
		}
		<-time.After(followEvery)
	}
}

// TestReleased: the programs that are released have no clock that can be set.
func TestReleased(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"holdfast/cmd/holdfastd", "holdfast/cmd/holdfast"} {
		out, err := exec.Command("go", "list", "-deps", program).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if strings.Contains(string(out), "holdfast/test/") {
			t.Errorf("%s has parts of the tests in it:\n%s", program, out)
		}
		if !strings.Contains(string(out), "holdfast/app\n") && !strings.Contains(string(out), "holdfast/app/local\n") {
			t.Errorf("this looks at something else:\n%s", out)
		}
	}
}
