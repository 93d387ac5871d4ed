// Package party is what the simulated outside parties share: a ledger that is on disk before an answer
// leaves, signed messages to their customer, and counts of what arrived.
package party

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"

	"holdfast/shop"
)

// ledgerFile is the ledger's name in a party's directory.
const ledgerFile = "ledger.ndjson"

// Commit is the way of a line to the disk.
type Commit struct {
	done chan struct{}
	err  error
}

// Wait returns once the line is on disk, or with the reason why it never will be. A nil Commit has been
// on disk since before the start.
func (c *Commit) Wait() error {
	if c == nil {
		return nil
	}
	<-c.done
	return c.err
}

// Ledger is an append-only file of lines. Lines that come while the disk is busy are synced together.
type Ledger struct {
	f    shop.File
	name string
	open func(string) (shop.File, error)
	// lost is called, from a goroutine of the ledger, when lines could not be written: everything after
	// the last good one is gone, and the caller has to read it all again with Replay.
	lost func()

	mu     sync.Mutex
	buf    []byte
	next   *Commit
	good   int64 // bytes that are on disk
	broken bool  // lines were lost, and Replay has not been called since
	closed bool
	work   chan struct{} // one token: there is something in buf
	ended  chan struct{}
}

var errLost = errors.New("the ledger could not be written; nothing was done")

// OpenLedger opens the ledger in dir. A torn last line, from a crash, is cut off. lost must take its own
// locks and call Replay.
func OpenLedger(files shop.Files, dir string, lost func()) (*Ledger, error) {
	if err := files.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	name := filepath.Join(dir, ledgerFile)
	f, err := files.Append(name, 0o644)
	if err != nil {
		return nil, err
	}
	l := &Ledger{f: f, name: name, open: files.Open, lost: lost, next: newCommit(), work: make(chan struct{}, 1), ended: make(chan struct{})}
	if err := l.cutTorn(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	go l.run()
	return l, nil
}

func newCommit() *Commit { return &Commit{done: make(chan struct{})} }

// cutTorn removes what follows the last whole line.
func (l *Ledger) cutTorn() error {
	info, err := l.f.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, 64<<10)
	end := info.Size()
	for end > 0 {
		n := min(end, int64(len(b)))
		if _, err := l.f.ReadAt(b[:n], end-n); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if i := bytes.LastIndexByte(b[:n], '\n'); i >= 0 {
			end = end - n + int64(i) + 1
			break
		}
		end -= n
	}
	l.good = end
	if end == info.Size() {
		return nil
	}
	return l.f.Truncate(end)
}

// Replay hands every line that is on disk to each, and makes the ledger take lines again.
func (l *Ledger) Replay(each func(line []byte) error) error {
	l.mu.Lock()
	size := l.good
	l.mu.Unlock()
	r := io.NewSectionReader(l.f, 0, size)
	var rest []byte
	b := make([]byte, 256<<10)
	for n := 1; ; n++ {
		k, err := r.Read(b)
		rest = append(rest, b[:k]...)
		for {
			i := bytes.IndexByte(rest, '\n')
			if i < 0 {
				break
			}
			if err := each(rest[:i]); err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			rest = rest[i+1:]
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.broken = false
	l.mu.Unlock()
	return nil
}

// Append puts a line, which ends with a newline, after those appended before it. The caller holds the
// lock under which it decided on the line, and waits for the Commit without it.
func (l *Ledger) Append(line []byte) *Commit {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.broken {
		c := newCommit()
		c.err = errLost
		close(c.done)
		return c
	}
	l.buf = append(l.buf, line...)
	c := l.next
	select {
	case l.work <- struct{}{}:
	default: // the writer has been told
	}
	return c
}

// WriteTo copies what is on disk to w.
func (l *Ledger) WriteTo(w io.Writer) (int64, error) {
	l.mu.Lock()
	size := l.good
	l.mu.Unlock()
	f, err := l.open(l.name)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(w, io.LimitReader(f, size))
	return n, errors.Join(err, f.Close())
}

// run writes and syncs until Close.
func (l *Ledger) run() {
	defer close(l.ended)
	for range l.work {
		l.mu.Lock()
		lines, c := l.buf, l.next
		l.buf, l.next = nil, newCommit()
		l.mu.Unlock()
		if len(lines) == 0 {
			continue
		}
		if _, err := l.f.Write(lines); err == nil {
			err = l.f.Sync()
			if err == nil {
				l.mu.Lock()
				l.good += int64(len(lines))
				l.mu.Unlock()
				close(c.done)
				continue
			}
		}
		l.fail(c)
	}
}

// fail undoes a write that failed, and everything that was decided after it.
func (l *Ledger) fail(c *Commit) {
	l.mu.Lock()
	l.broken = true
	later := l.next
	l.buf, l.next = nil, newCommit()
	good := l.good
	l.mu.Unlock()
	err := l.f.Truncate(good)
	for _, lost := range []*Commit{c, later} {
		lost.err = errors.Join(errLost, err)
		close(lost.done)
	}
	l.lost()
}

// Close writes what is left and closes the file.
func (l *Ledger) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return fs.ErrClosed
	}
	l.closed = true
	close(l.work)
	l.mu.Unlock()
	<-l.ended
	return l.f.Close()
}
