// Package sqlite is the SQLite inside this process, for sqldb.Config. Programs that keep their state in
// PostgreSQL do not link it.
package sqlite

import (
	"database/sql/driver"

	"modernc.org/sqlite"
)

// Connector is a sqldb.Connector: dsn is a file with its pragmas.
func Connector(dsn string) (driver.Connector, error) {
	// fdatasync makes a commit as durable as fsync does, and leaves out the time stamps.
	_, _ = sqlite.Fdatasync(true)
	return sqlite.NewConnector(dsn)
}
