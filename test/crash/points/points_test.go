package points_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/test/crash/points"
	"holdfast/test/fakes"
)

// The variables that change the test.
const (
	boundariesVariable = "HOLDFAST_TEST_BOUNDARIES" // all, or a pattern of their names; without it, a share
	shareVariable      = "HOLDFAST_TEST_SHARE"      // its number; without it, that of the day
	workersVariable    = "HOLDFAST_TEST_WORKERS"    // runs at once
	keepVariable       = "HOLDFAST_TEST_KEEP"       // a directory for what is left of runs that failed
)

const (
	listFile   = "boundaries.txt"
	shareSize  = 80
	workers    = 3 // most of the time a run waits
	countRuns  = 3 // to see every course of a scenario
	maxMissed  = 4 // one in so many boundaries may not be met: how often the bus and the stores are written to varies
	dayOfShare = 24 * time.Hour
)

var update = flag.Bool("update", false, "write "+listFile)

// TestMain lives the life of the process that is killed, where the environment says so.
func TestMain(m *testing.M) {
	points.Main()
	flag.Parse()
	os.Exit(m.Run())
}

// scratch is a directory in memory, where the machine has one, with a template in it.
func scratch(t *testing.T) (dir, template string) {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "holdfast-points-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	template = filepath.Join(dir, "template")
	if err := points.MakeTemplate(t.Context(), template); err != nil {
		t.Fatal(err)
	}
	return dir, template
}

// TestListed runs each scenario without a kill: it ends as it should, and what it does to the world is listed.
func TestListed(t *testing.T) {
	t.Parallel()
	dir, template := scratch(t)
	listed, err := points.ReadList(listFile)
	if err != nil && !*update {
		t.Fatal(err)
	}
	counts := map[string]points.Kinds{}
	for _, s := range points.Scenarios() {
		all, diff := points.Kinds{}, []string(nil)
		for run := range countRuns {
			home := filepath.Join(dir, fmt.Sprintf("%s-%d", s.Name, run))
			r, err := points.Run(s, points.Point{}, template, home)
			if err != nil {
				t.Fatalf("%s: %v", s.Name, err)
			}
			for _, v := range r.Violations {
				t.Errorf("%s without a kill: violated: %s", s.Name, v)
			}
			if len(r.Violations) > 0 {
				break
			}
			seen := points.Kinds{}
			seen.Count(r.Effects)
			all.Count(r.Effects)
			if diff = unlike(seen, listed[s.Name]); !*update && (s.Race || len(diff) == 0) {
				break
			}
		}
		counts[s.Name] = all
		if !*update && !s.Race && len(diff) > 0 {
			t.Errorf("%s: what it does has changed: %v; write the list again with -update", s.Name, diff)
		}
	}
	if *update {
		if err := points.WriteList(listFile, counts); err != nil {
			t.Fatal(err)
		}
	}
}

