package app

import (
	"path/filepath"
	"strings"

	"holdfast/platform/sqldb"
)

func (s Store) of(service, password string) sqldb.Config {
	cfg := sqldb.Config{Driver: s.Driver, DSN: strings.ReplaceAll(s.DSN, "{service}", service), Password: password, MaxConns: s.MaxConns, SQLite: s.SQLite}
	if s.Driver == string(sqldb.SQLite) {
		cfg.Path = filepath.Join(s.Dir, service+".db")
	}
	return cfg
}
