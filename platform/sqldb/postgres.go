package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"holdfast/shop"
)

const (
	minPostgres     = 150000 // 15: the oldest version that is tested
	connectTime     = 5 * time.Second
	commitTime      = 5 * time.Second
	rollbackTime    = time.Second
	idleLimit       = 5 * time.Second  // in a transaction
	connLifetime    = 30 * time.Minute // so that connections spread again after a failover
	maxPGStatements = 128              // prepared on each connection; lists of every length make many texts

	maxAttempts = 8
	firstDelay  = 2 * time.Millisecond // doubled for each attempt, with full jitter
	maxDelay    = 200 * time.Millisecond
)

// postgresDB is a PostgreSQL database.
type postgresDB struct {
	db     *sql.DB
	conns  int
	config *pgx.ConnConfig
	deps   shop.Deps
	texts  rebinder

	closed                         atomic.Bool
	transactions, commits, retries atomic.Int64
}

func openPostgres(ctx context.Context, cfg Config, deps shop.Deps) (*postgresDB, error) {
	config, err := pgx.ParseConfig(cfg.DSN)
	if err != nil {
		// pgx hides the password of an address that it could parse, and only then.
		return nil, errors.New("the address of the PostgreSQL database is not valid: use postgres://user:password@host:port/name")
	}
	if cfg.Password != "" {
		config.Password = cfg.Password
	}
	config.DialFunc = deps.Net.DialContext
	lookup := config.LookupFunc
	config.LookupFunc = func(ctx context.Context, host string) ([]string, error) { // which ConnectTimeout does not bound
		ctx, cancel := context.WithTimeout(ctx, config.ConnectTimeout)
		defer cancel()
		return lookup(ctx, host)
	}
	config.StatementCacheCapacity = maxPGStatements
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTime
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "holdfast"
	}
	db := &postgresDB{config: config, deps: deps, db: stdlib.OpenDB(*config, stdlib.OptionAfterConnect(setUp))}
	n := cfg.MaxConns
	if n == 0 {
		n = postgresConns
	}
	db.conns = n
	db.db.SetMaxOpenConns(n)
	db.db.SetMaxIdleConns(n)
	db.db.SetConnMaxLifetime(connLifetime)
	if err := db.check(ctx); err != nil {
		_ = db.db.Close()
		return nil, err
	}
	return db, nil
}

// setUp has the server end a session that leaves it in the middle of a transaction: a process that hangs, or a link that
// is gone, would otherwise keep its locks from all others. And it has it use the indexes that our statements are made
// for, also where a table was empty when a statement was planned, or when the server looked at it last: read through
// from end to end, one of 30,000 rows took 150 ms for each batch. A statement that has to be read through is dear then by
// its plan, which is what has it compiled: never, since that takes longer than any of ours.
func setUp(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, "SET idle_in_transaction_session_timeout = "+strconv.FormatInt(idleLimit.Milliseconds(), 10)+"; SET enable_seqscan = off; SET jit = off")
	return err
}