// unlike lists the effects that only one of the two has. How often they happen varies.
func unlike(seen, listed points.Kinds) (diff []string) {
	for _, kind := range slices.Sorted(maps.Keys(seen)) {
		if listed[kind] == 0 {
			diff = append(diff, "new "+kind)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(listed)) {
		if seen[kind] == 0 {
			diff = append(diff, "no "+kind)
		}
	}
	return diff
}

// chosen are the boundaries that the environment asks for, or those of the day.
func chosen(t *testing.T) []points.Boundary {
	t.Helper()
	counts, err := points.ReadList(listFile)
	if err != nil {
		t.Fatal(err)
	}
	all := points.Boundaries(counts)
	switch pattern := os.Getenv(boundariesVariable); pattern {
	case "":
		shares := points.Shares(all, shareSize)
		share := fakes.Number(t, shareVariable, int(time.Now().Unix()/int64(dayOfShare.Seconds()))%shares)
		if share < 0 || share >= shares {
			t.Fatalf("%s=%d: there are shares 0 to %d", shareVariable, share, shares-1)
		}
		t.Logf("share %d of %d; run it again with %s=%d, and everything with %s=all", share, shares, shareVariable, share, boundariesVariable)
		return points.Share(all, shareSize, share)
	case "all":
		return all
	default:
		some, err := points.Matching(all, pattern)
		if err != nil {
			t.Fatalf("%s: %v", boundariesVariable, err)
		}
		if len(some) == 0 {
			t.Fatalf("%s=%s: no boundary has such a name", boundariesVariable, pattern)
		}
		return some
	}
}

// tally is what became of the boundaries of a scenario.
type tally struct {
	killed, failed int
	missed         []string
	took           time.Duration
}

// TestCrashPoints kills a Holdfast at boundaries of its scenarios, starts it again, and judges what has
// become of the orders.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	queue := chosen(t)
	dir, template := scratch(t)
	tallies := map[string]*tally{}
	var mu sync.Mutex
	var group sync.WaitGroup
	next := make(chan points.Boundary)
	for range fakes.Number(t, workersVariable, workers) {
		group.Go(func() {
			for b := range next {
				r := runOne(t, b, template, dir)
				mu.Lock()
				tallies[b.Scenario.Name].add(b, r)
				mu.Unlock()
			}
		})
	}
	began := time.Now()
	for _, b := range queue {
		mu.Lock()
		if tallies[b.Scenario.Name] == nil {
			tallies[b.Scenario.Name] = &tally{}
		}
		mu.Unlock()
		next <- b
	}
	close(next)
	group.Wait()
	sum(t, queue, tallies, time.Since(began))
}

func (c *tally) add(b points.Boundary, r *points.Result) {
	if r == nil {
		c.failed++
		return
	}
	c.took += r.Took
	if r.Reached {
		c.killed++
	} else {
		c.missed = append(c.missed, b.Point.String())
	}
	if len(r.Violations) > 0 {
		c.failed++
	}
}

// sum says what was run.
func sum(t *testing.T, queue []points.Boundary, tallies map[string]*tally, took time.Duration) {
	t.Helper()
	killed, missed := 0, 0
	for _, s := range points.Scenarios() {
		c := tallies[s.Name]
		if c == nil {
			continue
		}
		killed, missed = killed+c.killed, missed+len(c.missed)
		line := fmt.Sprintf("%-24s %4d killed, %3d not met, %d failed, %s each", s.Name, c.killed, len(c.missed), c.failed, (c.took / time.Duration(max(1, c.killed+len(c.missed)))).Round(time.Millisecond))
		if len(c.missed) > 0 {
			line += "; not met: " + strings.Join(c.missed, ", ")
		}
		t.Log(line)
	}
	t.Logf("%d boundaries in %s: killed at %d of them, %d not met", len(queue), took.Round(time.Second), killed, missed)
	if missed*maxMissed > max(len(queue), maxMissed*maxMissed) {
		t.Errorf("%d of %d boundaries were not met: see what has changed, and write the list again with -update", missed, len(queue))
	}
}

// runOne runs a scenario that dies at a boundary. What fails is kept.
func runOne(t *testing.T, b points.Boundary, template, dir string) *points.Result {
	t.Helper()
	name := strings.NewReplacer(" ", "-", ":", "-").Replace(b.String())
	home := filepath.Join(dir, name)
	r, err := points.Run(b.Scenario, b.Point, template, home)
	if err != nil {
		t.Errorf("%s: %v", b, err)
	} else {
		for _, v := range r.Violations {
			t.Errorf("%s: violated: %s", b, v)
		}
	}
	if err != nil || len(r.Violations) > 0 {
		t.Errorf("repeat it with: %s='^%s$' go test -count=1 -run TestCrashPoints ./test/crash/points", boundariesVariable, b)
		keep(t, home, name)
	}
	if err := os.RemoveAll(home); err != nil {
		t.Error(err)
	}
	return r
}

// keep keeps what is left of a run that failed.
func keep(t *testing.T, home, name string) {
	t.Helper()
	to := os.Getenv(keepVariable)
	if to == "" {
		to = filepath.Join(os.TempDir(), "holdfast-points")
	}
	to = filepath.Join(to, name)
	if err := os.RemoveAll(to); err != nil {
		t.Error(err)
	}
	if err := os.CopyFS(to, os.DirFS(home)); err != nil {
		t.Error(err)
	}
	t.Logf("its history, effects, log and data are in %s", to)
}
