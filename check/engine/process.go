package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// patience bounds the start of a process, and its end: a machine that runs many at once is slow.
const patience = 90 * time.Second

// period is how often a throttled process is stopped and goes on.
const period = 100 * time.Millisecond

// Spec says how a process is run.
type Spec struct {
	Name    string
	Log     string                      // the file of what it says, on both of its outputs
	Out     io.Writer                   // where that goes in place of a file, if not nil
	Command func() *exec.Cmd            // makes the command of each start
	Ready   func(context.Context) error // asks once; nil when it takes in work
	Stop    syscall.Signal              // has it end in order; SIGTERM where it is 0
	Orphan  syscall.Signal              // what it gets when this process ends, however it does; SIGKILL where it is 0
	As      *syscall.Credential         // whom it runs as; nil: as this process
	// Again has a start repeated where the process ends before it is ready: what a killed one has left behind
	// may keep the next from starting for a moment.
	Again bool
}

// Process is a child that can be ended, stopped for a while, and started again, and that dies with this process.
// What is done to it is done to its own children as well. Its methods may be called at any time by anybody.
type Process struct {
	Spec

	mu       sync.Mutex // of what follows, and of signals
	child    *child     // the last that was started
	paused   bool
	throttle func() // takes the limit away; nil without one
}

// child is a process of the operating system.
type child struct {
	cmd    *exec.Cmd
	offset int64         // of what it says, in the log
	done   chan struct{} // closed when it has ended
	err    error         // of its end
}

// New describes a process; Start starts it.
func New(s Spec) *Process { return &Process{Spec: s} }

// Start starts it, again if it ran before, and returns when it is ready. One that is not by the end of ctx, or
// within a minute and a half, is killed.
func (p *Process) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := p.Launch()
		if err != nil {
			return err
		}
		err = p.WaitReady(ctx)
		if err == nil {
			return nil
		}
		if p.Running() {
			return errors.Join(err, p.Kill())
		}
		if !p.Again || ctx.Err() != nil {
			return err
		}
		pause(ctx, period)
	}
}

// Launch starts it and does not wait until it is ready.
func (p *Process) Launch() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.child.running() {
		return fmt.Errorf("%s runs already", p.Name)
	}
	c := &child{cmd: p.Command(), done: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = p.Out, p.Out
	if p.Out == nil {
		log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer func() { _ = log.Close() }() // the child has its own
		if c.offset, err = log.Seek(0, io.SeekEnd); err != nil {
			return err
		}
		c.cmd.Stdout, c.cmd.Stderr = log, log
	}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.As, Pdeathsig: cmp.Or(p.Orphan, syscall.SIGKILL), Setpgid: true}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the child gets its signal when the thread that started it ends
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.err = c.cmd.Wait()
		}
		close(c.done)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.child, p.paused = c, false
	return nil
}

// WaitReady asks it until it is ready, has ended, or ctx ends.
func (p *Process) WaitReady(ctx context.Context) error {
	c := p.current()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := p.ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.done:
			return fmt.Errorf("%s ended before it was ready (%s): %s", p.Name, outcome(c.err), p.Said())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; it says: %s", p.Name, err, p.Said())
		case <-tick.C:
		}
	}
}

func (p *Process) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return p.Ready(ctx)
}

