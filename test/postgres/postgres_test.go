package postgres_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"holdfast/test/engines"
	"holdfast/test/postgres"
)

// childVariable turns this test binary into a process that starts a server and then comes to a bad end.
const childVariable = "HOLDFAST_TEST_POSTGRES_CHILD"

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func TestDSNIsANewEmptyDatabase(t *testing.T) {
	t.Parallel()
	first, second := connect(t, postgres.DSN(t)), connect(t, postgres.DSN(t))
	if _, err := first.Exec(t.Context(), "CREATE TABLE a (b TEXT)"); err != nil {
		t.Fatal(err)
	}
	var version, tables int
	err := second.QueryRow(t.Context(), `SELECT current_setting('server_version_num')::int,
		(SELECT count(*) FROM pg_tables WHERE schemaname = 'public')`).Scan(&version, &tables)
	if err != nil || version < 150000 || tables != 0 {
		t.Errorf("version %d, %d tables, %v; want 15 or newer and none", version, tables, err)
	}
}

// TestServerEndsWithItsProcess starts the server in a child, ends the child, and waits for the server's
// processes and files to go.
func TestServerEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	postgres.DSN(t) // skip where there is none
	for _, end := range []string{"killed", "panics", "passes"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v")
			cmd.Env = append(os.Environ(), childVariable+"="+end)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var dir string
			var pid int
			for lines := bufio.NewScanner(out); lines.Scan(); {
				if s, ok := strings.CutPrefix(lines.Text(), "SERVER "); ok {
					_, _ = fmt.Sscan(s, &dir, &pid)
					if end == "killed" {
						_ = cmd.Process.Kill()
					}
				}
			}
			_ = cmd.Wait()
			if pid == 0 {
				t.Fatal("the child did not start a server")
			}
			deadline := time.After(30 * time.Second)
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				_, err := os.Stat(dir)
				gone := errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
				if gone && os.IsNotExist(err) {
					return
				}
				select {
				case <-tick.C:
				case <-deadline:
					t.Fatalf("postmaster %d gone: %v; %s: %v", pid, gone, dir, err)
				}
			}
		})
	}
}

// TestChild is not a test but the child of TestServerEndsWithItsProcess.
func TestChild(t *testing.T) {
	end := os.Getenv(childVariable)
	if end == "" {
		t.Skip("it is for TestServerEndsWithItsProcess")
	}
	c := connect(t, postgres.DSN(t))
	var data string
	if err := c.QueryRow(t.Context(), "SHOW data_directory").Scan(&data); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.SplitN(string(b), "\n", 2)[0])
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("SERVER", filepath.Dir(data), pid)
	switch end {
	case "killed":
		select {}
	case "panics":
		go func() { panic("as a test may") }()
		select {}
	}
}

func TestMissingBinaries(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, ci, bin string
		fails         bool
		says          string
	}{
		{name: "skipped at home", bin: "none", says: "apt-get install postgresql-15"},
		{name: "fails in CI", ci: "true", bin: "none", fails: true, says: "HOLDFAST_TEST_POSTGRES_BIN"},
		{name: "a wrong directory always fails", bin: t.TempDir(), fails: true, says: "no PostgreSQL of version 15"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestDSNIsANewEmptyDatabase$", "-test.v")
			cmd.Env = append(os.Environ(), engines.Variable+"=", "CI="+test.ci, postgres.BinVariable+"="+test.bin)
			out, err := cmd.CombinedOutput()
			if failed := err != nil; failed != test.fails {
				t.Errorf("failed: %v, want %v", failed, test.fails)
			}
			if !strings.Contains(string(out), test.says) {
				t.Errorf("it does not say %q:\n%s", test.says, out)
			}
		})
	}
}
