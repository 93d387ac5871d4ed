package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"holdfast/shop"
)

// IsUnique tells whether err is the breach of a unique or primary key.
func IsUnique(err error) bool {
	if code, ok := sqliteCode(err); ok {
		return code == sqliteConstraintUnique || code == sqliteConstraintPrimaryKey ||
			code == sqliteConstraintRowID
	}
	return sqlState(err) == "23505"
}

// IsCheck tells whether err is the breach of a CHECK constraint.
func IsCheck(err error) bool {
	if code, ok := sqliteCode(err); ok {
		return code == sqliteConstraintCheck
	}
	return sqlState(err) == "23514"
}

// sqlState returns the SQLSTATE of PostgreSQL, or "".
func sqlState(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// classify makes an error of the database's state an Unavailable *shop.Error and leaves the others as they
// are. It is repeatable.
func classify(err error, unavailable func(error) string, readOnly bool) error {
	if err == nil || isShop(err) {
		return err
	}
	switch msg := unavailable(err); {
	case msg == "":
		return err
	case msg == msgReadOnly && readOnly:
		return shop.Wrap(shop.Internal, "sqldb", "a View tried to write", err)
	default:
		return shop.Wrap(shop.Unavailable, "sqldb", msg, err)
	}
}

func isShop(err error) bool {
	var e *shop.Error
	return errors.As(err, &e)
}

// What is wrong with the database, for the caller's eyes.
const (
	msgReadOnly = "the database is read-only"
	msgFull     = "the disk of the database is full"
	msgBusy     = "the database is busy"
	msgDisk     = "the disk of the database fails"
	msgCorrupt  = "the database file is damaged: restore it from a backup"
	msgLost     = "the database cannot be reached"
	msgClosed   = "the database is closed"
	msgCommit   = "the database did not confirm the commit"
)

// sqliteUnavailable returns what is wrong with the database where err says so, else "".
func sqliteUnavailable(err error) string {
	code, ok := sqliteCode(err)
	if !ok {
		if errors.Is(err, sql.ErrConnDone) || errors.Is(err, driver.ErrBadConn) {
			return msgLost
		}
		return ""
	}
	switch code & 0xff {
	case sqliteBusy, sqliteLocked, sqliteProtocol, sqliteIntr:
		return msgBusy
	case sqliteFull:
		return msgFull
	case sqliteIOErr, sqliteCantOpen, sqliteNoMem, sqlitePerm, sqliteNoLFS:
		return msgDisk
	case sqliteReadOnly:
		return msgReadOnly
	case sqliteCorrupt, sqliteNotADB:
		return msgCorrupt
	}
	return ""
}

// postgresUnavailable is sqliteUnavailable for PostgreSQL. The caller's own deadline is not the database's
// fault and stays what it is.
func postgresUnavailable(err error) string {
	if state := sqlState(err); state != "" {
		return stateUnavailable(state)
	}
	var netErr net.Error
	var connect *pgconn.ConnectError
	switch {
	case errors.As(err, &connect):
		return msgLost
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return ""
	case errors.As(err, &netErr), errors.Is(err, pgconn.ErrConnClosed), errors.Is(err, driver.ErrBadConn),
		errors.Is(err, sql.ErrConnDone), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return msgLost
	}
	return ""
}

// stateUnavailable sorts SQLSTATEs, see appendix A of PostgreSQL's manual.
func stateUnavailable(state string) string {
	switch state {
	case "25006":
		return msgReadOnly
	case "25P03": // idle_in_transaction_session_timeout: we stood still for idleLimit
		return msgLost
	case "53100":
		return msgFull
	case "40001", "40P01", "55P03":
		return msgBusy
	case "57014": // query_canceled: statement_timeout, or an operator
		return msgBusy
	}
	if len(state) < 2 {
		return ""
	}
	switch state[:2] {
	case "08", "57":
		return msgLost
	case "53":
		return msgBusy
	case "58":
		return msgDisk
	case "28": // not let in: a password is being changed, or the configuration is wrong
		return msgLost
	}
	return ""
}
