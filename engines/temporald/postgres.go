package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql"
	"go.temporal.io/server/tools/common/schema"
	toolsql "go.temporal.io/server/tools/sql"
)

const (
	postgresConns  = 20
	postgresShards = 4 // as many parts of the history can be written at once; it never changes
)

// openPostgres prepares two databases: the server keeps versions of its tables by the database's name, and
// so what shows workflows needs one of its own.
func openPostgres(ctx context.Context, s settings) (*store, error) {
	base, err := parsePostgres(s.postgres)
	if err != nil {
		return nil, fmt.Errorf("--postgres: %w", err)
	}
	stores := map[string]config.DataStore{}
	for name, tables := range map[string]string{mainStore: "temporal", visibilityStore: "visibility"} {
		cfg := *base
		if name == visibilityStore {
			cfg.DatabaseName += "_visibility"
		}
		if err := makeDatabase(ctx, s.postgres, cfg.DatabaseName); err != nil {
			return nil, fmt.Errorf("--postgres: database %s: %w", cfg.DatabaseName, err)
		}
		made, err := migrate(&cfg, "postgresql/v12/"+tables)
		if err != nil {
			return nil, fmt.Errorf("--postgres: database %s: %w", cfg.DatabaseName, err)
		}
		if made && name == visibilityStore {
			if err := slimPostgres(ctx, s.postgres, cfg.DatabaseName); err != nil {
				return nil, fmt.Errorf("--postgres: database %s: %w", cfg.DatabaseName, err)
			}
		}
		stores[name] = config.DataStore{SQL: &cfg}
	}
	return &store{release: func() {}, persistence: config.Persistence{
		DefaultStore: mainStore, VisibilityStore: visibilityStore, NumHistoryShards: postgresShards, DataStores: stores,
	}}, nil
}

// parsePostgres takes the address apart, as the server wants it.
func parsePostgres(dsn string) (*config.SQL, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, errors.New("not an address of the form postgres://user:password@host:port/database")
	}
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(c.Host, "/") || !strings.HasPrefix(u.Scheme, "postgres") || c.Database == "" {
		return nil, errors.New("want postgres://user:password@host:port/database, with a host that is reached over TCP")
	}
	attributes := map[string]string{}
	for name, values := range u.Query() {
		attributes[name] = values[len(values)-1]
	}
	return &config.SQL{PluginName: postgresql.PluginNamePGX, User: c.User, Password: c.Password, DatabaseName: c.Database,
		ConnectAddr: net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))), ConnectProtocol: "tcp", ConnectAttributes: attributes,
		MaxConns: postgresConns, MaxIdleConns: postgresConns}, nil
}

// makeDatabase makes a database where it is missing.
func makeDatabase(ctx context.Context, dsn, name string) error {
	conn, err := connect(ctx, dsn, "postgres")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&there); err != nil || there {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	return err
}

func connect(ctx context.Context, dsn, database string) (*pgx.Conn, error) {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	c.Database = database
	return pgx.ConnectConfig(ctx, c)
}

// slimPostgres takes the indexes away that slim does: they are most of what a row that shows a workflow costs. It is for
// tables that were just made. Those that were there may be somebody else's, who searches by them; where this was broken
// off they stay, and cost what they cost.
func slimPostgres(ctx context.Context, dsn, database string) error {
	conn, err := connect(ctx, dsn, database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, `SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		WHERE i.indrelid = 'executions_visibility'::regclass AND NOT i.indisunique AND NOT c.relname = ANY($1)`, kept)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := conn.Exec(ctx, "DROP INDEX IF EXISTS "+pgx.Identifier{name}.Sanitize()); err != nil {
			return err
		}
	}
	return nil
}

// migrate brings the tables to the version that this server wants, from nothing or from an earlier one. It tells whether
// there were none.
func migrate(cfg *config.SQL, tables string) (made bool, err error) {
	conn, err := toolsql.NewConnection(cfg, log.NewNoopLogger())
	if err != nil {
		return false, err
	}
	defer conn.Close()
	if _, err := conn.ReadSchemaVersion(); err != nil {
		if err := schema.NewSetupSchemaTask(conn, &schema.SetupConfig{InitialVersion: "0.0"}, log.NewNoopLogger()).Run(); err != nil {
			return false, err
		}
		made = true
	}
	return made, schema.NewUpdateSchemaTask(conn, &schema.UpdateConfig{DBName: cfg.DatabaseName, SchemaName: tables}, log.NewNoopLogger()).Run()
}
