package audit

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib" // stores are read by SQL of our own

	"holdfast/shop"
)

// The services that have a store.
const (
	orderStore     = "order"
	inventoryStore = "inventory"
	paymentStore   = "payment"
	shippingStore  = "shipping"
	sagaStore      = "saga" // only where there is, or was, a Temporal
)

// services are in the order in which stores are read again: who heard of something before who said it. What a
// store has heard must then be found where it was said, however much goes on meanwhile.
var services = []string{orderStore, shippingStore, paymentStore, inventoryStore}

// store is a service's database, read only.
type store struct {
	service  string
	postgres bool
	db       *sql.DB
}

// cacheKB is the page cache of a connection to SQLite.
const cacheKB = 16 << 10

func openStores(ctx context.Context, cfg Config) (map[string]*store, error) {
	stores := map[string]*store{}
	for _, service := range services {
		s, err := openStore(ctx, cfg, service)
		if err != nil {
			closeStores(stores)
			return nil, shop.Wrap(shop.Unavailable, "audit", "the store of "+service+" cannot be read; is this the data directory, or the address, of a Holdfast?", err)
		}
		stores[service] = s
	}
	s, err := openStore(ctx, cfg, sagaStore)
	switch {
	case err == nil:
		stores[sagaStore] = s
	case !absent(err):
		closeStores(stores)
		return nil, shop.Wrap(shop.Unavailable, "audit", "the store of saga is there and cannot be read", err)
	}
	return stores, nil
}

// Reachable tells whether the stores of all services can be read.
func Reachable(ctx context.Context, cfg Config) error {
	stores, err := openStores(ctx, cfg)
	closeStores(stores)
	return err
}

// absent tells whether a store is not there, or was never used.
func absent(err error) bool {
	const noDatabase, noTable = "3D000", "42P01"
	var pg *pgconn.PgError
	return errors.Is(err, os.ErrNotExist) || errors.As(err, &pg) && (pg.Code == noDatabase || pg.Code == noTable)
}

func closeStores(stores map[string]*store) {
	for _, s := range stores {
		_ = s.db.Close() // nothing was written
	}
}

func openStore(ctx context.Context, cfg Config, service string) (*store, error) {
	s := &store{service: service, postgres: cfg.DSN != ""}
	var err error
	if s.postgres {
		s.db, err = openDatabase(strings.ReplaceAll(cfg.DSN, "{service}", service), cfg.Password)
	} else {
		s.db, err = openFile(filepath.Join(cfg.Data, service+".db"))
	}
	if err != nil {
		return nil, err
	}
	s.db.SetMaxOpenConns(1)
	err = s.view(ctx, func(ctx context.Context, v *view) error {
		var n int64
		return v.row(ctx, &n, `SELECT count(*) FROM outbox_slots`)
	})
	if err != nil {
		_ = s.db.Close()
		return nil, err
	}
	return s, nil
}

func openDatabase(dsn, password string) (*sql.DB, error) {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	c.Password = cmp.Or(password, c.Password)
	return stdlib.OpenDB(*c), nil
}

// openFile opens a SQLite file that is there, with the driver of a program that links embedded/sqlite. Nothing of it is opened but by SQLite: closing a descriptor of
// the file would drop the locks that this process may hold on it.
func openFile(path string) (*sql.DB, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	q := url.Values{"mode": {"ro"}, "_pragma": {"query_only(1)", "busy_timeout(5000)", "mmap_size(0)", fmt.Sprintf("cache_size(-%d)", cacheKB)}}
	return sql.Open("sqlite", "file:"+(&url.URL{Path: abs}).EscapedPath()+"?"+q.Encode())
}

// view is a consistent snapshot of a store. It is short wherever there may be much: a long one keeps SQLite's
// log from being cut back, and PostgreSQL's dead rows from being removed.
type view struct {
	conn     *sql.Conn
	postgres bool
}

func (s *store) view(ctx context.Context, fn func(context.Context, *view) error) (err error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	begin := "BEGIN"
	if s.postgres {
		begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if _, err := conn.ExecContext(ctx, begin); err != nil {
		return err
	}
	defer func() {
		_, e := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		err = errors.Join(err, e)
	}()
	return fn(ctx, &view{conn, s.postgres})
}

// query runs a statement written with ? and calls scan for each row.
func (v *view) query(ctx context.Context, query string, args []any, scan func(*sql.Rows) error) error {
	rows, err := v.conn.QueryContext(ctx, v.text(query), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (v *view) row(ctx context.Context, into any, query string, args ...any) error {
	return v.conn.QueryRowContext(ctx, v.text(query), args...).Scan(into)
}

// text numbers the placeholders for PostgreSQL.
func (v *view) text(query string) string {
	if !v.postgres {
		return query
	}
	var b strings.Builder
	n := 0
	for part := range strings.SplitSeq(query, "?") {
		if n > 0 {
			b.WriteString("$" + strconv.Itoa(n))
		}
		b.WriteString(part)
		n++
	}
	return b.String()
}

// which selects rows by a column: those of ids, or where there are none those after from and up to and with
// to. An empty to is the end.
type which struct {
	ids      []string
	from, to string
}

func (w which) where(column string) (clause string, args []any) {
	if w.ids != nil {
		args = make([]any, len(w.ids))
		for i, id := range w.ids {
			args[i] = id
		}
		return column + ` IN (` + strings.TrimSuffix(strings.Repeat("?,", len(w.ids)), ",") + `)`, args
	}
	if w.to == "" {
		return column + ` > ?`, []any{w.from}
	}
	return column + ` > ? AND ` + column + ` <= ?`, []any{w.from, w.to}
}
