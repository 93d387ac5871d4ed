package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"holdfast/shop"
)

// A connection keeps its latest statements prepared. Lists of every length make many texts and long ones,
// so both their number and their length are bounded; what is longer is prepared each time.
const (
	maxPrepared      = 128
	maxPreparedText  = 16 << 10
	maxPreparedTexts = 256 << 10
)

// conn is one connection to a SQLite file with its prepared statements, for one user at a time.
type conn struct {
	c     *sql.Conn
	clock shop.Clock
	known map[string]*prepared
	text  int    // bytes of SQL in known
	tick  uint64 // counts uses
}

type prepared struct {
	stmt *sql.Stmt
	args int
	used uint64
}

func connect(ctx context.Context, db *sql.DB, clock shop.Clock) (*conn, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{c: c, clock: clock, known: make(map[string]*prepared)}, nil
}

func (c *conn) close() {
	for _, p := range c.known {
		_ = p.stmt.Close()
	}
	_ = c.c.Close()
}

func (c *conn) dialect() Dialect { return SQLite }

func (c *conn) now(context.Context) (time.Time, error) { return c.clock.Now(), nil }

// exec and query keep ctx's end from the driver, which would start goroutines for each statement to watch
// for it; Tx looks at ctx between statements.
func (c *conn) exec(ctx context.Context, query string, args []any) (sql.Result, error) {
	ctx = context.WithoutCancel(ctx)
	stmt, text, err := c.prepare(ctx, query, len(args))
	switch {
	case err != nil:
		return nil, err
	case stmt == nil:
		return c.c.ExecContext(ctx, text, args...)
	default:
		return stmt.ExecContext(ctx, args...)
	}
}

func (c *conn) query(ctx context.Context, query string, args []any) (*sql.Rows, error) {
	ctx = context.WithoutCancel(ctx)
	stmt, text, err := c.prepare(ctx, query, len(args))
	switch {
	case err != nil:
		return nil, err
	case stmt == nil:
		return c.c.QueryContext(ctx, text, args...)
	default:
		return stmt.QueryContext(ctx, args...)
	}
}

// run executes a statement of the layer itself, even when ctx has ended.
func (c *conn) run(ctx context.Context, query string) error {
	_, err := c.exec(ctx, query, nil)
	return err
}

// scalar reads one number, as a PRAGMA gives it, past the prepared statements.
func (c *conn) scalar(query string, dest ...any) error {
	return c.c.QueryRowContext(context.Background(), query).Scan(dest...)
}

// unavailable implements session.
func (c *conn) unavailable(err error) string { return sqliteUnavailable(err) }

// prepare returns the prepared statement for query, or, where the query is too long to be kept, its text.
// Statements are forgotten here, so no rows may be open.
func (c *conn) prepare(ctx context.Context, query string, args int) (stmt *sql.Stmt, text string, err error) {
	c.tick++
	p := c.known[query]
	if p == nil {
		text = unlocked(query)
		n := placeholders(text)
		if len(query) > maxPreparedText {
			return nil, text, checkArgs(n, args)
		}
		stmt, err := c.c.PrepareContext(ctx, text)
		if err != nil {
			return nil, "", err
		}
		p = &prepared{stmt: stmt, args: n}
		c.remember(query, p)
	}
	p.used = c.tick
	return p.stmt, "", checkArgs(p.args, args)
}

// checkArgs does what the driver does not: it passes over arguments that are too many.
func checkArgs(want, have int) error {
	if want != have {
		return fmt.Errorf("the statement has %d placeholders and %d arguments", want, have)
	}
	return nil
}

// remember keeps p and forgets those that have not been used for longest.
func (c *conn) remember(query string, p *prepared) {
	for len(c.known) > 0 && (len(c.known) >= maxPrepared || c.text+len(query) > maxPreparedTexts) {
		var oldest string
		first := true
		for q, k := range c.known {
			if first || k.used < c.known[oldest].used {
				oldest, first = q, false
			}
		}
		_ = c.known[oldest].stmt.Close()
		delete(c.known, oldest)
		c.text -= len(oldest)
	}
	c.known[query] = p
	c.text += len(query)
}
