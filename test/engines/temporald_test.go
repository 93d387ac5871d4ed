package engines_test

import (
	"net"
	"testing"

	"holdfast/test/engines"
	"holdfast/test/postgres"
)

// TestTemporaldComesBack: what it keeps over a kill is tested where it is made; here that it can be had
// again at the same place.
func TestTemporaldComesBack(t *testing.T) {
	t.Parallel()
	s := engines.StartTemporald(t)
	addr, pid := s.Addr(), s.Pid()
	s.Kill(t)
	s.Start(t)
	if s.Addr() != addr || s.Pid() == pid {
		t.Errorf("at %s as %d, before at %s as %d", s.Addr(), s.Pid(), addr, pid)
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	s.Stop(t)
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("it listens although it has stopped")
	}
}

// TestTemporaldOnPostgreSQL makes its databases, and finds them made at the next start.
func TestTemporaldOnPostgreSQL(t *testing.T) {
	t.Parallel()
	s := engines.StartTemporald(t, "--postgres", postgres.Start(t).DSN("temporal"))
	s.Stop(t)
	s.Start(t)
	s.Stop(t)
}
