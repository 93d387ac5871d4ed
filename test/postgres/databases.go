package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Databases makes a database for each service and returns their address with {service} in it. They are
// dropped with the server.
func Databases(t testing.TB, services ...string) string {
	t.Helper()
	dsn := DSN(t)
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	name := conn.Config().Database
	for _, service := range services {
		if _, err := conn.Exec(ctx, fmt.Sprintf(`CREATE DATABASE %q`, name+"_"+service)); err != nil {
			t.Fatal(err)
		}
	}
	return strings.Replace(dsn, "dbname="+name, "dbname="+name+"_{service}", 1)
}
