package party

import "fmt"

// batch is what one write and one sync put on disk.
type batch struct {
	buf  []byte
	done chan struct{} // closed when the batch is on disk or has failed
	base int64         // its place, once done
	err  error
}

func newBatch(buf []byte) *batch { return &batch{buf: buf[:0], done: make(chan struct{})} }

func (t *batch) end(base int64, err error) {
	t.base, t.err, t.buf = base, err, nil
	close(t.done)
}

// write adds lines to the open batch and waits for it.
func (l *Ledger) write(add func(*batch) int) (int64, error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return 0, ErrClosed
	}
	t := l.open
	at := add(t)
	l.mu.Unlock()
	if err := l.commit(t); err != nil {
		return 0, err
	}
	return t.base + int64(at), nil
}

// commit returns once t is on disk or has failed. One of those who wait leads and writes for all; while
// it does, the next ones gather in the next batch.
func (l *Ledger) commit(t *batch) error {
	select {
	case <-t.done:
		return t.err
	case l.lead <- struct{}{}:
	}
	defer func() { <-l.lead }()
	select {
	case <-t.done:
		return t.err
	default: // only a leader takes the open batch, and ends it; so t is still open
	}
	l.gather()
	l.flush()
	return t.err
}

// gather lets the time between two syncs pass: a sync costs more than everything else here.
func (l *Ledger) gather() {
	rest := l.every - l.clock.Now().Sub(l.synced)
	if l.synced.IsZero() || rest <= 0 {
		return
	}
	c, stop := l.clock.Timer(min(rest, l.every))
	defer stop()
	<-c
}

// flush puts the open batch on disk. Where that fails the file stays as it was, and so do the numbers:
// the lines that came in meanwhile carry numbers that follow the lost ones, so they fail as well.
func (l *Ledger) flush() {
	l.mu.Lock()
	t, base, last := l.open, l.size, l.next-1
	l.open = newBatch(l.spare)
	l.mu.Unlock()

	err := l.put(t.buf, base)
	l.spare = nil
	if cap(t.buf) <= maxSpare {
		l.spare = t.buf
	}
	l.synced = l.clock.Now()

	l.mu.Lock()
	behind := l.open
	if err == nil {
		l.size, l.last = base+int64(len(t.buf)), last
	} else {
		l.next, l.open = l.last+1, newBatch(nil)
	}
	l.mu.Unlock()
	t.end(base, err)
	if err != nil {
		behind.end(0, err)
	}
}

// put writes p at the end of the file, which is at base.
func (l *Ledger) put(p []byte, base int64) error {
	if l.garbage {
		if err := l.file.Truncate(base); err != nil {
			return fmt.Errorf("write the ledger: clear a failed write: %w", err)
		}
		l.garbage = false
	}
	_, err := l.file.Write(p)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		l.garbage = l.file.Truncate(base) != nil
		return fmt.Errorf("write the ledger: %w", err)
	}
	return nil
}
