package points

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// startLimit is for a process to be ready.
const startLimit = 30 * time.Second

// child is a process that lives a Life.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
	done  chan struct{}
	err   error // once done
}

// begin starts a process and waits until it is ready. It may be done before that: then it has died at its point.
func begin(l Life, log *os.File) (*child, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(os.Args[0]), lines: make(chan string, 4), done: make(chan struct{})}
	c.cmd.Env, c.cmd.Stderr = append(os.Environ(), childVariable+"="+string(text)), log
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			c.lines <- lines.Text()
		}
		close(c.lines)
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	return c, c.hear(wordReady)
}

// hear waits for a word of the process.
func (c *child) hear(word string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	select {
	case line, ok := <-c.lines:
		if !ok {
			<-c.done
			return fmt.Errorf("the process ended before it said %q: %w", word, c.err)
		}
		if line != word {
			return fmt.Errorf("the process says %q, not %q", line, word)
		}
		return nil
	case <-ctx.Done():
		c.kill()
		return fmt.Errorf("the process did not say %q in time", word)
	}
}

// tell has the process do something. It may die of that: then it is no error.
func (c *child) tell(word string) error {
	_, err := io.WriteString(c.in, word+"\n")
	if err == nil {
		err = c.hear(wordDone)
	}
	if err == nil {
		return nil
	}
	<-c.done
	if c.killed() {
		return nil
	}
	return err
}

// killed tells whether a process that is done was ended by SIGKILL.
func (c *child) killed() bool {
	var exit *exec.ExitError
	if !errors.As(c.err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signal() == syscall.SIGKILL // -1 where no signal ended it
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may be gone
	<-c.done
}

// stop ends the process in order.
func (c *child) stop() error {
	if err := c.in.Close(); err != nil {
		return err
	}
	<-c.done
	return c.err
}
