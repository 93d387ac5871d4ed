package party

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"holdfast/shop"
)

const (
	// ledgerFile is the ledger's name in a party's directory.
	ledgerFile = "ledger.ndjson"
	// maxLine is the longest line, in bytes.
	maxLine = 256 << 10
	// fewBytes is what is read of a line at first; most are shorter.
	fewBytes = 1 << 10
	// maxSpare is the largest buffer that is kept for the next write.
	maxSpare = 1 << 20
)

const (
	// entryPrefix begins an entry's line; every other line is a note.
	entryPrefix = `{"seq":`
	// moreSuffix ends a line that is nothing without the next one.
	moreSuffix = `,"more":true}`
)

// ErrClosed is returned after Close.
var ErrClosed = errors.New("the ledger is closed")

// Ledger is an append-only file of lines that are on disk before anybody is answered. It is the only
// store that a party has: what is kept in memory are places in it. Its entries are numbered from 1 without
// gaps; between them stand notes, which are the party's own and are not shown to others.
type Ledger struct {
	file  shop.File
	clock shop.Clock
	every time.Duration
	lead  chan struct{} // holds a value while somebody writes

	mu     sync.Mutex
	open   *batch // the lines that wait for the next write
	next   int64  // the number of the next entry
	size   int64  // of the file, as far as it is on disk
	last   int64  // the number of the last entry on disk
	closed bool

	// Only who leads touches these.
	spare   []byte
	synced  time.Time
	garbage bool // a failed write may have left bytes beyond size
}

// Replay is given each line of the file with its place, in order. A line that it returns an error for
// is unreadable.
type Replay func(place int64, line []byte) error

// OpenLedger opens or makes the ledger in dir and replays it. Where a crash has torn the last line, or the
// last group of lines, it is cut off: nobody was ever answered for it. Between two syncs it lets at
// least every pass, if others may be served by the same sync.
func OpenLedger(dir string, every time.Duration, deps shop.Deps, replay Replay) (*Ledger, error) {
	if err := deps.Files.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, ledgerFile)
	f, err := deps.Files.Append(path, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	l := &Ledger{file: f, clock: deps.Clock, every: every, lead: make(chan struct{}, 1), open: newBatch(nil)}
	if err := l.load(replay); err != nil {
		return nil, errors.Join(fmt.Errorf("the ledger %s: %w", path, err), f.Close())
	}
	l.next = l.last + 1
	return l, nil
}

// load replays the file and cuts off what a crash has torn.
func (l *Ledger) load(replay Replay) error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	end, err := scan(io.NewSectionReader(l.file, 0, info.Size()), func(place int64, line []byte) error {
		if !isEntry(line) {
			return replay(place, line)
		}
		if seq := number(line); seq != l.last+1 {
			return fmt.Errorf("entry %d follows entry %d", seq, l.last)
		}
		if err := replay(place, line); err != nil {
			return err
		}
		l.last++
		return nil
	})
	if err != nil {
		return err
	}
	l.size = end
	if end == info.Size() {
		return nil
	}
	if err := l.file.Truncate(end); err != nil {
		return fmt.Errorf("cut off the torn end: %w", err)
	}
	return l.file.Sync()
}

// Append writes entries as one: after a crash all of them are there or none. It returns the place of the
// last one once all are on disk. Each is a JSON object without "seq", which is put before its members.
func (l *Ledger) Append(entries ...[]byte) (place int64, err error) {
	return l.write(func(t *batch) int {
		at := 0
		for i, e := range entries {
			at = len(t.buf)
			t.buf = append(t.buf, entryPrefix...)
			t.buf = append(strconv.AppendInt(t.buf, l.next, 10), ',')
			t.buf = append(t.buf, e[1:]...)
			if i < len(entries)-1 {
				t.buf = append(t.buf[:len(t.buf)-1], moreSuffix...)
			}
			t.buf = append(t.buf, '\n')
			l.next++
		}
		return at
	})
}

// Note writes a line that is not an entry, and returns its place once it is on disk.
func (l *Ledger) Note(line []byte) (place int64, err error) {
	return l.write(func(t *batch) int {
		at := len(t.buf)
		t.buf = append(append(t.buf, line...), '\n')
		return at
	})
}

// Line reads the line at a place.
func (l *Ledger) Line(place int64) ([]byte, error) {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	for n := fewBytes; n <= maxLine; n *= 4 {
		buf := make([]byte, n)
		got, err := l.file.ReadAt(buf, place)
		if i := bytes.IndexByte(buf[:got], '\n'); i >= 0 {
			return buf[:i], nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the ledger: %w", err)
		}
	}
	return nil, fmt.Errorf("read the ledger: no line at %d", place)
}

// WriteTo writes the entries that are on disk, and no notes.
func (l *Ledger) WriteTo(w io.Writer) (n int64, err error) {
	l.mu.Lock()
	size := l.size
	l.mu.Unlock()
	_, err = scan(io.NewSectionReader(l.file, 0, size), func(_ int64, line []byte) error {
		if !isEntry(line) {
			return nil
		}
		k, err := w.Write(append(line, '\n')) // where it also stands in scan's buffer
		n += int64(k)
		return err
	})
	return n, err
}

// Close writes what waits, and closes the file. Only the first call does.
func (l *Ledger) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	t, waiting := l.open, len(l.open.buf) > 0
	l.mu.Unlock()
	var err error
	if waiting {
		err = l.commit(t)
	}
	l.lead <- struct{}{} // for good: nobody writes to a closed file
	return errors.Join(err, l.file.Close())
}

// ServeHTTP answers GET /ledger.
func (l *Ledger) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	if _, err := l.WriteTo(w); err != nil {
		panic(http.ErrAbortHandler) // so that nobody takes a part for the whole
	}
}
