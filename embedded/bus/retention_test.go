package bus_test

import (
	"context"
	"os"
	"slices"
	"testing"

	embedded "holdfast/embedded/bus"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// small keeps little: files of 8 KB, and 16 KB of each partition.
func small(dir string) embedded.Config {
	return embedded.Config{Dir: dir, SegmentBytes: 8 << 10, RetainBytes: 16 << 10, MaxBytes: 1 << 20}
}

// fill sends n events of one key, each in a batch of its own.
func fill(t *testing.T, b *embedded.Broker, from, n int) {
	t.Helper()
	p := producer(t, b)
	defer p.Close()
	for i := from; i < from+n; i++ {
		if err := p.Send(testContext(t), []shop.Event{randomEvent(i)})[0]; err != nil {
			t.Fatal(err)
		}
	}
}

// randomEvent cannot be compressed much.
func randomEvent(n int) shop.Event {
	e := event(1, n)
	rnd := fakes.SeededRand(uint64(n))
	data := make([]byte, 1000)
	for i := range data {
		data[i] = byte('!' + rnd.Uint64()%90)
	}
	e.Data = data
	return e
}

func sum(starts map[int32]int64) (n int64) {
	for _, s := range starts {
		n += s
	}
	return n
}

func TestTrim(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := start(t, small(dir))
	makeTopics(t, b)
	fill(t, b, 0, 100)
	before := size(t, segments(t, dir, b))
	if err := b.Trim(testContext(t)); err != nil {
		t.Fatal(err)
	}
	after, starts := size(t, segments(t, dir, b)), logStart(t, b)
	if before < 100<<10 || after < 16<<10 || after > 16<<10+2*10<<10 {
		t.Errorf("%d bytes before and %d after, though 16 KB and a file or two are to stay", before, after)
	}
	if sum(starts) == 0 {
		t.Error("nothing was deleted")
	}
	if err := b.Trim(testContext(t)); err != nil || sum(logStart(t, b)) != sum(starts) {
		t.Errorf("a second time it deleted more, or %v", err)
	}
	// What is left is still there after a crash, and what is gone does not come back.
	crash(t, b, dir)
	again := start(t, small(dir))
	if got := sum(logStart(t, again)); got != sum(starts) {
		t.Errorf("the log begins at %d, before the crash at %d", got, sum(starts))
	}
	fill(t, again, 100, 1)
	got := consume(t, again, 100-int(sum(starts))+1)
	if got[len(got)-1] != "evt_1_100" {
		t.Errorf("got %v", got)
	}
}

// TestTrimWaitsForReaders has one reader that has read nothing yet, and then all.
func TestTrimWaitsForReaders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := small(dir)
	cfg.Readers = map[string][]string{"payment": {shop.TopicOrders}, "search": {shop.TopicShipping}}
	b := start(t, cfg)
	makeTopics(t, b)
	fill(t, b, 0, 60)
	if err := b.Trim(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if starts := logStart(t, b); sum(starts) != 0 {
		t.Fatalf("unread events were deleted: the log begins at %v", starts)
	}
	got := consume(t, b, 60)
	if len(got) != 60 {
		t.Fatalf("%d events came", len(got))
	}
	if err := b.Trim(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if sum(logStart(t, b)) == 0 {
		t.Error("nothing was deleted though all is read")
	}
}

// TestFullOfUnreadEvents goes beyond MaxBytes: the broker refuses rather than lose something, and takes
// in again when it has been read.
func TestFullOfUnreadEvents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := small(dir)
	cfg.MaxBytes = 64 << 10
	cfg.Readers = map[string][]string{"payment": {shop.TopicOrders}}
	b := start(t, cfg)
	makeTopics(t, b)
	fill(t, b, 0, 100)
	if err := b.Trim(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := send(t, b, event(1, 100))[0]; shop.KindOf(err) != shop.Unavailable {
		t.Fatalf("error %v", err)
	}
	consume(t, b, 100)
	if err := b.Trim(testContext(t)); err != nil {
		t.Fatal(err)
	}
	mustSend(t, b, event(1, 101))
}

// countingFiles counts the files that are made durable.
type countingFiles struct {
	fakes.Files
	synced *[]string
}

func (f countingFiles) Open(name string) (shop.File, error) {
	file, err := f.Files.Open(name)
	return countedFile{file, name, f.synced}, err
}

type countedFile struct {
	shop.File
	name   string
	synced *[]string
}

func (f countedFile) Sync() error {
	*f.synced = append(*f.synced, f.name)
	return f.File.Sync()
}

func TestSync(t *testing.T) {
	t.Parallel()
	var synced []string
	deps := fakes.Deps(t)
	deps.Files = countingFiles{synced: &synced}
	dir := t.TempDir()
	b, err := embedded.New(small(dir), deps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	makeTopics(t, b)
	fill(t, b, 0, 20)
	files := segments(t, dir, b)
	if err := b.Sync(); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !slices.Contains(synced, f) {
			t.Errorf("%s was not made durable", f)
		}
	}
	synced = nil
	if err := b.Sync(); err != nil || len(synced) != 0 {
		t.Errorf("nothing new, and %v was synced, %v", synced, err)
	}
	fill(t, b, 20, 1)
	if err := b.Sync(); err != nil || len(synced) == 0 {
		t.Errorf("something new, and %v was synced, %v", synced, err)
	}
}

func TestRunTrimsAndCloses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	deps := fakes.Deps(t)
	clock := fakes.NewClock(deps.Clock.Now())
	deps.Clock = clock
	cfg := small(dir)
	b, err := embedded.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	makeTopics(t, b)
	fill(t, b, 0, 60)
	ctx := testContext(t)
	run, end := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- b.Run(run) }()
	for range 2 {
		if err := clock.Waiters(ctx, 1); err != nil {
			t.Fatal(err)
		}
		clock.Advance(cfg.Defaults().TrimEvery)
	}
	if err := clock.Waiters(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if sum(logStart(t, b)) == 0 {
		t.Error("nothing was deleted")
	}
	end()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Fatal(err)
	}
	if !start(t, cfg).Clean() {
		t.Error("not clean")
	}
}
