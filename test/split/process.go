package split

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// built builds both programs as their users run them.
var built = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(os.TempDir(), "holdfast-split-"+strconv.Itoa(os.Getpid()))
	out, err := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "holdfast/cmd/holdfastd", "holdfast/cmd/holdfast").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return dir, nil
})

// Clean removes what was built; a TestMain calls it in the end.
func Clean() {
	_ = os.RemoveAll(filepath.Join(os.TempDir(), "holdfast-split-"+strconv.Itoa(os.Getpid())))
}

// place is where a process listens.
type place struct{ api, internal, admin int }

func (place) address(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
func (p place) url(port int) string   { return "http://" + p.address(port) }
func (p place) public() string        { return p.url(p.api) }

// newPlace finds free ports below those that the kernel gives to outgoing connections.
func newPlace(t testing.TB) place {
	t.Helper()
	return place{port(t), port(t), port(t)}
}

// given are the ports that this process has given away.
var given sync.Map

func port(t testing.TB) int {
	t.Helper()
	for range 1000 {
		n := 12_000 + rand.IntN(20_000)
		if _, taken := given.LoadOrStore(n, true); taken {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(n))
		if err == nil && l.Close() == nil {
			return n
		}
	}
	t.Fatal("no port is free")
	return 0
}

// Process is one of a System's.
type Process struct {
	Name   string
	at     place
	system *System
	cmd    *exec.Cmd
	done   chan struct{} // closed at its end
	err    error         // of its end
	stops  sync.Once
}

// Start starts the process, again if need be.
func (p *Process) Start() {
	p.system.t.Helper()
	p.run(binary(p.system.t, "holdfastd"), p.system.settings, "-target="+p.Name,
		"-addr="+p.at.address(p.at.api), "-internal-addr="+p.at.address(p.at.internal), "-admin-addr="+p.at.address(p.at.admin))
}

func (p *Process) run(binary string, env []string, args ...string) {
	t := p.system.t
	t.Helper()
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(binary, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	p.cmd, p.done = cmd, make(chan struct{})
	done := p.done
	go func() {
		runtime.LockOSThread() // the child is told when this thread ends, and so the thread waits for it
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		close(done)
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	p.stops.Do(func() { t.Cleanup(p.cleanup) })
}

// cleanup stops the process in order at the end of the test, and shows its log where the test has failed.
func (p *Process) cleanup() {
	if p.alive() {
		if err := p.Stop(); err != nil {
			p.system.t.Errorf("stop %s: %v", p.Name, err)
		}
	}
	if p.system.t.Failed() {
		p.system.t.Logf("the log of %s ends with:\n%s", p.Name, p.Log())
	}
}

func (p *Process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *Process) logFile() string {
	return filepath.Join(p.system.dir, p.Name+"-"+strconv.Itoa(p.at.api)+".log")
}

// Log is the end of what the process has logged.
func (p *Process) Log() string {
	b, err := os.ReadFile(p.logFile())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-3000):])
}

// Ready waits until the process says that it is.
func (p *Process) Ready() {
	p.system.t.Helper()
	p.answers(p.at.url(p.at.admin) + "/readyz")
}

func (p *Process) answers(url string) {
	t := p.system.t
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !answersOK(ctx, url) {
		select {
		case <-p.done:
			t.Fatalf("%s ended: %v\n%s", p.Name, p.err, p.Log())
		case <-ctx.Done():
			t.Fatalf("%s is not ready\n%s", p.Name, p.Log())
		case <-tick.C:
		}
	}
}

func answersOK(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.Body.Close() == nil && err == nil && resp.StatusCode == http.StatusOK
}

// Kill ends the process at once.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.done
}

// Stop ends the process in order, and tells if it did not do that well.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(limit):
		p.Kill()
		return fmt.Errorf("it did not stop within %s", limit)
	}
}

// Restart stops the process in order and starts it again.
func (p *Process) Restart() {
	p.system.t.Helper()
	if err := p.Stop(); err != nil {
		p.system.t.Errorf("stop %s: %v", p.Name, err)
	}
	p.Start()
	p.Ready()
}
