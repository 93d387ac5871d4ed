package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Log writes a history. Lines of all clients are written and synced together, as many as have come while the
// disk was busy.
type Log struct {
	file  *os.File
	began time.Time
	kick  chan struct{}
	done  chan struct{}

	mu    sync.Mutex
	ops   int
	lines []byte
	saved chan struct{} // closed once lines are on disk
	ended bool
	err   error
}

// Create begins a history in a file that must not be there yet.
func Create(path string, head Head) (*Log, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("a history is never written over: %w", err)
	}
	head.Version = 1
	l := &Log{file: f, began: time.Now(), kick: make(chan struct{}, 1), done: make(chan struct{}), saved: make(chan struct{})}
	go l.commit()
	return l, l.write(Line{Kind: Begin, Head: &head}, true)
}

// Invoke has an operation on disk before it returns, and returns its number. Only then may the request go out.
func (l *Log) Invoke(r Request) (int, error) {
	l.mu.Lock()
	l.ops++
	op := l.ops
	l.mu.Unlock()
	return op, l.write(Line{Kind: Invoke, Op: op, Request: &r}, true)
}

// Count returns how many operations were begun, and how long ago the history was.
func (l *Log) Count() (operations int, lasted time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ops, time.Since(l.began)
}

// Answer notes what came of an operation.
func (l *Log) Answer(op int, outcome Kind, a Answer) error {
	return l.write(Line{Kind: outcome, Op: op, Answer: &a}, false)
}

// Close ends the file. whole says that the workload was carried out.
func (l *Log) Close(whole bool) error {
	if whole {
		if err := l.write(Line{Kind: End}, false); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.wake()
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.err, os.ErrClosed) {
		return nil
	}
	return l.err
}

// write adds a line, stamped now, and waits for the disk if asked to.
func (l *Log) write(line Line, wait bool) error {
	l.mu.Lock()
	now := time.Now()
	line.At, line.Wall = now.Sub(l.began), now.UTC()
	b, err := json.Marshal(line)
	if err == nil {
		err = l.err
	}
	if err != nil {
		l.mu.Unlock()
		return err
	}
	l.lines = append(append(l.lines, b...), '\n')
	saved := l.saved
	l.mu.Unlock()
	l.wake()
	if !wait {
		return nil
	}
	<-saved
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *Log) wake() {
	select {
	case l.kick <- struct{}{}:
	default: // it has been told
	}
}

// commit brings lines to disk until the log is closed or the disk fails.
func (l *Log) commit() {
	defer close(l.done)
	for range l.kick {
		l.mu.Lock()
		lines, saved, ended := l.lines, l.saved, l.ended
		l.lines, l.saved = nil, make(chan struct{})
		l.mu.Unlock()
		_, err := l.file.Write(lines)
		if err == nil {
			err = l.file.Sync()
		}
		if ended && err == nil {
			if err = l.file.Close(); err == nil {
				err = os.ErrClosed // for who comes later
			}
		}
		l.mu.Lock()
		if l.err = err; err != nil {
			close(l.saved)
		}
		l.mu.Unlock()
		close(saved)
		if err != nil {
			return
		}
	}
}
