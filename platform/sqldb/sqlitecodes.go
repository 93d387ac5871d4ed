package sqldb

import (
	"database/sql/driver"
	"errors"
)

// Connector makes connections of the SQLite driver, which comes from outside: embedded/sqlite has one.
type Connector func(dsn string) (driver.Connector, error)

// The result codes of SQLite, from https://sqlite.org/rescode.html; the lowest byte is the primary one.
const (
	sqlitePerm     = 3
	sqliteBusy     = 5
	sqliteLocked   = 6
	sqliteNoMem    = 7
	sqliteReadOnly = 8
	sqliteIntr     = 9
	sqliteIOErr    = 10
	sqliteCorrupt  = 11
	sqliteFull     = 13
	sqliteCantOpen = 14
	sqliteProtocol = 15
	sqliteNoLFS    = 22
	sqliteNotADB   = 26

	sqliteConstraintCheck      = 275
	sqliteConstraintPrimaryKey = 1555
	sqliteConstraintUnique     = 2067
	sqliteConstraintRowID      = 2579
)

// sqliteCode returns the extended result code of SQLite.
func sqliteCode(err error) (int, bool) {
	e, ok := errors.AsType[interface {
		error
		Code() int
	}](err)
	if !ok {
		return 0, false
	}
	return e.Code(), true
}
