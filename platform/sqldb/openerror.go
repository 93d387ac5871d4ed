package sqldb

import (
	"errors"
	"fmt"
	"io/fs"

	"holdfast/shop"
)

// openError says which file cannot be opened and what to do about it.
func openError(path string, err error) error {
	code, _ := sqliteCode(err)
	var what string
	switch {
	case code&0xff == sqliteNotADB || code&0xff == sqliteCorrupt:
		return fmt.Errorf("database file %s is damaged or not a database: move it away and restore a backup: %w", path, err)
	case code&0xff == sqliteCantOpen, code&0xff == sqliteReadOnly, code&0xff == sqlitePerm,
		errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("database file %s cannot be written: give this user write access to the file and its directory: %w", path, err)
	case code&0xff == sqliteFull:
		what = msgFull
	case code&0xff == sqliteBusy:
		what = "another process keeps it locked"
	case code&0xff == sqliteIOErr:
		what = msgDisk
	default:
		return fmt.Errorf("database file %s cannot be opened: %w", path, err)
	}
	return shop.Wrap(shop.Unavailable, "sqldb.Open", fmt.Sprintf("database file %s cannot be opened: %s", path, what), err)
}
