package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"holdfast/cli"
)

// TestMain lets the scripts run holdfast as a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"holdfast": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		os.Exit(cli.Main(ctx, cli.IO{Args: os.Args[1:], Environ: os.Environ(), In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready":       ready,
			"code":        code,
			"takeport":    takePort,
			"firstid":     firstID,
			"freeport":    freePort,
			"answers":     answers,
			"acknowledge": acknowledge,
		},
	})
}

// readyLimit is how long a script waits for a process to be ready.
const readyLimit = 30 * time.Second

// ready DIR waits until the Holdfast on a data directory is ready.
func ready(ts *testscript.TestScript, _ bool, args []string) {
	file := filepath.Join(ts.MkAbs(args[0]), "addresses.json")
	for end := time.Now().Add(readyLimit); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var a struct{ Admin string }
		b, err := os.ReadFile(file)
		if err != nil || json.Unmarshal(b, &a) != nil {
			continue
		}
		resp, err := http.Get(a.Admin + "/readyz")
		if err != nil {
			continue
		}
		if resp.Body.Close() == nil && resp.StatusCode == http.StatusOK {
			return
		}
	}
	ts.Fatalf("no Holdfast is ready on %s", args[0])
}

// code N COMMAND… runs holdfast and wants that exit code.
func code(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("holdfast", args[1:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// takePort VARIABLE holds a port until the script ends, and puts its address into a variable.
func takePort(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { ts.Check(l.Close()) })
	ts.Setenv(args[0], l.Addr().String())
}

// firstID VARIABLE FILE puts the first order id in a file, or stdout, into a variable.
func firstID(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[1])
	i := strings.Index(text, "ord_")
	if i < 0 {
		ts.Fatalf("there is no order id in %s", args[1])
	}
	ts.Setenv(args[0], fmt.Sprintf("%.30s", text[i:]))
}

// freePort VARIABLE puts an address that is free now into a variable.
func freePort(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], l.Addr().String())
	ts.Check(l.Close())
}

// answers URL waits until a GET is answered with 200.
func answers(ts *testscript.TestScript, _ bool, args []string) {
	for end := time.Now().Add(readyLimit); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get(args[0])
		if err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK {
			return
		}
	}
	ts.Fatalf("%s does not answer", args[0])
}

// acknowledge HISTORY COPY copies a history, in which another order was acknowledged, as the first one was.
func acknowledge(ts *testscript.TestScript, _ bool, args []string) {
	lines := strings.SplitAfter(strings.TrimSpace(ts.ReadFile(args[0])), "\n")
	places := map[int]bool{}
	for i, text := range lines {
		var line struct {
			Kind, Do string
			Op       int
			Saw      []struct{ ID, External string }
		}
		ts.Check(json.Unmarshal([]byte(text), &line))
		switch {
		case line.Do == "place":
			places[line.Op] = true
		case line.Kind == "ok" && places[line.Op]:
			op := fmt.Sprintf(`"op":%d,`, line.Op)
			other := strings.NewReplacer(op, `"op":1000000,`, line.Saw[0].ID, "ord_06h2174v9lsdvbr2i0546v3r2s", line.Saw[0].External, "another")
			forged := slices.DeleteFunc(slices.Clone(lines[:i+1]), func(l string) bool { return !strings.Contains(l, op) })
			for n := range forged {
				forged[n] = other.Replace(forged[n])
			}
			ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.Join(slices.Insert(lines, len(lines)-1, forged...), "")), 0o600))
			return
		}
	}
	ts.Fatalf("no order was acknowledged")
}