// check makes sure that the server is one on which the promises hold.
func (db *postgresDB) check(ctx context.Context) error {
	where := fmt.Sprintf("PostgreSQL database %s at %s:%d", db.config.Database, db.config.Host, db.config.Port)
	var version int
	var encoding, commit, fsync string
	err := db.db.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
		current_setting('synchronous_commit'), current_setting('fsync')`).Scan(&version, &encoding, &commit, &fsync)
	if err != nil {
		if sqlState(err) == "3D000" {
			return fmt.Errorf("%s does not exist: create it: %w", where, err)
		}
		if isContext(err) {
			return shop.Wrap(shop.Unavailable, "sqldb.Open", where+" did not answer in time", err)
		}
		return shop.Wrap(shop.Unavailable, "sqldb.Open", where+" "+whyNot(db.config.User, err), err)
	}
	if version < minPostgres {
		return fmt.Errorf("%s is of version %d: version %d or newer is needed", where, version/10000, minPostgres/10000)
	}
	if encoding != "UTF8" {
		return fmt.Errorf("%s is encoded in %s: create it with ENCODING 'UTF8'", where, encoding)
	}
	if commit == "off" || fsync == "off" {
		db.deps.Log.Warn("the database may lose transactions that it has confirmed", "synchronous_commit", commit, "fsync", fsync)
	}
	return nil
}

// whyNot says what to do about a server that does not let us in.
func whyNot(user string, err error) string {
	var dial *net.OpError
	switch state := sqlState(err); {
	case state == "28P01" || state == "28000":
		return fmt.Sprintf("does not let user %s in: check the user and the password in store.dsn (or secrets.store_password)", user)
	case state == "42501":
		return fmt.Sprintf("does not allow user %s what is needed: give it the rights of the database's owner", user)
	case state == "53300":
		return "has no connection left: raise its max_connections, or lower store.max_conns"
	case errors.As(err, &dial) && dial.Op == "dial":
		return "cannot be reached: is the address in store.dsn right, and does it run?"
	case strings.Contains(err.Error(), "server refused TLS"):
		return "does not speak TLS: add sslmode=disable to store.dsn where that is safe"
	case strings.Contains(err.Error(), "certificate"):
		return "has a certificate that is not to be trusted: check sslmode and sslrootcert in store.dsn, and the certificate's time"
	default:
		return "cannot be used"
	}
}

func (db *postgresDB) dialect() Dialect { return Postgres }

// update runs fn at READ COMMITTED, PostgreSQL's default: statements lock the rows that they change, and a
// stricter level would only turn waiting for them into failing.
func (db *postgresDB) update(ctx context.Context, fn func(context.Context, *Tx) error) error {
	db.transactions.Add(1)
	for attempt := 1; ; attempt++ {
		again, err := db.once(ctx, false, fn)
		if err == nil {
			db.commits.Add(1)
			return nil
		}
		if !again || attempt == maxAttempts {
			return err
		}
		db.retries.Add(1)
		delay := min(firstDelay<<(attempt-1), maxDelay)
		if e := db.deps.Clock.Sleep(ctx, time.Duration(db.deps.Rand.Float64()*float64(delay))); e != nil {
			return e
		}
	}
}

func (db *postgresDB) view(ctx context.Context, fn func(context.Context, *Tx) error) error {
	_, err := db.once(ctx, true, fn)
	return err
}

// once runs fn in one transaction. It tells whether the database asks for the transaction to be run again.
func (db *postgresDB) once(ctx context.Context, readOnly bool, fn func(context.Context, *Tx) error) (again bool, err error) {
	how := "BEGIN ISOLATION LEVEL READ COMMITTED"
	if readOnly {
		how = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	}
	begun := db.deps.Clock.Now()
	c, now, err := db.begin(ctx, how)
	if err != nil {
		return false, classify(err, postgresUnavailable, readOnly)
	}
	defer c.Close()
	tx := &Tx{on: &postgresTx{c: c, texts: &db.texts, began: now}, begun: begun, readOnly: readOnly}
	ended := false
	defer func() {
		if !ended { // fn failed, or panicked, or ended its goroutine
			tx.closeRows()
			rollback(ctx, c)
		}
	}()
	if err := tx.end(fn(ctx, tx)); err != nil {
		return retriable(tx.failure), err
	}
	ended = true
	if err := commit(ctx, c); err != nil {
		return retriable(err), err
	}
	if !readOnly {
		runAfter(tx.after, db.deps)
	}
	return false, nil
}

func retriable(err error) bool {
	state := sqlState(err)
	return state == "40001" || state == "40P01"
}

// read runs fn on a connection without a transaction.
func (db *postgresDB) read(ctx context.Context, fn func(context.Context, *Tx) error) error {
	for dead := 0; ; dead++ {
		c, err := db.conn(ctx)
		if err != nil {
			return classify(err, postgresUnavailable, true)
		}
		err = db.readOn(ctx, c, fn)
		if !db.died(ctx, err, dead) {
			return err
		}
	}
}

func (db *postgresDB) readOn(ctx context.Context, c *sql.Conn, fn func(context.Context, *Tx) error) error {
	defer c.Close()
	tx := &Tx{on: &postgresTx{c: c, texts: &db.texts}, begun: db.deps.Clock.Now(), readOnly: true}
	defer tx.closeRows() // fn may panic
	return tx.end(fn(ctx, tx))
}

// begin begins a transaction and tells when that was. A connection that has died in the pool is replaced, since
// nothing was lost.
func (db *postgresDB) begin(ctx context.Context, how string) (*sql.Conn, time.Time, error) {
	for dead := 0; ; dead++ {
		c, err := db.conn(ctx)
		if err != nil {
			return nil, time.Time{}, err
		}
		now, err := beginOn(ctx, c, how)
		if err == nil {
			return c, now, nil
		}
		rollback(ctx, c)
		_ = c.Close()
		if e := ctx.Err(); e != nil {
			return nil, now, e // the driver may call it a bad connection
		}
		if !db.died(ctx, err, dead) {
			return nil, now, err
		}
	}
}

// conn takes a connection from the pool.
func (db *postgresDB) conn(ctx context.Context) (*sql.Conn, error) {
	c, err := db.db.Conn(ctx)
	if err != nil && db.closed.Load() {
		return nil, shop.Wrap(shop.Unavailable, "sqldb", msgClosed, err)
	}
	return c, err
}

// died tells whether err says that a connection had died in the pool, where all of them may be after a restart.
func (db *postgresDB) died(ctx context.Context, err error, before int) bool {
	return err != nil && ctx.Err() == nil && postgresUnavailable(err) == msgLost && before < db.conns
}

// beginOn begins a transaction and asks for the time, in one round trip.
func beginOn(ctx context.Context, c *sql.Conn, how string) (now time.Time, err error) {
	err = c.Raw(func(driverConn any) error {
		answers, err := driverConn.(*stdlib.Conn).Conn().PgConn().Exec(ctx, how+"; SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").ReadAll()
		if err != nil {
			return err
		}
		micros, err := strconv.ParseInt(string(answers[1].Rows[0][0]), 10, 64)
		now = FromMicros(micros)
		return err
	})
	return now, err
}

// commit goes on when ctx has ended, since its outcome is what the caller wants to know. Whatever is not
// the server's own word leaves the outcome open.
func commit(ctx context.Context, c *sql.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTime)
	defer cancel()
	tag := ""
	err := c.Raw(func(driverConn any) error {
		t, err := driverConn.(*stdlib.Conn).Conn().Exec(ctx, "COMMIT")
		tag = t.String()
		return err
	})
	switch {
	case err == nil && tag == "COMMIT":
		return nil
	case err == nil:
		return shop.E(shop.Internal, "sqldb", "the transaction had failed before its commit")
	case sqlState(err) != "":
		return classify(err, postgresUnavailable, false)
	default:
		return shop.Wrap(shop.Unavailable, "sqldb", msgCommit, err)
	}
}

// rollback makes the connection usable again. One on which it fails is thrown away by the pool.
func rollback(ctx context.Context, c *sql.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTime)
	defer cancel()
	_, _ = c.ExecContext(ctx, "ROLLBACK")
}

func (db *postgresDB) ping(ctx context.Context) error {
	c, _, err := db.begin(ctx, "BEGIN READ ONLY")
	if err != nil {
		if isContext(err) {
			return shop.Wrap(shop.Unavailable, "sqldb", msgLost, err)
		}
		return classify(err, postgresUnavailable, false)
	}
	rollback(ctx, c)
	return c.Close()
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (db *postgresDB) stats() Stats {
	s := Stats{Groups: db.commits.Load(), Transactions: db.transactions.Load(), Retries: db.retries.Load()}
	if s.Groups > 0 {
		s.LargestGroup = 1
	}
	return s
}

func (db *postgresDB) close() error {
	db.closed.Store(true)
	return db.db.Close()
}

// postgresTx is the session of a transaction. pgx prepares its statements and keeps them.
type postgresTx struct {
	c     *sql.Conn
	texts *rebinder
	began time.Time // zero where there is no transaction
}

func (t *postgresTx) dialect() Dialect { return Postgres }

func (t *postgresTx) exec(ctx context.Context, query string, args []any) (sql.Result, error) {
	return t.c.ExecContext(ctx, t.texts.text(query), args...)
}

func (t *postgresTx) query(ctx context.Context, query string, args []any) (*sql.Rows, error) {
	return t.c.QueryContext(ctx, t.texts.text(query), args...)
}

func (t *postgresTx) now(ctx context.Context) (now time.Time, err error) {
	if !t.began.IsZero() {
		return t.began, nil
	}
	err = t.c.QueryRowContext(ctx, "SELECT clock_timestamp()").Scan(&now)
	return now, err
}

func (t *postgresTx) unavailable(err error) string { return postgresUnavailable(err) }
