package sqldb

import (
	"fmt"
	"time"

	"holdfast/shop"
)

const (
	checkpointPages = 4000                   // SQLite copies the log back into the file at the commit that reaches this: 16 MB
	logKeepBytes    = 32 << 20               // the log's file is cut back to this when it is begun anew
	logHighBytes    = 64 << 20               // above this the writer waits for readers, so that the log can be begun anew
	logCheckEvery   = 32                     // groups between two looks at the log's size
	logWait         = 200 * time.Millisecond // how long the writer waits for readers
)

// logWatch keeps the write-ahead log from growing without limit. SQLite begins it anew only at a moment at
// which no reader needs it, and with readers that overlap there may never be one.
type logWatch struct {
	deps    shop.Deps
	path    string
	readers chan *conn // of the database: whoever holds all of them has no reader beside him
	held    []*conn
	file    shop.File
	turn    int
	size    int64
	limit   int64
}

func newLogWatch(path string, readers chan *conn, deps shop.Deps) logWatch {
	return logWatch{deps: deps, path: path + "-wal", readers: readers, limit: logHighBytes}
}

// look returns the log's size, and has it begun anew when it is above the limit. While a long reader
// prevents that, it is tried again after as much growth.
func (l *logWatch) look(c *conn) int64 {
	if l.turn++; l.turn%logCheckEvery != 0 {
		return l.size
	}
	l.size = l.stat()
	if l.size <= l.limit {
		return l.size
	}
	busy, err := true, error(nil)
	if l.stopReaders() {
		busy, err = restart(c)
	}
	l.letReaders()
	if err != nil || busy {
		l.limit = l.size + logHighBytes
		l.deps.Log.Warn("the write-ahead log cannot be cut back while a long read needs it", "bytes", l.size, "err", err)
		return l.size
	}
	l.limit = logHighBytes
	l.size = l.stat()
	return l.size
}

// stopReaders waits until no reader runs, with the next ones waiting, but not for long.
func (l *logWatch) stopReaders() bool {
	late, stop := l.deps.Clock.Timer(logWait)
	defer stop()
	for len(l.held) < cap(l.readers) {
		select {
		case c := <-l.readers:
			l.held = append(l.held, c)
		case <-late:
			return false
		}
	}
	return true
}

func (l *logWatch) letReaders() {
	for _, c := range l.held {
		l.readers <- c
	}
	clear(l.held)
	l.held = l.held[:0]
}

// restart copies the log into the file and cuts it, unless another process reads.
func restart(c *conn) (busy bool, err error) {
	var pages, copied, ms int
	if err := c.scalar("PRAGMA busy_timeout = 0", &ms); err != nil {
		return false, err
	}
	err = c.scalar("PRAGMA wal_checkpoint(TRUNCATE)", &busy, &pages, &copied)
	if e := c.scalar(fmt.Sprintf("PRAGMA busy_timeout = %d", busyTimeout.Milliseconds()), &ms); err == nil {
		err = e
	}
	return busy, err
}

func (l *logWatch) stat() int64 {
	if l.file == nil {
		f, err := l.deps.Files.Open(l.path)
		if err != nil {
			return 0
		}
		l.file = f
	}
	info, err := l.file.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

func (l *logWatch) close() {
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
}
