package sqldb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"holdfast/shop"
)

const (
	dirMode  = 0o700 // orders hold addresses: nobody else's business
	fileMode = 0o600

	busyTimeout   = 5 * time.Second
	writerCacheKB = 8 << 10
	readerCacheKB = 1 << 10
)

// sqliteDB is a SQLite file: one writer and a few readers.
type sqliteDB struct {
	path    string
	driver  Connector
	deps    shop.Deps
	writeDB *sql.DB
	readDB  *sql.DB
	writer  *writer
	readers chan *conn // the idle ones; nil where one is not connected yet, or no longer
	closed  chan struct{}
	once    sync.Once
	err     error // of the close
}

func openSQLite(ctx context.Context, cfg Config, deps shop.Deps) (*sqliteDB, error) {
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", cfg.Path, err)
	}
	if err := makeFile(path, deps.Files); err != nil {
		return nil, openError(path, err)
	}
	n := cfg.MaxConns
	if n == 0 {
		n = sqliteReaders
	}
	db := &sqliteDB{path: path, driver: cfg.SQLite, deps: deps, readers: make(chan *conn, n), closed: make(chan struct{})}
	if db.writeDB, err = openFile(cfg.SQLite, path, writerPragmas()); err != nil {
		return nil, openError(path, err)
	}
	if db.readDB, err = openFile(cfg.SQLite, path, readerPragmas()); err != nil {
		_ = db.writeDB.Close()
		return nil, openError(path, err)
	}
	first, err := connect(ctx, db.writeDB, deps.Clock)
	if err == nil {
		err = checkWriter(ctx, first)
	}
	if err != nil {
		_ = db.readDB.Close()
		_ = db.writeDB.Close()
		return nil, openError(path, err)
	}
	for range n {
		db.readers <- nil
	}
	db.writer = startWriter(first, db)
	return db, nil
}

// makeFile makes the file, so that it is readable by its owner only; SQLite gives its companions the same
// mode. It does not touch a file that is there: opening and closing it would drop the locks that another
// connection of this process holds on it.
func makeFile(path string, files shop.Files) error {
	dir := filepath.Dir(path)
	if err := files.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	entries, err := files.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == filepath.Base(path) {
			return nil
		}
	}
	f, err := files.Append(path, fileMode)
	if err != nil {
		return err
	}
	return f.Close()
}

func openFile(connector Connector, path string, pragmas []string) (*sql.DB, error) {
	q := url.Values{"_pragma": pragmas, "_txlock": {"immediate"}} // goose begins transactions by itself
	c, err := connector("file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode())
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	db.SetMaxIdleConns(-1) // conn is the pool; what it gives back is to be closed
	return db, nil
}

// writerPragmas: synchronous=FULL syncs the log at every commit, which is what an acknowledgement rests on.
// Memory-mapped reads stay off, since a failing disk would then end the process with SIGBUS.
func writerPragmas() []string {
	return []string{
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"foreign_keys(1)",
		"temp_store(MEMORY)",
		"mmap_size(0)",
		fmt.Sprintf("cache_size(-%d)", writerCacheKB),
		fmt.Sprintf("wal_autocheckpoint(%d)", checkpointPages),
		fmt.Sprintf("journal_size_limit(%d)", logKeepBytes),
	}
}

func readerPragmas() []string {
	return []string{
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		"synchronous(FULL)",
		"temp_store(MEMORY)",
		"mmap_size(0)",
		fmt.Sprintf("cache_size(-%d)", readerCacheKB),
		"query_only(1)",
	}
}

// checkWriter makes sure that the promises hold on this file system, and that the file is a database.
func checkWriter(ctx context.Context, c *conn) error {
	var mode string
	var sync, tables int
	if err := c.scalar("PRAGMA journal_mode", &mode); err != nil {
		return err
	}
	if err := c.scalar("PRAGMA synchronous", &sync); err != nil {
		return err
	}
	if mode != "wal" || sync != 2 {
		return fmt.Errorf("journal_mode is %s and synchronous %d instead of wal and 2: its file system does not support a write-ahead log, use a local disk", mode, sync)
	}
	if err := c.scalar("SELECT count(*) FROM sqlite_schema", &tables); err != nil {
		return err
	}
	// Whether the file may be written shows only when it is.
	if err := c.run(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	return c.run(ctx, "COMMIT")
}

func (db *sqliteDB) dialect() Dialect { return SQLite }

func (db *sqliteDB) update(ctx context.Context, fn func(context.Context, *Tx) error) error {
	return db.writer.do(ctx, fn)
}

func (db *sqliteDB) read(ctx context.Context, fn func(context.Context, *Tx) error) error {
	return db.view(ctx, fn)
}

func (db *sqliteDB) view(ctx context.Context, fn func(context.Context, *Tx) error) error {
	var c *conn
	select {
	case c = <-db.readers:
	case <-ctx.Done():
		return ctx.Err()
	case <-db.closed:
		return shop.E(shop.Unavailable, "sqldb", msgClosed)
	}
	tx := &Tx{begun: db.deps.Clock.Now(), readOnly: true}
	broken := true // until shown otherwise: fn may panic
	defer func() {
		if broken && c != nil {
			tx.closeRows()
			c.close()
			c = nil
		}
		db.readers <- c
	}()
	if c == nil {
		var err error
		if c, err = connect(ctx, db.readDB, db.deps.Clock); err != nil {
			return classify(err, sqliteUnavailable, true)
		}
	}
	if err := c.run(ctx, "BEGIN"); err != nil {
		return classify(err, sqliteUnavailable, true)
	}
	tx.on = c
	err := tx.end(fn(ctx, tx))
	if e := c.run(ctx, "ROLLBACK"); e != nil {
		return cmp.Or(err, classify(e, sqliteUnavailable, true))
	}
	broken = false
	return err
}

func (db *sqliteDB) ping(ctx context.Context) error {
	return db.view(ctx, func(ctx context.Context, tx *Tx) error {
		var n int
		return tx.QueryRow(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&n)
	})
}

func (db *sqliteDB) stats() Stats { return db.writer.stats() }

func (db *sqliteDB) close() error {
	db.once.Do(func() {
		close(db.closed)
		db.writer.close() // first, since it may be holding readers
		for range cap(db.readers) {
			if c := <-db.readers; c != nil {
				c.close()
			}
		}
		db.err = errors.Join(db.readDB.Close(), db.writeDB.Close())
	})
	return db.err
}