func outcome(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// Running tells whether there is a process; one that is paused is.
func (p *Process) Running() bool { return p.current().running() }

// Pid returns its process, the last if there were more; 0 before the first.
func (p *Process) Pid() int {
	c := p.current()
	if c == nil {
		return 0
	}
	return c.cmd.Process.Pid
}

func (p *Process) current() *child {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.child
}

func (c *child) running() bool {
	if c == nil {
		return false
	}
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// Kill ends it at once, as a crash does: it and its children have no time to do anything. It returns when it is
// gone; one that has ended is no error.
func (p *Process) Kill() error {
	p.mu.Lock()
	c := p.child
	if !c.running() {
		p.mu.Unlock()
		return nil
	}
	p.send(c, syscall.SIGSTOP) // so that it makes no more of them
	for _, pid := range descendants(c.cmd.Process.Pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended meanwhile
	}
	_ = c.cmd.Process.Kill() // the same
	p.mu.Unlock()
	return p.wait(c, syscall.SIGKILL, patience)
}

// Stop has it end in order, and tells how it did where that was not well. One that has ended is no error.
func (p *Process) Stop() error { return p.StopWithin(patience) }

// StopWithin is Stop with a limit of its own, after which it is killed.
func (p *Process) StopWithin(limit time.Duration) error {
	p.mu.Lock()
	c := p.child
	if !c.running() {
		p.mu.Unlock()
		return nil
	}
	sig := cmp.Or(p.Spec.Stop, syscall.SIGTERM)
	p.paused = false
	err := c.cmd.Process.Signal(sig)
	p.signal(c, syscall.SIGCONT)
	p.mu.Unlock()
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.Name, err)
	}
	if err := p.wait(c, sig, limit); err != nil {
		return errors.Join(err, p.Kill())
	}
	const java = 128 // a JVM that ends in order on a signal says so by this and its number
	if c.err != nil && c.cmd.ProcessState.ExitCode() != java+int(sig) {
		return fmt.Errorf("%s did not stop well: %w; it says: %s", p.Name, c.err, p.Said())
	}
	return nil
}

func (p *Process) wait(c *child, sig syscall.Signal, limit time.Duration) error {
	select {
	case <-c.done:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("%s did not end within %s of signal %q", p.Name, limit, sig)
	}
}

// Pause has it do nothing until Resume, with its connections open: a machine that hangs.
func (p *Process) Pause() error { return p.pause(true, syscall.SIGSTOP) }

// Resume ends a Pause.
func (p *Process) Resume() error { return p.pause(false, syscall.SIGCONT) }

func (p *Process) pause(on bool, sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.child.running() {
		return fmt.Errorf("%s does not run", p.Name)
	}
	p.paused = on
	p.signal(p.child, sig)
	return nil
}

// signal sends a signal to a process and then to its children: stopped, it makes no more of them.
func (p *Process) signal(c *child, sig syscall.Signal) {
	p.send(c, sig)
	for _, pid := range descendants(c.cmd.Process.Pid) {
		_ = syscall.Kill(pid, sig) // it may have ended meanwhile
	}
}

// send sends it a signal; a stop is waited for, since it comes a moment later.
func (p *Process) send(c *child, sig syscall.Signal) {
	if c.cmd.Process.Signal(sig) != nil || sig != syscall.SIGSTOP {
		return // it has ended, or there is nothing to wait for
	}
	for range 100 {
		if s := state(c.cmd.Process.Pid); s == 'T' || s == 'Z' || s == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// Throttle lets it run for a share of the time, 0 < share < 1, also after the next Start: about that share of
// each processor that it would have used. Any other share takes the limit away.
func (p *Process) Throttle(share float64) error {
	p.mu.Lock()
	end := p.throttle
	p.throttle = nil
	p.mu.Unlock()
	if end != nil {
		end()
	}
	if share <= 0 || share >= 1 {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	var turning sync.WaitGroup
	turning.Go(func() { p.turn(ctx, share) })
	p.mu.Lock()
	defer p.mu.Unlock()
	p.throttle = func() { cancel(); turning.Wait() }
	return nil
}

// turn stops the process for a part of each period until ctx ends, and leaves it running.
func (p *Process) turn(ctx context.Context, share float64) {
	on := time.Duration(share * float64(period))
	for ctx.Err() == nil {
		p.halt(syscall.SIGSTOP)
		pause(ctx, period-on)
		p.halt(syscall.SIGCONT)
		pause(ctx, on)
	}
}

// halt sends a signal of the throttle, of which a paused process gets none.
func (p *Process) halt(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.child.running() && !p.paused {
		p.signal(p.child, sig)
	}
}

// Said is the end of what it has said since its last start; where that goes to no file, where it went.
func (p *Process) Said() string {
	if p.Out != nil {
		return "see its output"
	}
	const most = 3000
	b := p.said()
	return string(bytes.TrimSpace(b[max(0, len(b)-most):]))
}

func (p *Process) said() []byte {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return []byte(err.Error())
	}
	if c := p.current(); c != nil {
		b = b[min(c.offset, int64(len(b))):]
	}
	return b
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
