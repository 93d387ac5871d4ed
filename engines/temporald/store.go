package main

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/server/common/config"
	"go.temporal.io/server/schema/sqlite"
	"google.golang.org/protobuf/types/known/durationpb"
)

// retention is how long the history of an ended workflow can be looked at.
const retention = 24 * time.Hour

// names of the two stores in the configuration; on SQLite they are one.
const (
	mainStore       = "main"
	visibilityStore = "visibility"
)

// store is where the server keeps everything.
type store struct {
	persistence config.Persistence
	release     func()
}

// openStore makes what is missing: the database, its tables and the namespace.
func openStore(ctx context.Context, s settings) (*store, error) {
	open := openSQLite
	if s.postgres != "" {
		open = openPostgres
	}
	st, err := open(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := makeNamespace(st, s.namespace); err != nil {
		st.release()
		return nil, err
	}
	return st, nil
}

// makeNamespace writes the namespace into the store before the server is there, since one that is made
// through the server is seen by all its parts only seconds later. The function has SQLite in its name and
// works with any SQL store.
func makeNamespace(st *store, name string) error {
	ns, err := sqlite.NewNamespaceConfig(clusterName, name, false, nil)
	if err != nil {
		return fmt.Errorf("namespace %s: %w", name, err)
	}
	ns.Detail.Config.Retention = durationpb.New(retention)
	if err := sqlite.CreateNamespaces(st.persistence.DataStores[mainStore].SQL, ns); err != nil {
		return fmt.Errorf("namespace %s: %w", name, err)
	}
	return nil
}
