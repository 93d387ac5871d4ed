package stores_test

import (
	"context"
	"io/fs"
	"testing"
	"testing/fstest"

	"holdfast/platform/sqldb"
	"holdfast/test/stores"
)

func TestEach(t *testing.T) {
	t.Parallel()
	migrations := fstest.MapFS{"00001_t.sql": {Data: []byte("-- +goose Up\nCREATE TABLE t (id {{.Serial}}, a TEXT NOT NULL);\n")}}
	stores.Each(t, func(t *testing.T, open stores.Open) {
		first, second := open(t, migrations), open(t, fs.FS(migrations))
		err := first.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO t (a) VALUES (?)", "x")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for want, db := range []*sqldb.DB{second, first} {
			n := -1
			err := db.View(t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
				return tx.QueryRow(ctx, "SELECT count(*) FROM t").Scan(&n)
			})
			if err != nil || n != want {
				t.Errorf("%d rows, %v; want %d", n, err, want)
			}
		}
	})
}
