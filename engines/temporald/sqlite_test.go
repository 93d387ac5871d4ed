package main

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
)

func openFile(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "temporal.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// mark gives the tables another version.
func mark(t *testing.T, dir string, version int) {
	t.Helper()
	if _, err := openFile(t, dir).ExecContext(t.Context(), fmt.Sprintf("PRAGMA user_version = %d", version)); err != nil {
		t.Fatal(err)
	}
}

// TestSlim: of the indexes on what shows workflows those that people ask by are left, and no trigger.
func TestSlim(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, err := openStore(t.Context(), settings{data: dir, namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	defer st.release()
	rows, err := openFile(t, dir).QueryContext(t.Context(), `SELECT name FROM sqlite_master WHERE tbl_name LIKE 'executions_visibility%' AND type <> 'table' AND sql IS NOT NULL ORDER BY name`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		got = append(got, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(slices.Values(kept))
	if !slices.Equal(got, want) {
		t.Errorf("left: %v, want %v", got, want)
	}
}
