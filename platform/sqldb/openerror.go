package sqldb

import (
	"errors"
	"fmt"
	"io/fs"

	sqlite3 "modernc.org/sqlite/lib"

	"holdfast/shop"
)

// openError says which file cannot be opened and what to do about it.
func openError(path string, err error) error {
	code, _ := sqliteCode(err)
	var what string
	switch {
	case code&0xff == sqlite3.SQLITE_NOTADB || code&0xff == sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("database file %s is damaged or not a database: move it away and restore a backup: %w", path, err)
	case code&0xff == sqlite3.SQLITE_CANTOPEN, code&0xff == sqlite3.SQLITE_READONLY, code&0xff == sqlite3.SQLITE_PERM,
		errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("database file %s cannot be written: give this user write access to the file and its directory: %w", path, err)
	case code&0xff == sqlite3.SQLITE_FULL:
		what = msgFull
	case code&0xff == sqlite3.SQLITE_BUSY:
		what = "another process keeps it locked"
	case code&0xff == sqlite3.SQLITE_IOERR:
		what = msgDisk
	default:
		return fmt.Errorf("database file %s cannot be opened: %w", path, err)
	}
	return shop.Wrap(shop.Unavailable, "sqldb.Open", fmt.Sprintf("database file %s cannot be opened: %s", path, what), err)
}
