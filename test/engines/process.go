package engines

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is a program that runs beside the tests and dies with them.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// launch starts cmd. The kernel kills it when the thread that started it ends, and so that thread is kept
// for as long as it runs.
func launch(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("%v to process %d: %w", sig, p.cmd.Process.Pid, err)
	}
	return nil
}

// end sends a signal and waits for the end.
func (p *process) end(sig os.Signal) error {
	if !p.running() {
		return nil
	}
	if err := p.signal(sig); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("process %d did not end within %v of %v", p.cmd.Process.Pid, patience, sig)
	}
}

// sweep waits for the end of its input, which is the end of the test process however it came, and removes
// the directory, in which somebody may still write for a moment.
const sweep = `cat >/dev/null
n=0
while ! rm -rf "$1" 2>/dev/null && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done
sleep 1
rm -rf "$1"`

// janitor starts the process that cleans up behind this one. It is in a group of its own, so that what ends
// the tests does not end it, and nobody waits for it, since it comes last.
func janitor(dir string) (life *os.File, err error) {
	theirs, life, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command("/bin/sh", "-c", sweep, "sh", dir)
	cmd.Stdin = theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		_ = life.Close()
		return nil, err
	}
	return life, nil
}
