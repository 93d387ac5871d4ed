package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/schema"
	_ "modernc.org/sqlite" // the same driver that the server uses
)

// openSQLite opens, or makes, the file in a directory and keeps every other temporald out of it.
func openSQLite(ctx context.Context, s settings) (*store, error) {
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	release, err := lock(filepath.Join(s.data, "lock"))
	if err != nil {
		return nil, err
	}
	file := filepath.Join(s.data, "temporal.db")
	if err := makeTables(ctx, file); err != nil {
		release()
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	cfg := &config.SQL{
		PluginName:   sqlite.PluginName,
		DatabaseName: file,
		// One connection: with more, writers find the file locked and give up. FULL: what has been
		// acknowledged survives the death of the machine as well.
		MaxConns: 1, MaxIdleConns: 1,
		ConnectAttributes: map[string]string{"mode": "rw", "journal_mode": "wal", "synchronous": "full", "busy_timeout": "10000"},
	}
	one := config.DataStore{SQL: cfg}
	return &store{release: release, persistence: config.Persistence{
		DefaultStore: mainStore, VisibilityStore: visibilityStore,
		NumHistoryShards: 1, // more would queue for the one connection all the same
		DataStores:       map[string]config.DataStore{mainStore: one, visibilityStore: one},
	}}, nil
}

// lock takes a lock that the kernel frees when this process ends, however it does.
func lock(name string) (release func(), err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("--data=%s: another temporald runs on it", filepath.Dir(name))
	}
	return func() { _ = f.Close() }, nil
}

// makeTables makes the tables in an empty file, in one transaction: a half-made file would be refused for
// ever. user_version says which tables they are.
func makeTables(ctx context.Context, file string) (err error) {
	script, version, err := tables()
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	var found int32
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&found); err != nil {
		return err
	}
	switch found {
	case version:
		return nil
	case 0:
	default:
		return errors.New("it was made by a temporald with other tables; end its workflows with that one, and start this one on an empty directory")
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // of nothing once it is committed
	if _, err := tx.ExecContext(ctx, script); err != nil {
		return err
	}
	if err := slim(ctx, tx); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version)); err != nil {
		return err
	}
	return tx.Commit()
}

// tables returns the server's own script, and a number for it that is not 0.
func tables() (script string, version int32, err error) {
	var b strings.Builder
	for _, name := range []string{"sqlite/v3/temporal/schema.sql", "sqlite/v3/visibility/schema.sql"} {
		text, err := fs.ReadFile(schema.Assets(), name)
		if err != nil {
			return "", 0, err
		}
		b.Write(text)
		b.WriteByte('\n')
	}
	return b.String(), int32(crc32.ChecksumIEEE([]byte(b.String()))>>1) | 1, nil
}

// kept are the indexes for what people ask: the newest, by id, by type, by status.
var kept = []string{"default_idx", "by_workflow_id", "by_workflow_type", "by_status"}

// slim takes away what makes a row that shows a workflow dear to write and is for search attributes that
// nobody has here: some sixty indexes, and the full-text tables with their triggers. slimPostgres does so on PostgreSQL.
func slim(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, `SELECT type, name FROM sqlite_master
		WHERE tbl_name = 'executions_visibility' AND type IN ('index', 'trigger') AND sql IS NOT NULL
		OR name IN ('executions_visibility_fts_text', 'executions_visibility_fts_keyword_list')`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var drops []string
	for rows.Next() {
		var kind, name string
		if err := rows.Scan(&kind, &name); err != nil {
			return err
		}
		if !slices.Contains(kept, name) {
			drops = append(drops, fmt.Sprintf("DROP %s %s", kind, name))
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, drop := range drops {
		if _, err := tx.ExecContext(ctx, drop); err != nil {
			return fmt.Errorf("%s: %w", drop, err)
		}
	}
	return nil
}
