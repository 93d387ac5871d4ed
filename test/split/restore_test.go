package split_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"holdfast/check"
	"holdfast/check/cluster"
	"holdfast/shop"
	"holdfast/test/engines"
	"holdfast/test/postgres"
	"holdfast/test/split"
)

// TestRestore loses PostgreSQL and Kafka with orders under way, and restores a backup of PostgreSQL that was taken a
// moment before, as docs/operations.md says. The provider and the carrier may be ahead of it then. Every order ends as if
// nothing had been.
func TestRestore(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts two Holdfasts and four engines")
	}
	t.Parallel()
	pg := postgres.Start(t)
	options := cluster.Options{Dir: t.TempDir(), Bin: split.Programs(t), Together: true, DispatchAfter: "15s", Settings: split.Quick(),
		Engines: cluster.Engines{Databases: pg.Databases(t, split.Services...)}}
	before, err := cluster.Start(t.Context(), options)
	engines.Need(t, err)
	tea(t, before)
	target := before.Target()
	h, err := check.Run(t.Context(), check.Plan{URL: target.URL, Key: target.Key, Run: "restore", Rate: 40, Duration: 3 * time.Second, SKU: "TEA", Quantity: 1,
		Payment: func(i int) string { return []string{"tok_ok", "tok_declined"}[i%10/9] }})
	if err != nil {
		t.Fatal(err)
	}
	backup := pg.Backup(t)
	if err := before.Close(); err != nil {
		t.Error(err)
	}
	pg.Kill(t)
	backup.Start(t)
	underWay(t, backup.DSN("holdfast_order"))

	again := options
	again.Dir = t.TempDir()
	again.Engines.Databases = backup.DSN("holdfast_{service}")
	again.DispatchAfter = "200ms"
	if err := os.CopyFS(filepath.Join(again.Dir, "sim"), os.DirFS(filepath.Join(options.Dir, "sim"))); err != nil { // the outside parties have lost nothing
		t.Fatal(err)
	}
	sendAgain(t, again.Engines.Databases)
	after, err := cluster.Start(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := after.Close(); err != nil {
			t.Error(err)
		}
	})
	c := clientOf(t, after)
	late := outcomeOf(t, c, "after", shop.Choreographed)
	restful(t, after, c, append(h.Orders, late))
}

// underWay wants orders that have not ended.
func underWay(t *testing.T, orders string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), orders)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	n := 0
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM orders WHERE status IN ('pending', 'confirmed')`).Scan(&n); err != nil || n == 0 {
		t.Fatalf("%d orders were under way: %v", n, err)
	}
	t.Logf("%d orders were under way", n)
}

// sendAgain has every event sent again that is kept, to a bus that has none of them.
func sendAgain(t *testing.T, databases string) {
	t.Helper()
	ctx := context.Background()
	for _, service := range split.Services {
		conn, err := pgx.Connect(ctx, strings.ReplaceAll(databases, "{service}", service))
		if err != nil {
			t.Fatal(err)
		}
		tag, err := conn.Exec(ctx, `INSERT INTO outbox_unsent (pos, slot, lane) SELECT pos, slot, topic || '/' || key FROM outbox ON CONFLICT (pos) DO NOTHING`)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s sends %d events again", service, tag.RowsAffected())
		if err := conn.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
}
