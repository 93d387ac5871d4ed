package sqldb

import (
	"context"
	"database/sql"
	"time"

	"github.com/jackc/pgx/v5"

	"holdfast/shop"
)

// Tx is a transaction. It is valid while the function that got it runs, and for one goroutine.
type Tx struct {
	on       session
	begun    time.Time // by this process's clock
	readOnly bool
	rows     *sql.Rows // of the last query, perhaps still open
	err      error     // the first failure, then the end; nothing runs after it
	failure  error     // the first failure, once the transaction has ended
	after    []func()
}

// session runs statements for a Tx: a SQLite connection with its prepared statements, or a transaction on
// PostgreSQL.
type session interface {
	dialect() Dialect
	exec(ctx context.Context, query string, args []any) (sql.Result, error)
	query(ctx context.Context, query string, args []any) (*sql.Rows, error)
	now(ctx context.Context) (time.Time, error)
	// unavailable returns what is wrong with the database where err says so, else "".
	unavailable(err error) string
}

// Dialect tells the kind of the database.
func (tx *Tx) Dialect() Dialect { return tx.on.dialect() }

// Exec runs a statement and returns the number of rows that it changed.
func (tx *Tx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	if err := tx.ready(ctx); err != nil {
		return 0, err
	}
	if tx.readOnly {
		return 0, tx.fail(shop.E(shop.Internal, "sqldb", "a View or a Read wrote"))
	}
	res, err := tx.on.exec(ctx, query, args)
	if err != nil {
		return 0, tx.fail(err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, tx.fail(err)
	}
	return n, nil
}

// Query runs a query. Its rows must be read to the end or closed before the next statement; what is left
// open is closed at the end of the transaction.
func (tx *Tx) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := tx.ready(ctx); err != nil {
		return nil, err
	}
	rows, err := tx.on.query(ctx, query, args)
	if err != nil {
		return nil, tx.fail(err)
	}
	tx.rows = rows
	return rows, nil
}

// QueryReplanned is Query for lists of work, which are empty at one moment and long at the next: PostgreSQL makes a
// plan for the size that they have now. One that it keeps may be for an empty table, and reads every row and sorts.
func (tx *Tx) QueryReplanned(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if tx.Dialect() == Postgres {
		args = append([]any{pgx.QueryExecModeExec}, args...)
	}
	return tx.Query(ctx, query, args...)
}

// QueryRow runs a query of which the first row is wanted.
func (tx *Tx) QueryRow(ctx context.Context, query string, args ...any) *Row {
	rows, err := tx.Query(ctx, query, args...)
	return &Row{tx: tx, rows: rows, err: err}
}

// Row is the answer of QueryRow.
type Row struct {
	tx   *Tx
	rows *sql.Rows
	err  error
}

// Scan reads the row into dest. It is called once for each QueryRow. It returns ErrNoRows where there is
// no row; that does not end the transaction.
func (r *Row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return r.tx.fail(err)
		}
		return ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	if err := r.rows.Close(); err != nil {
		return r.tx.fail(err)
	}
	return nil
}

// AfterCommit registers fn to run once the transaction is durable, in the order of registration and before
// Update returns; after a View it does not run. It must not block and must not use the database.
func (tx *Tx) AfterCommit(fn func()) { tx.after = append(tx.after, fn) }

// Now returns the time by the clock that all users of the database share: PostgreSQL's own, as the transaction
// began, and on SQLite, which has one process, that of shop.Deps. It is UTC in microseconds.
func (tx *Tx) Now(ctx context.Context) (time.Time, error) {
	if err := tx.ready(ctx); err != nil {
		return time.Time{}, err
	}
	t, err := tx.on.now(ctx)
	if err != nil {
		return time.Time{}, tx.fail(err)
	}
	return t.UTC().Truncate(time.Microsecond), nil
}

// Begun returns the time by this process's clock before the transaction began, and so before that of Now. What lasts
// from Now on lasts at least as long from here.
func (tx *Tx) Begun() time.Time { return tx.begun }

// ready tells whether a statement may run.
func (tx *Tx) ready(ctx context.Context) error {
	if tx.err == nil && tx.rows != nil {
		if err := tx.rows.Err(); err != nil {
			return tx.fail(err)
		}
		// Columns is how database/sql tells whether rows are closed.
		if _, err := tx.rows.Columns(); err == nil {
			return tx.fail(shop.E(shop.Internal, "sqldb", "a statement was run before the rows of the one before it were closed"))
		}
		tx.rows = nil
	}
	if tx.err != nil {
		return tx.err
	}
	if err := ctx.Err(); err != nil {
		return tx.fail(err)
	}
	return nil
}

// fail remembers the first failure, which ends the transaction.
func (tx *Tx) fail(err error) error {
	err = classify(err, tx.on.unavailable, tx.readOnly)
	if tx.err == nil {
		tx.err = err
	}
	return err
}

// end closes what fn left open, forbids further use, and returns the outcome: fn's own error before the
// failure that fn did not report.
func (tx *Tx) end(err error) error {
	tx.closeRows()
	tx.failure, tx.err = tx.err, shop.E(shop.Internal, "sqldb", "a transaction was used after its end")
	if err != nil {
		return err
	}
	return tx.failure
}

// closeRows closes the rows that fn left open; their connection waits for it.
func (tx *Tx) closeRows() {
	if tx.rows == nil {
		return
	}
	err := tx.rows.Err()
	if e := tx.rows.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = tx.fail(err)
	}
	tx.rows = nil
}
