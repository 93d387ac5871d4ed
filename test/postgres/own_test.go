package postgres_test

import (
	"testing"

	"holdfast/test/postgres"
)

// TestServerComesBack: what is committed is there after a kill and after a stop, at the same address.
func TestServerComesBack(t *testing.T) {
	t.Parallel()
	s := postgres.Start(t)
	addr := s.Addr()
	if _, err := connect(t, s.DSN("postgres")).Exec(t.Context(), "CREATE TABLE a (b INT)"); err != nil {
		t.Fatal(err)
	}
	for n, end := range []func(testing.TB){s.Kill, s.Stop} {
		c := connect(t, s.DSN("postgres"))
		if _, err := c.Exec(t.Context(), "INSERT INTO a VALUES (1)"); err != nil {
			t.Fatal(err)
		}
		end(t)
		if err := c.Ping(t.Context()); err == nil {
			t.Error("it answers although it has ended")
		}
		s.Start(t)
		var rows int
		if err := connect(t, s.DSN("postgres")).QueryRow(t.Context(), "SELECT count(*) FROM a").Scan(&rows); err != nil || rows != n+1 {
			t.Errorf("%d rows, %v, want %d", rows, err, n+1)
		}
	}
	if s.Addr() != addr {
		t.Errorf("at %s, before at %s", s.Addr(), addr)
	}
}
